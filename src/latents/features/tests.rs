//! Held to loops over everything, one latent and one row at a time.

use std::collections::HashSet;

use candle_core::{Device, Tensor};

use super::*;
use crate::activations::{ActivationStore, Batch, Dtype, HarvestConfig};
use crate::base::error::Error;
use crate::formats::arrays::Arrays;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model, Processing};
use crate::sae::{Architecture, Lookup, RowNorm, Sae, SaeConfig};

const N_CTX: usize = 24;

struct Made {
    model: Model,
    hook: HookPoint,
    sae: Sae,
    tokens: Tokens,
    acts: ActivationStore,
    _dir: tempfile::TempDir,
}

/// A tokenized SAE as it starts out, on 60 sequences that the model has written.
fn made() -> Made {
    made_of(Architecture::TopK)
}

fn made_of(architecture: Architecture) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load("tiny-gpt2").unwrap();
    let hook = HookPoint::resid_pre(2);
    let tokens = model.sample(60, N_CTX, 3).unwrap();
    let config = HarvestConfig { dtype: Dtype::F32, ..Default::default() };
    let acts = ActivationStore::harvest(&model, &[hook], &tokens, dir.path(), config).unwrap();
    let config = SaeConfig { expansion: 2, k: 9, architecture, ..SaeConfig::for_model(&model) };
    let sae = Sae::new(config.with_lookup(Lookup::unigram(&model, hook).unwrap())).unwrap();
    Made { model, hook, sae, tokens, acts, _dir: dir }
}

fn config() -> FeaturesConfig {
    FeaturesConfig {
        top: 6,
        bands: 3,
        per_band: 2,
        before: 5,
        after: 3,
        ..FeaturesConfig::default()
    }
}

/// The activation of every latent on every row: 0 at position 0 and wherever the code is not above 0.
fn dense(made: &Made) -> Vec<Vec<f32>> {
    let mut batch = Batch::default();
    made.acts
        .gather(made.hook, &(0..made.acts.n_rows() as u64).collect::<Vec<_>>(), &mut batch)
        .unwrap();
    let codes = made.sae.encode(&batch.x).unwrap();
    let mut dense = vec![vec![0.0; codes.n()]; made.sae.d_sae()];
    for row in (0..codes.n()).filter(|row| row % N_CTX > 0) {
        let (latents, values) = codes.row(row);
        latents
            .iter()
            .zip(values)
            .for_each(|(&latent, &value)| dense[latent as usize][row] = value.max(0.0));
    }
    dense
}

/// That a context is what the dense activations and the tokens have there; returns its row.
fn check_context(context: &Context, activations: &[f32], tokens: &Tokens) -> usize {
    let row = context.sequence * N_CTX + context.position;
    let start = context.position.saturating_sub(5);
    let end = (context.position + 4).min(N_CTX);
    assert_eq!(context.at, context.position - start);
    assert_eq!(context.ids, tokens.row(context.sequence)[start..end]);
    let first = context.sequence * N_CTX;
    assert_eq!(context.activations, activations[first + start..first + end]);
    assert_eq!(context.activation(), activations[row]);
    row
}

#[test]
fn counts_and_strongest_contexts_are_those_of_a_loop_over_all_rows() {
    check_counts(&made());
}

/// Rows of any number of codes, half of the latents on average.
#[test]
fn so_they_are_where_rows_differ_in_their_number_of_codes() {
    check_counts(&made_of(Architecture::Relu { l1: 1.0 }));
}

