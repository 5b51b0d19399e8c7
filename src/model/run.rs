//! Running a model: to a hook, from a hook, through a hook with another value, and to the logits.

use std::sync::PoisonError;
use std::time::Instant;

use candle_core::{DType, Tensor};

use crate::base::error::{Error, Result};
use crate::model::block::Layout;
use crate::model::ops::Dense;
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::transformer::Stage;
use crate::model::{HookPoint, Model, Site};

/// How many numbers the widest activation of a pass has, at most: 24 MB. A larger batch is split,
/// so that its activations stay near the processor and in memory that is used again.
const ACTIVATIONS_A_PASS: usize = 6 * 1024 * 1024;

/// A pass that has stopped at a hook and can be taken up again, with the hook's value or another in
/// its place.
pub(crate) struct Paused {
    /// The hook's value, `[n_seq, n_ctx, d_model]`.
    pub value: Tensor,
    pub(super) hook: HookPoint,
    pub(super) base: Option<Tensor>,
}

impl Model {
    /// Runs as far as a hook and returns its value, `[n_seq, n_ctx, d_model]`. Nothing after the
    /// hook is computed.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, [`Error::TokenId`] for a token outside
    /// its vocabulary, [`Error::Config`] if the sequences are longer than it can read.
    pub fn run_to(&self, tokens: &Tokens, hook: HookPoint) -> Result<Tensor> {
        let mut values = self.run_to_many(tokens, &[hook])?;
        Ok(values.swap_remove(0))
    }

    /// The values of several hooks, in the order asked for, from one pass that stops at the last of
    /// them.
    ///
    /// # Errors
    /// Those of [`Model::run_to`].
    pub fn run_to_many(&self, tokens: &Tokens, hooks: &[HookPoint]) -> Result<Vec<Tensor>> {
        self.run_to_many_unless(tokens, hooks, &|| false)
    }

