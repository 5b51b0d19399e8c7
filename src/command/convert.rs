//! `tsae convert`.

use std::path::PathBuf;

use tokenized_sae::prelude::*;

use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae convert results/TSAE --to saelens --table fold --relu --out for-saelens
  tsae convert resid_post_layer_3/trainer_0 --to tsae --out mine
  tsae convert 65536.pt --k 30 --hook blocks.8.hook_resid_pre --to tsae --out mine";

/// Read an SAE of this or another library, and write it for one of them.
///
/// Whose an SAE is, is seen from its files: SAELens 5 and 6, sparsify, dictionary_learning, Llamascopium, openai/sparse_autoencoder, the authors of tokenized
/// SAEs, or this program. Nothing in a .pt file is run.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Convert {
    /// A folder with an SAE, or its file of weights.
    sae: PathBuf,
    /// The library that is to read it.
    #[arg(long, value_enum)]
    to: SaeFormat,
    /// What becomes of a token table: keep it (in a file of its own, if the library knows none), fold its mean row into the biases, or drop it. By default
    /// it is kept for tsae, and folded for others.
    #[arg(long, value_enum)]
    table: Option<TableExport>,
    /// Make negative values among the k largest 0, as all other libraries do: needed for a TopK SAE that was trained to keep them.
    #[arg(long)]
    relu: bool,
    /// How many latents are active, for a file that does not say so.
    #[arg(long)]
    k: Option<usize>,
    /// The hook that it reads, for a file that does not say so, such as blocks.8.hook_resid_pre.
    #[arg(long)]
    hook: Option<HookPoint>,
    /// The folder to write: a new one, or one without an SAE.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Convert {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        let mut sae = match self.k {
            Some(k) => Sae::load_with_k(&self.sae, k)?,
            None => Sae::load(&self.sae)?,
        };
        sae.config.relu |= self.relu;
        sae.origin.hook = self.hook.or(sae.origin.hook);
        let table = self.table.unwrap_or(if self.to == SaeFormat::Tsae { TableExport::Keep } else { TableExport::Fold });
        let exported = sae.export(&self.out, self.to, table)?;
        self.output.result(&exported, || exported.to_string())
    }
}
