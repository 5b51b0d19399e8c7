//! Probes and absorption on activations that are made by hand, so that every figure is known: what
//! is there is found on words never seen, what is not there is found by chance, and a word that is
//! absorbed is counted where it is absorbed, in a latent or in a table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokenized_sae::activations::Source;
use tokenized_sae::latents::absorption::{AbsorptionConfig, Carried, absorption_with};
use tokenized_sae::latents::probe::{Input, ProbeConfig, ProbeScore, probe_with};
use tokenized_sae::prelude::*;

const N_CTX: usize = 64;

/// The coordinate, and the latent, that words of their own have.
const OWN: usize = 30;

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

fn model() -> Model {
    Model::load("tiny-gpt2").unwrap()
}

/// Every token of the vocabulary equally often, in no order.
fn text(model: &Model, times: usize) -> Tokens {
    let mut ids = Vec::new();
    let n = model.config().d_vocab;
    let mut state = 1u64;
    for _ in 0..times {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            order.swap(i, (state >> 33) as usize % (i + 1));
        }
        ids.extend(order);
    }
    Tokens::new(ids, N_CTX).unwrap()
}

/// The place in the alphabet of the first letter of a word.
fn letter(model: &Model, token: u32) -> Option<usize> {
    let text = model.token_str(token);
    let letters = text.strip_prefix(' ')?;
    let is_word = letters.bytes().all(|it| it.is_ascii_alphabetic());
    let first = letters.bytes().next().filter(|_| is_word)?;
    Some(usize::from(first.to_ascii_lowercase() - b'a'))
}

/// A store whose activations are what `x` makes of a token and the one before it.
fn store(
    dir: &Path,
    model: &Model,
    text: &Tokens,
    x: impl Fn(u32, Option<u32>, &mut [f32]),
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
    let forward = |rows: &Tokens, _: &[HookPoint]| {
        let mut values = vec![0.0; rows.len() * source.d_model];
        for (i, row) in values.chunks_exact_mut(source.d_model).enumerate() {
            let before = (i % N_CTX != 0).then(|| rows.ids()[i - 1]);
            x(rows.ids()[i], before, row);
        }
        Ok(vec![values])
    };
    let config = HarvestConfig::default();
    ActivationStore::harvest_with(&source, &[hook()], text, dir, config, &forward).unwrap()
}

/// An SAE whose first latents read and write one coordinate each, and whose other latents read
/// nothing.
fn sae(model: &Model) -> Sae {
    let config = SaeConfig { expansion: 1, k: 40, relu: true, ..SaeConfig::for_model(model) };
    let mut sae = Sae::new(config).unwrap();
    let d = sae.d_model();
    sae.w_enc.fill(0.0);
    for at in 0..=OWN {
        sae.w_enc[at * d + at] = 1.0;
        sae.w_dec[at * d..][..d].fill(0.0);
        sae.w_dec[at * d + at] = 1.0;
    }
    sae
}

/// Whether each score is of a task and input, by class.
fn of(scores: &[ProbeScore], task: Task, input: Input) -> BTreeMap<String, &ProbeScore> {
    let of = scores.iter().filter(|it| (it.task, it.input) == (task, input));
    of.map(|it| (it.class.clone(), it)).collect()
}

#[test]
fn what_is_there_is_found_by_the_latent_that_has_it_and_on_words_never_seen() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let text = text(&model, 6);
    let acts = store(dir.path(), &model, &text, |token, before, x| {
        if let Some(at) = letter(&model, token) {
            x[at] = 1.0;
        }
        if let Some(at) = before.and_then(|it| letter(&model, it)) {
            x[64 + at] = 1.0;
        }
    });
    let sae = sae(&model);
    let config = ProbeConfig { ks: vec![1, 3], ..ProbeConfig::default() };
    let found = probe_with(&model, hook(), &[("SAE", &sae)], &acts, &config).unwrap();
    let scores = &found["SAE"].scores;
    let one = of(scores, Task::FirstLetter, Input::Latents(1));
    assert!(one.len() > 15, "{}", one.len());
    for (class, score) in &one {
        let own = usize::from(class.as_bytes()[0] - b'a');
        assert_eq!(
            (&score.latents[..], score.accuracy, score.f1),
            (&[own][..], 1.0, 1.0),
            "{class}"
        );
    }
    assert_eq!(found.accuracy(Task::FirstLetter), Some(1.0));
    // The letter before is in the activations, and in no latent.
    assert!(found.accuracy(Task::PreviousLetter).unwrap() > 0.99);
    for score in of(scores, Task::PreviousLetter, Input::Latents(3)).values() {
        assert_eq!(
            score.accuracy, 0.5,
            "of pairs with one token a latent of the token tells nothing"
        );
    }
    assert_eq!(found["SAE"].accuracy(Task::FirstLetter, Input::Table), None, "it has no table");
    // The same bits from the text alone as from a store of it, and on one thread.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let again = alone.install(|| probe_with(&model, hook(), &[("SAE", &sae)], &acts, &config));
    assert_eq!(again.unwrap(), found);
}

