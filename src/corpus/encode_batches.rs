//! Texts to ids, a wave at a time: enough text to keep all cores busy, and hardly more than is
//! wanted.

use std::collections::VecDeque;
use std::ops::Range;

use super::encode::Encoder;
use super::reading::Text;
use crate::base::error::{Error, Result};

/// Bytes of text in a wave: between two looks at the stop button, which is looked at whenever a
/// document is read.
const WAVE: usize = 2 << 20;

/// The ids of some texts. Long ones are encoded in pieces.
pub struct EncodeBatches<'a, T> {
    pub encoder: &'a Encoder,
    texts: T,
    in_hand: Vec<Text>,
    waiting: VecDeque<Piece>,
    /// What went wrong after the texts in hand, which are not lost by it.
    failed: Option<Error>,
    bytes_encoded: usize,
    ids_got: usize,
}

/// A part of a text in hand.
struct Piece {
    /// Which of the texts in hand.
    text: usize,
    at: Range<usize>,
}

/// A piece of a text as ids.
pub struct Encoded {
    /// For [`EncodeBatches::text`].
    pub text: usize,
    /// Whether the text begins with it.
    pub begins: bool,
    /// Bytes of text.
    pub bytes: usize,
    pub ids: Vec<u32>,
}

impl<'a, T: Iterator<Item = Result<Text>>> EncodeBatches<'a, T> {
    pub fn new(encoder: &'a Encoder, texts: T) -> EncodeBatches<'a, T> {
        EncodeBatches {
            encoder,
            texts,
            in_hand: Vec::new(),
            waiting: VecDeque::new(),
            failed: None,
            bytes_encoded: 0,
            ids_got: 0,
        }
    }

    /// What the texts come from.
    pub fn end(self) -> T {
        self.texts
    }

    /// The next wave, if there is one; of about `wanted` ids, if that is less.
    ///
    /// # Errors
    /// What reading and encoding say.
    pub fn next(&mut self, wanted: Option<usize>) -> Result<Vec<Encoded>> {
        // What the tokens still wanted take: one byte each before anything is known, so that too
        // little is read rather than too much.
        let bytes_a_token =
            if self.ids_got == 0 { 1.0 } else { self.bytes_encoded as f64 / self.ids_got as f64 };
        let wanted = wanted.map_or(WAVE, |tokens| {
            ((bytes_a_token * tokens as f64).ceil() as usize).clamp(1, WAVE)
        });
        if self.waiting.is_empty() {
            self.in_hand.clear();
        }
        let mut bytes: usize = self.waiting.iter().map(|piece| piece.at.len()).sum();
        while bytes < wanted
            && self.failed.is_none()
            && let Some(text) = self.texts.next()
        {
            let text = match text {
                Ok(text) => text,
                Err(stopped @ Error::Interrupted { .. }) => return Err(stopped),
                Err(e) => {
                    self.failed = Some(e);
                    break;
                }
            };
            bytes += text.text.len();
            let pieces = self.encoder.pieces(&text.text).into_iter();
            self.waiting.extend(pieces.map(|at| Piece { text: self.in_hand.len(), at }));
            self.in_hand.push(text);
        }
        let mut wave = Vec::new();
        let mut bytes = 0;
        while bytes < wanted
            && let Some(piece) = self.waiting.pop_front()
        {
            bytes += piece.at.len();
            wave.push(piece);
        }
        if let Some(e) = self.failed.take_if(|_| wave.is_empty()) {
            return Err(e);
        }
        let parts: Vec<&str> =
            wave.iter().map(|piece| &self.in_hand[piece.text].text[piece.at.clone()]).collect();
        let encoded = wave.iter().zip(self.encoder.encode_all(&parts)?).map(|(piece, ids)| {
            self.bytes_encoded += piece.at.len();
            self.ids_got += ids.len();
            Encoded { text: piece.text, begins: piece.at.start == 0, bytes: piece.at.len(), ids }
        });
        Ok(encoded.collect())
    }

    /// A text of the last wave.
    pub fn text(&self, text: usize) -> &Text {
        &self.in_hand[text]
    }
}
