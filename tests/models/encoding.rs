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
