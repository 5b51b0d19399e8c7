//! What it costs an SAE that its activations are read in blocks, or stored in fewer bits: held-out
//! NMSE and CE added, by the order of the rows and by how their numbers are stored.
//! `cargo run --release --example store_costs [tokens] [seeds] [model] [text]`

use tokenized_sae::activations::{Batch, Dtype, RowOrder};
use tokenized_sae::prelude::*;

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| given.get(at).and_then(|n| n.parse().ok());
    let (tokens, seeds) = (number(0).unwrap_or(400_000), number(1).unwrap_or(2));
    let model = Model::load(given.get(2).map_or("tiny-gpt2", String::as_str))?;
    let hook = HookPoint::resid_pre(model.config().n_layers / 2);
    let corpus = match given.get(3) {
        Some(text) => Corpus::text_files(&model, text)?.max_tokens(tokens as usize).split(0.1)?,
        None => Corpus::sampled_in(&model, 400_000, 0, "cache")?,
    };
    let name = model.name().replace('/', "-");
    let stored = |dtype| {
        let dir = format!("cache/store-costs/{name}-{dtype}");
        let config = HarvestConfig { dtype, ..Default::default() };
        ActivationStore::harvest(&model, &[hook], &corpus.train, dir, config)
    };
    let exact = stored(Dtype::F32)?;
    let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
    let table = sae.clone().with_lookup(Lookup::unigram(&model, hook)?);

    let blocks = |rows, mixed| RowOrder::Blocks { rows, mixed };
    let ways = [
        (Dtype::F32, RowOrder::Rows),
        (Dtype::F16, RowOrder::Rows),
        (Dtype::Int8, RowOrder::Rows),
        (Dtype::F16, blocks(256, 64)),
        (Dtype::F16, blocks(1024, 16)),
        (Dtype::F16, blocks(4096, 16)),
        (Dtype::F16, blocks(4096, 4)),
        (Dtype::F16, blocks(4096, 1)),
        (Dtype::F16, blocks(16_384, 4)),
        (Dtype::F16, blocks(256, 1)),
    ];
    println!("{tokens} of {} tokens, NMSE and CE added of held-out text:", exact.n_rows());
    for (dtype, order) in ways {
        let acts = stored(dtype)?;
        if order == RowOrder::Rows {
            let bytes = acts.bytes() as f64 / acts.n_rows() as f64;
            println!("{dtype}: {bytes:.0} bytes a token, NMSE {:.1e}", nmse(&exact, &acts, hook)?);
        }
        for seed in 0..seeds {
            let train = TrainConfig { tokens, lr: 3e-3, seed, order, ..Default::default() };
            let runs = Trainer::new(&acts, hook, train)?
                .held_out(&model, &corpus.valid)?
                .add("SAE", sae.clone())?
                .add("TSAE", table.clone())?
                .fit(format!("runs/store-costs/{name}, {dtype}, {order}, {tokens}, seed {seed}"))?;
            for row in evaluate(&model, hook, &runs, &corpus.valid)?.rows {
                let (arm, of) = (row.name, row.without_bos);
                let way = format!("{dtype}, {order}");
                println!("{way:<34} seed {seed}  {arm:<5} {:.5}  {:.4}", of.nmse, of.ce_added);
            }
        }
    }
    Ok(())
}

/// How far stored rows are from exact ones: Σ‖x − y‖² over Σ‖x − x̄‖², first positions left out.
fn nmse(exact: &ActivationStore, stored: &ActivationStore, hook: HookPoint) -> Result<f64> {
    let rows = exact.shuffled(0, 0..exact.n_rows().min(20_000) as u64);
    let (mut x, mut y) = (Batch::default(), Batch::default());
    exact.gather(hook, &rows, &mut x)?;
    stored.gather(hook, &rows, &mut y)?;
    let d = exact.d_model();
    let later: Vec<usize> = (0..x.len()).filter(|&row| x.positions[row] > 0).collect();
    let sum = |of: &dyn Fn(usize) -> f64| later.iter().map(|&row| of(row)).sum::<f64>();
    let (mut off, mut all) = (0.0, 0.0);
    for at in 0..d {
        let mean = sum(&|row| f64::from(x.x[row * d + at])) / later.len() as f64;
        all += sum(&|row| (f64::from(x.x[row * d + at]) - mean).powi(2));
        off += sum(&|row| (f64::from(x.x[row * d + at]) - f64::from(y.x[row * d + at])).powi(2));
    }
    Ok(off / all)
}
