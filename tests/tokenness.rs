//! Token or context: the counts against a naive dense twin, what must hold of any latent, and R² of
//! n-grams against plain means.

use std::collections::BTreeMap;

use tokenized_sae::activations::Source;
use tokenized_sae::activations::{Batch, Dtype};
use tokenized_sae::latents::ActivationSource;
use tokenized_sae::latents::tokenness::{Coverage, NgramR2Config, ngram_r2_with};
use tokenized_sae::prelude::*;

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

fn model() -> Model {
    Model::load("tiny-gpt2").unwrap()
}

fn sae(model: &Model, lookup: bool) -> Sae {
    let config = SaeConfig { expansion: 2, k: 6, seed: 3, ..SaeConfig::for_model(model) };
    Sae::new(if lookup {
        config.with_lookup(Lookup::unigram(model, hook()).unwrap())
    } else {
        config
    })
    .unwrap()
}

fn config() -> TokennessConfig {
    TokennessConfig { order: 3, min_firings: 3, ..TokennessConfig::default() }
}

fn near(name: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{name} is {got}, not {want}");
}

/// By n-gram in the order of the text: how often, and with what mass.
type Ngrams = BTreeMap<Vec<u32>, (f64, f64)>;

fn bits(weights: impl Iterator<Item = f64>) -> f64 {
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| -(w / total) * (w / total).log2()).sum()
}

/// MI = H(fires) + H(gram) − H(both), each from its own distribution.
fn mutual_information(fired: &Ngrams, text: &Ngrams) -> f64 {
    let (n, f): (f64, f64) = (text.values().map(|v| v.0).sum(), fired.values().map(|v| v.0).sum());
    let fires = bits([f, n - f].into_iter().filter(|w| *w > 0.0));
    let count = |gram| fired.get(gram).map_or(0.0, |v| v.0);
    let both = text
        .iter()
        .flat_map(|(gram, (all, _))| [count(gram), all - count(gram)])
        .filter(|w| *w > 0.0);
    fires + bits(text.values().map(|v| v.0)) - bits(both)
}

