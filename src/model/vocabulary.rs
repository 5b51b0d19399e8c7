//! A checkpoint's tokenizer.

use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::source::Part;

/// Reads a `tokenizer.json` and checks that the model has an embedding for each of its ids.
pub(super) fn read(part: &Part, config: &ModelConfig) -> Result<Tokenizer> {
    let mut tokenizer =
        Tokenizer::from_bytes(&part.bytes).map_err(|e| Error::format(&part.path, format!("is not a tokenizer that can be read: {e}")))?;
    // Text is cut into rows by this crate: what the file says of truncation and padding would lose or add tokens.
    tokenizer.with_truncation(None).map_err(|e| Error::Tokenizer(e.to_string()))?;
    tokenizer.with_padding(None);
    let largest = tokenizer.get_vocab(true).into_values().max();
    if let Some(largest) = largest
        && largest as usize >= config.d_vocab
    {
        let why = format!(
            "has token ids up to {largest}, but the model has embeddings for {} tokens: it is the tokenizer of another model",
            config.d_vocab
        );
        return Err(Error::format(&part.path, why));
    }
    Ok(tokenizer)
}

/// The id of `<|endoftext|>`, with which the text of both families is delimited.
pub(super) fn end_of_text(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.token_to_id("<|endoftext|>")
}

pub(super) fn token_str(tokenizer: Option<&Tokenizer>, id: u32) -> String {
    let number = || format!("#{id}");
    let Some(tokenizer) = tokenizer else { return number() };
    match tokenizer.decode(&[id], false) {
        Ok(text) if !text.is_empty() && !text.contains('\u{fffd}') => text,
        _ => tokenizer.id_to_token(id).unwrap_or_else(number),
    }
}
