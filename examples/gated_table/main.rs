//! An idea of one's own, tried with the library: a table behind a gate, after Engram (arXiv
//! 2601.07372), which adds the row of an n-gram only as far as the activation asks for it.
//! `cargo run --release --example gated_table`, some six minutes on two cores.
//!
//! The table predicts `x̄ + α·(T[n-gram] − x̄)` of an activation x, with x̄ the mean activation and T
//! the mean on the last pair of tokens, or on the last token where the pair is rare; an ordinary SAE
//! learns what is left. α is 0 ("closed": a centred SAE), 1 ("open": a table subtracted in full) or
//! the projection ⟨x − x̄, T − x̄⟩ / ‖T − x̄‖² ("best"): no gate of one number leaves less. "Best" has
//! that number a token more than the others, so that its k is to be compared with their k + 1.
//!
//! The gate of the second table ([`joint`]) is Engram's, and learns together with rows and latents, from
//! half open on.
//!
//! Activations that are not a model's own come into a store by `harvest_with`, and an x̂ that is not an
//! SAE's alone goes into the model by `run_with`.

mod joint;

use joint::{Gate, Joint};
use tokenized_sae::activations::Source;
use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::model::Tensor;
use tokenized_sae::prelude::*;

const TOKENS: usize = 400_000;
const SEEDS: u64 = 2;

/// What tells of an activation before any latent does.
struct Gated {
    gate: &'static str,
    pairs: Ngrams,
    table: Lookup,
    mean: Vec<f32>,
}

fn main() -> Result<()> {
    let model = Model::load("tiny-gpt2")?;
    let hook = HookPoint::resid_pre(2);
    let corpus = Corpus::sampled_in(&model, TOKENS, 0, "cache")?;
    let config = HarvestConfig::default;
    let acts =
        ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/gate-none", config())?;
    let pairs = Ngrams::most_common(&corpus.train, acts.d_vocab(), 2, 4096)?;
    let table = Lookup::ngram_means(&acts, hook, pairs.clone())?;
    let mean = model.run_to(&corpus.train.rows(0, 64), hook)?.mean((0, 1))?.to_vec1()?;
    let mut gated = Gated { gate: "closed", pairs, table, mean };

    let columns = [Column::text("gate"), Column::text("latents a token"), Column::number("seed")];
    let figures = [Column::number("NMSE"), Column::number("CE added")];
    let mut found = Table::new("What a gate leaves", &[&columns[..], &figures].concat());
    for gate in ["closed", "open", "best"] {
        gated.gate = gate;
        let source = Source {
            fingerprint: format!("{}, gate {gate}", model.fingerprint()),
            ..Source::of(&model)
        };
        let left_of = |text: &Tokens, _: &[HookPoint]| {
            let x = model.run_to(text, hook)?.flatten_all()?.to_vec1()?;
            Ok(vec![less(&x, &gated.predict(&x, text))])
        };
        let dir = format!("cache/gate-{gate}");
        let left = ActivationStore::harvest_with(
            &source,
            &[hook],
            &corpus.train,
            dir,
            config(),
            &left_of,
        )?;
        let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
        for seed in 0..SEEDS {
            let train = TrainConfig { tokens: TOKENS as u64, lr: 3e-3, seed, ..Default::default() };
            let runs = Trainer::new(&left, hook, train)?
                .add("k", sae.clone())?
                .add("k + 1", SaeConfig { k: sae.k + 1, ..sae.clone() })?
                .fit(format!("runs/gate-{gate}-{seed}"))?;
            for run in ["k", "k + 1"] {
                let x_hat = |x: &[f32], text: &Tokens| gated.x_hat(&runs[run].sae, x, text);
                let [nmse, ce_added] = measure(&model, hook, &corpus.valid, x_hat)?;
                found.push(Row::new(gate).text(run).count(seed).number(nmse).number(ce_added));
            }
        }
    }
    println!("{}", found.text());

    println!("{}", together(&model, hook, &corpus, &gated)?.text());
    Ok(())
}

