//! Models against golden values made by `transformers` (see `golden/make_golden.py`), and against
//! damaged checkpoints.

mod built_in;
mod checkpoint;
mod checkpoints;
mod encoding;
mod golden;
mod hooks;
mod sampling;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use checkpoint::Checkpoint;
use tokenized_sae::prelude::*;

const FAMILIES: [&str; 5] = ["gpt2", "neox", "llama", "mistral", "qwen2"];

/// Whether a family has layer norms, and not RMS norms.
fn centres(family: &str) -> bool {
    matches!(family, "gpt2" | "neox")
}

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

fn load(family: &str, processing: Processing) -> Model {
    Model::load_with(folder(family).to_str().unwrap(), processing).unwrap()
}

struct Golden(std::collections::HashMap<String, Tensor>);

impl Golden {
    fn read(family: &str) -> Golden {
        Golden(
            candle_core::safetensors::load(folder(family).join("golden.safetensors"), &Device::Cpu)
                .unwrap(),
        )
    }

    fn tokens(&self) -> Tokens {
        let ids = values(&self.0["tokens"].to_dtype(candle_core::DType::F32).unwrap());
        Tokens::new(ids.into_iter().map(|id| id as u32).collect(), 12).unwrap()
    }
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference between two tensors of one shape.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    // A NaN is infinitely far from everything.
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, |far, d| {
        if d <= far {
            far
        } else if d.is_nan() {
            f32::INFINITY
        } else {
            d
        }
    })
}

fn log_probs(logits: &Tensor) -> Tensor {
    candle_nn::ops::log_softmax(logits, candle_core::D::Minus1).unwrap()
}