    /// As [`Model::run_to_many`], and asks `stop` every few milliseconds whether to give up with
    /// [`Error::Interrupted`].
    pub(crate) fn run_to_many_unless(
        &self,
        tokens: &Tokens,
        hooks: &[HookPoint],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Tensor>> {
        for &hook in hooks {
            self.check_hook(hook)?;
        }
        self.check_tokens(tokens)?;
        if hooks.is_empty() {
            return Ok(Vec::new());
        }
        let mut order: Vec<usize> = (0..hooks.len()).collect();
        order.sort_by_key(|&i| hooks[i]);
        let mut parts: Vec<Vec<Tensor>> = vec![Vec::new(); hooks.len()];
        for batch in self.batches(tokens) {
            let mut stage = self.start(&batch)?;
            for &i in &order {
                stage = self.inner.transformer.walk_unless(stage, hooks[i], self.compute, stop)?;
                parts[i].push(stage.value.clone());
            }
        }
        parts
            .into_iter()
            .map(|parts| match parts.len() {
                0 => Ok(Tensor::zeros(
                    (0, tokens.n_ctx(), self.config().d_model),
                    DType::F32,
                    &candle_core::Device::Cpu,
                )?),
                _ => Ok(Tensor::cat(&parts, 0)?),
            })
            .collect()
    }

    /// What the hook holds at the last position of BOS followed by each of these, all of one
    /// length: `[n, d_model]`.
    ///
    /// BOS, which is half of `[BOS, t]`, is computed once for all, unless the hook lies within a
    /// block. `before`: what an earlier residual stream, that before so many blocks, holds there
    /// for tokens alone; the rest is computed from it, to the same bits.
    pub(crate) fn after_bos(
        &self,
        hook: HookPoint,
        grams: &[Vec<u32>],
        before: Option<(usize, &[f32])>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        self.check_hook(hook)?;
        let Some(len) = grams.first().map(Vec::len) else { return Ok(Vec::new()) };
        let (n_seq, d) = (grams.len(), self.config().d_model);
        let tokens = self.with_bos(grams)?;
        self.check_tokens(&tokens)?;
        let Some(depth) = hook.blocks_before() else {
            let mut values = self.run_to_many_unless(&tokens, &[hook], stop)?;
            return Ok(values.remove(0).narrow(1, len, 1)?.flatten_all()?.to_vec1::<f32>()?);
        };
        let transformer = &self.inner.transformer;
        let mut resid = with_f32(&transformer.start(&[self.bos()], 1, 0)?.value, <[f32]>::to_vec)?;
        let from = match before {
            Some((from, rows)) => {
                transformer.run_blocks(
                    0..from,
                    &mut resid,
                    Layout::whole([1, 1]),
                    self.compute,
                    stop,
                )?;
                resid.extend_from_slice(rows);
                from
            }
            None => {
                resid.extend(with_f32(
                    &transformer.start(&grams.concat(), n_seq, 1)?.value,
                    <[f32]>::to_vec,
                )?);
                0
            }
        };
        transformer.run_blocks(
            from..depth,
            &mut resid,
            Layout { n_seq, n_ctx: len + 1, one_bos: true },
            self.compute,
            stop,
        )?;
        Ok(resid[d..]
            .chunks_exact(len * d)
            .flat_map(|gram| &gram[(len - 1) * d..])
            .copied()
            .collect())
    }

    /// BOS followed by each of these, all of one length.
    pub(crate) fn with_bos(&self, grams: &[Vec<u32>]) -> Result<Tokens> {
        let ids = grams
            .iter()
            .flat_map(|gram| [self.bos()].into_iter().chain(gram.iter().copied()))
            .collect();
        Tokens::new(ids, 1 + grams.first().map_or(0, Vec::len))
    }

    /// The seconds that a block takes for these tokens, once everything is in memory that it needs.
    pub(crate) fn seconds_a_block(&self, tokens: &Tokens) -> Result<f64> {
        self.check_tokens(tokens)?;
        let mut resid = with_f32(&self.start(tokens)?.value, <[f32]>::to_vec)?;
        let layout = Layout::whole([tokens.n_seq(), tokens.n_ctx()]);
        let mut run = || {
            let start = Instant::now();
            self.inner
                .transformer
                .run_blocks(0..1, &mut resid, layout, self.compute, &|| false)
                .map(|_| start.elapsed().as_secs_f64())
        };
        run()?;
        let seconds = run();
        // The memory that this took is freed.
        self.inner.transformer.rooms.lock().unwrap_or_else(PoisonError::into_inner).clear();
        seconds
    }

    /// Bytes of the copies, rounded to bf16, that the first pass through so many blocks makes.
    pub(crate) fn bytes_to_round(&self, layers: usize) -> u64 {
        let blocks = &self.inner.transformer.blocks;
        blocks
            .iter()
            .take(layers)
            .flat_map(|block| block.matrices())
            .map(Dense::bytes_to_round)
            .sum()
    }

    /// The logits `[n_seq, n_ctx, d_vocab]` that follow from a residual stream `[n_seq, n_ctx,
    /// d_model]` at `hook`.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, or the hook is not the whole residual
    /// stream (for those, see [`Model::run_with`]); [`Error::Shape`] if `resid` has another shape;
    /// [`Error::Config`] if it is longer than the model can read.
    pub fn run_from(&self, hook: HookPoint, resid: &Tensor) -> Result<Tensor> {
        self.check_hook(hook)?;
        if !hook.site.is_resid() {
            let why = format!(
                "the rest of the model cannot be computed from {} alone: take {}, {} or {}, or run_with",
                hook.site.name(),
                Site::ResidPre.name(),
                Site::ResidMid.name(),
                Site::ResidPost.name()
            );
            return Err(Error::UnknownHook { hook: hook.to_string(), why });
        }
        let d_model = self.config().d_model;
        let &[n_seq, n_ctx, _] = resid.dims() else {
            return Err(Error::Shape {
                what: format!("the residual stream at {hook}"),
                want: vec![1, self.config().n_ctx, d_model],
                got: resid.dims().to_vec(),
            });
        };
        self.check_length(n_ctx)?;
        self.finish(hook, resid, None, &[n_seq, n_ctx, d_model])
    }

    /// The logits `[n_seq, n_ctx, d_vocab]` with `change(value)` in place of what a hook, any hook,
    /// holds: `[n_seq, n_ctx, d_model]`.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let tokens = Tokens::new(vec![model.bos(), 300, 301, 302], 4)?;
    /// let hook: HookPoint = "blocks.1.hook_mlp_out".parse()?;
    /// let ablated = model.run_with(&tokens, hook, |written| Ok(written.zeros_like()?))?; // without what that MLP writes
    /// assert_eq!(ablated.dims(), &[1, 4, model.config().d_vocab]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::run_to`] and of `change`; [`Error::Shape`] if it gives another shape.
    pub fn run_with(
        &self,
        tokens: &Tokens,
        hook: HookPoint,
        change: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let paused = self.pause_at(tokens, hook)?;
        self.resume(&paused, &change(&paused.value)?)
    }

    /// Runs as far as a hook, any hook, and stops there, to be taken up by [`Model::resume`].
    pub(crate) fn pause_at(&self, tokens: &Tokens, hook: HookPoint) -> Result<Paused> {
        self.check_hook(hook)?;
        self.check_tokens(tokens)?;
        let Stage { value, base, .. } =
            self.inner.transformer.walk(self.start(tokens)?, hook, self.compute)?;
        Ok(Paused { value, hook, base })
    }

    /// Takes up a pass with `value` in place of the hook's own: the logits `[n_seq, n_ctx,
    /// d_vocab]`.
    pub(crate) fn resume(&self, paused: &Paused, value: &Tensor) -> Result<Tensor> {
        self.finish(paused.hook, value, paused.base.clone(), paused.value.dims())
    }

    /// The logits `[n_seq, n_ctx, d_vocab]`: at each position, of the token after it.
    ///
    /// For a large vocabulary these are large (800 MB for 4,096 tokens of GPT-2's): the caller
    /// chooses how many sequences to give.
    ///
    /// # Errors
    /// [`Error::TokenId`] for a token outside the vocabulary, [`Error::Config`] if the sequences
    /// are longer than the model can read.
    pub fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        self.check_tokens(tokens)?;
        self.inner.transformer.unembed(&self.last_resid(tokens)?)
    }

