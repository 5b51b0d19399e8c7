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
    let [dir, verb, what, rest @ ..] = &args[..] else {
        eprintln!("synthetic_rows DIR rows SAMPLES [SEED] | synthetic_rows DIR score SAE [ROWS]");
        std::process::exit(2);
    };
    let model =
        SyntheticModel::new_in(SyntheticConfig::synth_sae_bench_16k(), format!("{dir}/model"))?;
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no number"));
    let last = rest.first().map(|text| number(text));
    match *verb {
        "rows" => match write_rows(&model, number(what), last.unwrap_or(0)) {
            // The other has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.expect("writing the rows"),
        },
        "score" => {
            let scores = model.score(&Sae::load(what)?, last.unwrap_or(500_000))?;
            println!("{}", serde_json::to_string(&scores).expect("scores are plain numbers"));
        }
        other => panic!("{other}: say rows or score"),
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
