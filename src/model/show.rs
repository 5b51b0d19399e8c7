//! How a model shows itself as the last value of a notebook's cell.

mod hook;
mod prediction;

use crate::base::format::{count, significant};
use crate::cpu::matmul::Activation;
use crate::display::{Show, Shown, Table, settings, shows};
use crate::model::{Model, ModelConfig};

/// A setting: its name, its value, and what it means.
type Setting = (&'static str, String, &'static str);

fn row(name: &'static str, value: impl ToString) -> Setting {
    let meaning = match name {
        "revision" => "the commit of its repository on the Hugging Face hub",
        "parameters" => "weights of the checkpoint, a tied unembedding not counted",
        "processing" => {
            "what was done to its weights when it was loaded; its predictions are the same either way"
        }
        "computes in" => "the number format of its blocks' matrix products",
        "blocks" => "layers of attention and MLP",
        "d_model" => "the width of the residual stream, and of every hook's activation",
        "heads" => "attention heads of a block, and the width of each",
        "d_mlp" => "the width of the MLP",
        "n_ctx" => "the longest sequence that it can read",
        "d_vocab" => "how many token ids there are",
        "BOS" => "the token that stands at position 0",
        "tokenizer" => "whether text can be turned into tokens",
        "hooks" => "places whose activations can be read or replaced; model.hooks() lists them",
        "EOS" => "the token that ends a document",
        "activation" => "the non-linearity of the MLP",
        "norm ε" => "what norms add to the variance, or RMS norms to the mean square",
        "attention bias" => "whether attention's queries, keys and values have biases",
        "attention scale" => "what attention scores are multiplied by",
        "rotary" => "dimensions of each head rotated by position",
        "parallel" => {
            "whether attention and MLP both read the block's input, so that there is no hook_resid_mid"
        }
        "tied" => "whether the unembedding is the transposed embedding",
        _ => "",
    };
    (name, value.to_string(), meaning)
}

impl Model {
    /// What it is, as a table.
    pub fn table(&self) -> Table {
        let bos = format!("{}, {:?}", self.bos(), self.token_str(self.bos()));
        let revision = self.revision().map(|id| row("revision", id.get(..12).unwrap_or(id)));
        let mut rows: Vec<Setting> = revision.into_iter().collect();
        rows.push(row("parameters", count(self.n_params() as u64)));
        rows.push(row("processing", self.processing()));
        rows.push(row("computes in", self.compute()));
        rows.extend(rows_of(self.config(), bos));
        let has_tokenizer = self.inner.tokenizer.is_some();
        rows.push(row("tokenizer", if has_tokenizer { "yes" } else { "none: token ids only" }));
        let hooks = self.hooks();
        if let (Some(first), Some(last)) = (hooks.first(), hooks.last()) {
            rows.push(row("hooks", format!("{}, {first} to {last}", hooks.len())));
        }
        settings(&format!("{} · {}", self.name(), self.config().family), rows)
    }
}

impl ModelConfig {
    /// The configuration, as a table.
    pub fn table(&self) -> Table {
        let yes = |b: bool| if b { "yes" } else { "no" };
        let activation = match self.activation {
            Activation::None => "none",
            Activation::GeluTanh => "gelu_new",
            Activation::GeluErf => "gelu",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
        };
        let by_layer = if self.attn_scale_by_layer { " / (block + 1)" } else { "" };
        let stretched = self.rotary_scaling.map_or_else(String::new, |scaling| {
            format!(", stretched {} times beyond {} positions", scaling.factor, scaling.trained)
        });
        let rotary =
            format!("{} dimensions, base {}{stretched}", self.rotary_dim, self.rotary_base);
        let mut rows = rows_of(self, self.bos.to_string()).to_vec();
        rows.extend([
            row("EOS", self.eos),
            row("activation", activation),
            row("norm ε", significant(self.layer_norm_eps, 2)),
            row("attention bias", yes(self.attn_bias)),
            row("attention scale", significant(self.attn_scale, 4) + by_layer),
            row("rotary", rotary),
            row("parallel", yes(self.parallel)),
            row("tied", yes(self.tied)),
        ]);
        settings(&self.family.to_string(), rows)
    }
}

fn rows_of(config: &ModelConfig, mut bos: String) -> [Setting; 7] {
    if !config.bos_is.is_empty() {
        bos += &format!(" ({})", config.bos_is);
    }
    let mut heads = format!("{} of {}", config.n_heads, config.d_head);
    if config.n_key_value_heads < config.n_heads {
        heads += &format!(", sharing {} of keys and values", config.n_key_value_heads);
    }
    [
        row("blocks", config.n_layers),
        row("d_model", config.d_model),
        row("heads", heads),
        row("d_mlp", config.d_mlp),
        row("n_ctx", config.n_ctx),
        row("d_vocab", config.d_vocab),
        row("BOS", bos),
    ]
}

impl Show for Model {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for ModelConfig {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

shows!(Model, ModelConfig);
