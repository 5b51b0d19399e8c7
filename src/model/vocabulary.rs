//! A checkpoint's tokenizer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::base::error::{Error, Result, panic_message};
use crate::model::config::ModelConfig;
use crate::model::source::Part;

/// Reads a `tokenizer.json` and checks that the model has an embedding for each id of its
/// vocabulary.
pub(super) fn read(part: &Part, config: &ModelConfig) -> Result<Tokenizer> {
    let mut tokenizer = guarded(|| Tokenizer::from_bytes(&part.bytes)).map_err(|why| {
        Error::format(&part.path, format!("is not a tokenizer that can be read: {why}"))
    })?;
    if growth(&part.bytes) > MOST_GROWTH {
        let why = format!(
            "makes a text more than {MOST_GROWTH} times as long before it is looked up: no tokenizer needs that"
        );
        return Err(Error::format(&part.path, why));
    }
    // Text is cut into rows by this crate: what the file says of truncation and padding would lose
    // or add tokens.
    tokenizer.with_truncation(None).map_err(|e| Error::Tokenizer(e.to_string()))?;
    tokenizer.with_padding(None);
    // Tokens may have been added for which a model that does not use them has no embedding, such as
    // a [PAD]: whatever takes tokens refuses them where they occur.
    let largest = tokenizer.get_vocab(false).into_values().max();
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

/// How many times as long a text may become on its way to the vocabulary. Byte-level tokenizers
/// double some of it; a file that names a step over and over would fill any memory with one word.
const MOST_GROWTH: f64 = 4096.0;

/// How many times as long a text may become by what a `tokenizer.json` does before its model.
fn growth(file: &[u8]) -> f64 {
    #[derive(Deserialize)]
    struct Steps {
        normalizer: Option<Value>,
        pre_tokenizer: Option<Value>,
    }
    fn of(step: &Value) -> f64 {
        match step {
            Value::Array(steps) => steps.iter().map(of).product(),
            Value::Object(fields) => {
                let of_text = |key: &str| {
                    fields
                        .get(key)
                        .and_then(Value::as_str)
                        .map_or(1.0, |text| 1.0 + text.len() as f64)
                };
                let is_byte_level = fields.get("type").is_some_and(|kind| kind == "ByteLevel")
                    || fields.contains_key("trim_offsets");
                // A text that is put in for another may stand at every place.
                of_text("content")
                    * of_text("replacement")
                    * if is_byte_level { 2.0 } else { 1.0 }
                    * fields.values().map(of).product::<f64>()
            }
            _ => 1.0,
        }
    }
    // The library says if it is not such a file.
    serde_json::from_slice(file).map_or(1.0, |Steps { normalizer, pre_tokenizer }| {
        [normalizer, pre_tokenizer].iter().flatten().map(of).product()
    })
}

/// The id that the tokenizer itself puts before a text, if it does.
pub(super) fn put_first(tokenizer: &Tokenizer) -> Option<u32> {
    let first =
        |special| guarded(|| tokenizer.encode_fast("a", special)).ok()?.get_ids().first().copied();
    first(true).filter(|id| first(false).is_some_and(|own| own != *id))
}

/// The id of `<|endoftext|>`, with which the text of GPT-2, GPT-NeoX, SmolLM2 and Qwen2 is delimited.
pub(super) fn end_of_text(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.token_to_id("<|endoftext|>")
}

/// Calls the tokenizers library, which panics on some files and texts that it should refuse. What
/// it then says goes to the standard error as well.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => {
            Err(format!("the tokenizers library gave up: {}", panic_message(panic.as_ref())))
        }
    }
}

/// The token ids of a text, with no token added at either end.
///
/// # Errors
/// [`Error::Tokenizer`].
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    guarded(|| tokenizer.encode_fast(text, false))
        .map(|encoding| encoding.get_ids().to_vec())
        .map_err(Error::Tokenizer)
}

/// The text of token ids, special tokens included.
///
/// # Errors
/// [`Error::Tokenizer`].
pub(super) fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String> {
    guarded(|| tokenizer.decode(ids, false)).map_err(Error::Tokenizer)
}

pub(super) fn token_str(tokenizer: Option<&Tokenizer>, id: u32) -> String {
    let number = || format!("#{id}");
    /// What stands for a space in the vocabularies of SentencePiece, which take the one at the
    /// beginning of a text away.
    const SPACE: char = '\u{2581}';
    let Some(tokenizer) = tokenizer else { return number() };
    let spelled = tokenizer.id_to_token(id);
    let before = if spelled.as_ref().is_some_and(|s| s.starts_with(SPACE)) { " " } else { "" };
    match decode(tokenizer, &[id]) {
        Ok(text) if text.contains('\u{fffd}') || (text.is_empty() && before.is_empty()) => {
            spelled.unwrap_or_else(number)
        }
        Ok(text) if text.starts_with(' ') => text,
        Ok(text) => format!("{before}{text}"),
        Err(_) => spelled.unwrap_or_else(number),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A tokenizer of a few letters, with `from` replaced.
    fn told(from: &str, to: &str) -> String {
        let text = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}]},
            "model": {"type": "BPE", "continuing_subword_prefix": null, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}"#;
        assert!(text.contains(from));
        let config = r#"{"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8, "vocab_size": 3}"#;
        let config = ModelConfig::parse(config.as_bytes(), Path::new("config.json")).unwrap();
        let part = Part {
            path: "some/tokenizer.json".into(),
            bytes: text.replace(from, to).into_bytes().into(),
        };
        read(&part, &config).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn a_file_that_the_tokenizers_library_panics_on_is_refused() {
        assert_eq!(told("a", "a"), "");
        for (from, to) in [
            // A prefix that is longer than the tokens that should have it.
            (r#""continuing_subword_prefix": null"#, r#""continuing_subword_prefix": "longer""#),
            // Half of a character.
            (r#"{"type": "Fuse"}"#, r#"{"type": "\ud800"}"#),
        ] {
            let told = told(from, to);
            assert!(
                told.contains("some/tokenizer.json")
                    && told.contains("the tokenizers library gave up"),
                "{told}"
            );
        }
        let steps = |n: usize| {
            let steps = vec![r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#; n].join(", ");
            told(
                r#""pre_tokenizer": null"#,
                &format!(r#""pre_tokenizer": {{"type": "Sequence", "pretokenizers": [{steps}]}}"#),
            )
        };
        assert_eq!(steps(2), "");
        assert!(steps(64).contains("times as long"), "{}", steps(64));
        assert!(told(r#""ab": 2"#, r#""ab": 3"#).contains("token ids up to 3"));
    }
}
