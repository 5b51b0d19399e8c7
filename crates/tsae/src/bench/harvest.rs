//! How many tokens a second go through a model to a hook.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::machine::{Numbers, peak, peak_rss_bytes};
use super::median;
use tokenized_sae::activations::HarvestConfig;
use tokenized_sae::backend::gpu::{Driver, Timed};
use tokenized_sae::backend::{self, Device};
use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::error::{Error, Result};
use tokenized_sae::format;
use tokenized_sae::internal::{OnDevice, Precision, Times};
use tokenized_sae::model::tokens::Tokens;
use tokenized_sae::model::{Compute, HookPoint, Model, ModelConfig};

/// The models whose shapes can be measured. Their weights are made up: the time does not depend on
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelShape {
    /// GPT-2 small: 12 blocks of width 768.
    Gpt2,
    /// Pythia 160M: 12 blocks of width 768.
    Pythia160M,
    /// Pythia 1.4B: 24 blocks of width 2048.
    Pythia1_4B,
    /// SmolLM2 135M: 30 blocks of width 576.
    SmolLm2,
}

impl ModelShape {
    pub(super) const ALL: [ModelShape; 4] =
        [ModelShape::Gpt2, ModelShape::Pythia160M, ModelShape::Pythia1_4B, ModelShape::SmolLm2];

    pub(super) fn name(self) -> &'static str {
        match self {
            ModelShape::Gpt2 => "gpt2",
            ModelShape::Pythia160M => "pythia-160m",
            ModelShape::Pythia1_4B => "pythia-1.4b",
            ModelShape::SmolLm2 => "smollm2",
        }
    }

    /// As its `config.json` says.
    pub(super) fn config(self) -> &'static str {
        match self {
            ModelShape::Gpt2 => {
                r#"{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
                    "bos_token_id": 50256, "eos_token_id": 50256}"#
            }
            ModelShape::Pythia160M => {
                r#"{"model_type": "gpt_neox", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                    "intermediate_size": 3072, "max_position_embeddings": 2048, "vocab_size": 50304,
                    "bos_token_id": 0, "eos_token_id": 0}"#
            }
            ModelShape::Pythia1_4B => {
                r#"{"model_type": "gpt_neox", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
                    "intermediate_size": 8192, "max_position_embeddings": 2048, "vocab_size": 50304,
                    "bos_token_id": 0, "eos_token_id": 0}"#
            }
            ModelShape::SmolLm2 => {
                r#"{"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
                    "num_key_value_heads": 3, "intermediate_size": 1536, "max_position_embeddings": 8192, "vocab_size": 49152,
                    "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0}"#
            }
        }
    }

    /// The names and shapes of its tensors on the hub.
    pub(super) fn tensors(self) -> Vec<(String, Vec<usize>)> {
        let (n_layers, d, d_vocab, n_ctx) = match self {
            ModelShape::Gpt2 => (12, 768, 50_257, 1024),
            ModelShape::Pythia160M => (12, 768, 50_304, 2048),
            ModelShape::Pythia1_4B => (24, 2048, 50_304, 2048),
            ModelShape::SmolLm2 => return llama_tensors(30, [576, 192, 1536], 49_152),
        };
        let mut all = Vec::new();
        let mut push = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
        let gpt2 = self == ModelShape::Gpt2;
        let (embed, blocks, last) = match gpt2 {
            true => ("wte", "h", "ln_f"),
            false => ("gpt_neox.embed_in", "gpt_neox.layers", "gpt_neox.final_layer_norm"),
        };
        push(format!("{embed}.weight"), &[d_vocab, d]);
        if gpt2 {
            push("wpe.weight".to_owned(), &[n_ctx, d]);
        }
        // A matrix with its two sides, or a layer norm, in the order of a block. GPT-2 has its
        // matrices the other way round.
        let parts: [(&str, &str, Option<[usize; 2]>); 6] = [
            ("ln_1", "input_layernorm", None),
            ("attn.c_attn", "attention.query_key_value", Some([3 * d, d])),
            ("attn.c_proj", "attention.dense", Some([d, d])),
            ("ln_2", "post_attention_layernorm", None),
            ("mlp.c_fc", "mlp.dense_h_to_4h", Some([4 * d, d])),
            ("mlp.c_proj", "mlp.dense_4h_to_h", Some([d, 4 * d])),
        ];
        for layer in 0..n_layers {
            for (of_gpt2, of_neox, matrix) in parts {
                let name = format!("{blocks}.{layer}.{}", if gpt2 { of_gpt2 } else { of_neox });
                match matrix {
                    Some([to, from]) => {
                        push(format!("{name}.weight"), &if gpt2 { [from, to] } else { [to, from] })
                    }
                    None => push(format!("{name}.weight"), &[d]),
                }
                push(format!("{name}.bias"), &[matrix.map_or(d, |[to, _]| to)]);
            }
        }
        push(format!("{last}.weight"), &[d]);
        push(format!("{last}.bias"), &[d]);
        if !gpt2 {
            push("embed_out.weight".to_owned(), &[d_vocab, d]);
        }
        all
    }
}

