//! `tsae harvest`.

mod of;

use std::path::PathBuf;

use serde_json::json;
use tokenized_sae::activations::HarvestPlan;
use tokenized_sae::display::{Show, interrupt};
use tokenized_sae::experiments::recipe::Harvested;
use tokenized_sae::format;
use tsae::{Error, Result};

use super::common::{DeviceArgs, TextArgs};
use super::jobs::{self, Jobs, JobsArgs};
use super::only::{self, Only};
use super::output::Output;
use of::Of;

const EXAMPLES: &str = "\
Examples:
  tsae harvest tiny-gpt2 --hook blocks.2.hook_resid_pre --sampled 400000 --out cache/tiny-gpt2
  tsae harvest gpt2 --hook blocks.5.hook_resid_pre --hook blocks.8.hook_resid_pre --text 'books/*.txt' --tokens 100000000 --out cache/gpt2
  tsae harvest gpt2 --text hub:NeelNanda/pile-10k --tokens 10000000 --stream --out cache/pile
  tsae harvest pythia-160m --text books --context 128 --compute bf16 --out cache/pythia
  tsae train cache/tiny-gpt2 --lookup none,unigram --k 16 --out runs/mine    # continues from there

By many processes, on one machine or on a cluster:
  tsae harvest gpt2 --text books --out cache/gpt2 --plan                  # the text, once
  tsae harvest --out cache/gpt2 --only 2/8                                # the second of eight shares
  tsae harvest --out cache/gpt2 --collect                                 # one store of them
  tsae harvest gpt2 --text books --out cache/gpt2 --jobs slurm --shares 8 # all that, as a script";

/// Run a model over text, and keep its activations, each beside its token.
///
/// The folder remembers how it was made, and the text that was held out, so that `tsae train` and
/// `tsae eval` need no more than its name.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Harvest {
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    of: Of,
    /// The folder of the activations.
    #[arg(long)]
    out: PathBuf,
    /// Only read the text and lay the harvest out, for processes that then do shares of it.
    #[arg(long, conflicts_with_all = ["only", "collect", "jobs"])]
    plan: bool,
    /// Only make the Ith of N shares of what --plan has laid out; auto/N: that of the task of a job
    /// array, numbered as Slurm's, HyperQueue's (1 to N) or Kubernetes' (0 to N-1) variables say;
    /// auto: of a Slurm array, which says N. The plan says what is harvested.
    #[arg(long, value_name = "I/N", value_parser = only::parse, conflicts_with_all = ["text", "sampled", "context", "collect", "jobs"])]
    only: Option<Only>,
    /// Only make one store of the shares; ends with status 75 and the names of shards if some are
    /// missing.
    #[arg(long, conflicts_with_all = ["text", "sampled", "context", "jobs"])]
    collect: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    jobs: JobsArgs,
    #[command(flatten)]
    output: Output,
}

impl Harvest {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        if let Some(engine) = self.jobs.jobs {
            let (text, value) = self.jobs()?.written(engine)?;
            return self.output.result(&value, || text);
        }
        self.device.begin();
        interrupt::watch();
        if let Some(only) = self.only {
            let share = only.share()?;
            Harvested::share(&self.out, share)?;
            let made = json!({ "dir": self.out, "share": share.number(), "of": share.of() });
            return self
                .output
                .result(&made, || format!("Share {share} of {} is complete.", self.out.display()));
        }
        if self.collect {
            return self.told(&Harvested::collect(&self.out)?);
        }
        let recipe = self.of.recipe(&self.text)?;
        recipe.check()?;
        let model = recipe.load_model()?;
        if self.plan {
            let HarvestPlan { shards, tokens, bytes, .. } = recipe.plan(&model, &self.out)?;
            let made =
                json!({ "dir": self.out, "shards": shards, "tokens": tokens, "bytes": bytes });
            return self.output.result(&made, || {
                let (rows, size) = (format::count(tokens as u64), format::bytes(bytes));
                format!("{}: {shards} shards of {rows} rows, {size}.", self.out.display())
            });
        }
        self.told(&recipe.harvest(&model, &self.out)?)
    }

    /// Says what there is now.
    fn told(&self, harvested: &Harvested) -> Result<()> {
        let acts = &harvested.acts;
        let made = json!({
            "dir": acts.dir(), "model": acts.model_name(), "revision": acts.model_revision(), "processing": acts.processing(), "hooks": acts.hooks(),
            "dtype": acts.dtype(), "compute": acts.compute(), "n_ctx": acts.n_ctx(), "d_model": acts.d_model(), "tokens": acts.n_rows(),
            "held_out_tokens": harvested.held_out.as_ref().map_or(0, |tokens| tokens.len()), "bytes": acts.bytes(), "fingerprint": acts.fingerprint(),
        });
        self.output.result(&made, || harvested.shown().text)
    }

    /// The jobs of the harvest.
    fn jobs(&self) -> Result<Jobs> {
        let Some(n) = self.jobs.shares else {
            return Err(Error::config("shares", "is not given: say how many, such as --shares 8"));
        };
        self.of.recipe(&self.text)?.check()?;
        let out = jobs::from_root(&self.out)?;
        let words = |further: &[&str]| {
            let words = ["harvest", "--out", &out].into_iter().chain(further.iter().copied());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut prepare = words(&["--plan"]);
        prepare.splice(1..1, self.of.words(&self.text)?);
        Ok(Jobs { prepare, share: words(&[]), collect: words(&["--collect"]), n })
    }
}
