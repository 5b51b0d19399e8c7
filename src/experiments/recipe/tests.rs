//! What a description says is what it means, and what it cannot mean it does not say.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::activations::RowOrder;
use crate::base::error::Error;
use crate::model::{Model, Site};
use crate::sae::{Architecture, AuxK, Frozen, SaeConfig};

/// The quickstart notebook's settings.
const QUICKSTART: &str = r#"
model = "tiny-gpt2"
hook = "blocks.2.hook_resid_pre"
sampled = 400_000

[train]
tokens = 2_000_000

[[sae]]
name = "SAE lr=1e-3"
k = 16
lr = 1e-3

[[sae]]
name = "TSAE"
k = 16
expansion = 16
lookup = "unigram"
lr = 3e-3
"#;

#[test]
fn the_quickstarts_settings_are_the_same_in_a_file_and_in_rust() {
    let spec = RunRecipe::parse(QUICKSTART).unwrap();
    let model = Model::load("tiny-gpt2").unwrap();
    assert_eq!((spec.hook, spec.sampled), (Some(HookPoint::resid_pre(2)), Some(400_000)));
    assert_eq!(spec.train, TrainConfig { tokens: 2_000_000, ..Default::default() });
    assert_eq!(spec.harvest.config(), HarvestConfig::default());
    let sae = SaeConfig { k: 16, expansion: 16, ..SaeConfig::for_model(&model) };
    let config = |i: usize| {
        serde_json::to_value(spec.sae[i].config(model.config().d_model, model.config().d_vocab))
            .unwrap()
    };
    assert_eq!(config(0), serde_json::to_value(sae.clone().with_lr(1e-3)).unwrap());
    assert_eq!(config(1), serde_json::to_value(sae.with_lr(3e-3)).unwrap());
    assert_eq!((&spec.sae[0].lookup, &spec.sae[1].lookup), (&None, &Some(LookupRecipe::Unigram)));
}

#[test]
fn what_is_filled_in_stays_as_it_is() {
    let model = Model::load("tiny-gpt2").unwrap();
    let spec = RunRecipe::parse(QUICKSTART).unwrap().resolved(&model).unwrap();
    assert_eq!(
        (spec.context, spec.harvest.hooks.as_slice()),
        (Some(256), &[HookPoint::resid_pre(2)][..])
    );
    assert_eq!(
        (spec.sae[1].learned, spec.sae[1].balance, spec.sae[1].subtracted),
        (Some(true), Some(0.5), Some(false))
    );
    assert_eq!(spec.resolved(&model).unwrap(), spec);
    assert_eq!(RunRecipe::parse(&spec.to_toml().unwrap()).unwrap(), spec);
    let zeros = SaeRecipe::new("z").with_lookup(LookupRecipe::Zeros).resolved();
    assert_eq!(zeros.balance, Some(0.0), "a table of zeros has nothing to balance");
}

#[test]
fn a_description_is_written_as_a_person_would() {
    let mut spec = RunRecipe::new("tiny-gpt2");
    spec.train.tokens = 12_345_678;
    spec.sae.push(SaeRecipe {
        architecture: Architecture::Relu { l1: 2.0 },
        lr: Some(1e-4),
        ..SaeRecipe::new("ReLU")
    });
    spec.sae.push(
        SaeRecipe::new("3-grams").with_lookup(LookupRecipe::Ngrams { longest: 3, rows: 20_000 }),
    );
    let text = spec.to_toml().unwrap();
    for line in [
        "tokens = 12_345_678",
        "lr = 1e-4",
        "batch = 4096",
        "architecture = { relu = { l1 = 2.0 } }",
        "[harvest]",
        "[train]",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("lookup = { ngrams = { longest = 3, rows = 20_000 } }"), "{text}");
    assert_eq!(text.matches("\n[[sae]]\n").count(), 2, "{text}");
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_right_one() {
    for (text, line, hint) in [
        ("modle = 'tiny-gpt2'", 1, "did you mean \"model\"?"),
        ("model = 'a'\n\n[train]\ntokns = 5", 4, "did you mean \"tokens\"?"),
        ("model = 'a'\n[[sae]]\nk = 5\n[[sae]]\nexpantion = 4", 5, "did you mean \"expansion\"?"),
        ("model = 'a'\n[harvest]\ndtyp = 'f16'", 3, "did you mean \"dtype\"?"),
        ("model = 'a'\n[[sae]]\narchitecture = 'topk'", 3, "did you mean \"top_k\"?"),
        ("model = 'a'\n[[sae]]\narchitecture = { relu = { l2 = 1.0 } }", 3, "did you mean \"l1\"?"),
        ("model = 'a'\n[[sae]]\nlookup = 'unigrams'", 3, "did you mean \"unigram\"?"),
    ] {
        let told = RunRecipe::parse(text).unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("the description:{line}: ")) && told.ends_with(hint),
            "{text}\n{told}"
        );
    }
    let told = RunRecipe::parse("model = 'a'\nzzzzzz = 1").unwrap_err().to_string();
    assert!(told.contains("zzzzzz") && !told.contains("did you mean"), "{told}");
}

