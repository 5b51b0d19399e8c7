//! Texts that the model continues with, as it is or with something added to its residual stream.

use candle_core::{Device, Tensor};

use crate::base::error::{Error, Result};
use crate::cpu::simd::add_scaled;
use crate::display::interrupt;
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::transformer::Cache;
use crate::model::{HookPoint, Model};

/// Something that is added to a hook at every position but the first.
pub(crate) struct Added<'a> {
    pub hook: HookPoint,
    /// `[d_model]`
    pub direction: &'a [f32],
    /// How much of it a row gets.
    pub amount: &'a (dyn Fn(&[f32]) -> f32 + Sync),
}

impl Model {
    /// `n` texts of `length` tokens that the model writes after `ids`, each token drawn from its
    /// predictions: `[n, length]`, without `ids`. Put [`Model::bos`] first to go on as the model
    /// was trained to. Text `i` depends on the seed and on `i` alone.
    ///
    /// The stop button ends the texts where they stand. They are written on the processor, even where
    /// [`sample`](Model::sample) has a card: they are few, and go on from a beginning that is read at
    /// once.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let mut ids = vec![model.bos()];
    /// ids.extend(model.encode("It was the best of")?);
    /// let texts = model.generate(&ids, 2, 8, 0)?;
    /// println!("{}", model.decode(texts.row(0))?);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if there is nothing to continue, or more than the model can read;
    /// [`Error::TokenId`] for a token outside its vocabulary; [`Error::Interrupted`] if it is
    /// stopped before the first token.
    pub fn generate(&self, ids: &[u32], n: usize, length: usize, seed: u64) -> Result<Tokens> {
        self.generate_with(ids, n, length, seed, None)
    }

    /// As [`generate`](Model::generate), with something added.
    pub(crate) fn generate_with(
        &self,
        ids: &[u32],
        n: usize,
        length: usize,
        seed: u64,
        added: Option<&Added<'_>>,
    ) -> Result<Tokens> {
        if ids.is_empty() || n == 0 || length == 0 {
            let why = format!(
                "{n} texts of {length} tokens after {}: at least one of each is needed",
                ids.len()
            );
            return Err(Error::config("length", why));
        }
        self.check_tokens(&Tokens::new(ids.to_vec(), ids.len())?)?;
        self.check_length(ids.len() + length)?;
        interrupt::watch();
        let stop = || interrupt::requested().then(interrupt::clear).is_some();
        let texts = self.write(ids, 0..n, length, seed, added, &stop)?;
        let length = texts[0].len();
        if length == 0 {
            let remedy = "nothing was written; the same call writes it".to_owned();
            return Err(Error::Interrupted { what: "continuing a text", remedy });
        }
        Tokens::new(texts.concat(), length)
    }

    /// Reads `ids` `[n_seq, n_new]` behind those in the cache, to the last hook.
    pub(super) fn read_on(
        &self,
        ids: &[u32],
        n_seq: usize,
        cache: &mut Cache,
        added: Option<&Added<'_>>,
    ) -> Result<Tensor> {
        let transformer = &self.inner.transformer;
        let from = cache.len();
        let mut stage = transformer.start(ids, n_seq, from)?;
        if let Some(Added { hook, direction, amount }) = added {
            stage = transformer.walk_cached_to(stage, *hook, cache, self.compute)?;
            let (n_new, d) = (ids.len() / n_seq, direction.len());
            let mut rows = with_f32(&stage.value, <[f32]>::to_vec)?; // [n_seq, n_new, d_model]
            for (_, row) in
                rows.chunks_exact_mut(d).enumerate().filter(|(i, _)| from + i % n_new > 0)
            {
                add_scaled(row, amount(row), direction);
            }
            stage.value = Tensor::from_vec(rows, (n_seq, n_new, d), &Device::Cpu)?;
        }
        Ok(transformer.walk_cached(stage, cache, self.compute)?.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_as_the_sampler_goes_on_from_bos() {
        let model = Model::load("tiny-gpt2").unwrap();
        let sampled = model.sample(3, 12, 5).unwrap();
        let texts = model.generate(&[model.bos()], 3, 11, 5).unwrap();
        (0..3).for_each(|i| assert_eq!(texts.row(i), &sampled.row(i)[1..]));
        assert_eq!(model.generate(&[model.bos()], 1, 11, 5).unwrap().row(0), texts.row(0));
    }

    #[test]
    fn a_strong_push_towards_a_token_makes_the_model_write_it() {
        for name in ["tiny-gpt2", "tiny-pythia"] {
            let model = Model::load(name).unwrap();
            let (d, d_vocab) = (model.config().d_model, model.config().d_vocab);
            let unit = Tensor::eye(d, candle_core::DType::F32, &Device::Cpu).unwrap();
            let unembedding = model.logit_effects(&unit).unwrap().to_vec2::<f32>().unwrap(); // [d_model, d_vocab]
            let column = |t: usize| unembedding.iter().map(|row| row[t]).collect::<Vec<f32>>();
            // Of a hundred tokens, the one whose own column's direction raises it furthest above
            // all others.
            let lead = |t: usize| {
                let column = column(t);
                let length = column.iter().map(|x| x * x).sum::<f32>().sqrt();
                let direction = Tensor::from_vec(column, (1, d), &Device::Cpu).unwrap();
                let effects = model
                    .logit_effects(&direction)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap();
                let other =
                    (0..d_vocab).filter(|u| *u != t).map(|u| effects[u]).fold(f32::MIN, f32::max);
                (effects[t] - other) / length
            };
            let wanted = (300..400).max_by(|&a, &b| lead(a).total_cmp(&lead(b))).unwrap();
            let direction: Vec<f32> = column(wanted).iter().map(|x| 1e3 * x).collect();
            let hook = HookPoint {
                layer: model.config().n_layers - 1,
                site: crate::model::Site::ResidPost,
            };
            let texts = model
                .generate_with(
                    &[model.bos(), 20],
                    2,
                    6,
                    0,
                    Some(&Added { hook, direction: &direction, amount: &|_| 1.0 }),
                )
                .unwrap();
            assert_eq!(texts.ids(), [wanted as u32; 12], "{name}");
            // Nothing is added at the first position, so from there the model continues as it is.
            let first = model
                .generate_with(
                    &[model.bos()],
                    2,
                    1,
                    0,
                    Some(&Added { hook, direction: &direction, amount: &|_| 1.0 }),
                )
                .unwrap();
            assert_eq!(first.ids(), model.generate(&[model.bos()], 2, 1, 0).unwrap().ids());
        }
    }

    #[test]
    fn adding_nothing_changes_nothing_at_any_hook() {
        for name in ["tests/golden/neox", "tests/golden/llama"] {
            let model = Model::load(name).unwrap();
            let plain = model.generate(&[1, 2, 3], 2, 8, 1).unwrap();
            let direction = vec![0.0; model.config().d_model];
            for hook in model.hooks() {
                let added = Added { hook, direction: &direction, amount: &|_| 1.0 };
                assert_eq!(
                    model.generate_with(&[1, 2, 3], 2, 8, 1, Some(&added)).unwrap().ids(),
                    plain.ids(),
                    "{name} {hook}"
                );
            }
        }
        let model = Model::load("tests/golden/neox").unwrap();
        assert!(matches!(model.generate(&[], 2, 8, 1), Err(Error::Config { .. })));
        assert!(matches!(model.generate(&[1; 10], 2, 100_000, 1), Err(Error::Config { .. })));
    }
}
