//! `tsae features`: what the latents of a trained SAE do, in one HTML file.

use std::path::PathBuf;

use serde_json::json;
use tokenized_sae::display::{Show, interrupt};
use tokenized_sae::experiments::recipe::{hook_of, model_of};
use tokenized_sae::prelude::*;
use tsae::{Error, Result};

use super::common::{FORMATS, OriginArgs, there};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae features results/TSAE --out features.html
  tsae features results/TSAE --store results/activations --latent 12 --latent 345
  tsae features my-sae --model gpt2 --hook blocks.8.hook_resid_pre --text 'books/*.txt' --tokens 2000000 --out features.html";

/// Show what the latents of a trained SAE do, in one HTML file: contexts, histograms, the tokens
/// they point at.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Features {
    /// A run's folder, or any folder with cfg.json and sae_weights.safetensors.
    run: PathBuf,
    #[command(flatten)]
    origin: OriginArgs,
    /// A folder of activations, from the same model.
    #[arg(long, group = "source")]
    store: Option<PathBuf>,
    /// Text to run through the model: a file, a folder or a glob.
    #[arg(long, group = "source")]
    text: Option<String>,
    /// The format of the text's files, where their names do not say it; `text` insists on plain
    /// text.
    #[arg(long, requires = "text", value_parser = FORMATS)]
    format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds the text; by default `text`.
    #[arg(long, requires = "text")]
    column: Option<String>,
    /// Without store and text: how many tokens the model samples for itself.
    #[arg(long, group = "source", default_value_t = 200_000)]
    sampled: usize,
    /// Read at most this many tokens.
    #[arg(long, default_value_t = FeaturesConfig::default().tokens)]
    tokens: u64,
    /// Print this latent. Repeatable.
    #[arg(long = "latent", value_name = "LATENT")]
    latents: Vec<usize>,
    /// Where the HTML file goes; none is written if latents are printed and this is not given.
    #[arg(long, required_unless_present = "latents")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Features {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        if self.sampled == 0 {
            return Err(Error::config("sampled", "sampled = 0; at least 1 is needed"));
        }
        self.store.iter().try_for_each(|store| there(store))?;
        let sae = Sae::load(&self.run)?;
        let hook = hook_of(&sae, self.origin.hook)?;
        let model =
            model_of(&sae, self.origin.model.as_deref(), self.origin.processing.map(Into::into))?;
        let config = FeaturesConfig { tokens: self.tokens, ..FeaturesConfig::default() };
        let n_ctx = sae.origin.n_ctx.unwrap_or(256).min(model.config().n_ctx);
        let dashboard = match (self.store, self.text) {
            (Some(store), _) => {
                FeatureDashboard::with(&model, hook, &sae, &ActivationStore::open(store)?, config)?
            }
            (None, Some(text)) => {
                let most = usize::try_from(self.tokens).unwrap_or(usize::MAX);
                let text = Corpus::text_files(&model, &text)?
                    .read_as(self.format.as_deref(), self.column.as_deref())?
                    .context(n_ctx)
                    .max_tokens(most)
                    .split(0.0)?;
                FeatureDashboard::with(&model, hook, &sae, &text.train, config)?
            }
            (None, None) => {
                let text = model.sample(self.sampled.div_ceil(n_ctx), n_ctx, 0)?;
                FeatureDashboard::with(&model, hook, &sae, &text, config)?
            }
        };
        let dashboard =
            match self.run.canonicalize().ok().as_deref().and_then(|dir| dir.file_name()) {
                Some(name) => dashboard.named(&name.to_string_lossy()),
                None => dashboard,
            };
        let views = self
            .latents
            .iter()
            .map(|&latent| dashboard.latent(latent))
            .collect::<Result<Vec<_>, tokenized_sae::Error>>()?;
        if let Some(out) = &self.out {
            dashboard.save(out)?;
            self.output.remark(&format!("Written to {}.", out.display()));
        }
        let features = &dashboard.features;
        let found = json!({
            "model": features.model, "hook": features.hook, "tokens": features.tokens, "finished": features.finished, "page": self.out, "latents": views,
        });
        self.output.result(&found, || {
            views.iter().map(|view| view.shown().text).collect::<Vec<_>>().join("\n")
        })
    }
}
