//! SAELens draws from a synthetic model as this library does, and scores an SAE on it alike.

use serde_json::Value;
use tokenized_sae::synthetic::{SyntheticBatch, SyntheticConfig, SyntheticModel};

use super::*;
use packages::{python, run};

const SCRIPT: &str = "synthetic.py";

fn view(dtype: Dtype, data: &[u8]) -> TensorView<'_> {
    TensorView::new(dtype, vec![data.len() / 4], data).unwrap()
}

fn bytes<T: Copy>(numbers: &[T], le: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    numbers.iter().flat_map(|&it| le(it)).collect()
}

#[test]
fn saelens_gives_the_same_sae_the_same_scores() {
    const ROWS: u64 = 20_000;
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = SyntheticModel::new_in(SyntheticConfig::small(), dir.path().join("model")).unwrap();
    let sae = SaeConfig { k: 8, relu: true, ..SaeConfig::new(model.d_model(), 1) }
        .with_architecture(Architecture::BatchTopK)
        .with_latents(200);
    let train = TrainConfig { tokens: 200_000, batch: 1_024, lr: 2e-3, ..Default::default() };
    let trainer = Trainer::on_synthetic(&model, train).unwrap().add("SAE", sae).unwrap();
    let trained = trainer.fit(dir.path().join("runs")).unwrap();
    let sae = &trained["SAE"].sae;
    sae.export(dir.path().join("sae"), SaeFormat::SaeLens, TableExport::Drop).unwrap();
    let mut batch = SyntheticBatch::default();
    model.fill(SyntheticModel::SCORED, 0..ROWS, &mut batch);
    let row_of = |row: usize| vec![row as i32; batch.features.row(row).0.len()];
    let rows: Vec<i32> = (0..batch.len()).flat_map(row_of).collect();
    let rows = bytes(&rows, i32::to_le_bytes);
    let features = bytes(batch.features.latents(), u32::to_le_bytes);
    let values = bytes(batch.features.values(), f32::to_le_bytes);
    // On the last rows nothing may fire.
    let n = bytes(&[ROWS as i32], i32::to_le_bytes);
    let tensors = HashMap::from([
        ("n", view(Dtype::I32, &n)),
        ("row", view(Dtype::I32, &rows)),
        ("feature", view(Dtype::I32, &features)),
        ("value", view(Dtype::F32, &values)),
    ]);
    let file = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(dir.path().join("rows.safetensors"), file).unwrap();
    run(&python, SCRIPT, "scores", dir.path());

    let text = std::fs::read_to_string(dir.path().join("scores.json")).unwrap();
    let theirs: Value = serde_json::from_str(&text).unwrap();
    let ours = model.score(sae, ROWS).unwrap();
    println!("{ours:?}\n{theirs}");
    let number = |path: &str| theirs.pointer(path).and_then(Value::as_f64).unwrap();
    assert_eq!(number("/rows"), ROWS as f64);
    for (name, got, path) in [
        ("true L0", ours.true_l0, "/true_l0"),
        ("L0", ours.l0, "/sae_l0"),
        ("dead", ours.dead as f64, "/dead_latents"),
        ("shrinkage", ours.shrinkage, "/shrinkage"),
        ("EV", ours.explained_variance, "/explained_variance"),
        ("MCC", ours.mcc, "/mcc"),
        ("uniqueness", ours.uniqueness, "/uniqueness"),
        ("precision", ours.precision, "/classification/precision"),
        ("recall", ours.recall, "/classification/recall"),
        ("F1", ours.f1, "/classification/f1_score"),
        ("accuracy", ours.accuracy, "/classification/accuracy"),
    ] {
        assert!((got - number(path)).abs() < 1e-4, "{name}: {got} here, {} there", number(path));
    }
    assert!(ours.f1 > 0.1 && ours.mcc > 0.3, "it was trained: {ours:?}");
}

#[test]
fn saelens_draws_what_is_drawn_here() {
    const ROWS: u64 = 100_000;
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = SyntheticModel::new_in(SyntheticConfig::small(), dir.path().join("model")).unwrap();
    run(&python, SCRIPT, "statistics", dir.path());
    let file = std::fs::read(dir.path().join("statistics.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        let (chunks, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
        chunks.iter().map(|it| f64::from(f32::from_le_bytes(*it))).collect()
    };
    let [fired, sums, together, norms] = ["fired", "sums", "together", "norms"].map(numbers);

    let (n, d, first) = (model.n_features(), model.d_model(), 64);
    let (mut ours, mut our_sums) = (vec![0.0; n], vec![0.0; n]);
    let (mut our_together, mut lengths) = (vec![0.0; first * first], Vec::new());
    let mut batch = SyntheticBatch::default();
    for begin in (0..ROWS).step_by(5_000) {
        model.fill(1, begin..begin + 5_000, &mut batch);
        for row in 0..batch.len() {
            let (ids, values) = batch.features.row(row);
            for (&id, &value) in ids.iter().zip(values) {
                ours[id as usize] += 1.0;
                our_sums[id as usize] += f64::from(value);
            }
            let early: Vec<usize> =
                ids.iter().map(|&id| id as usize).filter(|&id| id < first).collect();
            early
                .iter()
                .for_each(|a| early.iter().for_each(|b| our_together[a * first + b] += 1.0));
            let x = &batch.x[row * d..][..d];
            lengths.push(x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt());
        }
    }
    // In standard deviations of the difference of two counts; of 1,024 and 2,016 of them some lie
    // four apart by chance.
    let apart = |a: f64, b: f64| (a - b).abs() / (a + b + 1.0).sqrt();
    for feature in 0..n {
        let z = apart(ours[feature], fired[feature]);
        assert!(z < 4.8, "feature {feature}: {} and {}", ours[feature], fired[feature]);
        // A magnitude's deviation is some 0.6, and of a child that of its ancestors too.
        let sizes = [our_sums[feature] / ours[feature], sums[feature] / fired[feature]];
        let error = 6.0 * 1.0 * (2.0 / fired[feature].min(ours[feature])).sqrt();
        assert!((sizes[0] - sizes[1]).abs() < error, "feature {feature}: {sizes:?}");
    }
    for at in 0..first * first {
        let z = apart(our_together[at], together[at]);
        let pair = (at / first, at % first);
        assert!(z < 5.0, "{pair:?}: {} and {}", our_together[at], together[at]);
    }
    let l0 = |counts: &[f64]| counts.iter().sum::<f64>() / ROWS as f64;
    println!("L0 {} here, {} there", l0(&ours), l0(&fired));
    assert!((l0(&ours) - l0(&fired)).abs() < 0.05);
    let mean = lengths.iter().sum::<f64>() / ROWS as f64;
    let square = lengths.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / ROWS as f64;
    println!("‖x‖ {mean} ± {} here, {} ± {} there", square.sqrt(), norms[0], norms[1]);
    assert!((mean / norms[0] - 1.0).abs() < 0.005 && (square.sqrt() / norms[1] - 1.0).abs() < 0.02);
}