#[test]
fn a_value_out_of_range_is_told_with_key_line_and_range() {
    for (text, line, words) in [
        ("model = 'a'\n[train]\nseed = 1\nlr = -1.0", 4, "lr = -1; it must be above 0"),
        ("model = 'a'\ntrain = { beta1 = 1.0 }", 2, "beta1 = 1; it must be at least 0 and below 1"),
        (
            "model = 'a'\nheld_out_share = 1.5",
            2,
            "held_out_share = 1.5; it must be at least 0 and below 1",
        ),
        ("model = 'a'\nsampled = 0", 2, "sampled = 0; at least 1 is needed"),
        ("model = 'a'\n[harvest]\nbatch = 0", 3, "batch = 0; at least 1 is needed"),
        (
            "model = 'a'\n[[sae]]\nk = 8\n[[sae]]\nname = 'b'\nk = 0",
            6,
            "k = 0; at least 1 is needed",
        ),
        (
            "model = 'a'\n[[sae]]\narchitecture = { relu = { l1 = -2.0 } }",
            3,
            "l1 = -2; it must be at least 0",
        ),
        ("model = 'a'\n[[sae]]\n[[sae]]\n", 3, "name = \"SAE\" is taken"),
        (
            "model = 'a'\n[[sae]]\nlookup = 'means'\nbalance = 2",
            4,
            "balance = 2; it must lie between 0 and 1",
        ),
        ("model = 'a'\n[[sae]]\nlearned = false", 3, "there is no table"),
        ("model = 'a'\ntext = 'x'\nsampled = 5", 3, "`text` is given as well"),
        (
            "model = 'a'\nhook = 'blocks.1.hook_resid_pre'\n[harvest]\nhooks = ['blocks.2.hook_resid_pre']",
            4,
            "blocks.1.hook_resid_pre",
        ),
        ("model = 'a'\n[train]\ntokens = 'many'", 3, "invalid type"),
        ("model = 'a'\n[train\n", 2, ""),
    ] {
        let told = RunRecipe::parse(text).unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("the description:{line}: ")) && told.contains(words),
            "{text}\n{told}"
        );
    }
    // What depends on the model is reported with its line as well.
    let model = Model::load("tiny-gpt2").unwrap();
    let spec = RunRecipe::parse("model = 'tiny-gpt2'\n[[sae]]\nexpansion = 1\nk = 4096").unwrap();
    let told = spec.resolved(&model).unwrap_err().to_string();
    assert!(
        told.starts_with("the description:4: ") && told.contains("k = 4096, but there are only"),
        "{told}"
    );
    // And without a file, by its name.
    let mut spec = RunRecipe::new("tiny-gpt2");
    spec.train.lr = 0.0;
    assert!(spec.check().unwrap_err().to_string().contains("lr = 0; it must be above 0"));
}

#[test]
fn a_hook_that_there_is_not_and_a_file_that_there_is_not_are_told() {
    assert!(
        RunRecipe::parse("model = 'a'\nhook = 'blocks.2.hook_resid'")
            .unwrap_err()
            .to_string()
            .starts_with("the description:2: ")
    );
    assert!(matches!(RunRecipe::load("/there/is/none.toml"), Err(Error::Io { .. })));
}

fn hook() -> impl Strategy<Value = HookPoint> {
    (0..40usize, 0..Site::ALL.len())
        .prop_map(|(layer, site)| HookPoint { layer, site: Site::ALL[site] })
}

/// Positive numbers over many orders of magnitude.
fn rate() -> impl Strategy<Value = f64> {
    (-12.0..2.0f64).prop_map(f64::exp)
}

/// Whole numbers that TOML holds.
fn whole() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 0..=i64::MAX as u64]
}

fn lookup() -> impl Strategy<Value = LookupRecipe> {
    let grams = || (2..=3usize, 1..100_000usize);
    prop_oneof![
        Just(LookupRecipe::Unigram),
        Just(LookupRecipe::Means),
        Just(LookupRecipe::ShrunkMeans),
        Just(LookupRecipe::Zeros),
        grams().prop_map(|(longest, rows)| LookupRecipe::Ngrams { longest, rows }),
        grams().prop_map(|(longest, rows)| LookupRecipe::NgramMeans { longest, rows }),
        "[a-z \"'\\\\é]{1,9}".prop_map(|path| LookupRecipe::Preceding(path.into())),
    ]
}

