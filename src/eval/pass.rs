//! The way through a text on which SAEs are measured, some sequences at a time.

use super::counted::{Counted, longest};
use super::language::{Predictions, spliced};
use super::so_far::{Activation, SoFar};
use super::{computes, interrupted, sequences_at_once, stopped, values};
use crate::base::error::{Error, Result};
use crate::display::Progress;
use crate::model::gpu::Computes;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::Sae;

/// What is measured on what.
pub(super) struct Pass<'a> {
    model: &'a Model,
    hook: HookPoint,
    saes: &'a [(&'a str, &'a Sae)],
    pub tokens: &'a Tokens,
    /// How many sequences at a time.
    chunk: usize,
    computes: Computes,
    /// How long an activation may be that is no outlier.
    longest: f32,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        model: &'a Model,
        hook: HookPoint,
        saes: &'a [(&'a str, &'a Sae)],
        tokens: &'a Tokens,
    ) -> Result<Pass<'a>> {
        let chunk = sequences_at_once(model, tokens.n_ctx());
        let computes = computes(model, hook, tokens, chunk)?;
        let longest = longest(&computes, model, hook, &tokens.rows(0, chunk))?;
        Ok(Pass { model, hook, saes, tokens, chunk, computes, longest })
    }

    /// Before the first sequence: the mean activation over the text, of the positions that count
    /// without BOS, and of all.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and what the model reports.
    pub(super) fn begin(&self, progress: &mut Progress) -> Result<SoFar> {
        progress.note("mean activations");
        let d = self.model.config().d_model;
        let (mut left_out, mut counted) = (vec![0.0f64; d], vec![0.0f64; d]);
        let mut n = 0;
        for from in (0..self.tokens.n_seq()).step_by(self.chunk) {
            if stopped() {
                return Err(interrupted());
            }
            progress.set(0);
            let rows = self.tokens.rows(from, from + self.chunk);
            let x = self.computes.run_to(&rows, self.hook)?;
            let counts = Counted::most(&rows, &x, self.longest);
            for (row, counts) in x.chunks_exact(d).zip(counts.of_all()) {
                let sum = if *counts { &mut counted } else { &mut left_out };
                sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
                n += usize::from(*counts);
            }
        }
        progress.note("");
        let all = self.tokens.len() as f64;
        let without = counted.iter().map(|sum| sum / n as f64).collect();
        let with = left_out.iter().zip(&counted).map(|(a, b)| (a + b) / all).collect();
        Ok(SoFar::new([Activation(without), Activation(with)], self.saes))
    }

    /// Measures the sequences that come next; `means` are those of the beginning.
    pub(super) fn advance(&self, so_far: &mut SoFar, means: &[Vec<f32>; 2]) -> Result<()> {
        let rows = self.tokens.rows(so_far.seen, so_far.seen + self.chunk);
        let paused = self.computes.pause_at(&rows, self.hook)?;
        let x = values(&paused.value)?;
        let resume = |value: Vec<f32>| {
            Ok::<_, Error>(Predictions::new(self.computes.resume(&paused, value)?, &rows))
        };
        let clean = resume(x.clone())?;
        let losses = clean.cross_entropies(&rows);
        let counted = [Counted::most(&rows, &x, self.longest), Counted::all(&rows)];
        let splice =
            |replacement: Vec<f32>, counted: &Counted| resume(spliced(&x, replacement, counted));
        for ((counted, ablations), mean) in counted.iter().zip(&mut so_far.ablations).zip(means) {
            let zero = splice(vec![0.0; x.len()], counted)?;
            let at_mean = splice(mean.repeat(rows.len()), counted)?;
            ablations.clean.add(&losses, &rows, counted);
            ablations.zero.add(&zero.cross_entropies(&rows), &rows, counted);
            ablations.mean.add(&at_mean.cross_entropies(&rows), &rows, counted);
        }
        for ((_, sae), sums) in self.saes.iter().zip(&mut so_far.sums) {
            let keys = sae.keys(self.model, &rows)?;
            let codes = sae.encode_on(&x, &keys)?;
            let x_hat = sae.decode(&codes, &keys)?;
            for (counted, sums) in counted.iter().zip(sums) {
                sums.add([&x, &x_hat], &codes, counted, rows.n_ctx());
                sums.add_patched(&clean, &splice(x_hat.clone(), counted)?, &rows, counted);
            }
        }
        so_far.seen += rows.n_seq();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Kept, evaluate, evaluate_kept};
    use crate::sae::SaeConfig;

    #[test]
    fn what_was_kept_on_the_way_leads_to_the_same_figures() {
        let model = Model::load("tiny-gpt2").unwrap();
        let hook = HookPoint::resid_pre(2);
        let tokens = model.sample(70, 6, 3).unwrap();
        let sae = |k| Sae::new(SaeConfig { expansion: 2, k, ..SaeConfig::for_model(&model) });
        let (few, many) = (sae(4).unwrap(), sae(16).unwrap());
        let saes = [("few", &few), ("many", &many)];
        let whole = evaluate(&model, hook, &saes, &tokens).unwrap();

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluation.json");
        let kept =
            |weights: &str| Kept::new(path.clone(), &model, hook, &tokens, &[weights.to_owned()]);
        let pass = Pass::new(&model, hook, &saes, &tokens).unwrap();
        let mut so_far = pass.begin(&mut Progress::new("evaluate", 0, "tokens")).unwrap();
        let means = so_far.means();
        pass.advance(&mut so_far, &means).unwrap();
        assert_eq!(so_far.seen, 32);
        kept("a").write(&so_far).unwrap();
        assert!(kept("b").read().is_none(), "other SAEs");
        let evaluated = || evaluate_kept(&model, hook, &saes, &tokens, Some(kept("a"))).unwrap();
        assert!(evaluated() == whole);

        // What is finished is only read: here, after its figures were changed.
        let mut all = kept("a").read().unwrap();
        assert_eq!(all.seen, 70);
        all.sums.swap(0, 1);
        kept("a").write(&all).unwrap();
        assert_eq!(evaluated()["few"].without_bos, whole["many"].without_bos);

        std::fs::write(&path, "[\"half a fi").unwrap();
        assert!(evaluated() == whole);
    }
}
