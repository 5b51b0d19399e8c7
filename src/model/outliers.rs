//! Activations that are like no others, because the model parks attention on them.
//!
//! A language model that has no use for some of its attention lets it rest on a token that it makes
//! a sink: the first, and in the Llama family also full stops and line breaks near the beginning and
//! every token that parts documents. Their activations are a hundred times as long as the others. In
//! SmolLM2 one row in a thousand, first positions not counted, holds nine tenths of the squares at
//! block 16: a loss that sums squares sees little else, and a token's mean may be a sink's.

use rayon::prelude::*;

/// From how many medians on an activation is an outlier: dictionary_learning's
/// `max_activation_norm_multiple`. In SmolLM2 none lies between 5 and 50.
pub(crate) const OUTLIER: f64 = 10.0;

/// How many medians long an activation may be that is not left out, of a model of which training
/// leaves out so many first positions: where the first is a sink, others are.
pub(crate) fn max_norm_multiple(skip_first: usize) -> f64 {
    if skip_first > 0 { OUTLIER } else { f64::INFINITY }
}

/// The lengths of rows `x` `[n, d]`, summed in f64.
pub(crate) fn norms(x: &[f32], d: usize) -> Vec<f32> {
    let squares = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    x.par_chunks_exact(d).map(|x| squares(x).sqrt() as f32).collect()
}

/// The middle one of some numbers, of two the greater; NaN of none.
pub(crate) fn median(mut numbers: Vec<f32>) -> f32 {
    if numbers.is_empty() {
        return f32::NAN;
    }
    let middle = numbers.len() / 2;
    *numbers.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn lengths_are_those_of_rows() {
        assert_eq!(norms(&[3.0, 4.0, 0.0, 0.0, 6.0, 8.0], 2), [5.0, 0.0, 10.0]);
    }
}