#[test]
fn what_is_not_there_is_found_by_chance() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let text = text(&model, 6);
    // Signs that a token has for no reason: enough to tell each token from any other, and so to
    // remember letters, but not of words that were never seen.
    let acts = store(dir.path(), &model, &text, |token, _, x| {
        let mut state = (u64::from(token) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^= state >> 29;
        for x in x {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *x = if state >> 63 == 0 { 1.0 } else { -1.0 };
        }
    });
    let sae = sae(&model);
    let found = probe(&model, hook(), &[("SAE", &sae)], &acts).unwrap();
    let accuracy = found.accuracy(Task::FirstLetter).unwrap();
    assert!((accuracy - 0.5).abs() < 0.05, "{accuracy}");
    let accuracy = found["SAE"].accuracy(Task::FirstLetter, Input::Latents(16)).unwrap();
    assert!((accuracy - 0.5).abs() < 0.05, "{accuracy}");
    // Of the letter before the token tells exactly nothing.
    let before = of(&found.activations, Task::PreviousLetter, Input::Activation);
    assert!(before.len() > 15 && before.values().all(|it| it.accuracy == 0.5));
}

/// Activations that say the letter of every word, and of some words of one letter that it is these;
/// and whether a word is one of these.
fn planted(dir: &Path, model: &Model) -> (ActivationStore, Tokens, impl Fn(u32) -> bool) {
    let text = text(model, 3);
    let letters: Vec<Option<usize>> =
        (0..model.config().d_vocab as u32).map(|token| letter(model, token)).collect();
    let s = usize::from(b's' - b'a');
    let is_own = move |token: u32| letters[token as usize] == Some(s) && token.is_multiple_of(23);
    let acts = store(dir, model, &text, |token, _, x| {
        if let Some(at) = letter(model, token) {
            x[at] = 1.0;
        }
        if is_own(token) {
            x[OWN] = 1.0;
        }
    });
    (acts, text, is_own)
}

/// The latent of s is silent on words of their own.
fn silent_on_its_own(model: &Model) -> Sae {
    let mut sae = sae(model);
    let s = usize::from(b's' - b'a');
    sae.w_enc[s * sae.config.d_model + OWN] = -1.0;
    sae
}

fn all_positions() -> AbsorptionConfig {
    AbsorptionConfig { per_word: 100, ..AbsorptionConfig::default() }
}

#[test]
fn a_word_that_a_latent_absorbs_is_counted_and_named() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let (acts, text, is_own) = planted(dir.path(), &model);
    let honest = sae(&model);
    let mut absorbing = silent_on_its_own(&model);
    let s = usize::from(b's' - b'a');
    absorbing.w_dec[OWN * absorbing.config.d_model + s] = 1.0;
    let saes = [("honest", &honest), ("absorbing", &absorbing)];
    let found = absorption_with(&model, hook(), &saes, &acts, &all_positions()).unwrap();

    assert!(found.letters.iter().all(|it| it.f1 == 1.0) && found.letters.len() > 15);
    let honest = &found["honest"];
    assert_eq!(
        (honest.fraction, honest.full, honest.main_latents, honest.f1),
        (0.0, 0.0, 1.0, 1.0)
    );
    // The rest is that the latents of other letters are silent.
    let Carried { main, others, lost, .. } = honest.carried;
    assert!(
        main > 0.9 && (main + others - 1.0).abs() < 1e-6 && lost.abs() < 1e-6,
        "{main} {others}"
    );
    assert_eq!((honest.by_table, honest.with_table, honest.carried.table), (None, None, None));

    let of_s = found["absorbing"].letters.iter().find(|it| it.letter == 's').unwrap();
    assert_eq!(of_s.main, [s]);
    let words: BTreeSet<u32> = of_s.absorbed.iter().map(|it| it.token).collect();
    assert!(!words.is_empty() && words.iter().all(|&it| is_own(it)), "{words:?}");
    // Every position of these words but the first of a sequence is counted.
    let places = (0..text.len()).filter(|i| i % N_CTX != 0 && words.contains(&text.ids()[*i]));
    assert_eq!(of_s.absorbed.len(), places.count());
    let share = of_s.absorbed.len() as f64 / of_s.words as f64;
    assert!(share > 0.0 && share < 0.06, "{share}");
    assert!((of_s.fraction - share).abs() < 1e-12 && (of_s.full - share).abs() < 1e-12);
    for word in &of_s.absorbed {
        assert_eq!((word.latent, word.fraction, word.full), (OWN, 1.0, true));
        assert!((word.share - 1.0).abs() < 1e-6 && word.text == model.token_str(word.token));
    }
    // A mean over letters, of which no other is absorbed.
    let letters = found["absorbing"].letters.len() as f64;
    assert!((found["absorbing"].full - share / letters).abs() < 1e-12);
}