/// Those of a Llama with a tied head, of these widths of the stream (and all heads of queries), of
/// all heads of keys, and of the MLP.
fn llama_tensors(
    n_layers: usize,
    [d, d_kv, d_mlp]: [usize; 3],
    d_vocab: usize,
) -> Vec<(String, Vec<usize>)> {
    let parts: [(&str, &[usize]); 9] = [
        ("input_layernorm", &[d]),
        ("self_attn.q_proj", &[d, d]),
        ("self_attn.k_proj", &[d_kv, d]),
        ("self_attn.v_proj", &[d_kv, d]),
        ("self_attn.o_proj", &[d, d]),
        ("post_attention_layernorm", &[d]),
        ("mlp.gate_proj", &[d_mlp, d]),
        ("mlp.up_proj", &[d_mlp, d]),
        ("mlp.down_proj", &[d, d_mlp]),
    ];
    let of_block = |layer: usize| {
        parts.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape.to_vec()))
    };
    let ends = [("model.embed_tokens.weight", vec![d_vocab, d]), ("model.norm.weight", vec![d])];
    let ends = ends.into_iter().map(|(name, shape)| (name.to_owned(), shape));
    ends.chain((0..n_layers).flat_map(of_block)).collect()
}

/// The numbers of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Weights {
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

impl Weights {
    /// As safetensors and file names have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Weights::F32 => "F32",
            Weights::F16 => "F16",
            Weights::Bf16 => "BF16",
        }
    }

    fn precision(self) -> Precision {
        match self {
            Weights::F32 => Precision::Single,
            Weights::F16 => Precision::F16,
            Weights::Bf16 => Precision::Bf16,
        }
    }
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarvestBench {
    /// The model's shape.
    pub shape: ModelShape,
    /// How many blocks the tokens go through: the hook is `blocks.{layer}.hook_resid_pre`. Default 8.
    pub layer: usize,
    /// The number format of products.
    pub compute: Compute,
    /// The processor, or a card.
    pub device: Device,
    /// The numbers of the checkpoint that the weights would come from. Default f32.
    pub weights: Weights,
    /// How many sequences there are. Default 32.
    pub sequences: usize,
    /// Tokens in each. Default 256.
    pub n_ctx: usize,
    /// How often it is repeated; the middle one counts. Default 5.
    pub repetitions: usize,
}

impl Default for HarvestBench {
    fn default() -> HarvestBench {
        HarvestBench {
            shape: ModelShape::Gpt2,
            layer: 8,
            compute: Compute::F32,
            device: Device::Cpu,
            weights: Weights::F32,
            sequences: 32,
            n_ctx: 256,
            repetitions: 5,
        }
    }
}