fn check_counts(made: &Made) {
    let dense = dense(made);
    let features =
        Features::collect(&made.model, made.hook, &made.sae, &made.acts, config()).unwrap();
    assert_eq!(
        (features.tokens, features.cofiring_tokens, features.finished),
        (60 * 23, 60 * 23, true)
    );
    let mut n_top = 0;
    for (latent, activations) in dense.iter().enumerate() {
        let feature = features.latent(latent).unwrap();
        let fires: Vec<f32> = activations.iter().copied().filter(|value| *value > 0.0).collect();
        assert_eq!(feature.firings, fires.len() as u64);
        assert_eq!(feature.density, fires.len() as f64 / (60.0 * 23.0));
        assert_eq!(feature.max, fires.iter().copied().fold(0.0, f32::max));
        let mean =
            fires.iter().map(|value| f64::from(*value)).sum::<f64>() / fires.len().max(1) as f64;
        assert!((feature.mean - mean).abs() < 1e-12 * mean.max(1.0));
        assert_eq!(feature.histogram.iter().map(|bin| bin.count).sum::<u64>(), feature.firings);
        for bin in &feature.histogram {
            let from = if bin.from > 2f64.powi(-12) { bin.from } else { 0.0 };
            let within =
                fires.iter().filter(|value| (from..bin.to).contains(&f64::from(**value))).count();
            assert_eq!(bin.count, within as u64, "latent {latent}, {bin:?}");
        }

        let mut strongest: Vec<(f32, usize)> = Vec::new();
        for sequence in 0..60 {
            let rows = sequence * N_CTX..(sequence + 1) * N_CTX;
            let best =
                rows.rev().max_by(|&a, &b| activations[a].total_cmp(&activations[b])).unwrap();
            if activations[best] > 0.0 {
                strongest.push((activations[best], best));
            }
        }
        strongest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        strongest.truncate(6);
        let got: Vec<usize> = feature
            .top
            .iter()
            .map(|context| check_context(context, activations, &made.tokens))
            .collect();
        assert_eq!(got, strongest.iter().map(|one| one.1).collect::<Vec<_>>(), "latent {latent}");
        n_top += got.len();
    }
    assert!(n_top > 500, "{n_top}");
}

#[test]
fn drawn_contexts_lie_in_their_bands_and_are_fair() {
    let made = made();
    let dense = dense(&made);
    let draw = |seed| {
        let config = FeaturesConfig { seed, ..config() };
        Features::collect(&made.model, made.hook, &made.sae, &made.acts, config).unwrap()
    };
    let features = draw(0);
    let mut n_drawn = 0;
    for (latent, activations) in dense.iter().enumerate() {
        let feature = features.latent(latent).unwrap();
        let strongest: HashSet<usize> = feature
            .top
            .iter()
            .map(|context| check_context(context, activations, &made.tokens))
            .collect();
        let mut last = f64::INFINITY;
        let mut sequences = HashSet::new();
        for band in &feature.bands {
            assert!(band.most <= last && band.least < band.most && band.contexts.len() <= 2);
            last = band.least;
            // The edges are quantiles, as exactly as the histogram's bins are narrow.
            let fires = activations.iter().filter(|value| **value > 0.0).count() as f64;
            let below = |edge: f64| {
                activations
                    .iter()
                    .filter(|value| **value > 0.0 && f64::from(**value) <= edge)
                    .count() as f64
                    / fires
            };
            if fires > 200.0 {
                assert!(
                    (below(band.least) - band.from).abs() < 0.05
                        && (below(band.most) - band.to).abs() < 0.05,
                    "{band:?}"
                );
            }
            for context in &band.contexts {
                let row = check_context(context, activations, &made.tokens);
                let activation = f64::from(context.activation());
                assert!(
                    activation > band.least
                        && activation <= band.most
                        && !strongest.contains(&row)
                        && sequences.insert(context.sequence)
                );
                n_drawn += 1;
            }
        }
    }
    assert!(n_drawn > 300, "{n_drawn}");
    let contexts = |features: &Features| -> Vec<Feature> {
        (0..dense.len()).map(|i| features.latent(i).unwrap()).collect()
    };
    assert!(contexts(&features) == contexts(&draw(0)) && contexts(&features) != contexts(&draw(1)));
}

#[test]
fn what_is_found_depends_on_neither_threads_nor_where_it_is_read_from() {
    let made = made();
    let all = |features: Features| -> Vec<Feature> {
        (0..features.d_sae()).map(|i| features.latent(i).unwrap()).collect()
    };
    let collect =
        || Features::collect(&made.model, made.hook, &made.sae, &made.acts, config()).unwrap();
    let want = all(collect());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(all(pool.install(collect)) == want, "{threads}");
    }
    let text =
        Features::collect(&made.model, made.hook, &made.sae, &made.tokens, config()).unwrap();
    assert!(all(text) == want);
}

