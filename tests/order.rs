//! The order of the rows: whichever it is, a run goes on in it to the same bytes, and learns.

use std::fs;
use std::path::Path;

use tokenized_sae::activations::RowOrder;
use tokenized_sae::prelude::*;

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

struct Material {
    model: Model,
    corpus: Corpus,
    acts: ActivationStore,
    dir: tempfile::TempDir,
}

impl Material {
    fn new() -> Material {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let sample = |n_seq, seed| model.sample(n_seq, 64, seed).unwrap();
        let corpus = Corpus::new(sample(96, 1), sample(8, 2)).unwrap();
        // Shards of a few sequences: blocks begin and end within them, and across.
        let config = HarvestConfig { shard_tokens: 448, ..HarvestConfig::default() };
        let acts = ActivationStore::harvest(
            &model,
            &[hook()],
            &corpus.train,
            dir.path().join("acts"),
            config,
        )
        .unwrap();
        Material { model, corpus, acts, dir }
    }

    fn trainer(&self, order: RowOrder) -> Trainer {
        let config = TrainConfig {
            tokens: 24_000,
            batch: 512,
            lr: 3e-3,
            evaluations: 4,
            held_out_tokens: 512,
            skip_first: Some(1),
            order,
            ..Default::default()
        };
        let sae = SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&self.model) };
        Trainer::new(&self.acts, hook(), config)
            .unwrap()
            .held_out(&self.model, &self.corpus.valid)
            .unwrap()
            .add("SAE", sae)
            .unwrap()
    }

    fn bytes(&self, run: &str) -> [Vec<u8>; 3] {
        let run = self.dir.path().join(run).join("SAE");
        let read = |name: &str| fs::read(Path::join(&run, name)).unwrap();
        ["cfg.json", "sae_weights.safetensors", "history.json"].map(read)
    }
}

fn last_nmse(runs: &Runs) -> f64 {
    runs.runs[0].history.held_out.last().unwrap().nmse
}

#[test]
fn a_run_in_blocks_goes_on_to_the_same_bytes_and_learns_what_one_of_single_rows_does() {
    let it = Material::new();
    let order = RowOrder::Blocks { rows: 100, mixed: 8 };
    let whole = it.trainer(order).fit(it.dir.path().join("whole")).unwrap();
    let mut stops = 0;
    loop {
        let training = it.trainer(order).fit_in_background(it.dir.path().join("stopped")).unwrap();
        let before = training.status().tokens;
        while !training.is_finished() && training.status().tokens < before + 5 * 512 {
            std::thread::yield_now();
        }
        training.stop();
        stops += 1;
        if training.join().unwrap().runs.iter().all(|run| run.finished) {
            break;
        }
    }
    assert!(stops > 1, "it was never stopped");
    assert!(it.bytes("whole") == it.bytes("stopped"));

    let single = it.trainer(RowOrder::Rows).fit(it.dir.path().join("single")).unwrap();
    assert!(it.bytes("single") != it.bytes("whole"), "the order decides nothing");
    let (blocks, rows) = (last_nmse(&whole), last_nmse(&single));
    assert!((blocks / rows - 1.0).abs() < 0.05, "{blocks} in blocks, {rows} by rows");
}

#[test]
fn a_description_says_the_order_and_one_without_blocks_does_not() {
    let plain = serde_json::to_value(TrainConfig::default()).unwrap();
    assert!(plain.get("order").is_none(), "{plain}");
    let order = RowOrder::Blocks { rows: 4096, mixed: 64 };
    let blocks = serde_json::to_value(TrainConfig { order, ..Default::default() }).unwrap();
    assert_eq!(blocks["order"], serde_json::json!({ "blocks": { "rows": 4096, "mixed": 64 } }));
    let read: TrainConfig = serde_json::from_value(blocks).unwrap();
    assert_eq!(read.order, order);
    let told = TrainConfig { order: RowOrder::Blocks { rows: 1, mixed: 0 }, ..read };
    let told = told.check().unwrap_err().to_string();
    assert!(told.contains("order") && told.contains("at least 1"), "{told}");
}
