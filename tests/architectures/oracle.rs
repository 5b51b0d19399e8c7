//! The dense form of every architecture, differentiated by candle.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use tokenized_sae::backend::Objective;
use tokenized_sae::prelude::*;
use tokenized_sae::sae::Keys;

use super::{D_MODEL, D_SAE, K, N, RATES};

/// The dense form, in candle.
pub struct Oracle {
    config: SaeConfig,
    objective: Objective,
    subtract: bool,
    /// Parameters by name.
    pub vars: Vec<(&'static str, Var)>,
    weights: AdamW,
    table: Option<AdamW>,
}

impl Oracle {
    pub fn new(sae: &Sae, objective: &Objective) -> Oracle {
        let var = |data: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(data, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let mut vars = vec![
            ("W_enc", var(&sae.w_enc, &[D_SAE, D_MODEL])),
            ("b_enc", var(&sae.b_enc, &[D_SAE])),
            ("W_dec", var(&sae.w_dec, &[D_SAE, D_MODEL])),
            ("b_dec", var(&sae.b_dec, &[D_MODEL])),
        ];
        if sae.threshold.len() == D_SAE {
            vars.push(("θ", var(&sae.threshold, &[D_SAE])));
        }
        if !sae.r_mag.is_empty() {
            vars.push(("r_mag", var(&sae.r_mag, &[D_SAE])));
            vars.push(("b_mag", var(&sae.b_mag, &[D_SAE])));
        }
        let adam = |lr: f64, vars: Vec<Var>| {
            let params = ParamsAdamW {
                lr,
                beta1: RATES.beta1,
                beta2: RATES.beta2,
                eps: RATES.epsilon,
                weight_decay: 0.0,
            };
            AdamW::new(vars, params).unwrap()
        };
        let frozen = match sae.config.frozen {
            None => "",
            Some(Frozen::Encoder) => "W_enc",
            Some(Frozen::Decoder) => "W_dec",
        };
        let learned = vars.iter().filter(|(name, _)| *name != frozen);
        let weights = adam(RATES.lr, learned.map(|(_, var)| var.clone()).collect());
        let lookup = sae.lookup.as_ref().map(|table| var(table, &[table.len() / D_MODEL, D_MODEL]));
        let learned = sae.config.lookup.as_ref().is_some_and(Lookup::is_learned);
        let table =
            lookup.clone().filter(|_| learned).map(|table| adam(RATES.lookup_lr, vec![table]));
        vars.extend(lookup.map(|table| ("W_lookup", table)));
        Oracle {
            config: sae.config.clone(),
            objective: objective.clone(),
            subtract: sae.subtract,
            vars,
            weights,
            table,
        }
    }

    fn var(&self, name: &str) -> &Tensor {
        self.vars.iter().find(|(known, _)| *known == name).unwrap().1.as_tensor()
    }

    /// What the table adds to each row: `keys` `[n, rows]` times the table.
    fn looked_up(&self, keys: &Tensor) -> Option<Tensor> {
        let (_, table) = self.vars.iter().find(|(name, _)| *name == "W_lookup")?;
        let table = table.as_tensor().clone();
        Some(keys.matmul(&if self.table.is_some() { table } else { table.detach() }).unwrap())
    }

    /// `W_enc (x − b_dec)`, of what a table leaves if it is subtracted.
    fn pi(&self, x: &Tensor, keys: &Tensor) -> Tensor {
        let x = match self.looked_up(keys) {
            Some(part) if self.subtract => (x - part).unwrap(),
            _ => x.clone(),
        };
        let x = x.broadcast_sub(self.var("b_dec")).unwrap();
        let (w_enc, w_dec) = (self.var("W_enc"), self.var("W_dec"));
        let w_enc = match self.config.aligned {
            false => w_enc.clone(),
            true => (w_enc + w_dec.broadcast_mul(&Self::lacking(w_enc, w_dec)).unwrap()).unwrap(),
        };
        x.matmul(&w_enc.t().unwrap()).unwrap()
    }

    /// By how much the inner products of rows are below 1, for rows of length 1, `[n, 1]`.
    fn lacking(w_enc: &Tensor, w_dec: &Tensor) -> Tensor {
        (w_enc * w_dec).unwrap().sum_keepdim(1).unwrap().affine(-1.0, 1.0).unwrap()
    }

    /// 1 where `a > b`, without a gradient.
    fn exceeds(a: &Tensor, b: &Tensor) -> Tensor {
        a.detach().broadcast_gt(&b.detach()).unwrap().to_dtype(DType::F32).unwrap()
    }

    /// Of every row the k largest, as ones.
    fn largest(pre: &Tensor, k: usize) -> Tensor {
        let (sorted, _) = pre.detach().sort_last_dim(false).unwrap();
        pre.detach()
            .broadcast_ge(&sorted.narrow(D::Minus1, k - 1, 1).unwrap())
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap()
    }

    /// Codes `[n, d_sae]`, and the penalty of a batch.
    fn codes(&self, x: &Tensor, keys: &Tensor) -> (Tensor, Tensor) {
        let (b_enc, zero) = (self.var("b_enc"), Tensor::new(0f32, &Device::Cpu).unwrap());
        let pi = self.pi(x, keys);
        let pre = pi.broadcast_add(b_enc).unwrap();
        let mean = |of: &Tensor| {
            ((of.sum_all().unwrap() / N as f64).unwrap() * self.objective.sparsity).unwrap()
        };
        match self.config.architecture {
            Architecture::TopK => {
                let codes = (Self::largest(&pre, self.config.k) * &pre).unwrap();
                (if self.config.relu { codes.relu().unwrap() } else { codes }, zero)
            }
            Architecture::BatchTopK => {
                let all = pre.relu().unwrap().flatten_all().unwrap();
                let kept =
                    Self::largest(&all.unsqueeze(0).unwrap(), N * K).reshape((N, D_SAE)).unwrap();
                ((pre.relu().unwrap() * kept).unwrap(), zero)
            }
            Architecture::Relu { .. } => {
                let codes = pre.relu().unwrap();
                let penalty = mean(&codes);
                (codes, penalty)
            }
            Architecture::Gated { .. } => {
                let magnitude = pi
                    .broadcast_mul(&self.var("r_mag").exp().unwrap())
                    .unwrap()
                    .broadcast_add(self.var("b_mag"))
                    .unwrap();
                let codes = (Self::exceeds(&pre, &zero) * magnitude.relu().unwrap()).unwrap();
                (codes, mean(&pre.relu().unwrap()))
            }
            Architecture::JumpRelu { .. } => {
                let (threshold, bandwidth) = (self.var("θ").clone(), self.objective.bandwidth);
                let open = Self::exceeds(&pre, &threshold);
                let distance =
                    pre.detach().broadcast_sub(&threshold.detach()).unwrap().abs().unwrap();
                let window = distance.lt(bandwidth / 2.0).unwrap().to_dtype(DType::F32).unwrap();
                // A number that is 0 and has the gradient 1 by θ.
                let moves = (&threshold - threshold.detach()).unwrap();
                let kernel =
                    window.broadcast_mul(&moves).unwrap().affine(-1.0 / bandwidth, 0.0).unwrap();
                let codes = ((&open * &pre).unwrap()
                    + kernel.broadcast_mul(&threshold.detach()).unwrap())
                .unwrap();
                (codes, mean(&(open + kernel).unwrap()))
            }
        }
    }

    fn decode(&self, codes: &Tensor, keys: &Tensor) -> Tensor {
        let x_hat =
            codes.matmul(self.var("W_dec")).unwrap().broadcast_add(self.var("b_dec")).unwrap();
        match self.looked_up(keys) {
            Some(part) => (x_hat + part).unwrap(),
            None => x_hat,
        }
    }

    fn error(x_hat: &Tensor, x: &Tensor) -> Tensor {
        (x_hat - x).unwrap().sqr().unwrap().sum(1).unwrap().mean_all().unwrap()
    }

    /// The error of the whole reconstruction, and the objective.
    fn loss(&self, x: &Tensor, keys: &Tensor) -> (Tensor, Tensor) {
        let (codes, penalty) = self.codes(x, keys);
        let x_hat = self.decode(&codes, keys);
        let loss = Self::error(&x_hat, x);
        let mut objective = loss.clone();
        if !self.config.prefixes.is_empty() {
            let errors: Vec<Tensor> = self
                .config
                .prefixes
                .iter()
                .map(|&end| {
                    let first: Vec<f32> =
                        (0..D_SAE).map(|latent| f32::from(latent < end)).collect();
                    let mask = Tensor::from_vec(first, D_SAE, &Device::Cpu).unwrap();
                    Self::error(&self.decode(&codes.broadcast_mul(&mask).unwrap(), keys), x)
                })
                .collect();
            objective = Tensor::stack(&errors, 0).unwrap().mean_all().unwrap();
        }
        objective = (objective + penalty).unwrap();
        if let Architecture::Gated { .. } = self.config.architecture {
            let gates = self.pi(x, keys).broadcast_add(self.var("b_enc")).unwrap().relu().unwrap();
            let mut x_hat = gates
                .matmul(&self.var("W_dec").detach())
                .unwrap()
                .broadcast_add(&self.var("b_dec").detach())
                .unwrap();
            if let Some(part) = self.looked_up(keys) {
                x_hat = (x_hat + part.detach()).unwrap();
            }
            objective = (objective + Self::error(&x_hat, x)).unwrap();
        }
        if let Some(aux) = self.config.aux.filter(|_| !self.objective.dead.is_empty()) {
            let dead =
                Tensor::from_slice(&self.objective.dead, self.objective.dead.len(), &Device::Cpu)
                    .unwrap();
            let pre = self
                .pi(x, keys)
                .broadcast_add(self.var("b_enc"))
                .unwrap()
                .index_select(&dead, 1)
                .unwrap();
            let k = aux.k(D_MODEL).min(self.objective.dead.len());
            let codes = (Self::largest(&pre, k) * pre.relu().unwrap()).unwrap();
            let help = codes.matmul(&self.var("W_dec").index_select(&dead, 0).unwrap()).unwrap();
            let weight =
                aux.alpha * (self.objective.dead.len() as f64 / aux.k(D_MODEL) as f64).min(1.0);
            objective = (objective
                + (Self::error(&help, &(x - &x_hat).unwrap().detach()) * weight).unwrap())
            .unwrap();
        }
        (loss, objective)
    }

    /// One step; returns the error and the objective before it.
    pub fn step(&mut self, x: &[f32], keys: &Keys<'_>) -> (f32, f32) {
        let x = Tensor::from_slice(x, (N, D_MODEL), &Device::Cpu).unwrap();
        let rows = self
            .vars
            .iter()
            .find(|(name, _)| *name == "W_lookup")
            .map_or(1, |(_, table)| table.dim(0).unwrap());
        let mut dense = vec![0.0f32; N * rows];
        for i in (0..N).filter(|_| rows > 1) {
            let (keys, weights) = keys.row(i);
            keys.iter()
                .zip(weights)
                .for_each(|(&key, weight)| dense[i * rows + key as usize] += weight);
        }
        let keys = Tensor::from_vec(dense, (N, rows), &Device::Cpu).unwrap();
        let (loss, objective) = self.loss(&x, &keys);
        let mut gradients = objective.backward().unwrap();
        let unit = (self.config.unit_norm
            || self.config.aligned
            || matches!(
                self.config.architecture,
                Architecture::Relu { .. } | Architecture::Gated { .. }
            ))
            && self.config.frozen != Some(Frozen::Decoder);
        let w_dec = self.vars[2].1.clone();
        if unit {
            let gradient = gradients.get(w_dec.as_tensor()).unwrap().clone();
            let along = (&gradient * w_dec.as_tensor()).unwrap().sum_keepdim(1).unwrap();
            let across = (gradient - w_dec.broadcast_mul(&along).unwrap()).unwrap();
            gradients.insert(w_dec.as_tensor(), across);
        }
        self.weights.step(&gradients).unwrap();
        if unit {
            let norms = w_dec.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
            w_dec.set(&w_dec.broadcast_div(&norms).unwrap()).unwrap();
        }
        if self.config.aligned {
            let w_enc = &self.vars[0].1;
            let lacking = Self::lacking(w_enc, &w_dec);
            w_enc
                .set(&(w_enc.as_tensor() + w_dec.broadcast_mul(&lacking).unwrap()).unwrap())
                .unwrap();
        }
        if let Some(table) = &mut self.table {
            table.step(&gradients).unwrap();
        }
        (loss.to_scalar().unwrap(), objective.to_scalar().unwrap())
    }
}