fn architecture() -> impl Strategy<Value = Architecture> {
    prop_oneof![
        Just(Architecture::TopK),
        Just(Architecture::BatchTopK),
        rate().prop_map(|l1| Architecture::Relu { l1 }),
        rate().prop_map(|l1| Architecture::Gated { l1 }),
        (rate(), rate(), rate()).prop_map(|(l0, bandwidth, threshold)| Architecture::JumpRelu {
            l0,
            bandwidth,
            threshold
        }),
    ]
}

fn sae(name: String) -> impl Strategy<Value = SaeRecipe> {
    let numbers = (
        1..99usize,
        proptest::option::of(1..9999usize),
        1..500usize,
        whole(),
        proptest::option::of(rate()),
    );
    let frozen = proptest::option::of(prop_oneof![Just(Frozen::Encoder), Just(Frozen::Decoder)]);
    let kinds = (
        any::<bool>(),
        any::<[bool; 3]>(),
        (proptest::option::of(1..999usize), 0..9u32),
        frozen,
        architecture(),
        proptest::collection::vec(1..999usize, 0..4),
    );
    let aux = proptest::option::of(
        (proptest::option::of(1..99usize), rate()).prop_map(|(k, alpha)| AuxK { k, alpha }),
    );
    let table = proptest::option::of((lookup(), any::<bool>(), 0.0..=1.0f32, any::<bool>()));
    (numbers, kinds, aux, table).prop_map(
        move |(
            (expansion, latents, k, seed, lr),
            (relu, [unit_norm, centred, aligned], help, frozen, architecture, mut prefixes),
            aux,
            table,
        )| {
            let uses_k = architecture.uses_k();
            prefixes.sort_unstable();
            prefixes.dedup();
            let prefixes = if uses_k { prefixes } else { Vec::new() };
            let (lookup, learned, balance, subtracted) = match table {
                Some((lookup, learned, balance, subtracted)) => {
                    (Some(lookup), Some(learned), Some(balance), Some(subtracted))
                }
                None => (None, None, None, None),
            };
            let k = k.min(latents.unwrap_or(k));
            let (name, aux) = (name.clone(), aux.filter(|_| uses_k));
            let aligned = aligned && uses_k && frozen.is_none();
            let has_more_than_a_bias =
                matches!(architecture, Architecture::Gated { .. } | Architecture::JumpRelu { .. });
            let (subspace, mut resamplings) = help;
            if has_more_than_a_bias || aligned || frozen.is_some() {
                resamplings = 0;
            }
            SaeRecipe {
                name,
                expansion,
                latents,
                k,
                relu,
                architecture,
                target_l0: (!uses_k).then_some(0.5),
                prefixes,
                aux,
                unit_norm,
                centred,
                subspace,
                aligned,
                resamplings,
                frozen,
                lr,
                seed,
                lookup,
                learned,
                balance,
                subtracted,
            }
        },
    )
}

fn train() -> impl Strategy<Value = TrainConfig> {
    let rates = (
        rate(),
        rate(),
        rate(),
        rate(),
        0.0..0.999f64,
        0.0..0.999f64,
        0.0..=1.0f64,
        0.0..=1.0f64,
        rate(),
    );
    let counts = (
        1..1_000_000u64,
        1..9999usize,
        whole(),
        1..999u64,
        1..99u64,
        1..99_999usize,
        1..=i64::MAX as u64,
    );
    (rates, counts).prop_map(|(rates, counts)| {
        let (
            lr,
            lookup_lr,
            lr_end,
            epsilon,
            beta1,
            beta2,
            lr_warmup,
            sparsity_warmup,
            checkpoint_seconds,
        ) = rates;
        let (tokens, batch, seed, log_every, evaluations, held_out_tokens, dead_window) = counts;
        TrainConfig {
            tokens,
            batch,
            lr,
            lookup_lr,
            lr_end,
            lr_warmup,
            sparsity_warmup,
            normalize: seed % 2 > 0,
            skip_first: (seed % 3 > 0).then_some(seed as usize % 3 - 1),
            max_norm_multiple: [None, Some(2.5), Some(f64::INFINITY)][seed as usize % 3],
            beta1,
            beta2,
            epsilon,
            seed,
            order: match seed % 5 {
                0 => RowOrder::Blocks { rows: 1 + batch, mixed: held_out_tokens },
                _ => RowOrder::Rows,
            },
            log_every,
            evaluations,
            held_out_tokens,
            dead_window,
            checkpoint_seconds,
            // No description says it.
            device: Default::default(),
        }
    })
}

