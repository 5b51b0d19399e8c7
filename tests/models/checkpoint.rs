//! A checkpoint in memory, to be changed and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tokenized_sae::prelude::*;

use super::folder;

/// Its configuration and its tensors, each with its shape.
#[derive(Clone)]
pub struct Checkpoint {
    pub config: Value,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Checkpoint {
    pub fn read(family: &str) -> Checkpoint {
        let config =
            serde_json::from_slice(&fs::read(folder(family).join("config.json")).unwrap()).unwrap();
        let bytes = fs::read(folder(family).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |view: &TensorView| {
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let tensors = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), numbers(&view))))
            .collect();
        Checkpoint { config, tensors }
    }

    pub fn write(&self, dir: &Path, dtype: Dtype) {
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        self.write_weights(&dir.join("model.safetensors"), dtype, |_| true);
    }

    pub fn write_weights(&self, path: &Path, dtype: Dtype, keep: impl Fn(&str) -> bool) {
        let bytes = |numbers: &[f32]| -> Vec<u8> {
            match dtype {
                Dtype::F16 => {
                    numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect()
                }
                Dtype::BF16 => {
                    numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect()
                }
                Dtype::F64 => numbers.iter().flat_map(|&x| (x as f64).to_le_bytes()).collect(),
                Dtype::I32 => numbers.iter().flat_map(|&x| (x as i32).to_le_bytes()).collect(),
                _ => numbers.iter().flat_map(|&x| x.to_le_bytes()).collect(),
            }
        };
        let data: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, (shape, numbers))| (name, shape, bytes(numbers)))
            .collect();
        let views = data.iter().map(|(name, shape, bytes)| {
            (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, path).unwrap();
    }

    /// Writes to a fresh folder and loads from it.
    pub fn load(&self, processing: Processing) -> Result<Model> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path(), Dtype::F32);
        Model::load_with(dir.path().to_str().unwrap(), processing)
    }

    pub fn rounded(&self, round: impl Fn(f32) -> f32) -> Checkpoint {
        let mut rounded = self.clone();
        rounded
            .tensors
            .values_mut()
            .for_each(|(_, numbers)| numbers.iter_mut().for_each(|x| *x = round(*x)));
        rounded
    }
}
