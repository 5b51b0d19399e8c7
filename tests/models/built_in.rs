//! The models that come with the crate: threads, what they have learned, bf16.

use super::*;
use tokenized_sae::model::Site;

#[test]
fn the_number_of_threads_changes_no_bit() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let tokens = Tokens::new((0..4 * 130).map(|i| (i * 997) % 4096).collect(), 130).unwrap();
        let hook = model.hooks()[model.hooks().len() - 1];
        let work = || {
            (
                values(&model.run_to(&tokens, hook).unwrap()),
                model.loss(&tokens).unwrap(),
                model.sample(3, 12, 5).unwrap(),
            )
        };
        let with = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
        };
        let one = with(1);
        assert!(one == with(2) && one == with(5), "{name}");
    }
}

#[test]
fn a_model_can_be_shared_between_threads() {
    let model = load("gpt2", Processing::Raw);
    let tokens = Golden::read("gpt2").tokens();
    let want = model.loss(&tokens).unwrap();
    let losses: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..3).map(|_| scope.spawn(|| model.clone().loss(&tokens).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(losses, [want; 3]);
}

#[test]
fn the_built_in_models_load_and_have_learned_something() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        assert_eq!(model.name(), name);
        let text = "It was the best of times, it was the worst of times, and there was nothing to be done but to wait for the morning.";
        let ids = model.encode(text).unwrap();
        assert_eq!(model.decode(&ids).unwrap(), text);
        let with_bos: Vec<u32> = std::iter::once(model.bos()).chain(ids).collect();
        let loss = model.predict(&with_bos, 1).unwrap().loss.unwrap();
        assert!(loss < (model.config().d_vocab as f64).ln() - 2.0, "{name}: {loss}");
        let raw = Model::load_with(name, Processing::Raw).unwrap();
        assert!((raw.predict(&with_bos, 1).unwrap().loss.unwrap() - loss).abs() < 1e-4);
        model.evcxr_display();
        model.config().evcxr_display();
    }
}

/// What rounding the operands to bf16 does to activations (relative to their size, over all tokens)
/// and to the loss.
#[test]
fn products_in_bf16_change_activations_by_less_than_a_hundredth_and_hardly_the_loss() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let exact = Model::load(name).unwrap();
        let rounded = exact.computing(Compute::Bf16);
        assert_eq!((exact.compute(), rounded.compute()), (Compute::F32, Compute::Bf16));
        let tokens = exact.sample(16, 128, 3).unwrap();
        for hook in [
            HookPoint::resid_pre(2),
            HookPoint { layer: exact.config().n_layers - 1, site: Site::ResidPost },
        ] {
            let of = |model: &Model| {
                model
                    .run_to(&tokens, hook)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap()
            };
            let (a, b) = (of(&exact), of(&rounded));
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum::<f64>()
                / a.iter().map(|a| square(*a)).sum::<f64>();
            println!("{name} {hook}: relative error {:.2e}", error.sqrt());
            assert!(error.sqrt() < 1e-2 && error > 0.0, "{name} {hook}: {}", error.sqrt());
        }
        let (loss, loss_bf16) = (exact.loss(&tokens).unwrap(), rounded.loss(&tokens).unwrap());
        println!("{name}: loss {loss:.5}, in bf16 {loss_bf16:.5}, {:+.5}", loss_bf16 - loss);
        assert!((loss - loss_bf16).abs() < 5e-3, "{name}: {loss} {loss_bf16}");
    }
}
