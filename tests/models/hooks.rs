//! Activations read at a hook, and put back changed.

use super::*;
use tokenized_sae::model::Site;

#[test]
fn a_hooks_own_value_put_back_changes_nothing() {
    for family in FAMILIES {
        for processing in [Processing::Raw, Processing::TransformerLens] {
            let (model, tokens) = (load(family, processing), Golden::read(family).tokens());
            let logits = model.logits(&tokens).unwrap();
            for hook in model.hooks() {
                let value = model.run_to(&tokens, hook).unwrap();
                let with = |value: &Tensor| {
                    let logits = model.run_with(&tokens, hook, |own| {
                        assert_eq!(values(own), values(value));
                        Ok(value.clone())
                    });
                    values(&logits.unwrap())
                };
                assert_eq!(with(&value), values(&logits), "{family} {hook}");
                // A copy that is laid out otherwise is the same value.
                let turned = value.transpose(0, 1).unwrap().contiguous().unwrap();
                let turned = turned.transpose(0, 1).unwrap();
                assert_eq!(with(&turned), values(&logits), "{family} {hook}");
                if hook.site.is_resid() {
                    assert_eq!(
                        values(&model.run_from(hook, &value).unwrap()),
                        values(&logits),
                        "{family} {hook}"
                    );
                } else {
                    assert!(matches!(model.run_from(hook, &value), Err(Error::UnknownHook { .. })));
                }
            }
        }
    }
}

#[test]
fn another_value_takes_effect_from_its_position_on() {
    for family in FAMILIES {
        let (model, tokens) = (load(family, Processing::Raw), Golden::read(family).tokens());
        let logits = model.logits(&tokens).unwrap();
        for hook in model.hooks() {
            let change = |own: &Tensor| {
                let mut changed = values(own);
                changed[5 * 32 + 3] += 1.0; // sequence 0, position 5
                Ok(Tensor::from_vec(changed, (2, 12, 32), &Device::Cpu)?)
            };
            let spliced = model.run_with(&tokens, hook, change).unwrap();
            let at = |seq, position: usize| {
                distance(
                    &spliced.narrow(0, seq, 1).unwrap().narrow(1, position, 1).unwrap(),
                    &logits.narrow(0, seq, 1).unwrap().narrow(1, position, 1).unwrap(),
                )
            };
            assert!(
                (0..5).all(|p| at(0, p) == 0.0) && (0..12).all(|p| at(1, p) == 0.0),
                "{family} {hook} reaches back or across"
            );
            assert!(at(0, 5) > 1e-4, "{family} {hook} does nothing");
            // What is written in the last block can no longer reach other positions.
            let later = (6..12).map(|p| at(0, p)).fold(0.0, f32::max);
            assert_eq!(
                later > 0.0,
                hook.layer < 2 || hook.site == Site::ResidPre,
                "{family} {hook}: {later}"
            );
        }
    }
}

#[test]
fn zeroing_what_the_last_mlp_writes_leaves_the_stream_before_it() {
    let (model, tokens) = (load("gpt2", Processing::Raw), Golden::read("gpt2").tokens());
    let mlp_out = "blocks.2.hook_mlp_out".parse().unwrap();
    let ablated = model.run_with(&tokens, mlp_out, |own| Ok(own.zeros_like()?)).unwrap();
    let mid = model.run_to(&tokens, "blocks.2.hook_resid_mid".parse().unwrap()).unwrap();
    let want = model.run_from("blocks.2.hook_resid_post".parse().unwrap(), &mid).unwrap();
    assert_eq!(values(&ablated), values(&want));
}

#[test]
fn values_of_the_wrong_shape_are_refused() {
    let (model, tokens) = (load("gpt2", Processing::Raw), Golden::read("gpt2").tokens());
    let hook = HookPoint::resid_pre(1);
    let of = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    for shape in [&[2, 12, 31][..], &[1, 12, 32], &[2, 11, 32], &[24, 32]] {
        let spliced = model.run_with(&tokens, hook, |_| Ok(of(shape)));
        assert!(matches!(spliced, Err(Error::Shape { .. })), "{shape:?}");
    }
    for shape in [&[2, 12, 31][..], &[24, 32], &[32]] {
        assert!(matches!(model.run_from(hook, &of(shape)), Err(Error::Shape { .. })), "{shape:?}");
    }
    assert!(matches!(model.run_from(hook, &of(&[1, 17, 32])), Err(Error::Config { .. })));
    assert!(matches!(model.loss_per_token(&of(&[2, 12, 60]), &tokens), Err(Error::Shape { .. })));
}