#[test]
fn every_figure_is_that_of_a_naive_count() {
    let model = model();
    let tokens = model.sample(24, 32, 5).unwrap();
    let (plain, tokenized) = (sae(&model, false), sae(&model, true));
    let found = token_or_context_with(
        &model,
        hook(),
        &[("SAE", &plain), ("TSAE", &tokenized)],
        &tokens,
        &config(),
    )
    .unwrap();
    assert_eq!(
        (found.tokens, found.available, found.coverage),
        (24 * 31, 24 * 31, Coverage::Everything)
    );

    let x = model.run_to(&tokens, hook()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (name, sae) in [("SAE", &plain), ("TSAE", &tokenized)] {
        let codes = sae.encode(&x).unwrap();
        for n in 1..=3 {
            let mut text = Ngrams::new();
            let mut fired = vec![Ngrams::new(); sae.d_sae()];
            for i in (0..tokens.len()).filter(|i| i % 32 != 0) {
                let start = (i + 1).saturating_sub(n).max(i / 32 * 32);
                let gram = tokens.ids()[start..=i].to_vec();
                text.entry(gram.clone()).or_default().0 += 1.0;
                let (latents, values) = codes.row(i);
                for (latent, value) in latents.iter().zip(values).filter(|(_, value)| **value > 0.0)
                {
                    let entry = fired[*latent as usize].entry(gram.clone()).or_default();
                    *entry = (entry.0 + 1.0, entry.1 + f64::from(*value));
                }
            }
            for (latent, fired) in found[name].latents.iter().zip(&fired) {
                let firings: f64 = fired.values().map(|v| v.0).sum();
                assert_eq!(latent.firings as f64, firings);
                let Some(profile) = latent.ngrams.get(n - 1) else {
                    assert_eq!(firings, 0.0);
                    continue;
                };
                let mass: f64 = fired.values().map(|v| v.1).sum();
                let norm = sae.w_dec[latent.latent * 128..][..128]
                    .iter()
                    .map(|w| f64::from(w * w))
                    .sum::<f64>()
                    .sqrt();
                assert!((latent.mass - mass * norm).abs() < 1e-5 * latent.mass);
                assert_eq!(profile.distinct, fired.len());
                let top = fired.values().map(|v| v.1).fold(0.0, f64::max);
                near("the top's mass", fired[&profile.top].1, top);
                near("mass_share", profile.mass_share, top / mass);
                near("firing_share", profile.firing_share, fired[&profile.top].0 / firings);
                near("mass_entropy", profile.mass_entropy, bits(fired.values().map(|v| v.1)));
                near("firing_entropy", profile.firing_entropy, bits(fired.values().map(|v| v.0)));
                near(
                    "normalized_entropy",
                    profile.normalized_entropy,
                    profile.mass_entropy / (text.len() as f64).log2(),
                );
                near("mi", profile.mi, mutual_information(fired, &text));
                assert_eq!(
                    profile.text,
                    profile.top.iter().map(|&id| model.token_str(id)).collect::<String>()
                );
                assert!(
                    profile.mi <= latent.fires_entropy + 1e-12
                        && profile.mi_by_chance <= latent.fires_entropy + 1e-12
                );
            }
        }
        for latent in &found[name].latents {
            // A longer n-gram knows what a shorter one knows.
            assert!(
                latent.ngrams.windows(2).all(|pair| pair[0].mi <= pair[1].mi + 1e-12
                    && pair[0].mass_share >= pair[1].mass_share)
            );
        }
    }
    assert!(found["SAE"].latents.iter().all(|latent| latent.own_table.is_none()));
    // Untrained, the SAE's own table is α times the one that it is compared with.
    for latent in &found["TSAE"].latents {
        let own = latent.own_table.as_ref().unwrap();
        assert!(own.token == latent.table.token && (own.cosine - latent.table.cosine).abs() < 1e-6);
    }
}

/// An SAE of two latents on x = [a, b]: the first fires with a, the second with b.
fn reads_two_numbers(model: &Model) -> Sae {
    let d = model.config().d_model;
    let mut sae =
        Sae::new(SaeConfig { expansion: 1, k: 2, relu: true, ..SaeConfig::for_model(model) })
            .unwrap();
    sae.w_enc.fill(0.0);
    sae.w_enc[0] = 1.0;
    sae.w_enc[d + 1] = 1.0;
    sae
}

/// A store whose activations are what `x` says of each token and position, in the first two
/// numbers.
fn store(
    dir: &std::path::Path,
    model: &Model,
    tokens: &Tokens,
    x: impl Fn(u32, usize) -> [f32; 2],
) -> ActivationStore {
    let source = Source {
        name: model.name().to_owned(),
        revision: None,
        fingerprint: model.fingerprint().to_owned(),
        processing: model.processing().to_string(),
        d_model: model.config().d_model,
        d_vocab: model.config().d_vocab,
        skip_first: 0,
    };
    let place = |rows: &Tokens| {
        (0..tokens.n_seq()).find(|i| tokens.row(*i) == rows.row(0)).unwrap() * tokens.n_ctx()
    };
    let forward = |rows: &Tokens, _: &[HookPoint]| {
        let mut values = vec![0.0; rows.len() * source.d_model];
        for (i, (&token, row)) in
            rows.ids().iter().zip(values.chunks_exact_mut(source.d_model)).enumerate()
        {
            row[..2].copy_from_slice(&x(token, place(rows) + i));
        }
        Ok(vec![values])
    };
    ActivationStore::harvest_with(
        &source,
        &[hook()],
        tokens,
        dir,
        HarvestConfig::default(),
        &forward,
    )
    .unwrap()
}

#[test]
fn a_latent_that_is_a_token_and_one_that_ignores_tokens() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let tokens = model.sample(64, 64, 1).unwrap();
    // The first fires on token 300 only, and always; the second on every 13th position, whatever
    // stands there.
    let common = (0..tokens.len()).filter(|i| i % 64 != 0).map(|i| tokens.ids()[i]).fold(
        BTreeMap::new(),
        |mut counts, token| {
            *counts.entry(token).or_insert(0u64) += 1;
            counts
        },
    );
    let (&token, &count) = common.iter().max_by_key(|(_, count)| **count).unwrap();
    let acts = store(dir.path(), &model, &tokens, |t, i| {
        [if t == token { 2.0 } else { 0.0 }, if i % 13 == 5 { 1.0 } else { 0.0 }]
    });
    let sae = reads_two_numbers(&model);
    let found = token_or_context(&model, hook(), &[("it", &sae)], &acts).unwrap();
    let [is_token, ignores] = &found["it"].latents[..2] else { panic!("two latents") };

    let profile = &is_token.ngrams[0];
    assert_eq!((is_token.firings, &profile.top[..], profile.distinct), (count, &[token][..], 1));
    assert_eq!(
        (profile.mass_share, profile.firing_share, profile.mass_entropy, profile.firing_entropy),
        (1.0, 1.0, 0.0, 0.0)
    );
    near("MI / H", profile.mi_share, 1.0);
    near("corrected", profile.mi_share_corrected, 1.0);
    assert!(
        profile.text == model.token_str(token) && TokenTest::Trivial.passes(is_token) == Some(true)
    );

    let profile = &ignores.ngrams[0];
    assert!(
        profile.mi_share > 0.1,
        "as counted, chance looks like knowledge: {}",
        profile.mi_share
    );
    assert!(profile.mi_share_corrected.abs() < 0.05, "{}", profile.mi_share_corrected);
    assert_eq!(TokenTest::Trivial.passes(ignores), Some(false));
    assert!(
        found["it"].latents[2..]
            .iter()
            .all(|latent| latent.firings == 0 && latent.ngrams.is_empty())
    );
    near("share", found.share("it", TokenTest::Trivial, Weighting::Latents).unwrap(), 0.5);
    assert!(
        found.table(Weighting::Latents).text().contains("126"),
        "dead latents are counted apart"
    );
}

