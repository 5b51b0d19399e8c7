//! A tokenizer of one token a byte, so that every token can be traced to its document.

use std::path::Path;
use std::sync::Arc;

use tokenized_sae::corpus::Encoder;
use tokenized_sae::corpus::TextCorpus;
use tokenized_sae::prelude::*;

pub const BOS: u32 = 256;
pub const EOS: u32 = 257;

pub fn encoder() -> Encoder {
    let encode = Arc::new(|text: &str| Ok(text.bytes().map(u32::from).collect()));
    Encoder {
        name: "bytes".into(),
        bos: BOS,
        eos: EOS,
        n_ctx: 512,
        d_vocab: 258,
        piecewise: true,
        encode,
    }
}

pub fn text_files(pattern: impl AsRef<Path>) -> Result<TextCorpus> {
    Corpus::text_files_with(encoder(), pattern.as_ref().to_str().unwrap())
}
