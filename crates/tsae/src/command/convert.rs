//! `tsae convert`.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokenized_sae::prelude::*;
use tsae::{Error, Result};

use super::common::{Stored, Weights, typed};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae convert --list                                              # published SAEs that can be named
  tsae convert gpt2-small-res-jb/blocks.8.hook_resid_pre --to tsae --out mine
  tsae convert hf://EleutherAI/sae-pythia-70m-32k/layers.3 --to saelens --out theirs
  tsae convert results/TSAE --to saelens --table fold --relu --out for-saelens
  tsae convert resid_post_layer_3/trainer_0 --to tsae --out mine
  tsae convert 65536.pt --k 30 --hook blocks.8.hook_resid_pre --to tsae --out mine
  tsae convert cached_activations/gpt2 --model gpt2 --to tsae --out cache/gpt2               # SAELens' activations
  tsae convert cache/gpt2 --hook blocks.8.hook_resid_pre --to saelens --out cached_activations/mine";

/// Read an SAE or activations of this or another library, and write them for one of these.
///
/// An SAE is recognised by its files: SAELens 5 and 6, sparsify, dictionary_learning,
/// Llamascopium, openai/sparse_autoencoder, the authors of tokenized SAEs, or this program. Nothing
/// in a .pt file is run. Activations are converted between this program's and a cache of SAELens.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Convert {
    /// A folder with an SAE or its file of weights, the name of a published SAE, or hf:// and any
    /// place of one on the hub; or a folder of activations.
    #[arg(required_unless_present = "list")]
    from: Option<PathBuf>,
    /// List the published SAEs that can be named.
    #[arg(long, conflicts_with_all = ["from", "to", "out"])]
    list: bool,
    /// The library that will read it.
    #[arg(long, value_enum, required_unless_present = "list")]
    to: Option<Format>,
    /// What becomes of a token table: keep it (in a file of its own, if the library has no tables),
    /// fold its mean row into the biases, or drop it. By default it is kept for tsae, and folded
    /// for others.
    #[arg(long, value_enum)]
    table: Option<Table>,
    /// Make negative values among the k largest 0, as all other libraries do: needed for a TopK SAE
    /// that was trained to keep them.
    #[arg(long)]
    relu: bool,
    /// How many latents are active, for a file that does not say.
    #[arg(long)]
    k: Option<usize>,
    /// The hook that an SAE reads, for a file that does not say, such as
    /// blocks.8.hook_resid_pre; or which of several hooks of activations.
    #[arg(long)]
    hook: Option<HookPoint>,
    /// The model whose activations a cache holds: some of them are compared with it.
    #[arg(long)]
    model: Option<String>,
    /// What is done to that model's weights: SAELens leaves them raw.
    #[arg(long, value_enum, default_value_t = Weights::Raw, requires = "model")]
    processing: Weights,
    /// How the numbers of a cache are stored.
    #[arg(long, value_enum, default_value_t = Stored::F16, requires = "model")]
    dtype: Stored,
    /// The folder to write: a new one, or one without an SAE.
    #[arg(long, required_unless_present = "list")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Convert {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        if self.list {
            return self.releases();
        }
        let has = |name: &str| self.from().join(name).is_file();
        if has("manifest.json") {
            self.export(&ActivationStore::open(self.from())?)
        } else if has("state.json") || has("dataset_info.json") {
            self.import()
        } else {
            self.sae()
        }
    }

    /// What is converted, to what and into which folder; all three are required but with `--list`.
    fn from(&self) -> &Path {
        self.from.as_deref().unwrap_or(Path::new(""))
    }

    fn to(&self) -> Format {
        self.to.unwrap_or(Format::Tsae)
    }

    fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new(""))
    }

    fn releases(&self) -> Result<()> {
        let all = Sae::releases();
        let named = |[names, repository, what]: &[String; 3]| json!({ "names": names, "repository": repository, "what": what });
        self.output.result(&all.iter().map(named).collect::<Vec<_>>(), || {
            let told = |[names, repository, what]: &[String; 3]| {
                format!("{names}\n    {what}: {repository}")
            };
            all.iter().map(told).collect::<Vec<_>>().join("\n")
        })
    }

    fn sae(&self) -> Result<()> {
        if self.model.is_some() {
            return Err(Error::config(
                "model",
                format!(
                    "is for a cache of activations, and {} holds none: leave it out",
                    self.from().display()
                ),
            ));
        }
        let mut sae = match self.k {
            Some(k) => Sae::load_with_k(self.from(), k)?,
            None => Sae::load(self.from())?,
        };
        sae.config.relu |= self.relu;
        sae.origin.hook = self.hook.or(sae.origin.hook);
        let otherwise =
            if self.to() == Format::Tsae { TableExport::Keep } else { TableExport::Fold };
        let table = self.table.map_or(otherwise, TableExport::from);
        let format = SaeFormat::from(self.to());
        let notes = sae.export(self.out(), format, table)?;
        let made = json!({ "dir": self.out(), "format": format, "notes": notes });
        self.output.result(&made, || {
            let told = format!("{}: written for {format}.", self.out().display());
            notes.iter().fold(told, |told, note| format!("{told}\n- {note}"))
        })
    }

    /// From a cache of SAELens to activations of this program.
    fn import(&self) -> Result<()> {
        self.wants(Format::Tsae)?;
        if self.hook.is_some() {
            return Err(Error::config(
                "hook",
                "all hooks of a cache are converted, under their own names: leave it out",
            ));
        }
        let Some(model) = &self.model else {
            return Err(Error::config(
                "model",
                "activations need their model: give it, such as --model gpt2",
            ));
        };
        let model = Model::load_with(model, self.processing.into())?;
        let config = HarvestConfig { dtype: self.dtype.into(), ..HarvestConfig::default() };
        let acts = ActivationStore::import_saelens(&model, self.from(), self.out(), config)?;
        self.told(&acts, acts.hooks(), acts.to_string())
    }

    /// From activations of this program to a cache of SAELens.
    fn export(&self, acts: &ActivationStore) -> Result<()> {
        self.wants(Format::SaeLens)?;
        if self.model.is_some() {
            return Err(Error::config(
                "model",
                "activations of this program know their model: leave it out",
            ));
        }
        let hook = match (self.hook, acts.hooks()) {
            (Some(hook), _) | (None, &[hook]) => hook,
            (None, hooks) => {
                let there = hooks.iter().map(HookPoint::to_string).collect::<Vec<_>>().join(", ");
                return Err(Error::config(
                    "hook",
                    format!(
                        "a cache holds one hook, and there are {there}: choose one with --hook"
                    ),
                ));
            }
        };
        acts.export_saelens(hook, self.out())?;
        self.told(
            acts,
            &[hook],
            format!("{hook}: {} tokens in {}", acts.n_rows(), self.out().display()),
        )
    }

    /// Refuses a library that has no such activations, and what is only for SAEs.
    fn wants(&self, to: Format) -> Result<()> {
        if self.table.is_some() || self.relu || self.k.is_some() {
            let why = format!(
                "--table, --relu and --k are for SAEs, and {} holds activations: leave them out",
                self.from().display()
            );
            return Err(Error::config("from", why));
        }
        if self.to() == to {
            return Ok(());
        }
        let what =
            if to == Format::Tsae { "a cache of SAELens" } else { "activations of this program" };
        let why = format!(
            "{} holds {what}, which can only become {}'s: use --to {}",
            self.from().display(),
            SaeFormat::from(to),
            word(to)
        );
        Err(Error::config("to", why))
    }

    fn told(&self, acts: &ActivationStore, hooks: &[HookPoint], text: String) -> Result<()> {
        let dir = self.out();
        let made = json!({ "dir": dir, "format": SaeFormat::from(self.to()), "hooks": hooks, "n_ctx": acts.n_ctx(), "d_model": acts.d_model(), "tokens": acts.n_rows() });
        self.output.result(&made, || text)
    }
}

/// A library, by its name on the command line.
fn word(format: Format) -> String {
    clap::ValueEnum::to_possible_value(&format)
        .map_or_else(String::new, |word| word.get_name().to_owned())
}

typed! {
    /// [`SaeFormat`], to be typed.
    Format: SaeFormat {
        /// This program: cfg.json and sae_weights.safetensors, the table with them
        Tsae,
        /// SAELens 6: the same files without the table
        #[value(name = "saelens")]
        SaeLens,
        /// EleutherAI's sparsify: cfg.json and sae.safetensors; TopK only
        Sparsify,
        /// dictionary_learning: ae.pt and config.json
        DictionaryLearning,
        /// Llamascopium: config.json and sae_weights.safetensors; ReLU, TopK, JumpReLU, and
        /// BatchTopK as JumpReLU
        Llamascopium,
    }
}

typed! {
    /// [`TableExport`], to be typed.
    Table: TableExport {
        /// Keep it in a file of its own, lookup.safetensors; the library does not add it
        Keep,
        /// Fold its mean row into the biases, so that codes stay the same
        Fold,
        /// Leave it out
        Drop,
    }
}