#[test]
fn the_same_bits_on_any_number_of_threads_and_from_a_store_or_a_text() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let tokens = model.sample(300, 32, 2).unwrap();
    let config_f32 = HarvestConfig { dtype: Dtype::F32, ..HarvestConfig::default() };
    let acts =
        ActivationStore::harvest(&model, &[hook()], &tokens, dir.path(), config_f32).unwrap();
    let tsae = sae(&model, true);
    let on = |threads: usize, source: &ActivationSource| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            token_or_context_with(&model, hook(), &[("TSAE", &tsae)], source.clone(), &config())
                .unwrap()
        })
    };
    let one = on(1, &(&acts).into());
    assert!(one == on(3, &(&acts).into()), "threads");
    assert!(one == on(2, &(&tokens).into()), "source");
    let r2 = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| ngram_r2(&acts, hook(), 3).unwrap())
    };
    assert!(r2(1) == r2(3));
}

#[test]
fn less_than_everything_is_a_random_sample_that_says_so() {
    let model = model();
    let tokens = model.sample(600, 32, 2).unwrap();
    let sae = sae(&model, false);
    let with = |config: TokennessConfig| {
        token_or_context_with(&model, hook(), &[("SAE", &sae)], &tokens, &config).unwrap()
    };
    let few = with(TokennessConfig { tokens: 3_100, ..config() });
    assert_eq!((few.tokens, few.available, few.coverage), (3_100, 600 * 31, Coverage::Tokens));
    assert!(
        few.table(Weighting::Mass)
            .text()
            .contains("3100 of 19 k tokens, in sequences chosen at random")
    );
    assert_ne!(
        few,
        with(TokennessConfig { tokens: 3_100, seed: 1, ..config() }),
        "another seed, another sample"
    );
    let small = with(TokennessConfig { memory: 100_000, ..config() });
    assert_eq!(small.coverage, Coverage::Memory);
    assert!(small.tokens < 600 * 31 && small.tokens > 0, "{}", small.tokens);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let tokens = model.sample(4, 16, 2).unwrap();
    let plain = sae(&model, false);
    let refused = |saes: &[(&str, &Sae)], tokens: &Tokens, config: TokennessConfig| {
        token_or_context_with(&model, hook(), saes, tokens, &config).unwrap_err()
    };
    let narrow = Sae::new(SaeConfig { k: 2, ..SaeConfig::new(16, 10) }).unwrap();
    assert!(matches!(refused(&[("it", &narrow)], &tokens, config()), Error::Shape { .. }));
    assert!(matches!(refused(&[], &tokens, config()), Error::Config { field: "saes", .. }));
    assert!(matches!(
        refused(&[("it", &plain)], &Tokens::new(vec![0; 3], 1).unwrap(), config()),
        Error::EmptyCorpus { .. }
    ));
    for wrong in [
        TokennessConfig { order: 0, ..config() },
        TokennessConfig { order: 4, ..config() },
        TokennessConfig { tokens: 0, ..config() },
    ] {
        assert!(matches!(refused(&[("it", &plain)], &tokens, wrong), Error::Config { .. }));
    }
    let table = Lookup::from_table(vec![1.0; 64], 16).unwrap();
    assert!(matches!(
        refused(&[("it", &plain)], &tokens, TokennessConfig { table: Some(table), ..config() }),
        Error::Shape { .. }
    ));

    let acts =
        ActivationStore::harvest(&model, &[hook()], &tokens, dir.path(), HarvestConfig::default())
            .unwrap();
    let other = Model::load("tiny-pythia").unwrap();
    let error = token_or_context(&other, hook(), &[("it", &plain)], &acts).unwrap_err();
    assert!(error.to_string().contains("load the model it was made with"), "{error}");
    assert!(matches!(
        token_or_context(&model, HookPoint::resid_pre(1), &[("it", &plain)], &acts),
        Err(Error::UnknownHook { .. })
    ));
    assert!(matches!(ngram_r2(&acts, hook(), 4), Err(Error::Config { .. })));
    assert!(matches!(ngram_r2(&acts, HookPoint::resid_pre(1), 2), Err(Error::UnknownHook { .. })));
    let one = NgramR2Config { tokens: 15, ..NgramR2Config::default() };
    assert!(matches!(ngram_r2_with(&acts, hook(), &one), Err(Error::EmptyCorpus { .. })));
}

