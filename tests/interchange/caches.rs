//! Activation caches: what SAELens wrote becomes a store, and what a store writes is read by
//! SAELens.

use std::fs;
use tokenized_sae::activations::Batch;
use tokenized_sae::model::Site;

use tokenized_sae::activations::{Dtype, Source};

use super::packages::{python, run};
use super::*;

const HOOK: HookPoint = HookPoint { layer: 1, site: Site::ResidPre };
const SCRIPT: &str = "caches.py";

fn of_saelens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/caches")
}

/// The model whose activations are in the golden caches.
fn model(processing: Processing) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2");
    Model::load_with(folder.to_str().unwrap(), processing).unwrap()
}

/// As [`model`], of which nothing is known but its shape.
fn unknown() -> Source {
    Source {
        name: "theirs".into(),
        fingerprint: "f".repeat(64),
        ..Source::of(&model(Processing::Raw))
    }
}

fn config(dtype: Dtype) -> HarvestConfig {
    HarvestConfig { dtype, shard_tokens: 3 * 8, ..Default::default() }
}

/// All rows of a store, in their order.
fn rows(store: &ActivationStore) -> Batch {
    let mut batch = Batch::default();
    store.gather(HOOK, &(0..store.n_rows() as u64).collect::<Vec<_>>(), &mut batch).unwrap();
    batch
}

/// Imports every cache in a folder that `caches.py make` filled, and holds it to what datasets
/// reads there.
fn import_all(folder: &Path) {
    for (name, dtype) in [("float32", Dtype::F32), ("float16", Dtype::F16)] {
        let dir = tempfile::tempdir().unwrap();
        let store = ActivationStore::import_saelens(
            &model(Processing::Raw),
            folder.join(name),
            dir.path(),
            config(dtype),
        )
        .unwrap();
        let bytes = fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
        let read = rows(&store);
        assert_eq!(
            read.x,
            numbers("x").into_iter().map(f32::from_le_bytes).collect::<Vec<_>>(),
            "{name}"
        );
        assert_eq!(
            read.tokens,
            numbers("tokens").into_iter().map(u32::from_le_bytes).collect::<Vec<_>>(),
            "{name}"
        );
        assert_eq!(
            (store.hooks(), store.n_ctx(), store.processing(), store.is_complete()),
            (&[HOOK][..], 8, "raw", true)
        );
        assert_eq!(read.positions[..10], [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
    }
}

/// A copy of a golden cache, with one file changed.
fn changed(name: &str, file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(of_saelens().join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let text = fs::read_to_string(dir.path().join(file)).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(dir.path().join(file), text.replace(from, to)).unwrap();
    dir
}

fn told(from: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let told =
        ActivationStore::import_saelens_with(&unknown(), from, dir.path(), config(Dtype::F32))
            .unwrap_err()
            .to_string();
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was made: {told}");
    told
}

#[test]
fn what_saelens_cached_becomes_a_store() {
    import_all(&of_saelens());
}

#[test]
fn an_imported_store_is_the_one_that_a_harvest_makes() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model(Processing::Raw);
    let imported = ActivationStore::import_saelens(
        &model,
        of_saelens().join("float32"),
        theirs.path(),
        config(Dtype::F32),
    )
    .unwrap();
    let tokens = imported.tokens().unwrap();
    let harvested =
        ActivationStore::harvest(&model, &[HOOK], &tokens, ours.path(), config(Dtype::F32))
            .unwrap();
    assert_eq!(imported.fingerprint(), harvested.fingerprint());
    let apart = rows(&imported)
        .x
        .iter()
        .zip(&rows(&harvested).x)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn another_models_activations_are_refused_unless_nothing_is_said_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let import = |model: &Model, name: &str| {
        ActivationStore::import_saelens(
            model,
            of_saelens().join(name),
            dir.path().join(name),
            config(Dtype::F16),
        )
        .unwrap_err()
        .to_string()
    };
    for name in ["float32", "float16"] {
        let processed = import(&model(Processing::TransformerLens), name);
        assert!(
            ["a model other than", "Processing::Raw", "blocks.1.hook_resid_pre"]
                .iter()
                .all(|word| processed.contains(word)),
            "{processed}"
        );
    }
    let wide = import(&Model::load("tiny-gpt2").unwrap(), "float32");
    assert!(wide.contains("[8, 128]") && wide.contains("[8, 32]"), "{wide}");
    let store = ActivationStore::import_saelens_with(
        &unknown(),
        of_saelens().join("float32"),
        dir.path().join("any"),
        config(Dtype::F32),
    )
    .unwrap();
    assert_eq!(store.model_name(), "theirs");
}

#[test]
fn what_a_store_exports_comes_back_bit_by_bit() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Int8] {
        let (made, out, back) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let model = Model::load("tiny-gpt2").unwrap();
        let tokens = model.sample(7, 16, 0).unwrap();
        let config = HarvestConfig { dtype, shard_tokens: 3 * 16, ..Default::default() };
        let hooks = [HookPoint::resid_pre(0), HOOK];
        let store =
            ActivationStore::harvest(&model, &hooks, &tokens, made.path(), config.clone()).unwrap();
        store.export_saelens(HOOK, out.path()).unwrap();
        // Numbers of 8 bits are further from the model's than an import of its rows allows.
        let read = match dtype {
            Dtype::Int8 => {
                let source = Source::of(&model);
                ActivationStore::import_saelens_with(&source, out.path(), back.path(), config)
            }
            _ => ActivationStore::import_saelens(&model, out.path(), back.path(), config),
        }
        .unwrap();
        assert_eq!((rows(&read), read.hooks()), (rows(&store), &[HOOK][..]));

        // The same call again finds all there; what another store exports is not put beside it.
        let modified = || {
            fs::metadata(out.path().join("data-00001-of-00003.arrow")).unwrap().modified().unwrap()
        };
        let before = modified();
        fs::remove_file(out.path().join("data-00002-of-00003.arrow")).unwrap();
        fs::remove_file(out.path().join("state.json")).unwrap();
        store.export_saelens(HOOK, out.path()).unwrap();
        assert_eq!(modified(), before);
        let other = store.export_saelens(hooks[0], out.path()).unwrap_err().to_string();
        assert!(other.contains("for other activations"), "{other}");
        fs::write(out.path().join("notes.txt"), "mine").unwrap();
        let beside = store.export_saelens(HOOK, out.path()).unwrap_err().to_string();
        assert!(beside.contains("notes.txt"), "{beside}");
    }
}

