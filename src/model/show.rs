//! How a model shows itself as the last value of a notebook's cell.

mod hook;
mod prediction;

use crate::base::format::{count, significant};
use crate::cpu::matmul::Activation;
use crate::display::{Show, Shown, Table, settings, shows};
use crate::model::{Model, ModelConfig};

type Rows = Vec<(&'static str, String, &'static str)>;

impl Model {
    /// What it is, as a table.
    pub fn table(&self) -> Table {
        let processing = self.processing().to_string();
        let mut rows: Rows = vec![
            (
                "parameters",
                count(self.n_params() as u64),
                "weights of the checkpoint, a tied unembedding not counted",
            ),
            (
                "processing",
                processing,
                "what was done to its weights when it was loaded; its predictions are the same either way",
            ),
            (
                "computes in",
                self.compute().to_string(),
                "the number format of its blocks' matrix products",
            ),
        ];
        if let Some(revision) = self.revision() {
            rows.insert(
                0,
                (
                    "revision",
                    revision.get(..12).unwrap_or(revision).to_owned(),
                    "the commit of its repository on the Hugging Face hub",
                ),
            );
        }
        rows.extend(rows_of(self.config()));
        let bos = self.bos();
        if let Some(row) = rows.iter_mut().find(|(what, ..)| *what == "BOS") {
            row.1 = format!("{bos}, {:?}", self.token_str(bos));
        }
        let tokenizer = if self.inner.tokenizer.is_some() {
            "yes".to_owned()
        } else {
            "none: token ids only".to_owned()
        };
        rows.push(("tokenizer", tokenizer, "whether text can be turned into tokens"));
        let hooks = self.hooks();
        if let (Some(first), Some(last)) = (hooks.first(), hooks.last()) {
            let places =
                "places whose activations can be read or replaced; model.hooks() lists them";
            rows.push(("hooks", format!("{}, {first} to {last}", hooks.len()), places));
        }
        settings(&format!("{} · {}", self.name(), self.config().family), rows)
    }
}

impl ModelConfig {
    /// The configuration, as a table.
    pub fn table(&self) -> Table {
        let mut rows = rows_of(self);
        let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
        let activation = match self.activation {
            Activation::None => "none",
            Activation::GeluTanh => "gelu_new",
            Activation::GeluErf => "gelu",
            Activation::Relu => "relu",
        };
        let by_layer = if self.attn_scale_by_layer { " / (block + 1)" } else { "" };
        rows.extend([
            ("EOS", self.eos.to_string(), "the token that ends a document"),
            ("activation", activation.to_owned(), "the non-linearity of the MLP"),
            ("layer norm ε", significant(self.layer_norm_eps, 2), "what layer norms add to the variance"),
            ("attention bias", yes(self.attn_bias), "whether attention's matrices have biases"),
            ("attention scale", significant(self.attn_scale, 4) + by_layer, "what attention scores are multiplied by"),
            ("rotary", format!("{} dimensions, base {}", self.rotary_dim, self.rotary_base), "dimensions of each head rotated by position"),
            ("parallel", yes(self.parallel), "whether attention and MLP both read the block's input, so that there is no hook_resid_mid"),
            ("tied", yes(self.tied), "whether the unembedding is the transposed embedding"),
        ]);
        settings(&self.family.to_string(), rows)
    }
}

fn rows_of(config: &ModelConfig) -> Rows {
    vec![
        ("blocks", config.n_layers.to_string(), "layers of attention and MLP"),
        (
            "d_model",
            config.d_model.to_string(),
            "the width of the residual stream, and of every hook's activation",
        ),
        (
            "heads",
            format!("{} of {}", config.n_heads, config.d_head),
            "attention heads of a block, and the width of each",
        ),
        ("d_mlp", config.d_mlp.to_string(), "the width of the MLP"),
        ("n_ctx", config.n_ctx.to_string(), "the longest sequence that it can read"),
        ("d_vocab", config.d_vocab.to_string(), "how many token ids there are"),
        ("BOS", config.bos.to_string(), "the token that stands at position 0"),
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