fn spec() -> impl Strategy<Value = RunRecipe> {
    let text = prop_oneof![
        (".{0,12}", 1..999_999usize).prop_map(|(text, most)| (Some(text), None, Some(most))),
        (1..999_999usize).prop_map(|sampled| (None, Some(sampled), None)),
        Just((None, None, None)),
    ];
    let chosen = (
        proptest::option::of("[a-z.]{1,5}"),
        proptest::option::of(0..99usize),
        proptest::option::of(99..9999usize), // at least min_chars
        any::<bool>(),
        whole(),
    );
    let shape = (
        whole(),
        proptest::option::of(2..9999usize),
        0.0..0.99f64,
        1..99_999usize,
        proptest::option::of("[a-z/é ]{1,9}"),
    );
    let harvest = (
        proptest::collection::vec(hook(), 0..3),
        any::<bool>(),
        any::<bool>(),
        1..999_999usize,
        1..64usize,
    );
    let saes = prop_oneof![
        Just(Vec::new()).boxed(),
        (sae("a".into()), sae("b k=3".into())).prop_map(|(a, b)| vec![a, b]).boxed(),
    ];
    ("[a-z0-9@/.-]{1,16}", any::<bool>(), (text, chosen), shape, harvest, train(), saes).prop_map(
        |(model, raw, (text, chosen), shape, harvest, train, sae)| {
            let (hooks, wide, coarse, shard_tokens, batch) = harvest;
            let (sampling_seed, context, held_out_share, evaluated_on, store) = shape;
            let (text, sampled, max_tokens) = text;
            let (column, min_chars, max_chars, stream, text_seed) = chosen;
            RunRecipe {
                model,
                processing: if raw { Processing::Raw } else { Processing::TransformerLens },
                hook: hooks.first().copied(),
                text,
                format: column.as_ref().map(|_| "csv".to_owned()),
                column,
                min_chars,
                max_chars,
                stream,
                text_seed,
                sampled,
                sampling_seed,
                context,
                max_tokens,
                held_out_share,
                evaluated_on,
                store: store.map(PathBuf::from),
                harvest: HarvestRecipe {
                    hooks,
                    dtype: if wide { Dtype::F32 } else { Dtype::F16 },
                    compute: if coarse { Compute::Bf16 } else { Compute::F32 },
                    shard_tokens,
                    batch,
                },
                train,
                sae,
                written: Written::default(),
            }
        },
    )
}

proptest! {
    #[test]
    fn every_field_comes_back_as_it_was_written(spec in spec()) {
        let text = spec.to_toml().unwrap();
        let read = RunRecipe::parse(&text);
        prop_assert!(read.is_ok(), "{:?}\n{text}", read);
        prop_assert_eq!(read.unwrap(), spec);
    }
}

#[test]
fn what_was_changed_since_it_was_read_is_not_blamed_on_the_file() {
    let read = RunRecipe::parse("model = 'a'\n[train]\nlr = 1e-3\n[[sae]]\nk = 4\n").unwrap();
    let changed =
        RunRecipe { train: TrainConfig { lr: 0.0, ..read.train.clone() }, ..read.clone() };
    let told = changed.check().unwrap_err();
    assert!(matches!(told, Error::Config { field: "lr", .. }), "{told}");
    for wrong in ["0.0", "nan"] {
        let text = format!("model = 'a'\n[train]\nlr = {wrong}\n[[sae]]\nk = 4\n");
        let told = RunRecipe::parse(&text).unwrap_err();
        assert!(matches!(told, Error::Description { line: 3, .. }), "{told}");
    }
}

#[test]
fn a_value_of_another_kind_is_told_with_its_key_and_what_it_wants() {
    for (text, words) in [
        ("model = 3", ":1: model: invalid type: integer `3`, expected a string"),
        (
            "model = 'a'\ncontext = 1.5",
            ":2: context: invalid type: floating point `1.5`, expected a whole number",
        ),
        ("model = 'a'\n[train]\nlr = 'a'", ":3: lr: invalid type: string \"a\", expected a number"),
        ("model = 'a'\n[train]\ncheckpoint_seconds = 'a'", ":3: checkpoint_seconds: invalid value"),
        (
            "model = 'a'\n[[sae]]\nk = 1\n[[sae]]\nk = -1",
            ":5: k: invalid value: integer `-1`, expected a whole number",
        ),
        (
            "model = 'a'\n[[sae]]\nlookup = { ngrams = 5 }",
            ":3: ngrams: invalid type: integer `5`, expected { longest = 3, rows = 20_000 }",
        ),
        (
            "model = 'a'\nstream = 1",
            ":2: stream: invalid type: integer `1`, expected true or false",
        ),
    ] {
        let told = RunRecipe::parse(text).unwrap_err().to_string();
        assert!(told.contains(words), "{text}: {told}");
    }
}
