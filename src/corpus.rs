//! Text to token sequences, split into training and held-out text before anything else is done with it.
//!
//! - **Documents.** A file is a document. They are taken in the order of a hash of their names, so that the first few are a fair sample. A
//!   document with the same content as an earlier one is left out.
//! - **Split.** Whole documents are held out, about `valid_share` of the text (measured in bytes, so that the same documents are held out for
//!   every model and every `max_tokens`), and at least one. A single document is cut in two at a paragraph border near its end, and its
//!   tail is held out.
//! - **Packing.** The documents of one side are joined by EOS to a stream. A sequence is BOS and then the next `n_ctx − 1` tokens of it; an
//!   incomplete sequence at the end is dropped.
//!
//! Text that spells a special token, such as `<|endoftext|>`, becomes that token, as in other tokenizing tools.

mod documents;
mod encode;
mod pack;
mod sampled;
mod split;
mod view;
mod words;

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

pub use encode::{Encode, Encoder};

use crate::display::{Progress, interrupt};
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::model::Model;
use crate::tokens::Tokens;
use documents::Document;
use pack::Packer;

/// The context length unless another is asked for, if the model reads that much: the paper's.
const DEFAULT_N_CTX: usize = 256;

/// Sequences to train on, and sequences of other text to judge by.
#[derive(Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The sequences that activations are harvested from.
    pub train: Tokens,
    /// Held-out sequences: no token of `train` came from their documents.
    pub valid: Tokens,
    /// Where the text came from, in words.
    pub source: String,
    /// The documents of each side; empty where there are none, as in a sampled corpus.
    pub train_documents: Vec<String>,
    /// As `train_documents`.
    pub valid_documents: Vec<String>,
}

impl Corpus {
    /// A corpus of sequences that were made elsewhere.
    ///
    /// # Errors
    /// [`Error::Shape`] if the two sides have sequences of different lengths.
    pub fn new(train: Tokens, valid: Tokens) -> Result<Corpus> {
        if train.n_ctx() != valid.n_ctx() {
            let what = "the held-out side of a corpus".to_owned();
            return Err(Error::Shape { what, want: vec![valid.n_seq(), train.n_ctx()], got: vec![valid.n_seq(), valid.n_ctx()] });
        }
        Ok(Corpus { train, valid, source: "given sequences".into(), train_documents: Vec::new(), valid_documents: Vec::new() })
    }

    /// Finds the text files that `pattern` means (a file, a folder with `.txt` and `.md` files at any depth, or a glob such as
    /// `"books/*.txt"`); what [`TextCorpus::split`] returns is the corpus.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::text_files(&model, "books/*.txt")?.context(256).max_tokens(4_000_000).split(0.02)?;
    /// println!("{corpus}");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the model has none, [`Error::EmptyCorpus`] if there is no such file, [`Error::Config`] if `pattern` is not a
    /// pattern, [`Error::Format`] if it names a file of a kind that is not plain text.
    pub fn text_files(model: &Model, pattern: &str) -> Result<TextCorpus> {
        let config = model.config();
        let encoder = Encoder::of_tokenizer(model.name(), model.tokenizer()?, config.bos, config.eos, config.n_ctx, config.d_vocab)?;
        Corpus::text_files_with(encoder, pattern)
    }

    /// As [`Corpus::text_files`], for a tokenizer that belongs to no model of this crate's.
    ///
    /// # Errors
    /// As [`Corpus::text_files`].
    pub fn text_files_with(encoder: Encoder, pattern: &str) -> Result<TextCorpus> {
        let n_ctx = encoder.n_ctx.min(DEFAULT_N_CTX);
        Ok(TextCorpus { documents: documents::find(pattern)?, pattern: pattern.to_owned(), encoder, n_ctx, max_tokens: None })
    }

    /// Tokens in a sequence.
    pub fn n_ctx(&self) -> usize {
        self.train.n_ctx()
    }
}

/// Text files that have been found but not read; [`split`](TextCorpus::split) makes the corpus.
#[derive(Clone)]
pub struct TextCorpus {
    pattern: String,
    documents: Vec<Document>,
    encoder: Encoder,
    n_ctx: usize,
    max_tokens: Option<usize>,
}

/// A text in hand, and what to call it.
struct Text {
    name: String,
    text: String,
}

impl TextCorpus {
    /// Asks for sequences of `n_ctx` tokens, BOS included. Default: what the model reads, but at most 256.
    pub fn context(self, n_ctx: usize) -> TextCorpus {
        TextCorpus { n_ctx, ..self }
    }

    /// Asks for at most so many tokens to train on, and for held-out ones in proportion. No more files are read than that takes.
    pub fn max_tokens(self, max_tokens: usize) -> TextCorpus {
        TextCorpus { max_tokens: Some(max_tokens), ..self }
    }

