//! Text to ids, as Python's `tokenizers` has them (`golden/make_encoded.py`).

use tokenized_sae::corpus::Encoder;

use super::*;

#[derive(serde::Deserialize)]
struct Line {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn hard_strings_are_encoded_as_python_encodes_them() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoded.json"),
    )
    .unwrap();
    let lines: Vec<Line> = serde_json::from_str(&text).unwrap();
    assert!(lines.len() > 40);
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let c = model.config();
        // Corpora encode word by word, and remember words.
        let encoder = Encoder::of_tokenizer(
            name,
            model.tokenizer().unwrap(),
            c.bos,
            c.eos,
            c.n_ctx,
            c.d_vocab,
        )
        .unwrap();
        for line in &lines {
            assert_eq!(model.encode(&line.text).unwrap(), line.ids, "{name}: {:?}", line.text);
            assert_eq!(
                (encoder.encode)(&line.text).unwrap(),
                line.ids,
                "{name}, in a corpus: {:?}",
                line.text
            );
            assert_eq!(model.decode(&line.ids).unwrap(), line.text, "{name}: {:?}", line.text);
        }
        let (all, ids): (String, Vec<&[u32]>) = (
            lines.iter().map(|line| line.text.as_str()).collect(),
            lines.iter().map(|line| &line.ids[..]).collect(),
        );
        assert_eq!(model.decode(&ids.concat()).unwrap(), all);
    }
}

/// A [PAD] that was added to the tokenizer and not to the model.
#[test]
fn a_token_without_an_embedding_is_refused_where_it_occurs() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2");
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let plain = Model::load("tiny-gpt2").unwrap();
    let d_vocab = plain.config().d_vocab;
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&std::fs::read(from.join("tokenizer.json")).unwrap()).unwrap();
    tokenizer["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
        "id": d_vocab, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    }));
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let model = Model::load(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(model.fingerprint(), plain.fingerprint());
    let text = "Once upon a time";
    assert_eq!(model.encode(text).unwrap(), plain.encode(text).unwrap());
    let told = model.encode("Once [PAD] more").unwrap_err().to_string();
    assert!(told.contains("[PAD]") && told.contains(&d_vocab.to_string()), "{told}");
    let padded = Tokens::new(vec![1, d_vocab as u32], 2).unwrap();
    assert!(matches!(model.loss(&padded), Err(Error::TokenId { position: 1, .. })));
}