/// Tokens and activations by hand: the first number is decided by the token, the second by the
/// token and the one before.
#[test]
fn r2_is_what_the_means_explain() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let ids: Vec<u32> = (0..400 * 16u32)
        .map(|i| {
            (i.wrapping_mul(2_654_435_761) >> 16) % 5
                + if i % 16 == 0 { 1000 + i / 16 * 5 } else { 10 }
        })
        .collect();
    let tokens = Tokens::new(ids, 16).unwrap();
    let before = |i: usize| if i.is_multiple_of(16) { 0 } else { tokens.ids()[i - 1] % 10 };
    let acts = store(dir.path(), &model, &tokens, |t, i| {
        [(t % 10) as f32, if (t + before(i)).is_multiple_of(2) { 1.0 } else { -1.0 }]
    });
    let config = NgramR2Config { min_count: 1, ..NgramR2Config::default() };
    let found = ngram_r2_with(&acts, hook(), &config).unwrap();
    assert_eq!((found.fitted, found.scored), (200 * 15, 200 * 15));

    // The halves again, and plain means; a token decides the first number, and what it says of the
    // second is noise.
    let (elsewhere, one_each) = (tempfile::tempdir().unwrap(), Tokens::new(vec![0; 400], 16));
    let order =
        store(elsewhere.path(), &model, &one_each.unwrap(), |_, _| [0.0, 0.0]).shuffled(0, 0..400);
    let rows = |half: &[u64]| {
        half.iter()
            .flat_map(|&s| (1..16).map(move |at| s as usize * 16 + at))
            .collect::<Vec<usize>>()
    };
    let (fit, score) = (rows(&order[..200]), rows(&order[200..]));
    let mut batch = Batch::default();
    acts.gather(hook(), &(0..acts.n_rows() as u64).collect::<Vec<_>>(), &mut batch).unwrap();
    let x = |i: usize| [f64::from(batch.x[i * 128]), f64::from(batch.x[i * 128 + 1])];
    let mut sums = BTreeMap::<u32, (f64, [f64; 2])>::new();
    for &i in &fit {
        let sum = sums.entry(tokens.ids()[i]).or_default();
        *sum = (sum.0 + 1.0, [sum.1[0] + x(i)[0], sum.1[1] + x(i)[1]]);
    }
    let n = score.len() as f64;
    let means = score.iter().fold([0.0; 2], |sum, &i| [sum[0] + x(i)[0] / n, sum[1] + x(i)[1] / n]);
    let (mut error, mut variance) = (0.0, 0.0);
    for &i in &score {
        let (count, sum) = sums[&tokens.ids()[i]];
        for j in 0..2 {
            error += (x(i)[j] - sum[j] / count).powi(2);
            variance += (x(i)[j] - means[j]).powi(2);
        }
    }
    let plain = 1.0 - error / variance;
    // Means of hundreds of rows are hardly drawn anywhere.
    assert!((found.r2(1).unwrap() - plain).abs() < 2e-3, "{} {plain}", found.r2(1).unwrap());
    // Only at position 1, whose token before is one of 400 that occur once each, does the bigram
    // not tell all.
    assert!(found.r2(2).unwrap() > 0.93 && found.r2(2).unwrap() > plain + 0.1, "{found:?}");
    assert!((found.r2(3).unwrap() - found.r2(2).unwrap()).abs() < 0.02, "{found:?}");
    assert_eq!(found.scores[0].covered, 1.0);

    let small =
        ngram_r2_with(&acts, hook(), &NgramR2Config { memory: 128 * 8 * 12, ..config }).unwrap();
    assert!(small.cut && small.scores[1].grams == 6 && small.scores[2].grams == 0, "{small:?}");
    assert_eq!(small.scores[0], found.scores[0]);
}

