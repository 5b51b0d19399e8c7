//! SynthSAEBench for another trainer: the rows that `tsae synth --preset full` trains on, and the
//! scores of what was trained on them elsewhere (`scripts/beside-saelens.sh` does both).
//!
//! `synthetic_rows DIR rows SAMPLES [SEED]` writes rows to standard output, 768 little-endian f32
//! each; `synthetic_rows DIR score SAE [ROWS]` prints the scores of an SAE in any format that
//! `Sae::load` reads. `DIR` is where `tsae synth` wrote to, or where the model is to go.

use std::io::{self, Write};

use tokenized_sae::prelude::*;
use tokenized_sae::synthetic::{SyntheticBatch, SyntheticConfig, SyntheticModel};

/// Rows that are made at a time.
const BATCH: u64 = 4_096;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    // What to make, by its folder: rows of a stream, or the scores of an SAE.
    let (dir, rows, sae) = match args[..] {
        [dir, "rows", samples] => (dir, number(samples).map(|n| (n, 0)), None),
        [dir, "rows", samples, seed] => (dir, number(samples).zip(number(seed)), None),
        [dir, "score", sae] => (dir, None, Some((sae, 500_000))),
        [dir, "score", sae, rows] => (dir, None, number(rows).map(|n| (sae, n))),
        _ => ("", None, None),
    };
    if rows.is_none() && sae.is_none() {
        eprintln!("synthetic_rows DIR rows SAMPLES [SEED] | synthetic_rows DIR score SAE [ROWS]");
        std::process::exit(2);
    }
    let model =
        SyntheticModel::new_in(SyntheticConfig::synth_sae_bench_16k(), format!("{dir}/model"))?;
    if let Some((samples, seed)) = rows {
        match write_rows(&model, samples, seed) {
            // The other has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.expect("writing the rows"),
        }
    }
    if let Some((sae, rows)) = sae {
        let scores = model.score(&Sae::load(sae)?, rows)?;
        println!("{}", serde_json::to_string(&scores).expect("scores are plain numbers"));
    }
    Ok(())
}

fn write_rows(model: &SyntheticModel, samples: u64, seed: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut batch = SyntheticBatch::default();
    for first in (0..samples).step_by(BATCH as usize) {
        model.fill(seed, first..samples.min(first + BATCH), &mut batch);
        let bytes: Vec<u8> = batch.x.iter().flat_map(|x| x.to_le_bytes()).collect();
        out.write_all(&bytes)?;
    }
    Ok(())
}
