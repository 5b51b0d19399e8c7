//! The step by candle's tensor operations, on any of its devices.
//!
//! Dense where the CPU's own step is sparse: it stores `[n, d_sae]` and whole gradients, and
//! carries the parameters to the device and back. Its place is beside the fast step, as what it is
//! held to on a device that the fast one does not know.

use candle_core::{Device, Tensor};

use super::adam::Moments;
use super::encode::not_a_number;
use super::rows::NMSE_EPSILON;
use super::topk::TopK;
use super::{AdamState, Codes, Kernel, Prepared, Rates, Scratch, StepReport};
use crate::base::error::{Error, Result};
use crate::sae::{Architecture, Sae};

/// The dense step on a candle device.
#[derive(Clone, Debug)]
pub struct Candle {
    device: Device,
}

impl Candle {
    /// A kernel that computes on `device`.
    pub fn new(device: Device) -> Candle {
        Candle { device }
    }

    fn tensor(&self, data: &[f32], cols: usize) -> Result<Tensor> {
        Ok(Tensor::from_slice(data, (data.len() / cols.max(1), cols), &self.device)?)
    }

    /// `(x − b_dec) W_encᵀ + b_enc`, and `x − b_dec`.
    fn pre_activations(&self, sae: &Sae, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (d, d_sae) = (sae.d_model(), sae.d_sae());
        let centred = x.broadcast_sub(&self.tensor(&sae.b_dec, d)?)?;
        let pre = centred.matmul(&self.tensor(&sae.w_enc, d)?.t()?)?;
        Ok((pre.broadcast_add(&self.tensor(&sae.b_enc, d_sae)?)?, centred))
    }
}

impl Kernel for Candle {
    fn name(&self) -> String {
        "candle".to_owned()
    }

    fn prepare<'a>(&self, x: &'a [f32], tokens: &'a [u32], d_model: usize) -> Result<Prepared<'a>> {
        Prepared::new(x, tokens, d_model)
    }

    fn encode(&self, sae: &Sae, x: &[f32]) -> Result<Codes> {
        sae.check_rows("activations", x)?;
        check_plain(sae)?;
        let (pre, _) = self.pre_activations(sae, &self.tensor(x, sae.d_model())?)?;
        choose(sae, &to_vec(&pre)?)
    }