#[test]
fn what_a_table_takes_is_told_apart_added_or_subtracted() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let (acts, _, is_own) = planted(dir.path(), &model);
    let (d, s) = (model.config().d_model, usize::from(b's' - b'a'));
    let mut added = silent_on_its_own(&model);
    added.w_enc[OWN * d..][..d].fill(0.0);
    let mut table = vec![0.0; model.config().d_vocab * d];
    for (token, row) in table.chunks_exact_mut(d).enumerate() {
        if is_own(token as u32) {
            (row[s], row[OWN]) = (1.0, 1.0);
        }
    }
    added.lookup = Some(table);
    let mut subtracted = sae(&model);
    (subtracted.lookup, subtracted.subtract) = (added.lookup.clone(), true);
    let saes = [("added", &added), ("subtracted", &subtracted)];
    let found = absorption_with(&model, hook(), &saes, &acts, &all_positions()).unwrap();
    for sae in &found.saes {
        assert_eq!((sae.fraction, sae.full), (0.0, 0.0), "{}", sae.name);
        let of_s = sae.letters.iter().find(|it| it.letter == 's').unwrap();
        let by_table = of_s.by_table.unwrap();
        assert!(by_table > 0.0 && by_table < 0.06 && of_s.with_table == Some(by_table));
        let Carried { main, others, table, lost, .. } = of_s.carried;
        let table = table.unwrap();
        assert!(table > 0.0 && table < 0.08 && main > 0.8, "{:?}", of_s.carried);
        assert!(
            (main + others + table - 1.0).abs() < 1e-4 && lost.abs() < 1e-4,
            "{:?}",
            of_s.carried
        );
        assert!(
            sae.letters.iter().filter(|it| it.letter != 's').all(|it| it.by_table == Some(0.0))
        );
    }
    assert_eq!(found["added"].letters, found["subtracted"].letters);

    let probes = probe(&model, hook(), &saes, &acts).unwrap();
    let of_table = of(&probes["added"].scores, Task::FirstLetter, Input::Table);
    assert!(of_table["s"].accuracy > 0.5 && of_table["t"].accuracy == 0.5);
    let both = probes["added"].accuracy(Task::FirstLetter, Input::LatentsAndTable(16)).unwrap();
    let latents = probes["added"].accuracy(Task::FirstLetter, Input::Latents(16)).unwrap();
    assert!(both == 1.0 && latents < 1.0, "{both} {latents}");
}

#[test]
fn a_text_and_a_store_of_it_give_the_same() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let tokens = model.sample(400, 32, 5).unwrap();
    let config =
        HarvestConfig { dtype: tokenized_sae::activations::Dtype::F32, ..Default::default() };
    let acts = ActivationStore::harvest(&model, &[hook()], &tokens, dir.path(), config).unwrap();
    let lookup = Lookup::unigram(&model, hook()).unwrap();
    let config = SaeConfig { expansion: 2, k: 6, ..SaeConfig::for_model(&model) };
    let sae = Sae::new(config.with_lookup(lookup)).unwrap();
    let saes = [("TSAE", &sae)];
    let config = ProbeConfig { train: 200, test: 100, ..Default::default() };
    let of_text = probe_with(&model, hook(), &saes, &tokens, &config).unwrap();
    assert_eq!(probe_with(&model, hook(), &saes, &acts, &config).unwrap(), of_text);
    assert!(of_text.accuracy(Task::FirstLetter).unwrap() > 0.6);
    assert!(of_text.table(Task::FirstLetter).text().contains("16 latents and table"));
}

#[test]
fn what_cannot_be_measured_is_said_with_its_facts() {
    let model = model();
    let sae = sae(&model);
    let few = model.sample(2, 16, 0).unwrap();
    let told = |error: Error| error.to_string();
    let probed = |config: &ProbeConfig| {
        told(probe_with(&model, hook(), &[("a", &sae)], &few, config).unwrap_err())
    };
    assert!(probed(&ProbeConfig::default()).contains("32 tokens have no class"));
    assert!(probed(&ProbeConfig { ks: vec![], ..Default::default() }).contains("ks = 0"));
    assert!(probed(&ProbeConfig { tokens: 0, ..Default::default() }).contains("tokens = 0"));
    let none: [(&str, &Sae); 0] = [];
    assert!(told(absorption(&model, hook(), &none, &few).unwrap_err()).contains("there is no SAE"));
    assert!(
        told(absorption(&model, hook(), &[("a", &sae)], &few).unwrap_err()).contains("more text")
    );
    let narrow = Sae::new(SaeConfig::new(8, 4)).unwrap();
    let error = probe(&model, hook(), &[("narrow", &narrow)], &few).unwrap_err();
    assert!(told(error).contains("the SAE \"narrow\""));
}