#[test]
fn hooks_tokens_and_lengths_that_the_model_lacks_are_refused() {
    let (gpt2, neox) = (load("gpt2", Processing::Raw), load("neox", Processing::Raw));
    let tokens = Tokens::new(vec![1; 12], 12).unwrap();
    let beyond: HookPoint = "blocks.3.hook_resid_pre".parse().unwrap();
    let mid: HookPoint = "blocks.1.hook_resid_mid".parse().unwrap();
    for told in [
        gpt2.run_to(&tokens, beyond).unwrap_err(),
        gpt2.run_to_many(&tokens, &[HookPoint::resid_pre(0), beyond]).unwrap_err(),
        gpt2.run_with(&tokens, beyond, |own| Ok(own.clone())).err().unwrap(),
        gpt2.check_hook(beyond).unwrap_err(),
    ] {
        assert!(
            matches!(&told, Error::UnknownHook { .. }) && told.to_string().contains("3 blocks"),
            "{told}"
        );
    }
    assert!(gpt2.check_hook(mid).is_ok());
    let told = neox.check_hook(mid).unwrap_err().to_string();
    assert!(told.contains("parallel"), "{told}");
    assert!(
        gpt2.hooks().iter().all(|&hook| gpt2.check_hook(hook).is_ok()) && gpt2.hooks().is_sorted()
    );

    let stranger = Tokens::new(vec![1, 2, 61, 3], 2).unwrap();
    for told in [
        gpt2.logits(&stranger).unwrap_err(),
        gpt2.loss(&stranger).unwrap_err(),
        gpt2.run_to(&stranger, mid).unwrap_err(),
    ] {
        assert!(matches!(told, Error::TokenId { id: 61, position: 2, d_vocab: 61 }), "{told}");
    }
    let long = Tokens::new(vec![1; 17], 17).unwrap();
    for told in [
        gpt2.logits(&long).unwrap_err(),
        neox.loss(&long).unwrap_err(),
        gpt2.sample(1, 17, 0).unwrap_err(),
    ] {
        assert!(
            matches!(&told, Error::Config { field: "n_ctx", .. })
                && told.to_string().contains("16"),
            "{told}"
        );
    }
    assert!(matches!(gpt2.loss(&Tokens::new(vec![1, 2], 1).unwrap()), Err(Error::Config { .. })));
    assert!(matches!(gpt2.loss(&Tokens::new(vec![], 4).unwrap()), Err(Error::Config { .. })));
    assert!(matches!(gpt2.sample(1, 0, 0), Err(Error::Config { .. })));
    assert_eq!(gpt2.run_to(&Tokens::new(vec![], 4).unwrap(), mid).unwrap().dims(), &[0, 4, 32]);
    assert!(matches!(Model::load("no/such/model"), Err(Error::UnknownModel { .. })));
}

/// A pass that stops nowhere goes through whole blocks at once; one that asks for every hook goes
/// step by step. Both are one pass.
#[test]
fn whole_blocks_give_what_their_steps_give() {
    let folders = FAMILIES.map(|family| folder(family).display().to_string());
    for name in ["tiny-gpt2", "tiny-pythia"].into_iter().chain(folders.iter().map(String::as_str)) {
        for compute in [Compute::F32, Compute::Bf16] {
            let model = Model::load(name).unwrap().computing(compute);
            let n = model.config().n_ctx.min(12);
            let tokens = Tokens::new((0..4 * n as u32).map(|i| i * 7 % 61).collect(), n).unwrap();
            let stepwise = model.run_to_many(&tokens, &model.hooks()).unwrap();
            for (hook, want) in model.hooks().into_iter().zip(stepwise) {
                let far = (model.run_to(&tokens, hook).unwrap() - &want)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .max_all()
                    .unwrap();
                let size = want.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                let allowed = if compute == Compute::F32 { 2e-6 } else { 1e-2 } * size.max(1.0);
                assert!(far.to_scalar::<f32>().unwrap() <= allowed, "{name} {hook} {compute}");
            }
        }
    }
}