#[test]
fn fewer_tokens_are_whole_sequences_spread_over_all() {
    let made = made();
    let config = FeaturesConfig { tokens: (4 * N_CTX + 5) as u64, ..config() };
    let features =
        Features::collect(&made.model, made.hook, &made.sae, &made.acts, config).unwrap();
    assert_eq!(features.tokens, 4 * 23);
    let sequences: HashSet<usize> = (0..features.d_sae())
        .flat_map(|i| features.latent(i).unwrap().top)
        .map(|context| context.sequence)
        .collect();
    assert_eq!(sequences, HashSet::from([0, 15, 30, 45]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let made = made();
    let collect = |config| {
        Features::collect(&made.model, made.hook, &made.sae, &made.acts, config).unwrap_err()
    };
    assert!(matches!(
        collect(FeaturesConfig { tokens: 0, ..config() }),
        Error::Config { field: "tokens", .. }
    ));
    assert!(matches!(
        collect(FeaturesConfig { before: 5000, ..config() }),
        Error::Config { field: "before", .. }
    ));
    let other = Model::load_with("tiny-gpt2", Processing::Raw).unwrap();
    let told = Features::collect(&other, made.hook, &made.sae, &made.acts, config()).unwrap_err();
    assert!(matches!(told, Error::Changed { .. }), "{told}");
    let told =
        Features::collect(&made.model, HookPoint::resid_pre(1), &made.sae, &made.acts, config())
            .unwrap_err();
    assert!(matches!(told, Error::UnknownHook { .. }), "{told}");
    let narrow = Sae::new(SaeConfig { expansion: 2, k: 2, ..SaeConfig::new(16, 10) }).unwrap();
    let told =
        Features::collect(&made.model, made.hook, &narrow, &made.acts, config()).unwrap_err();
    assert!(matches!(told, Error::Shape { .. }), "{told}");
    let dashboard =
        FeatureDashboard::with(&made.model, made.hook, &made.sae, &made.acts, config()).unwrap();
    let told = dashboard.latent(256).unwrap_err().to_string();
    assert!(told.contains("256") && told.contains("0 to 255"), "{told}");
    assert!(matches!(dashboard.ablate(256, "a"), Err(Error::Config { field: "latent", .. })));
    assert!(matches!(dashboard.ablate(0, ""), Err(Error::Config { field: "text", .. })));
    assert!(matches!(dashboard.steer(0, f32::NAN, "a"), Err(Error::Config { field: "scale", .. })));
}

/// The direct path once more, from the checkpoint's own arrays, for a model of either processing.
#[test]
fn logit_effects_are_the_product_with_the_raw_unembedding() {
    for processing in [Processing::Raw, Processing::TransformerLens] {
        let model = Model::load_with("tiny-gpt2", processing).unwrap();
        let (d, v) = (model.config().d_model, model.config().d_vocab);
        let file = std::path::Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/models/tiny-gpt2/model.safetensors"
        ));
        let mut arrays = Arrays::load(file).unwrap();
        let mut take = |name: &str, shape: &[usize]| {
            let name =
                if arrays.has(name) { name.to_owned() } else { format!("transformer.{name}") };
            arrays.take(&name, shape).unwrap()
        };
        let (unembedding, gain) = (take("wte.weight", &[v, d]), take("ln_f.weight", &[d]));
        let lookup = Lookup::unigram(&model, HookPoint::resid_pre(2)).unwrap();
        let config = SaeConfig { expansion: 1, k: 3, ..SaeConfig::for_model(&model) };
        let sae = Sae::new(config.with_lookup(lookup)).unwrap();
        let scorer = directions::Scorer::new(&model, &sae).unwrap();
        for latent in [0, 7, d - 1] {
            let row = &sae.w_dec[latent * d..][..d];
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / d as f64;
            let through = |t: usize| -> f64 {
                (0..d)
                    .map(|i| {
                        (f64::from(row[i]) - mean)
                            * f64::from(gain[i])
                            * f64::from(unembedding[t * d + i])
                    })
                    .sum()
            };
            let logits: Vec<f64> = (0..v).map(through).collect();
            let average = logits.iter().sum::<f64>() / v as f64;
            let cosine = |other: &[f32]| {
                let dot = |a: &[f32], b: &[f32]| {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                };
                dot(row, other) / (dot(row, row) * dot(other, other)).sqrt()
            };
            let table = sae.lookup.as_ref().unwrap();
            let embedding = model.embedding().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let got = scorer.directions(&model, &sae, latent, 8).unwrap();
            let check = |got: &[TokenScore], score: &dyn Fn(usize) -> f64, sign: f64| {
                let mut want: Vec<(usize, f64)> = (0..v).map(|t| (t, score(t))).collect();
                want.sort_by(|a, b| (sign * b.1).total_cmp(&(sign * a.1)));
                assert_eq!(got.len(), 8);
                for (got, want) in got.iter().zip(&want) {
                    assert!(
                        (f64::from(got.score) - want.1).abs() < 1e-4
                            && (score(got.id as usize) - want.1).abs() < 1e-4
                    );
                    assert_eq!(got.token, model.token_str(got.id));
                }
            };
            check(&got.raised, &|t| logits[t] - average, 1.0);
            check(&got.lowered, &|t| logits[t] - average, -1.0);
            check(&got.embedding, &|t| cosine(&embedding[t * d..][..d]), 1.0);
            check(&got.table, &|t| cosine(&table[t * d..][..d]), 1.0);
            assert!((got.length - 1.0).abs() < 1e-5);
        }
    }
}