    // ---- steps of the above ----

    pub(super) fn check_tokens(&self, tokens: &Tokens) -> Result<()> {
        self.check_length(tokens.n_ctx())?;
        tokens.check(self.config().d_vocab)
    }

    pub(super) fn check_length(&self, n_ctx: usize) -> Result<()> {
        let most = self.config().n_ctx;
        if n_ctx > most {
            return Err(Error::config(
                "n_ctx",
                format!("sequences of {n_ctx} tokens, but {} reads at most {most}", self.name()),
            ));
        }
        Ok(())
    }

    /// The tokens in batches that are run at once.
    pub(super) fn batches(&self, tokens: &Tokens) -> Vec<Tokens> {
        let tokens_a_pass = (ACTIVATIONS_A_PASS / self.config().d_mlp).clamp(256, 4096);
        let size = (tokens_a_pass / tokens.n_ctx()).max(1);
        (0..tokens.n_seq()).step_by(size).map(|from| tokens.rows(from, from + size)).collect()
    }

    fn start(&self, tokens: &Tokens) -> Result<Stage> {
        self.inner.transformer.start(tokens.ids(), tokens.n_seq(), 0)
    }

    /// The residual stream after the last block, of all tokens at once.
    pub(super) fn last_resid(&self, tokens: &Tokens) -> Result<Tensor> {
        let transformer = &self.inner.transformer;
        Ok(transformer.walk(self.start(tokens)?, transformer.last_hook(), self.compute)?.value)
    }