#[test]
fn activations_that_a_token_decides_have_all_of_it() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let tokens =
        Tokens::new((0..200 * 32u32).map(|i| i.wrapping_mul(2_654_435_761) >> 27).collect(), 32)
            .unwrap();
    let acts = store(dir.path(), &model, &tokens, |token, _| {
        [(token as f32 * 0.7).sin() * 9.3, (token as f32 * 1.3).cos()]
    });
    let found = ngram_r2(&acts, hook(), 3).unwrap();
    assert!(found.scores.iter().all(|score| (score.r2 - 1.0).abs() < 1e-6), "{found:?}");
}

#[test]
fn activations_that_ignore_the_tokens_have_no_r2() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let tokens = model.sample(200, 32, 4).unwrap();
    let noise = |i: usize| {
        ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let acts = store(dir.path(), &model, &tokens, |_, i| [noise(2 * i), noise(2 * i + 1)]);
    let found = ngram_r2(&acts, hook(), 3).unwrap();
    // Plain means of n-grams seen twice would score −0.3.
    assert!(found.scores.iter().all(|score| score.r2.abs() < 0.03), "{found:?}");
}

/// What the child process does; the parent only calls it.
#[cfg(unix)]
fn in_a_process_of_its_own(name: &str, child: fn()) {
    if std::env::var("TSAE_TEST_CHILD").is_ok_and(|child| child == name) {
        child();
        std::process::exit(7);
    }
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env("TSAE_TEST_CHILD", name)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Presses the stop button after some seconds.
#[cfg(unix)]
fn press_after(seconds: u64) {
    tokenized_sae::display::interrupt::watch();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn stopped_by_hand_it_measures_what_was_read() {
    in_a_process_of_its_own("stopped_by_hand_it_measures_what_was_read", || {
        let model = model();
        // A minute's work and more.
        let tokens = Tokens::new(
            (0..20_000 * 256u32).map(|i| i.wrapping_mul(2_654_435_761) >> 20).collect(),
            256,
        )
        .unwrap();
        let table = Some(Lookup::from_table(vec![1.0; 128], 128).unwrap());
        let config = TokennessConfig { tokens: usize::MAX, table, ..config() };
        let sae = sae(&model, false);
        // On a busy machine nothing may have been read after a second.
        let tried = (0..5).find_map(|attempt| {
            press_after(1 << attempt);
            match token_or_context_with(&model, hook(), &[("SAE", &sae)], &tokens, &config) {
                Err(Error::Interrupted { .. }) => None,
                found => Some(found.unwrap()),
            }
        });
        let found = tried.unwrap();
        assert_eq!(found.coverage, Coverage::Stopped);
        assert!(found.tokens > 0 && found.tokens < found.available, "{}", found.tokens);
        assert!(!tokenized_sae::display::interrupt::requested(), "the press was heard");
    });
}