/// The next-token probabilities at every position, `[n_ctx, d_vocab]`.
fn probabilities(logits: &Tensor) -> Vec<Vec<f64>> {
    let rows = logits.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    let softmax = |row: &Vec<f32>| {
        let total = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>();
        row.iter().map(|x| f64::from(*x).exp() / total).collect()
    };
    rows.iter().map(softmax).collect()
}

fn check_effect(effect: &Effect, before: &[Vec<f64>], after: &[Vec<f64>]) {
    for (token, (p, q)) in effect.tokens.iter().zip(before.iter().zip(after)) {
        let kl: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((token.kl - kl).abs() < 1e-5 + 1e-3 * kl, "{} {kl}", token.kl);
    }
    let (p, q) = (before.last().unwrap(), after.last().unwrap());
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| (q[b] - p[b]).total_cmp(&(q[a] - p[a])));
    for (shift, want) in
        effect.gained.iter().zip(&order).chain(effect.lost.iter().zip(order.iter().rev()))
    {
        let id = shift.id as usize;
        assert!((shift.before - p[id]).abs() < 1e-5 && (shift.after - q[id]).abs() < 1e-5);
        assert!(((shift.after - shift.before) - (q[*want] - p[*want])).abs() < 1e-5);
    }
}

#[test]
fn ablation_and_steering_are_runs_spliced_by_hand() {
    let made = made();
    let (model, sae, d) = (&made.model, &made.sae, made.sae.d_model());
    for hook in [made.hook, "blocks.1.hook_mlp_out".parse().unwrap()] {
        let ids = made.tokens.row(4);
        let paused = model.pause_at(&Tokens::new(ids.to_vec(), ids.len()).unwrap(), hook).unwrap();
        let x = paused.value.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let codes = sae.encode(&x).unwrap();
        let x_hat = sae.decode(&codes, ids).unwrap();
        let before = probabilities(&model.resume(&paused, &paused.value).unwrap());
        let after = |x: Vec<f32>| {
            let value = Tensor::from_vec(x, paused.value.shape(), &Device::Cpu).unwrap();
            probabilities(&model.resume(&paused, &value).unwrap())
        };
        let latent = codes.row(7).0[3] as usize;

        // Everything decoded again without the latent, and the error of the whole reconstruction
        // added.
        let mut ablated = x.clone();
        for row in 1..ids.len() {
            let (latents, values) = codes.row(row);
            for i in 0..d {
                let table = sae.lookup.as_ref().unwrap()[ids[row] as usize * d + i];
                let others = latents.iter().zip(values).filter(|(one, _)| **one as usize != latent);
                let sum: f32 =
                    others.map(|(&one, &value)| value * sae.w_dec[one as usize * d + i]).sum();
                ablated[row * d + i] =
                    sum + sae.b_dec[i] + table + (x[row * d + i] - x_hat[row * d + i]);
            }
        }
        let effect = Effect::of(model, hook, sae, latent, Intervention::Ablate, ids).unwrap();
        check_effect(&effect, &before, &after(ablated));
        let at = codes.row(7).0.iter().position(|one| *one as usize == latent).unwrap();
        assert_eq!(effect.tokens[7].activation, codes.row(7).1[at]);
        assert!(
            effect.tokens[..7].iter().any(|token| token.activation == 0.0 && token.kl < 1e-6)
                && effect.tokens[7].kl > 0.0
        );

        let mut steered = x.clone();
        (d..x.len()).for_each(|i| steered[i] += 3.0 * sae.w_dec[latent * d + i % d]);
        let [all, only] =
            [Intervention::Steer { scale: 3.0 }, Intervention::SteerLast { scale: 3.0 }]
                .map(|steer| Effect::of(model, hook, sae, latent, steer, ids).unwrap());
        check_effect(&all, &before, &after(steered.clone()));
        let last = x.len() - d;
        let only_last: Vec<f32> = x[..last].iter().chain(&steered[last..]).copied().collect();
        check_effect(&only, &before, &after(only_last));
        assert!(only.tokens[..N_CTX - 1].iter().all(|token| token.kl < 1e-6));
        assert!(all.kl() > 1e-4);
    }
}