    fn train_step(
        &self,
        sae: &mut Sae,
        state: &mut AdamState,
        batch: &Prepared<'_>,
        rates: &Rates,
        scratch: &mut Scratch,
    ) -> Result<StepReport> {
        batch.check(sae)?;
        check_plain(sae)?;
        state.settle(sae);
        let (d, d_sae, n) = (sae.d_model(), sae.d_sae(), batch.keys.n());
        let x = self.tensor(batch.x, d)?;
        let (pre, centred) = self.pre_activations(sae, &x)?;
        let codes = choose(sae, &to_vec(&pre)?)?;
        // Which codes pass a gradient on, and the codes themselves, [n, d_sae].
        let (mut mask, mut values) = (vec![0.0f32; n * d_sae], vec![0.0f32; n * d_sae]);
        for row in 0..n {
            let (latents, found) = codes.row(row);
            for (&latent, &value) in latents.iter().zip(found) {
                let at = row * d_sae + latent as usize;
                mask[at] = f32::from(!sae.config.relu || value != 0.0);
                values[at] = value;
            }
        }
        let (mask, values) = (self.tensor(&mask, d_sae)?, self.tensor(&values, d_sae)?);

        let tokens = Tensor::from_slice(batch.keys.all(), batch.keys.all().len(), &self.device)?;
        let w_dec = self.tensor(&sae.w_dec, d)?;
        let mut x_hat = values.matmul(&w_dec)?.broadcast_add(&self.tensor(&sae.b_dec, d)?)?;
        if let Some(table) = &sae.lookup {
            x_hat = (x_hat + self.tensor(table, d)?.index_select(&tokens, 0)?)?;
        }
        let residual = (x_hat - &x)?;
        let squared_errors = to_vec(&residual.sqr()?.sum(1)?)?;
        let norms = to_vec(&x.sqr()?.sum(1)?)?;
        let loss = squared_errors.iter().map(|&e| f64::from(e)).sum::<f64>() / n as f64;
        if !loss.is_finite() {
            let at = "this step: the learning rate may be too high".to_owned();
            return Err(Error::NotFinite { what: "the loss".to_owned(), value: loss as f32, at });
        }
        let nmse = squared_errors
            .iter()
            .zip(&norms)
            .map(|(&e, &x)| f64::from(e) / (f64::from(x) + NMSE_EPSILON))
            .sum::<f64>()
            / n as f64;

        let residual = (residual * (2.0 / n as f64))?;
        let code_gradients = (residual.matmul(&w_dec.t()?)? * mask)?;
        let of_b_enc = code_gradients.sum_keepdim(0)?;
        let of_b_dec =
            (residual.sum_keepdim(0)? - of_b_enc.matmul(&self.tensor(&sae.w_enc, d)?)?)?;
        let of_w_enc = code_gradients.t()?.matmul(&centred)?;
        let of_w_dec = values.t()?.matmul(&residual)?;

        let t = state.steps + 1;
        let adam =
            |w: &mut Vec<f32>, moments: &mut Moments, gradient: &Tensor, lr: f64| -> Result<()> {
                let cols = gradient.dim(1)?;
                let m = ((self.tensor(&moments.m, cols)? * rates.beta1)?
                    + (gradient * (1.0 - rates.beta1))?)?;
                let v = ((self.tensor(&moments.v, cols)? * rates.beta2)?
                    + (gradient.sqr()? * (1.0 - rates.beta2))?)?;
                let scale = 1.0 / (1.0 - rates.beta2.powf(t as f64)).sqrt();
                let step = (&m / ((v.sqrt()? * scale)? + rates.epsilon)?)?;
                let moved =
                    (self.tensor(w, cols)? - (step * (lr / (1.0 - rates.beta1.powf(t as f64))))?)?;
                (*w, moments.m, moments.v) = (to_vec(&moved)?, to_vec(&m)?, to_vec(&v)?);
                Ok(())
            };
        adam(&mut sae.w_enc, &mut state.w_enc, &of_w_enc, rates.lr)?;
        adam(&mut sae.b_enc, &mut state.b_enc, &of_b_enc, rates.lr)?;
        adam(&mut sae.w_dec, &mut state.w_dec, &of_w_dec, rates.lr)?;
        adam(&mut sae.b_dec, &mut state.b_dec, &of_b_dec, rates.lr)?;
        if let (Some(table), Some(moments)) = (&mut sae.lookup, &mut state.lookup) {
            let gradient =
                self.tensor(&vec![0.0; table.len()], d)?.index_add(&tokens, &residual, 0)?;
            adam(table, moments, &gradient, rates.lookup_lr)?;
        }
        state.steps = t;
        let l0 = codes.l0();
        scratch.codes = codes;
        Ok(StepReport { loss, objective: loss, nmse, l0, fallback_rows: 0 })
    }
}

/// Refuses what the dense step does not know.
fn check_plain(sae: &Sae) -> Result<()> {
    let config = &sae.config;
    if config.architecture == Architecture::TopK
        && config.prefixes.is_empty()
        && config.aux.is_none()
        && !config.keeps_unit_norm()
        && !sae.subtract
        && sae.index.is_token()
    {
        return Ok(());
    }
    let why = "candle's dense step knows TopK SAEs without prefixes, AuxK, unit norm and tables other than by token; take another kernel for this one";
    Err(Error::config("kernel", why.to_owned()))
}

fn to_vec(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

/// The k largest of every row of scores.
fn choose(sae: &Sae, scores: &[f32]) -> Result<Codes> {
    let (d_sae, k) = (sae.d_sae(), sae.config.k);
    let mut codes = Codes::zeros(scores.len() / d_sae, k);
    let (latents, values) = codes.arrays_mut();
    for (row, scores) in scores.chunks_exact(d_sae).enumerate() {
        let mut top = TopK::new(k);
        top.offer(scores, 0);
        if !top.finish(&mut latents[row * k..][..k], &mut values[row * k..][..k]) {
            return Err(not_a_number(row));
        }
    }
    if sae.config.relu {
        values.iter_mut().for_each(|v| *v = v.max(0.0));
    }
    Ok(codes)
}
