//! `tsae synth`.

use std::path::PathBuf;

use tokenized_sae::display::interrupt;
use tokenized_sae::experiments::synth::{Arm, SynthArch, SynthConfig};
use tokenized_sae::synthetic::SyntheticModel;
use tsae::Result;

use super::common::{DeviceArgs, typed};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae synth --out results/small    # five architectures on a small model, in two minutes
  tsae synth --preset tokens --out results/tokens    # what a token table takes away
  tsae synth --preset full --arch batch-topk,matryoshka --samples 20000000 --out results/bench
  tsae synth --preset full --forecast --out results/bench    # how long the published 200 M rows take";

/// Train SAEs on rows whose true features are known (SynthSAEBench), and score what they find.
///
/// All train on one stream of rows that are made as they are needed. The same command continues
/// where it was stopped. Scores are SAELens': F1, MCC, uniqueness, explained variance, shrinkage.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Synth {
    /// What to find features in, and the size of everything.
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    preset: Preset,
    /// The architectures, one SAE for each; by default all, and batch-topk with the preset tokens.
    #[arg(long, value_enum, value_delimiter = ',')]
    arch: Vec<Arch>,
    /// What each architecture has beside the plain SAE, one more SAE for each; by default all with
    /// the preset tokens, which has tokens for them.
    #[arg(long, value_enum, value_delimiter = ',')]
    table: Vec<Table>,
    /// Rows that each SAE is trained on; by default the preset's.
    #[arg(long)]
    samples: Option<u64>,
    /// How many latents there are; by default the preset's.
    #[arg(long)]
    latents: Option<usize>,
    /// How many latents are to be active on a row; by default as many as features can be.
    #[arg(long)]
    l0: Option<f64>,
    /// The learning rate at the start; by default the preset's.
    #[arg(long)]
    lr: Option<f64>,
    /// The learning rate at the end, which it nears along a cosine; by default it stays, as in the
    /// benchmark.
    #[arg(long)]
    lr_end: Option<f64>,
    /// Rows that are scored; by default the preset's.
    #[arg(long)]
    scored: Option<u64>,
    /// Seeds the SAEs and their stream; the model stays the same.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Say how long it will take, and do nothing but make the model.
    #[arg(long)]
    forecast: bool,
    /// Seconds between two checkpoints, at least; by default the preset's.
    #[arg(long)]
    checkpoint_seconds: Option<f64>,
    /// Where everything goes.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Preset {
    /// 1,024 features, 256 latents, a million rows: two minutes on two cores.
    Small,
    /// SynthSAEBench-16k as published: 16,384 features, 4,096 latents, 200 million rows.
    Full,
    /// The small model with 512 tokens, some features of which fire by token.
    Tokens,
}

typed! {
    /// The architecture of an SAE.
    Arch: SynthArch {
        /// The k largest of a batch.
        #[value(name = "batch-topk")]
        BatchTopK,
        /// The same with prefixes that reconstruct by themselves.
        Matryoshka,
        /// A threshold for each latent.
        #[value(name = "jumprelu")]
        JumpRelu,
        /// ReLU with a penalty.
        L1,
        /// The k largest of every row.
        #[value(name = "topk")]
        TopK,
    }
}

typed! {
    /// What an SAE has beside the plain one.
    Table: Arm {
        /// More latents, as many as make up for the numbers of a table.
        Wide,
        /// A table of tokens.
        Added,
        /// A table of tokens that is subtracted before the encoder, too.
        Subtracted,
        /// A table of tokens and pairs of tokens.
        Pairs,
        /// A table of tokens and pairs that is subtracted before the encoder, too.
        PairsSubtracted,
    }
}

impl Synth {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        self.device.begin();
        interrupt::watch();
        let config = self.config();
        config.check()?;
        if self.forecast {
            let model = SyntheticModel::new_in(config.model.clone(), self.out.join("model"))?;
            let forecast = config.trainer(&model)?.forecast()?;
            let told =
                serde_json::json!({ "seconds": forecast.seconds, "memory": forecast.memory });
            return self.output.result(&told, || format!("Training: {forecast}."));
        }
        // None if it was interrupted, which the exit status says.
        if let Some(report) = config.run(&self.out)? {
            self.output.result(&report, || report.text())?;
            self.output.remark(&format!("Written to {}.", self.out.display()));
        }
        Ok(())
    }

    fn config(&self) -> SynthConfig {
        let preset = match self.preset {
            Preset::Small => SynthConfig::small(),
            Preset::Full => SynthConfig::full(),
            Preset::Tokens => SynthConfig::tokens(),
        };
        let archs: Vec<SynthArch> = self.arch.iter().map(|&arch| arch.into()).collect();
        let arms: Vec<Arm> = self.table.iter().map(|&table| table.into()).collect();
        SynthConfig {
            archs: if archs.is_empty() { preset.archs } else { archs },
            arms: if arms.is_empty() { preset.arms } else { arms },
            samples: self.samples.unwrap_or(preset.samples),
            latents: self.latents.unwrap_or(preset.latents),
            l0: self.l0,
            lr: self.lr.unwrap_or(preset.lr),
            lr_end: self.lr_end,
            scored: self.scored.unwrap_or(preset.scored),
            seed: self.seed,
            checkpoint_seconds: self.checkpoint_seconds.unwrap_or(preset.checkpoint_seconds),
            model: preset.model,
        }
    }
}