    /// How many documents were found.
    pub fn n_documents(&self) -> usize {
        self.documents.len()
    }

    /// Reads and tokenises the documents and holds `valid_share` of the text out (0 holds nothing out), as the [module](self) says.
    ///
    /// # Errors
    /// [`Error::Config`] for a context that the model cannot read or a share outside `0..1`; [`Error::Format`] if a file is not UTF-8;
    /// [`Error::EmptyCorpus`] if a side has too little text for a sequence; [`Error::Tokenizer`]; [`Error::Io`]; [`Error::Interrupted`].
    pub fn split(self, valid_share: f64) -> Result<Corpus> {
        let (train_limit, valid_limit) = self.limits(valid_share)?;
        // Six bytes to a token is on the safe side of any tokenizer: enough text for one held-out sequence.
        let wanted = 6 * self.n_ctx;
        let mut reader = Reader::new(&self, train_limit.zip(valid_limit).map(|(train, valid)| train + valid));
        let (valid, train) = if let [document] = &self.documents[..] {
            let mut head = documents::read(&document.path)?;
            let tail = head.split_off(split::cut(&head, valid_share, wanted));
            let text = |part: &str, text| Text { name: format!("{} ({part})", document.name), text };
            let valid = reader.side([tail].map(|tail| Ok(text("tail", tail))), valid_limit)?;
            let name = if valid_share == 0.0 { "whole" } else { "all but its tail" };
            (valid, reader.side([head].map(|head| Ok(text(name, head))), train_limit)?)
        } else {
            let bytes: Vec<u64> = self.documents.iter().map(|document| document.bytes).collect();
            let held = split::held_out(&bytes, valid_share, wanted as u64);
            let side = |held_out: bool| {
                let documents = self.documents.iter().zip(&held).filter(move |(_, held)| **held == held_out);
                documents.map(|(document, _)| Ok(Text { name: document.name.clone(), text: documents::read(&document.path)? }))
            };
            (reader.side(side(true), valid_limit)?, reader.side(side(false), train_limit)?)
        };
        reader.progress.finish();
        let enough = |side: &Side, what: &str| {
            let why = || {
                format!(
                    "the {what} text has {} tokens, and a sequence takes {}: give more text, a shorter context, or another share",
                    side.n_tokens, self.n_ctx
                )
            };
            if side.tokens.is_empty() { Err(Error::EmptyCorpus { why: why() }) } else { Ok(()) }
        };
        enough(&train, "training")?;
        if valid_share > 0.0 {
            enough(&valid, "held-out")?;
        }
        Ok(Corpus {
            train: train.tokens,
            valid: valid.tokens,
            source: self.pattern.clone(),
            train_documents: train.documents,
            valid_documents: valid.documents,
        })
    }

    /// The most sequences of the training and of the held-out side; checks the settings.
    fn limits(&self, valid_share: f64) -> Result<(Option<usize>, Option<usize>)> {
        if !(0.0..1.0).contains(&valid_share) {
            return Err(Error::config("split", format!("a share of {valid_share} cannot be held out; give 0 or more and less than 1")));
        }
        if self.n_ctx < 2 || self.n_ctx > self.encoder.n_ctx {
            let why =
                format!("sequences of {} tokens are asked for, and {} reads 2 to {}", self.n_ctx, self.encoder.name, self.encoder.n_ctx);
            return Err(Error::config("context", why));
        }
        for (field, id) in [("bos_token_id", self.encoder.bos), ("eos_token_id", self.encoder.eos)] {
            if id as usize >= self.encoder.d_vocab {
                let why =
                    format!("is {id} or not given, and {} has {} tokens: set it in config.json", self.encoder.name, self.encoder.d_vocab);
                return Err(Error::config(field, why));
            }
        }
        let Some(max_tokens) = self.max_tokens else { return Ok((None, None)) };
        let train = max_tokens / self.n_ctx;
        if train == 0 {
            return Err(Error::config("max_tokens", format!("{max_tokens} tokens are less than one sequence of {}", self.n_ctx)));
        }
        let valid = (train as f64 * valid_share / (1.0 - valid_share)).round() as usize;
        Ok((Some(train), Some(if valid_share > 0.0 { valid.max(1) } else { 0 })))
    }
}

/// One side of a corpus.
struct Side {
    tokens: Tokens,
    /// Tokens found, those of an incomplete last sequence included.
    n_tokens: usize,
    documents: Vec<String>,
}