/// The results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HarvestReport {
    /// Tokens through the model per second, the middle of the repetitions.
    pub tokens_per_s: f64,
    /// 10⁹ operations per second that the products alone amount to.
    pub gflops: f64,
    /// As a share of what the processor's multipliers can do, measured just before and after; not
    /// of a card's.
    pub peak_share: Option<f64>,
    /// The most memory that the process has held, in bytes; 0 where the system does not tell.
    pub peak_rss_bytes: u64,
    /// The seconds of each part of the middle repetition; on a card, of each kernel in one of its
    /// own, in which the host waits for every kernel.
    pub stages: serde_json::Map<String, serde_json::Value>,
    /// The SHA-256 of the hook's values of the first pass: in f32 the same on every card and every
    /// processor with AVX-512.
    pub sha256: String,
    /// In bf16 on a card, how far the hook's values are from the processor's in bf16, for the first 96
    /// tokens: the root of the summed squares of the differences, as a share of that of the values.
    pub from_processor: Option<f64>,
}

/// Runs synthetic tokens through a model of the shape asked for, in passes of as many sequences as
/// a harvest takes. Writes nothing.
///
/// # Errors
/// [`Error::Config`] if the model has no such layer, there is nothing to run, or the card is not
/// there or does not give the processor's bits, or in bf16 does not come close to them.
pub fn harvest(bench: &HarvestBench) -> Result<HarvestReport> {
    let model =
        Model::synthetic(bench.shape.name(), bench.shape.config(), bench.weights.precision())?
            .computing(bench.compute);
    let config = model.config().clone();
    if bench.layer == 0 || bench.layer >= config.n_layers {
        let why = format!(
            "is {}; {} has blocks 1 to {} to run to",
            bench.layer,
            bench.shape.name(),
            config.n_layers - 1
        );
        return Err(Error::config("layer", why));
    }
    if bench.sequences == 0 || bench.n_ctx == 0 || bench.repetitions == 0 {
        return Err(Error::config(
            "sequences",
            "there is nothing to run: sequences, tokens and repetitions are at least 1 each",
        ));
    }
    let ids = (0..bench.sequences * bench.n_ctx)
        .map(|i| (i as u32).wrapping_mul(2_654_435_761) % config.d_vocab as u32)
        .collect();
    let tokens = Tokens::new(ids, bench.n_ctx)?;
    let batch = HarvestConfig::default().batch;
    let passes: Vec<Tokens> = (0..bench.sequences)
        .step_by(batch)
        .map(|from| tokens.rows(from, (from + batch).min(bench.sequences)))
        .collect();
    let Measured { seconds, peak, stages, first, from_processor } = match bench.device {
        Device::Cuda(ordinal) => on_card(ordinal, &model, &passes, bench)?,
        Device::Auto | Device::Cpu => on_processor(&model, &passes, bench)?,
    };
    let operations = operations(&config, bench) / seconds;
    let sha256 = Sha256::digest(bytemuck::cast_slice::<f32, u8>(&first));
    Ok(HarvestReport {
        tokens_per_s: tokens.len() as f64 / seconds,
        gflops: operations / 1e9,
        peak_share: peak.map(|peak| operations / peak),
        peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
        stages: stages.into_iter().map(|(name, seconds)| (name, seconds.into())).collect(),
        sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        from_processor,
    })
}

/// What the repetitions showed.
struct Measured {
    /// Of the middle one.
    seconds: f64,
    /// Operations a second that the processor is capable of.
    peak: Option<f64>,
    stages: Vec<(String, f64)>,
    /// The hook's values of the first pass.
    first: Vec<f32>,
    /// As the report has it.
    from_processor: Option<f64>,
}

