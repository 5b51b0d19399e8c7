//! A probe here is scikit-learn's logistic regression.

use serde_json::Value;
use tokenized_sae::latents::probe::{ClassWeight, Logistic};

use super::*;
use packages::{python, run};

#[test]
fn scikit_learn_fits_the_same_probe() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (n, d) = (700, 23);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut x: Vec<f32> = numbers(&mut rng, n * d);
    // Coordinates of a residual stream differ in scale, and are not centred.
    x.iter_mut().enumerate().for_each(|(i, x)| *x = *x * 3f32.powi((i % d) as i32 % 6 - 2) + 0.3);
    let noise: Vec<f32> = numbers(&mut rng, n);
    let labels: Vec<bool> =
        x.chunks_exact(d).zip(noise).map(|(x, noise)| x[1] + x[2] + noise > 1.5).collect();
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let label_bytes: Vec<u8> = labels.iter().map(|&it| u8::from(it)).collect();
    let tensors = HashMap::from([
        ("x", TensorView::new(Dtype::F32, vec![n, d], &bytes).unwrap()),
        ("labels", TensorView::new(Dtype::U8, vec![n], &label_bytes).unwrap()),
    ]);
    let file = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(dir.path().join("rows.safetensors"), file).unwrap();
    run(&python, "probes.py", "fit", dir.path());

    let text = std::fs::read_to_string(dir.path().join("fits.json")).unwrap();
    let fits: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(fits.len(), 4);
    for theirs in fits {
        let weight = match theirs["balanced"].as_bool().unwrap() {
            true => ClassWeight::Balanced,
            false => ClassWeight::Even,
        };
        let c = theirs["c"].as_f64().unwrap();
        let ours = Logistic::fit(&x, d, &labels, c, weight).unwrap();
        let want = theirs["weights"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap());
        let want: Vec<f64> = want.chain(theirs["bias"].as_f64()).collect();
        let got = ours.weights.iter().chain([&ours.bias]);
        let most = got.zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
        let size = want.iter().fold(0.0f64, |size, it| size.max(it.abs()));
        println!("C = {c}, {weight:?}: {most:e} apart of {size}");
        assert!(most < 1e-5 * size && size > 0.1, "C = {c}, {weight:?}: {most} apart of {size}");
    }
}
