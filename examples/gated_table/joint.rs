//! Latents, rows and gate learned together: a training step of one's own, by candle's gradients.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, ops};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokenized_sae::prelude::*;

const BATCH: usize = 1024;

/// What lets a row through.
#[derive(Clone, Copy)]
pub enum Gate {
    /// Everything.
    Open,
    /// Engram's: `σ(RMSNorm(x − x̄) · RMSNorm(W T) / √d + b)`.
    Learned,
}

/// `x̂ = x̄ + α·T + W_dec·TopK(W_enc(x − x̄ − α·T − b_dec) + b_enc) + b_dec`; T has the mean taken off.
pub struct Joint {
    gate: Gate,
    k: usize,
    mean: Tensor,
    table: Var,
    key: Var,
    key_bias: Var,
    w_enc: Var,
    b_enc: Var,
    w_dec: Var,
    b_dec: Var,
}

impl Joint {
    /// With the library's initial weights, and a table `[rows, d_model]` to begin with.
    pub fn new(gate: Gate, config: SaeConfig, table: &[f32], mean: &[f32]) -> Result<Joint> {
        let (k, d) = (config.k, config.d_model);
        let sae = Sae::new(config)?;
        let var = |numbers: &[f32], width: usize| -> Result<Var> {
            let shape = (numbers.len() / width, width);
            Ok(Var::from_tensor(&Tensor::from_slice(numbers, shape, &Device::Cpu)?)?)
        };
        let mean = Tensor::from_slice(mean, (1, d), &Device::Cpu)?;
        let table = var(table, d)?.broadcast_sub(&mean)?;
        Ok(Joint {
            gate,
            k,
            table: Var::from_tensor(&table)?,
            key: Var::from_tensor(&Tensor::eye(d, DType::F32, &Device::Cpu)?)?,
            // Half open where a row has a cosine of 0.8 with the activation.
            key_bias: var(&[-0.8 * (d as f32).sqrt()], 1)?,
            w_enc: var(&sae.w_enc, d)?,
            b_enc: var(&sae.b_enc, sae.b_enc.len())?,
            w_dec: var(&sae.w_dec, d)?,
            b_dec: var(&sae.b_dec, d)?,
            mean,
        })
    }

    /// Of x `[n, d_model]` with these rows of the table: x̂, and the gate `[n, 1]`.
    fn forward(&self, x: &Tensor, rows: &Tensor) -> Result<[Tensor; 2]> {
        let d = self.mean.elem_count() as f64;
        let x = x.broadcast_sub(&self.mean)?;
        let row = self.table.index_select(rows, 0)?;
        let rms = |x: &Tensor| -> Result<Tensor> {
            Ok(x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)?)
        };
        let gate = match self.gate {
            Gate::Open => Tensor::ones((x.dim(0)?, 1), DType::F32, &Device::Cpu)?,
            Gate::Learned => {
                let key = rms(&row.matmul(&self.key)?)?;
                let along = (rms(&x)?.mul(&key)?.sum_keepdim(D::Minus1)? / d.sqrt())?;
                ops::sigmoid(&along.broadcast_add(&self.key_bias)?)?
            }
        };
        let told = row.broadcast_mul(&gate)?.broadcast_add(&self.b_dec)?;
        let scores = (&x - &told)?.matmul(&self.w_enc.t()?)?.broadcast_add(&self.b_enc)?;
        let codes = scores.relu()?.mul(&self.largest(&scores)?)?;
        let x_hat = (codes.matmul(&self.w_dec)? + told)?.broadcast_add(&self.mean)?;
        Ok([x_hat, gate])
    }

    /// 1 where a score is one of the k largest of its row, 0 elsewhere.
    fn largest(&self, scores: &Tensor) -> Result<Tensor> {
        let (n, width) = scores.dims2()?;
        let mut mask = scores.flatten_all()?.to_vec1::<f32>()?;
        for row in mask.chunks_exact_mut(width) {
            let mut order = row.to_vec();
            let least = *order.select_nth_unstable_by(self.k - 1, |a, b| b.total_cmp(a)).1;
            row.iter_mut().for_each(|x| *x = f32::from(*x >= least));
        }
        Ok(Tensor::from_vec(mask, (n, width), &Device::Cpu)?)
    }

    /// Goes through all x `[n · d_model]` once, with Adam, the rate falling to 0.
    pub fn fit(&self, x: &[f32], rows: &[u32], lr: f64, seed: u64) -> Result<()> {
        let d = self.mean.elem_count();
        let of_latents = [&self.w_enc, &self.b_enc, &self.w_dec, &self.b_dec, &self.table];
        let of_latents = of_latents.into_iter().cloned().collect();
        let of_gate = vec![self.key.clone(), self.key_bias.clone()];
        let params = ParamsAdamW { weight_decay: 0.0, ..Default::default() };
        // A gate has far to go in few steps, so its rate is ten times the others'.
        let mut adams = [
            (AdamW::new(of_latents, params.clone())?, lr),
            (AdamW::new(of_gate, params)?, 10.0 * lr),
        ];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let batches = order.chunks_exact(BATCH);
        let steps = batches.len() as f64;
        for (step, of_batch) in batches.enumerate() {
            let numbers = of_batch.iter().flat_map(|&i| &x[i * d..][..d]).copied();
            let x = Tensor::from_iter(numbers, &Device::Cpu)?.reshape((BATCH, d))?;
            let ids = of_batch.iter().map(|&i| rows[i]);
            let [x_hat, _] = self.forward(&x, &Tensor::from_iter(ids, &Device::Cpu)?)?;
            let gradients = (x_hat - x)?.sqr()?.sum(D::Minus1)?.mean_all()?.backward()?;
            for (adam, lr) in &mut adams {
                adam.set_learning_rate(*lr * (1.0 - step as f64 / steps));
                adam.step(&gradients)?;
            }
            let lengths = self.w_dec.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
            self.w_dec.set(&self.w_dec.broadcast_div(&lengths)?)?;
        }
        Ok(())
    }

    /// x̂ of x `[n · d_model]`, and the mean of the gate.
    pub fn apply(&self, x: &[f32], rows: &[u32]) -> Result<(Vec<f32>, f32)> {
        let x = Tensor::from_slice(x, (rows.len(), self.mean.elem_count()), &Device::Cpu)?;
        let [x_hat, gate] =
            self.forward(&x, &Tensor::from_slice(rows, rows.len(), &Device::Cpu)?)?;
        Ok((x_hat.flatten_all()?.to_vec1()?, gate.mean_all()?.to_scalar()?))
    }
}
