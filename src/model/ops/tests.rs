//! Held to candle, and what other tests of this room use.

use candle_core::{DType, Module};
use candle_nn::{Activation as CandleActivation, Linear as CandleLinear};
use rand::{Rng, SeedableRng};

use super::*;
use crate::cpu::matmul::Precision;

/// The same by candle's own operations.
fn by_candle(linear: &CandleLinear, x: &Tensor, activation: Activation) -> Tensor {
    let y = linear.forward(x).unwrap();
    match activation {
        Activation::None => Ok(y),
        Activation::GeluTanh => CandleActivation::NewGelu.forward(&y),
        Activation::GeluErf => CandleActivation::Gelu.forward(&y),
        Activation::Relu => CandleActivation::Relu.forward(&y),
        Activation::Silu => CandleActivation::Silu.forward(&y),
    }
    .unwrap()
}

pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let n = shape.iter().product();
    Tensor::from_vec(
        (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>(),
        shape,
        &Device::Cpu,
    )
    .unwrap()
}

pub fn assert_close(a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims());
    let far = (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!(far < 2e-5, "{far}");
}

#[test]
fn a_dense_layer_equals_candles() {
    for (rows, d_in, d_out) in [(1, 8, 24), (2, 1, 1), (7, 32, 5), (130, 64, 33), (50, 20, 3000)] {
        let (x, matrix) = (random(&[1, rows, d_in], 2), random(&[d_in, d_out], 1));
        let view = matrix.t().unwrap().contiguous().unwrap().t().unwrap();
        for bias in [None, Some(random(&[d_out], 3))] {
            for activation in Activation::ALL {
                let of = |weight: &Tensor| {
                    Linear::new((weight.clone(), Precision::Single), bias.clone())
                };
                let candle = |weight: &Tensor| CandleLinear::new(weight.t().unwrap(), bias.clone());
                let want = by_candle(&candle(&matrix), &x, activation);
                let rounded =
                    |x: &Tensor| x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
                let want_bf16 = by_candle(&candle(&rounded(&matrix)), &rounded(&x), activation);
                let mut all = vec![
                    Dense::as_it_lies(of(&matrix)),
                    Dense::as_it_lies(of(&view)),
                    Dense::laid_out(of(&view), STRETCH),
                ];
                if has_tiles() {
                    all.extend([
                        Dense::packed(&of(&matrix), STRETCH),
                        Dense::packed(&of(&view), 3),
                    ]);
                }
                for dense in all.into_iter().map(Result::unwrap) {
                    assert_close(&dense.forward(&x, activation, Compute::F32).unwrap(), &want);
                    assert_close(
                        &dense.forward(&x, activation, Compute::Bf16).unwrap(),
                        &want_bf16,
                    );
                }
            }
        }
    }
    let linear = Linear::new((random(&[3, 4], 1), Precision::Single), None);
    let dense = Dense::laid_out(linear, STRETCH).unwrap();
    assert!(dense.forward(&random(&[2, 5], 1), Activation::None, Compute::F32).is_err());
    // A view that is not contiguous is read in its own order.
    let turned = random(&[3, 6], 4).t().unwrap();
    let of = |x: &Tensor| dense.forward(x, Activation::None, Compute::F32).unwrap();
    assert_close(&of(&turned), &of(&turned.contiguous().unwrap()));
}