    fn finish(
        &self,
        hook: HookPoint,
        value: &Tensor,
        base: Option<Tensor>,
        shape: &[usize],
    ) -> Result<Tensor> {
        expect_shape(&format!("the value for {hook}"), value, shape)?;
        let transformer = &self.inner.transformer;
        let value = value.to_dtype(DType::F32)?.contiguous()?;
        let stage =
            transformer.walk(Stage { hook, value, base }, transformer.last_hook(), self.compute)?;
        transformer.unembed(&stage.value)
    }
}

pub(super) fn expect_shape(what: &str, x: &Tensor, shape: &[usize]) -> Result<()> {
    if x.dims() == shape {
        return Ok(());
    }
    Err(Error::Shape { what: what.to_owned(), want: shape.to_vec(), got: x.dims().to_vec() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nothing_after_the_hook_is_computed() {
        for name in ["tests/golden/gpt2", "tests/golden/neox", "tests/golden/llama"] {
            let tokens = Tokens::new((0..24).collect(), 12).unwrap();
            let whole = Model::load(name).unwrap();
            for hook in whole.hooks() {
                let mut broken = Model::load(name).unwrap();
                Arc::get_mut(&mut broken.inner).unwrap().transformer.break_from(hook);
                let got = broken
                    .run_to(&tokens, hook)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap();
                assert_eq!(
                    got,
                    whole
                        .run_to(&tokens, hook)
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .to_vec1::<f32>()
                        .unwrap()
                );
                // What comes after is broken indeed.
                assert!(broken.logits(&tokens).is_err());
                if hook.site < Site::MlpOut {
                    assert!(
                        broken.run_to(&tokens, HookPoint { site: Site::MlpOut, ..hook }).is_err(),
                        "{hook}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_follows_a_shared_bos_is_what_follows_its_own() {
        for name in ["tests/golden/gpt2", "tests/golden/neox", "tests/golden/llama"] {
            for compute in [crate::cpu::matmul::Compute::F32, crate::cpu::matmul::Compute::Bf16] {
                let model = Model::load(name).unwrap().computing(compute);
                for len in [1, 3] {
                    let grams: Vec<Vec<u32>> = (0..37)
                        .map(|i| (0..len).map(|j| (i * 5 + j * 11) % 61).collect())
                        .collect();
                    let ids = grams
                        .iter()
                        .flat_map(|gram| [model.bos()].into_iter().chain(gram.iter().copied()))
                        .collect();
                    let tokens = Tokens::new(ids, len as usize + 1).unwrap();
                    for hook in model.hooks() {
                        let want = model
                            .run_to(&tokens, hook)
                            .unwrap()
                            .narrow(1, len as usize, 1)
                            .unwrap();
                        let want = want.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                        assert_eq!(
                            model.after_bos(hook, &grams, None, &|| false).unwrap(),
                            want,
                            "{name} {compute} {hook}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_batch_is_split_without_a_trace() {
        let model = Model::load("tests/golden/gpt2").unwrap();
        let tokens =
            Tokens::new((0..16 * 600).map(|i| (i * 7 + i / 16) % 61).collect(), 16).unwrap();
        let hooks =
            ["blocks.2.hook_mlp_out", "blocks.0.hook_resid_post", "blocks.0.hook_resid_post"]
                .map(|h| h.parse().unwrap());
        let all = model.run_to_many(&tokens, &hooks).unwrap();
        assert_eq!(all.len(), 3);
        for (hook, all) in hooks.into_iter().zip(&all) {
            assert_eq!(all.dims(), &[600, 16, 32]);
            for seq in [0, 255, 256, 599] {
                let one = model
                    .run_to(&tokens.rows(seq, seq + 1), hook)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap();
                let row =
                    all.narrow(0, seq, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert!(one.iter().zip(&row).all(|(a, b)| (a - b).abs() < 1e-5), "{hook} {seq}");
            }
        }
        let logits = model.logits(&tokens).unwrap();
        let losses = model.loss_per_token(&logits, &tokens).unwrap();
        let mean = losses.iter().map(|&l| l as f64).sum::<f64>() / losses.len() as f64;
        assert!((mean - model.loss(&tokens).unwrap()).abs() < 1e-5);
    }
}
