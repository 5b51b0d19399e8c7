//! A TSAE on text of one's own: tokens in, activations cached, a table made, a TSAE trained, saved
//! and applied. `cargo run --release --example own_activations 'docs/*.md'`

use tokenized_sae::prelude::*;

fn main() -> Result<()> {
    let files = std::env::args().nth(1).unwrap_or_else(|| "docs/*.md".to_owned());
    let model = Model::load("tiny-gpt2")?; // or "gpt2", "EleutherAI/pythia-70m", a folder
    let hook = HookPoint::resid_pre(2);
    let corpus = Corpus::text_files(&model, &files)?.context(64).split(0.1)?;
    let config = HarvestConfig::default();
    let acts = ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/own", config)?;

    let tsae = SaeConfig { k: 8, ..SaeConfig::for_model(&model) }
        .with_lookup(Lookup::unigram(&model, hook)?);
    let train = TrainConfig { tokens: 20_000, batch: 512, lr: 3e-3, ..Default::default() };
    let runs = Trainer::new(&acts, hook, train)?.add("TSAE", tsae)?.fit("runs/own")?;

    let sae = &runs["TSAE"].sae;
    let ids = model.encode("It was the best of times")?;
    let text = Tokens::new(ids.clone(), ids.len())?;
    let x = model.run_to(&text, hook)?.flatten_all()?.to_vec1::<f32>()?; // [n, d_model]
    let codes: Codes = sae.encode(&x)?;
    let x_hat = sae.decode(&codes, &ids)?; // [n, d_model], the token's row of the table included
    println!("{} rows, {:.1} latents a row, {} numbers back", codes.n(), codes.l0(), x_hat.len());
    sae.save("my-tsae")
}