/// Turns texts into a side, and remembers what it has read.
struct Reader<'a> {
    encoder: &'a Encoder,
    n_ctx: usize,
    /// Whether documents may be encoded in pieces; not known before the first that has more than one.
    piecewise: Option<bool>,
    /// The checksums of all contents so far.
    seen: HashSet<String>,
    progress: Progress,
    /// Tokens packed if both sides are limited, or else bytes encoded, and whether it is tokens.
    done: u64,
    in_tokens: bool,
}

/// A part of a text in hand.
struct Piece {
    /// Which of the texts in hand.
    text: usize,
    at: Range<usize>,
}

impl<'a> Reader<'a> {
    fn new(corpus: &'a TextCorpus, sequences: Option<usize>) -> Reader<'a> {
        let (total, unit) = match sequences {
            Some(sequences) => ((sequences * corpus.n_ctx) as u64, "tokens"),
            None => (corpus.documents.iter().map(|document| document.bytes).sum(), "B"),
        };
        interrupt::watch();
        interrupt::clear();
        Reader {
            encoder: &corpus.encoder,
            n_ctx: corpus.n_ctx,
            piecewise: None,
            seen: HashSet::new(),
            progress: Progress::new("tokenise", total, unit),
            done: 0,
            in_tokens: sequences.is_some(),
        }
    }

    /// Packs `texts` until there are `limit` sequences. They are read and encoded a wave at a time: enough to keep all cores busy, and hardly
    /// more than is wanted.
    fn side(&mut self, texts: impl IntoIterator<Item = Result<Text>>, limit: Option<usize>) -> Result<Side> {
        /// Bytes of text in a wave: between two looks at the stop button.
        const WAVE: usize = 2 << 20;
        let mut packer = Packer::new(self.n_ctx, self.encoder.bos, self.encoder.eos, limit);
        let mut documents: Vec<String> = Vec::new();
        let mut texts = texts.into_iter();
        let mut in_hand: Vec<Text> = Vec::new();
        let mut waiting: VecDeque<Piece> = VecDeque::new();
        // What the tokens still wanted take: one byte each before anything is known, so that too little is read rather than too much.
        let (mut bytes_encoded, mut ids_got) = (0, 0);
        while !packer.is_full() {
            if interrupt::requested() {
                interrupt::clear();
                return Err(Error::Interrupted { what: "tokenising", remedy: "nothing is kept; the same call starts again".into() });
            }
            let bytes_a_token = if ids_got == 0 { 1.0 } else { bytes_encoded as f64 / ids_got as f64 };
            let wanted = packer.wanted().map_or(WAVE, |tokens| ((bytes_a_token * tokens as f64).ceil() as usize).clamp(1, WAVE));
            if waiting.is_empty() {
                in_hand.clear();
            }
            let mut bytes: usize = waiting.iter().map(|piece| piece.at.len()).sum();
            while bytes < wanted
                && let Some(text) = texts.next()
            {
                let text = text?;
                if self.is_new(&text.text) {
                    bytes += text.text.len();
                    waiting.extend(self.pieces(&text.text)?.into_iter().map(|at| Piece { text: in_hand.len(), at }));
                    in_hand.push(text);
                }
            }
            let mut wave = Vec::new();
            let mut bytes = 0;
            while bytes < wanted
                && let Some(piece) = waiting.pop_front()
            {
                bytes += piece.at.len();
                wave.push(piece);
            }
            if wave.is_empty() {
                break;
            }
            let before = packer.len();
            let parts: Vec<&str> = wave.iter().map(|piece| &in_hand[piece.text].text[piece.at.clone()]).collect();
            for (piece, ids) in wave.iter().zip(self.encoder.encode_all(&parts)?) {
                if packer.is_full() {
                    break;
                }
                if piece.at.start == 0 {
                    packer.begin();
                    documents.push(in_hand[piece.text].name.clone());
                }
                packer.push(&ids);
                bytes_encoded += piece.at.len();
                ids_got += ids.len();
            }
            self.done += (if self.in_tokens { packer.len() - before } else { bytes }) as u64;
            self.progress.set(self.done);
        }
        let n_tokens = packer.len();
        Ok(Side { tokens: Tokens::new(packer.finish(), self.n_ctx)?, n_tokens, documents })
    }

    /// Whether `text` says anything, and says it for the first time.
    fn is_new(&mut self, text: &str) -> bool {
        !text.trim().is_empty() && self.seen.insert(sha256(text.as_bytes()))
    }

    fn pieces(&mut self, text: &str) -> Result<Vec<Range<usize>>> {
        if self.piecewise.is_none() {
            self.piecewise = self.encoder.encodes_piecewise(text)?;
        }
        let piecewise = self.piecewise == Some(true);
        Ok(if piecewise { encode::pieces(text) } else { std::iter::once(0..text.len()).collect() })
    }
}