#[test]
fn what_is_no_cache_says_what_it_lacks() {
    let has = |told: String, words: &[&str]| {
        assert!(words.iter().all(|word| told.contains(word)), "{told}")
    };
    let empty = tempfile::tempdir().unwrap();
    has(told(empty.path()), &["state.json", "CacheActivationsRunner"]);
    fs::write(empty.path().join("dataset_dict.json"), "{}").unwrap();
    has(told(empty.path()), &["several data sets", "train"]);
    let without = changed("float32", "dataset_info.json", "\"token_ids\"", "\"other_ids\"");
    has(told(without.path()), &["no token_ids", "other_ids", "SAELens 6"]);
    let hook = changed("float32", "dataset_info.json", "blocks.1.hook_resid_pre", "model.embed.1");
    has(told(hook.path()), &["model.embed.1", "hook_resid_pre"]);
    let shape = changed("float32", "dataset_info.json", "32\n", "31\n");
    has(told(shape.path()), &["[8, 31]", "[8, 32]"]);
    let elsewhere = changed("float32", "state.json", "data-00000-of-00002.arrow", "../x.arrow");
    has(told(elsewhere.path()), &["elsewhere", "../x.arrow"]);
    let missing =
        changed("float32", "state.json", "data-00000-of-00002.arrow", "data-00009-of-00002.arrow");
    has(told(missing.path()), &["could not read", "data-00009"]);
    let longer = changed("float32", "dataset_info.json", "8,\n", "9,\n");
    has(told(longer.path()), &["list of 8"]);
}

#[test]
fn a_damaged_cache_is_read_or_refused_and_nothing_else() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let cache = changed("float16", "state.json", "_data_files", "_data_files");
    let file = cache.path().join("data-00000-of-00001.arrow");
    let whole = fs::read(&file).unwrap();
    let heads = whole.len() - 8 * 8 * 32 * 2; // where a change is more than another number
    let (mut refused, dir) = (0, tempfile::tempdir().unwrap());
    for i in 0..150 {
        let mut bytes = whole.clone();
        match i % 3 {
            0 => bytes.truncate(rng.random_range(0..whole.len())),
            1 => bytes[rng.random_range(0..heads)] ^= rng.random_range(1..=255u8),
            _ => bytes[4 * rng.random_range(0..heads / 4)..][..4]
                .copy_from_slice(&rng.random::<[u8; 4]>()),
        }
        fs::write(&file, bytes).unwrap();
        let read = ActivationStore::import_saelens_with(
            &unknown(),
            cache.path(),
            dir.path().join(i.to_string()),
            config(Dtype::F32),
        );
        refused += usize::from(read.is_err());
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn what_saelens_caches_now_is_read() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&python, SCRIPT, "make", dir.path());
    import_all(dir.path());
}

#[test]
fn what_is_exported_is_read_by_saelens() {
    let Some(python) = python() else { return };
    let (made, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model(Processing::Raw);
    let tokens =
        Tokens::new((0..88).map(|i| if i % 8 == 0 { 0 } else { i % 61 }).collect(), 8).unwrap();
    for (name, dtype) in [("float32", Dtype::F32), ("float16", Dtype::F16)] {
        let store = ActivationStore::harvest(
            &model,
            &[HOOK],
            &tokens,
            made.path().join(name),
            config(dtype),
        )
        .unwrap();
        store.export_saelens(HOOK, out.path().join(name)).unwrap();
        let read = rows(&store);
        let (x, ids) = (bytemuck::cast_slice(&read.x), bytemuck::cast_slice(&read.tokens));
        let view = |dtype, shape: Vec<usize>, data| TensorView::new(dtype, shape, data).unwrap();
        use safetensors::tensor::Dtype as Kind;
        let tensors = HashMap::from([
            ("x", view(Kind::F32, vec![11, 8, 32], x)),
            ("tokens", view(Kind::I32, vec![11, 8], ids)),
        ]);
        fs::write(
            out.path().join(format!("{name}.safetensors")),
            safetensors::serialize(tensors, None).unwrap(),
        )
        .unwrap();
    }
    run(&python, SCRIPT, "check", out.path());
}
