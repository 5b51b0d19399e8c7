//! Text that a model makes, and what it expects next.

use serde_json::json;

use super::*;

#[test]
fn samples_depend_on_the_seed_and_on_nothing_else() {
    for family in FAMILIES {
        let model = load(family, Processing::TransformerLens);
        let all = model.sample(9, 16, 7).unwrap();
        assert_eq!((all.n_seq(), all.n_ctx()), (9, 16));
        assert!((0..9).all(|i| all.row(i)[0] == model.bos()) && all.check(61).is_ok());
        assert_eq!(all, model.sample(9, 16, 7).unwrap());
        assert_ne!(all, model.sample(9, 16, 8).unwrap());
        assert!((1..9).all(|i| all.row(i) != all.row(0)), "sequences of one batch differ");
        // However they are split, the same sequences.
        for cuts in [vec![0, 9], vec![0, 1, 9], vec![0, 4, 5, 9], (0..=9).collect()] {
            let ids: Vec<u32> = cuts
                .windows(2)
                .flat_map(|c| model.sample_range(c[0], c[1], 16, 7).unwrap().ids().to_vec())
                .collect();
            assert_eq!(ids, all.ids(), "{family} cut at {cuts:?}");
        }
        // A shorter row is the beginning of a longer one.
        assert_eq!(model.sample(9, 5, 7).unwrap().row(8), &all.row(8)[..5]);
        assert_eq!(model.sample(2, 1, 7).unwrap().ids(), [model.bos(); 2]);
        assert!(model.sample(0, 4, 7).unwrap().is_empty());
    }
}

#[test]
fn a_sequence_does_not_depend_on_the_size_of_its_batch() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let all = model.sample(70, 24, 3).unwrap();
        for (from, to) in [(0, 1), (5, 7), (20, 53), (69, 70)] {
            let some = model.sample_range(from, to, 24, 3).unwrap();
            assert_eq!(some, all.rows(from, to), "{name} {from}..{to}");
        }
    }
}

#[test]
fn samples_are_drawn_with_the_models_probabilities() {
    for family in FAMILIES {
        let model = load(family, Processing::Raw);
        let n = 20_000;
        let sampled = model.sample(n, 3, 1).unwrap();
        let mut second = vec![0f64; 61];
        (0..n).for_each(|i| second[sampled.row(i)[1] as usize] += 1.0);
        let p = log_probs(&model.logits(&Tokens::new(vec![model.bos()], 1).unwrap()).unwrap());
        for (id, (count, p)) in second.iter().zip(values(&p)).enumerate() {
            let p = (p as f64).exp();
            let sigma = (n as f64 * p * (1.0 - p)).sqrt();
            assert!(
                (count - n as f64 * p).abs() < 5.0 * sigma + 1.0,
                "{family} token {id}: {count} of {}",
                n as f64 * p
            );
        }
        // The loss of what it wrote, given all before, is its own entropy: near the mean over
        // positions, and not above chance.
        let loss = model.loss(&sampled.rows(0, 4000)).unwrap();
        assert!(loss < (61f64).ln(), "{loss}");
    }
}

#[test]
fn a_bos_that_no_embedding_has_is_told_when_it_is_needed() {
    let mut checkpoint = Checkpoint::read("gpt2");
    checkpoint.config["bos_token_id"] = json!(50256);
    checkpoint.config["eos_token_id"] = json!(50256);
    let model = checkpoint.load(Processing::Raw).unwrap();
    assert!(model.predict(&[1, 2, 3], 1).is_ok());
    let told = model.sample(1, 4, 0).unwrap_err();
    assert!(matches!(told, Error::Config { field: "bos_token_id", .. }), "{told}");
    checkpoint.config["eos_token_id"] = json!(0);
    assert_eq!(checkpoint.load(Processing::Raw).unwrap().bos(), 0);
}

#[test]
fn predictions_are_the_best_of_the_last_position() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let model = load(family, Processing::Raw);
        let tokens = golden.tokens();
        let prediction = model.predict(tokens.row(1), 61).unwrap();
        let want = values(&log_probs(
            &golden.0["logits"].narrow(0, 1, 1).unwrap().narrow(1, 11, 1).unwrap(),
        ));
        assert_eq!(prediction.top.len(), 61);
        for candidate in &prediction.top {
            assert!((candidate.logprob - want[candidate.id as usize] as f64).abs() < 1e-4);
            assert_eq!(candidate.token, format!("#{}", candidate.id));
        }
        assert!(prediction.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        assert!((prediction.top.iter().map(|c| c.logprob.exp()).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((prediction.loss.unwrap() - model.loss(&tokens.rows(1, 2)).unwrap()).abs() < 1e-6);

        assert_eq!(model.predict(tokens.row(1), 3).unwrap().top, prediction.top[..3]);
        assert_eq!(model.predict(&[5], 1).unwrap().loss, None);
        assert!(matches!(model.predict(&[], 1), Err(Error::Config { .. })));
        assert!(matches!(model.predict(&[61], 1), Err(Error::TokenId { .. })));
        assert!(matches!(model.predict(&[1; 17], 1), Err(Error::Config { .. })));
        let text = serde_json::to_value(model.predict(&[5], 1).unwrap()).unwrap();
        assert!(
            text["top"][0]["id"].is_u64()
                && text["top"][0]["token"].is_string()
                && text["loss"].is_null(),
            "{text}"
        );
    }
}