/// Of an SAE that scales rows, everything is scaled back as its reconstruction is.
#[test]
fn latents_that_read_scaled_rows_act_in_the_scale_of_activations() {
    let made = made();
    let (model, d, ids) = (&made.model, made.sae.d_model(), made.tokens.row(4));
    let paused = model.pause_at(&Tokens::new(ids.to_vec(), ids.len()).unwrap(), made.hook).unwrap();
    let x = paused.value.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let before = probabilities(&model.resume(&paused, &paused.value).unwrap());
    for row_norm in [RowNorm::LayerNorm, RowNorm::ConstantNorm] {
        let sae = Sae { row_norm, ..made.sae.clone() };
        let codes = sae.encode(&x).unwrap();
        let latent = codes.row(7).0[3];
        let mut others = codes.clone();
        others.retain(|code| codes.latents()[code] != latent);
        let (with, without) = (sae.decode(&codes, ids).unwrap(), sae.decode(&others, ids).unwrap());
        let ablated: Vec<f32> =
            (0..x.len()).map(|i| if i < d { x[i] } else { x[i] - with[i] + without[i] }).collect();
        let value = Tensor::from_vec(ablated, paused.value.shape(), &Device::Cpu).unwrap();
        let effect =
            Effect::of(model, made.hook, &sae, latent as usize, Intervention::Ablate, ids).unwrap();
        check_effect(&effect, &before, &probabilities(&model.resume(&paused, &value).unwrap()));
        assert!(effect.tokens[7].kl > 1e-6, "{}", effect.tokens[7].kl);
        // And codes without a scale are not taken for codes of a row whose scale is 1.
        assert!(matches!(
            sae.decode(&made.sae.encode(&x).unwrap(), ids),
            Err(Error::Config { field: "codes", .. })
        ));
    }
}

#[test]
fn a_steered_text_follows_the_steered_distribution() {
    for row_norm in [RowNorm::None, RowNorm::LayerNorm] {
        let mut made = made();
        made.sae.row_norm = row_norm;
        steered_texts_follow_the_steered_distribution(&made);
    }
}

fn steered_texts_follow_the_steered_distribution(made: &Made) {
    let dashboard =
        FeatureDashboard::with(&made.model, made.hook, &made.sae, &made.acts, config()).unwrap();
    let (latent, text) = (11, "Once upon a time");
    let ids = [vec![made.model.bos()], made.model.encode(text).unwrap()].concat();
    let text_ids = Tokens::new(ids.clone(), ids.len()).unwrap();
    let x = made
        .model
        .pause_at(&text_ids, made.hook)
        .unwrap()
        .value
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let scale = 40.0 / made.sae.encode(&x).unwrap().scale(ids.len() - 1);
    let found = dashboard.continuations(latent, scale, text, 64, 1, 0).unwrap();
    assert_eq!((found.prompt.as_str(), found.pairs.len()), (text, 64));
    // What the effect says of the next token is what is drawn: the tokens that gain are drawn more
    // often.
    let effect = dashboard.steer(latent, scale, text).unwrap();
    assert!(effect.kl() > 0.3, "{}", effect.kl());
    let gained: HashSet<&str> = effect.gained.iter().map(|shift| shift.token.as_str()).collect();
    let expected = |p: &dyn Fn(&Shift) -> f64| 64.0 * effect.gained.iter().map(p).sum::<f64>();
    let [plain, steered] = [
        found.pairs.iter().filter(|pair| gained.contains(&*pair.0)).count() as f64,
        found.pairs.iter().filter(|pair| gained.contains(&*pair.1)).count() as f64,
    ];
    assert!(
        (plain - expected(&|shift| shift.before)).abs() < 14.0
            && (steered - expected(&|shift| shift.after)).abs() < 14.0
    );
    assert!(steered > plain);
    assert_eq!(found, dashboard.continuations(latent, scale, text, 64, 1, 0).unwrap());
}
