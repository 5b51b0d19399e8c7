//! What reading a store in blocks costs an SAE: held-out NMSE and CE added, by the order of the rows.
//! `cargo run --release --example row_orders [tokens] [seeds]`

use tokenized_sae::activations::RowOrder;
use tokenized_sae::prelude::*;

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1).map(|n| n.parse().ok());
    let tokens = given.next().flatten().unwrap_or(400_000);
    let seeds = given.next().flatten().unwrap_or(2);
    let model = Model::load("tiny-gpt2")?;
    let hook = HookPoint::resid_pre(2);
    let corpus = Corpus::sampled_in(&model, 400_000, 0, "cache")?;
    let config = HarvestConfig::default();
    let acts =
        ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/row-orders", config)?;
    let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
    let table = sae.clone().with_lookup(Lookup::unigram(&model, hook)?);

    let blocks = |rows, mixed| RowOrder::Blocks { rows, mixed };
    let orders = [
        RowOrder::Rows,
        blocks(256, 64),
        blocks(1024, 16),
        blocks(4096, 16),
        blocks(4096, 4),
        blocks(4096, 1),
        blocks(16_384, 4),
        blocks(256, 1),
    ];
    println!("{tokens} of {} tokens, NMSE and CE added of held-out text:", acts.n_rows());
    for order in orders {
        for seed in 0..seeds {
            let train = TrainConfig { tokens, lr: 3e-3, seed, order, ..Default::default() };
            let runs = Trainer::new(&acts, hook, train)?
                .held_out(&model, &corpus.valid)?
                .add("SAE", sae.clone())?
                .add("TSAE", table.clone())?
                .fit(format!("runs/row-orders/{order}, {tokens}, seed {seed}"))?;
            for row in evaluate(&model, hook, &runs, &corpus.valid)?.rows {
                let (name, of) = (row.name, row.without_bos);
                let order = order.to_string();
                println!("{order:<28} seed {seed}  {name:<5} {:.4}  {:.4}", of.nmse, of.ce_added);
            }
        }
    }
    Ok(())
}
