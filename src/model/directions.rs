//! Directions of the residual stream beside the tokens: what they add to the logits, and the
//! embedding.

use candle_core::Tensor;

use crate::base::error::{Error, Result};
use crate::model::Model;

impl Model {
    /// The direct path of directions `[n, d_model]` of the residual stream to the logits `[n,
    /// d_vocab]`: what each adds to the logit of each token if no block reads it, and the final
    /// layer norm scales by 1.
    ///
    /// ```text
    /// effect[t] = Σᵢ gᵢ (dᵢ − mean(d)) W_U[i, t]      less its mean over all tokens t
    /// ```
    ///
    /// That is what is linear in the final layer norm (it subtracts the mean over `d_model`, which
    /// an RMS norm does not, and multiplies by its gain `g`), then the unembedding without its bias. The layer norm's
    /// division by the stream's size is left out, so that effects can be compared with each other
    /// and are not in nats. A softmax does not see the mean over tokens. TransformerLens computes
    /// the same by `d @ model.W_U` of a model that it has loaded with its defaults (`fold_ln`,
    /// `center_writing_weights`, `center_unembed`). Here the effect is the same whatever the
    /// [`Processing`](crate::model::Processing).
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// use tokenized_sae::model::Tensor;
    /// let model = Model::load("tiny-gpt2")?;
    /// let direction = Tensor::ones((1, model.config().d_model), candle_core::DType::F32, &candle_core::Device::Cpu)?;
    /// // The layer norm takes the mean away, and of this direction nothing is left.
    /// assert!(model.logit_effects(&direction)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the directions are not `[n, d_model]`.
    pub fn logit_effects(&self, directions: &Tensor) -> Result<Tensor> {
        let d_model = self.config().d_model;
        if directions.dims().len() != 2 || directions.dims()[1] != d_model {
            return Err(Error::Shape {
                what: "directions".to_owned(),
                want: vec![1, d_model],
                got: directions.dims().to_vec(),
            });
        }
        self.inner.transformer.direct_path(directions)
    }

    /// The embedding `W_E` `[d_vocab, d_model]`, as the model's processing leaves it.
    pub fn embedding(&self) -> &Tensor {
        self.inner.transformer.embedding()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device};

    use super::*;
    use crate::model::tokens::Tokens;
    use crate::model::{HookPoint, Processing};

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn directions(model: &Model) -> Tensor {
        let d = model.config().d_model;
        Tensor::from_vec(
            (0..3 * d).map(|i| (i as f32 * 0.7).sin() + 0.3).collect::<Vec<_>>(),
            (3, d),
            &Device::Cpu,
        )
        .unwrap()
    }

    #[test]
    fn logit_effects_do_not_depend_on_the_processing() {
        for name in ["tests/golden/gpt2", "tests/golden/neox", "tests/golden/llama", "tiny-gpt2"] {
            let [raw, folded] = [Processing::Raw, Processing::TransformerLens]
                .map(|p| Model::load_with(name, p).unwrap());
            let [raw, folded] = [&raw, &folded]
                .map(|model| numbers(&model.logit_effects(&directions(model)).unwrap()));
            let size = raw.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            assert!(
                size > 0.1 && raw.iter().zip(&folded).all(|(a, b)| (a - b).abs() < 1e-4 * size),
                "{name}"
            );
        }
    }

    /// Where the layer norm's divisor is known, the effect is the slope of the true logits: after
    /// the last block, the derivative in direction d is the effect of d over the stream's size,
    /// less what the change of the size does, which vanishes for d at right angles to the stream.
    #[test]
    fn logit_effects_are_the_slope_of_the_logits_after_the_last_block() {
        for name in ["tests/golden/gpt2", "tiny-pythia"] {
            let model = Model::load_with(name, Processing::Raw).unwrap();
            let config = model.config();
            let last =
                HookPoint { layer: config.n_layers - 1, site: crate::model::Site::ResidPost };
            let resid = model
                .run_to(&Tokens::new(vec![1, 2, 3], 3).unwrap(), last)
                .unwrap()
                .narrow(1, 2, 1)
                .unwrap();
            let stream = numbers(&resid);
            let mean = stream.iter().sum::<f32>() / stream.len() as f32;
            let centred: Vec<f32> = stream.iter().map(|x| x - mean).collect();
            let size = (centred.iter().map(|x| x * x).sum::<f32>() / stream.len() as f32
                + config.layer_norm_eps as f32)
                .sqrt();
            let direction = numbers(&directions(&model).narrow(0, 0, 1).unwrap());
            let along = direction.iter().zip(&centred).map(|(d, x)| d * x).sum::<f32>()
                / centred.iter().map(|x| x * x).sum::<f32>();
            let direction: Vec<f32> =
                direction.iter().zip(&centred).map(|(d, x)| d - along * x).collect();
            let direction = Tensor::from_vec(direction, (1, stream.len()), &Device::Cpu).unwrap();
            let step = 1e-2 * f64::from(size);
            let moved = |sign: f64| {
                let moved = resid
                    .broadcast_add(&(direction.unsqueeze(0).unwrap() * (sign * step)).unwrap())
                    .unwrap();
                model.run_from(last, &moved).unwrap()
            };
            let slope = ((moved(1.0) - moved(-1.0)).unwrap() * (f64::from(size) / (2.0 * step)))
                .unwrap()
                .flatten_to(1)
                .unwrap();
            let slope = slope.broadcast_sub(&slope.mean_keepdim(D::Minus1).unwrap()).unwrap();
            let (got, want) = (numbers(&model.logit_effects(&direction).unwrap()), numbers(&slope));
            let largest = want.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 0.01 * largest), "{name}");
        }
    }

    #[test]
    fn what_is_no_direction_is_refused() {
        let model = Model::load("tests/golden/gpt2").unwrap();
        let wrong = Tensor::zeros((2, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(model.logit_effects(&wrong), Err(Error::Shape { .. })));
    }
}