fn on_processor(model: &Model, passes: &[Tokens], bench: &HarvestBench) -> Result<Measured> {
    // Which also makes what is made when it is first needed.
    let first = model.run_to(&passes[0], HookPoint::resid_pre(bench.layer))?;
    let numbers = match bench.compute {
        Compute::F32 => Numbers::F32,
        Compute::Bf16 => Numbers::Bf16,
    };
    let before = peak(numbers);
    let mut repetitions = Vec::new();
    for _ in 0..bench.repetitions {
        let (start, mut times) = (Instant::now(), Times::default());
        for pass in passes {
            times.add_all(&model.time_blocks(pass, bench.layer)?);
        }
        repetitions.push((start.elapsed().as_secs_f64(), times));
    }
    let peak = Some(before.max(peak(numbers)));
    let seconds = median(repetitions.iter().map(|(seconds, _)| *seconds).collect());
    let times = repetitions
        .into_iter()
        .find(|repetition| repetition.0 == seconds)
        .map(|(_, times)| times)
        .unwrap_or_default();
    let stages = times.named().into_iter().map(|(name, took)| (name.to_owned(), took)).collect();
    let first = first.flatten_all()?.to_vec1()?;
    Ok(Measured { seconds, peak, stages, first, from_processor: None })
}

/// With the copies of ids to the card, and of values from it.
fn on_card(
    ordinal: usize,
    model: &Model,
    passes: &[Tokens],
    bench: &HarvestBench,
) -> Result<Measured> {
    let (card, hooks) = (backend::card(ordinal)?, [HookPoint::resid_pre(bench.layer)]);
    let run = |model: &OnDevice, pass: &Tokens| model.run_to_many(pass, &hooks, &|| false);
    let on_card = OnDevice::new(&card, model, hooks[0])?;
    let distance = on_card.distance(&passes[0], &hooks)?;
    let from_processor = (bench.compute == Compute::Bf16).then_some(distance);
    let first = run(&on_card, &passes[0])?.swap_remove(0);
    let mut repetitions = Vec::new();
    for _ in 0..bench.repetitions {
        let start = Instant::now();
        for pass in passes {
            run(&on_card, pass)?;
        }
        repetitions.push(start.elapsed().as_secs_f64());
    }
    drop(on_card);
    let timed = Arc::new(Timed::new(&card)?);
    let driver: Arc<dyn Driver> = timed.clone();
    let on_card = OnDevice::new(&driver, model, hooks[0])?;
    run(&on_card, &passes[0])?;
    timed.take(); // the weights, and what is made when it is first needed
    for pass in passes {
        run(&on_card, pass)?;
    }
    let stages = timed.take().into_iter().map(|(kernel, took)| (kernel, took.as_secs_f64()));
    let (seconds, stages) = (median(repetitions), stages.collect());
    Ok(Measured { seconds, peak: None, stages, first, from_processor })
}

/// Multiplications and additions in the products of a repetition; of attention's, those below the
/// diagonal.
fn operations(config: &ModelConfig, bench: &HarvestBench) -> f64 {
    let (d, d_mlp, n_ctx) = (config.d_model as f64, config.d_mlp as f64, bench.n_ctx as f64);
    let heads = |n: usize| (n * config.d_head) as f64;
    let (d_attn, d_kv) = (heads(config.n_heads), heads(config.n_key_value_heads));
    let of_mlp = if config.gated() { 3.0 } else { 2.0 } * d * d_mlp;
    let matrices = 2.0 * d * (d_attn + d_kv) + of_mlp;
    let token = 2.0 * matrices + 4.0 * d_attn * (n_ctx + 1.0) / 2.0;
    bench.layer as f64 * (bench.sequences * bench.n_ctx) as f64 * token
}

impl HarvestReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("harvest", &[Column::text(""), Column::text("")]);
        let mut push = |name: &str, shown: String| table.push(Row::new(name).text(&shown));
        push("tokens per second", format!("{:.0}", self.tokens_per_s));
        push("GFLOP/s", format!("{:.0}", self.gflops));
        if let Some(share) = self.peak_share {
            push("of the machine's peak", format!("{:.1} %", 100.0 * share));
        }
        push("peak memory", format::bytes(self.peak_rss_bytes));
        if let Some(distance) = self.from_processor {
            push("apart from the processor", format!("{:.3} %", 100.0 * distance));
        }
        for (name, seconds) in &self.stages {
            push(name, format!("{:.3} s", seconds.as_f64().unwrap_or(0.0)));
        }
        table
    }
}
