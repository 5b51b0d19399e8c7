//! Which positions of a text an SAE stands for.

use crate::base::error::Result;
use crate::model::gpu::Computes;
use crate::model::outliers::{max_norm_multiple, median, norms};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

/// Which positions are reconstructed and counted: all, or all but the first of each sequence and,
/// in models that have such, outliers, which keep the model's own activation.
pub(super) struct Counted {
    counted: Vec<bool>, // [n_seq, n_ctx]
    /// How many are left out as outliers.
    pub outliers: usize,
}

impl Counted {
    /// Every position.
    pub(super) fn all(tokens: &Tokens) -> Counted {
        Counted { counted: vec![true; tokens.len()], outliers: 0 }
    }

    /// All but the first of each sequence and those whose activation `x` `[n, d]` is longer than
    /// `longest`.
    pub(super) fn most(tokens: &Tokens, x: &[f32], longest: f32) -> Counted {
        let mut counted: Vec<bool> = (0..tokens.len()).map(|i| i % tokens.n_ctx() != 0).collect();
        let mut outliers = 0;
        if longest.is_finite() {
            let norms = norms(x, x.len() / tokens.len());
            for (counted, _) in counted.iter_mut().zip(norms).filter(|(_, norm)| *norm > longest) {
                outliers += usize::from(*counted);
                *counted = false;
            }
        }
        Counted { counted, outliers }
    }

    /// Whether each position counts.
    pub(super) fn of_all(&self) -> &[bool] {
        &self.counted
    }

    /// The positions that count.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        (0..self.counted.len()).filter(|&i| self.counted[i])
    }
}

/// How long an activation of `hook` may be on this text that is no outlier: the multiple of the
/// median over `tokens`, first positions left out, that suits the model's family.
pub(super) fn longest(
    computes: &Computes,
    model: &Model,
    hook: HookPoint,
    tokens: &Tokens,
) -> Result<f32> {
    let multiple = max_norm_multiple(model.config().skip_first());
    if multiple.is_infinite() {
        return Ok(f32::INFINITY);
    }
    let x = computes.run_to(tokens, hook)?;
    let norms = norms(&x, model.config().d_model);
    let norms = norms.into_iter().enumerate().filter(|(i, _)| i % tokens.n_ctx() != 0);
    Ok((multiple * f64::from(median(norms.map(|(_, norm)| norm).collect()))) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_positions_and_outliers_do_not_count() {
        let tokens = Tokens::new(vec![0; 6], 3).unwrap();
        let x = [9.0, 1.0, 2.0, 0.0, 3.0, 1.0];
        let of = |counted: Counted| counted.positions().collect::<Vec<_>>();
        assert_eq!(of(Counted::most(&tokens, &x, 2.0)), [1, 2, 5]);
        assert_eq!(of(Counted::most(&tokens, &x, f32::INFINITY)), [1, 2, 4, 5]);
        assert_eq!(of(Counted::all(&tokens)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(Counted::most(&tokens, &x, 2.0).outliers, 1);
    }
}
