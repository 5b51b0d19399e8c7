//! What a model takes in memory, known from its files before it is read.

use std::time::Instant;

use super::checkpoint::Reader;
use super::config::ModelConfig;
use super::{Processing, checkpoint};
use crate::base::error::Result;
use crate::base::forecast::{self, Forecast};
use crate::hub::Hub;
use crate::model::Model;
use crate::model::block::Block;
use crate::model::family;
use crate::model::source::Source;
use crate::model::weights::digests;

/// Bytes that a checkpoint takes at most while it is read, and when it has been read.
pub(super) fn memory_of(root: &Reader, config: &ModelConfig, processing: Processing) -> [u64; 2] {
    // In floating-point numbers, which no settings make overflow.
    let (d, d_mlp, d_vocab) = (config.d_model as f64, config.d_mlp as f64, config.d_vocab as f64);
    let matrices = root.bytes_of_matrices();
    let (in_file, numbers) = (matrices.bytes as f64, matrices.numbers as f64);
    // The embedding is kept in f32, and an unembedding that is processed is no longer the
    // embedding. Settings that say more than the files hold are refused when these are read.
    let embed = (4.0 * d_vocab * d).min(4.0 * numbers);
    let head = embed / 4.0 * in_file / numbers.max(1.0);
    let own_head = config.tied && processing != Processing::Raw;
    let after = in_file + (embed - head) + if own_head { head } else { 0.0 };
    // Of the embedding and the unembedding there are the raw and the processed at once; of a block,
    // its f32 beside what is kept of it.
    let ends = embed * if config.tied { 2.0 } else { 3.0 } + head;
    let attention = d * (config.d_qkv() as f64 + config.d_attn() as f64);
    let mlp = if config.gated() { 3.0 } else { 2.0 } * d * d_mlp;
    let block = (4.0 * (attention + mlp)).min(4.0 * numbers);
    [ends.max(after + block) as u64, after as u64]
}

/// Refuses a model that does not fit.
pub(super) fn check(
    name: &str,
    root: &Reader,
    config: &ModelConfig,
    processing: Processing,
) -> Result<()> {
    let [peak, _] = memory_of(root, config, processing);
    forecast::check(&format!("loading {name} from {}", root.file().display()), peak, |_| {
        let matrices: checkpoint::Matrices = root.bytes_of_matrices();
        match matrices.bytes > 3 * matrices.numbers && crate::cpu::matmul::has_tiles() {
            true => "save it in f16 (model.half().save_pretrained(…) in transformers), which is kept so and takes half of that".to_owned(),
            false => "take a smaller model, or a larger machine".to_owned(),
        }
    })
}

impl Model {
    /// What [`Model::load_with`] will take of a model that is on this machine: memory at most,
    /// by its files' headers; time by what its first two blocks take.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let forecast = Model::forecast("tiny-gpt2", Processing::default())?;
    /// assert!(forecast.memory > 1_000_000 && forecast.seconds < 10.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn forecast(name_or_folder: &str, processing: Processing) -> Result<Forecast> {
        let source = Source::find(name_or_folder, &Hub::from_env())?;
        let config = ModelConfig::parse(&source.config.bytes, &source.config.path)?;
        let root = checkpoint::open(&source.weights)?;
        let [memory, _] = memory_of(&root, &config, processing);
        let weights = family::of(root.clone(), &config);
        let mut seconds_a_number = 0.0;
        // The first finds cold caches and fresh memory, and does not count where there is another.
        for layer in 0..config.n_layers.min(2) {
            let start = Instant::now();
            let mut block = weights.block(layer)?;
            digests(&block.tensors())?;
            let numbers: usize = block.tensors().iter().map(|tensor| tensor.elem_count()).sum();
            processing.block(&mut block)?;
            Block::new(block, &config)?;
            seconds_a_number = start.elapsed().as_secs_f64() / numbers.max(1) as f64;
        }
        Ok(Forecast {
            memory,
            seconds: seconds_a_number * root.bytes_of_matrices().numbers as f64,
            ..Default::default()
        })
    }
}