/// The table of SAEs whose rows and gate learned together with their latents.
fn together(model: &Model, hook: HookPoint, corpus: &Corpus, gated: &Gated) -> Result<Table> {
    let columns = [Column::text("gate"), Column::number("seed"), Column::number("mean α")];
    let figures = [Column::number("NMSE"), Column::number("CE added")];
    let columns = [&columns[..], &figures].concat();
    let mut found = Table::new("Rows, gate and latents learned together", &columns);
    let x: Vec<f32> = model.run_to(&corpus.train, hook)?.flatten_all()?.to_vec1()?;
    let rows = gated.pairs.rows_of(&corpus.train);
    let some = 16_384;
    for (name, gate) in [("open", Gate::Open), ("learned", Gate::Learned)] {
        for seed in 0..SEEDS {
            let sae = SaeConfig { k: 16, seed, ..SaeConfig::for_model(model) };
            let joint = Joint::new(gate, sae, gated.table.table(), &gated.mean)?;
            joint.fit(&x, &rows, 3e-3, seed)?;
            let (_, alpha) = joint.apply(&x[..some * gated.mean.len()], &rows[..some])?;
            let x_hat =
                |x: &[f32], text: &Tokens| Ok(joint.apply(x, &gated.pairs.rows_of(text))?.0);
            let [nmse, ce_added] = measure(model, hook, &corpus.valid, x_hat)?;
            let row = Row::new(name).count(seed).number(f64::from(alpha));
            found.push(row.number(nmse).number(ce_added));
        }
    }
    Ok(found)
}

impl Gated {
    /// What the table says of activations x `[n_seq · n_ctx · d_model]` of a text.
    fn predict(&self, x: &[f32], text: &Tokens) -> Vec<f32> {
        let d = self.mean.len();
        let row = |(x, row): (&[f32], u32)| {
            let t = &self.table.table()[row as usize * d..][..d];
            let (x, t) = (less(x, &self.mean), less(t, &self.mean));
            let alpha = match self.gate {
                "closed" => 0.0,
                "open" => 1.0,
                _ => dot(&x, &t) / dot(&t, &t).max(1e-9),
            };
            self.mean.iter().zip(t).map(|(mean, t)| mean + alpha * t).collect::<Vec<f32>>()
        };
        x.chunks_exact(d).zip(self.pairs.rows_of(text)).flat_map(row).collect()
    }

    /// What the table says of activations x of a text, and an SAE makes of the rest.
    fn x_hat(&self, sae: &Sae, x: &[f32], text: &Tokens) -> Result<Vec<f32>> {
        let told = self.predict(x, text);
        let mut x_hat = sae.decode(&sae.encode(&less(x, &told))?, text.ids())?;
        x_hat.iter_mut().zip(told).for_each(|(x_hat, told)| *x_hat += told);
        Ok(x_hat)
    }
}

/// NMSE and CE added, relative, where x̂ takes the place of the activation; position 0 keeps its own
/// and does not count.
fn measure(
    model: &Model,
    hook: HookPoint,
    text: &Tokens,
    x_hat: impl Fn(&[f32], &Tokens) -> Result<Vec<f32>>,
) -> Result<[f64; 2]> {
    let (d, n_ctx) = (model.config().d_model, text.n_ctx());
    let (mut nmse, mut clean, mut patched) = (0.0, 0.0, 0.0);
    for from in (0..text.n_seq()).step_by(8) {
        let text = text.rows(from, from + 8);
        let patch = |value: &Tensor| {
            let x: Vec<f32> = value.flatten_all()?.to_vec1()?;
            let mut x_hat = x_hat(&x, &text)?;
            let rows = x_hat.chunks_exact_mut(d).zip(x.chunks_exact(d));
            for (i, (x_hat, x)) in rows.enumerate() {
                if i % n_ctx == 0 {
                    x_hat.copy_from_slice(x);
                }
                let off = less(x_hat, x);
                nmse += f64::from(dot(&off, &off) / (dot(x, x) + 1e-4));
            }
            Ok(Tensor::from_vec(x_hat, value.shape(), value.device())?)
        };
        let loss = |logits: &Tensor| -> Result<f64> {
            let all = model.loss_per_token(logits, &text)?;
            let counted = all.iter().enumerate().filter(|(i, _)| i % (n_ctx - 1) > 0);
            Ok(counted.map(|(_, loss)| f64::from(*loss)).sum())
        };
        patched += loss(&model.run_with(&text, hook, patch)?)?;
        clean += loss(&model.logits(&text)?)?;
    }
    Ok([nmse / (text.n_seq() * (n_ctx - 1)) as f64, (patched - clean) / clean])
}

fn less(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
