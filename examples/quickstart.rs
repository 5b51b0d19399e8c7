//! The quickstart notebook without a notebook: an SAE and a TSAE side by side on a built-in model,
//! offline. `cargo run --release --example quickstart [tokens]`

use tokenized_sae::prelude::*;

fn main() -> Result<()> {
    let tokens = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let model = Model::load("tiny-gpt2")?;
    let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
    let corpus = Corpus::sampled_in(&model, 100_000, 0, "cache")?;
    let config = HarvestConfig::default();
    let acts =
        ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/quickstart", config)?;

    let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
    let runs = Trainer::new(&acts, hook, TrainConfig { lr: 3e-3, tokens, ..Default::default() })?
        .held_out(&model, &corpus.valid)?
        .add("SAE", sae.clone())?
        .add("TSAE", sae.with_lookup(Lookup::unigram(&model, hook)?))?
        .fit("runs/quickstart")?;

    println!("{}", evaluate(&model, hook, &runs, &corpus.valid)?.table().text());
    println!("{}", speedup(&runs)?.text());
    plot::reconstruction(&runs)?.save("reconstruction.svg")
}
