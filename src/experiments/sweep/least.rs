//! The least difference that counts.
//!
//! Two arms differ on the text and the seeds at hand. On other seeds and another text they would differ
//! otherwise, and a difference that such a change could bring about says nothing. So it is measured
//! again and again (bootstrap): on as many sequences, drawn from those of the text with replacement,
//! the same for both arms; over as many seeds, drawn likewise, each with both its runs. Half of the
//! interval in which 95 of 100 such differences lie is the least that counts.
//!
//! Drawn seeds differ less than seeds do: of `s` the mean of a draw varies by `(s − 1)/s` of what a mean
//! of `s` seeds varies by. So their part is scaled by `√(s/(s − 1))`. A single seed says nothing of others,
//! and then only the text is varied.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::eval::{BySequence, Measure};

/// How often it is measured again.
const DRAWS: usize = 1000;

/// The share of the draws that the interval holds.
const CONFIDENCE: f64 = 0.95;

/// A run and the baseline's that it is compared with, which share a seed.
pub(crate) struct Pair<'a> {
    pub seed: u64,
    pub ours: &'a BySequence,
    pub base: &'a BySequence,
}

/// Of the change of `measure` as a share of the baseline's, the means taken over all pairs, half of the
/// interval of 95 % over seeds and sequences; none if a pair has no figures by sequence, or figures
/// of different texts, or if there is no share to speak of.
pub(crate) fn least_change(pairs: &[Pair<'_>], measure: Measure) -> Option<f64> {
    let n = pairs.first()?.ours.len();
    if n == 0 || pairs.iter().any(|pair| pair.ours.len() != n || pair.base.len() != n) {
        return None;
    }
    let mut seeds: Vec<u64> = pairs.iter().map(|pair| pair.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let each: Vec<usize> = (0..seeds.len()).collect();
    let scale = match seeds.len() {
        1 => 0.0,
        s => (s as f64 / (s as f64 - 1.0)).sqrt(),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut draw = |of: usize| -> Vec<usize> { (0..of).map(|_| rng.random_range(0..of)).collect() };
    let mut changes = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let (sequences, drawn) = (draw(n), draw(seeds.len()));
        // Means by seed, of ours and of the baseline's.
        let mut by_seed = Vec::with_capacity(seeds.len());
        for &seed in &seeds {
            let of_seed = pairs.iter().filter(|pair| pair.seed == seed);
            let (mut sums, mut count) = ([0.0; 2], 0.0);
            for pair in of_seed {
                for (sum, of) in sums.iter_mut().zip([pair.ours, pair.base]) {
                    *sum += of.measured(measure, &sequences)?;
                }
                count += 1.0;
            }
            by_seed.push(sums.map(|sum| sum / count));
        }
        let [ours, base] = [0, 1].map(|of| {
            let mean = |over: &[usize]| {
                over.iter().map(|&i| by_seed[i][of]).sum::<f64>() / over.len() as f64
            };
            let all = mean(&each);
            all + scale * (mean(&drawn) - all)
        });
        changes.push((ours - base) / base);
    }
    if changes.iter().any(|change| !change.is_finite()) {
        return None;
    }
    changes.sort_by(f64::total_cmp);
    let at = |share: f64| changes[(share * (DRAWS - 1) as f64).round() as usize];
    Some((at((1.0 + CONFIDENCE) / 2.0) - at((1.0 - CONFIDENCE) / 2.0)) / 2.0)
}

#[cfg(test)]
mod tests {
    use rand_distr::StandardNormal;

    use super::*;

    /// NMSE of `n` sequences of 10 tokens each, by a rule.
    fn figures(n: usize, mut nmse: impl FnMut(usize) -> f64) -> BySequence {
        let one = vec![1.0; n];
        BySequence {
            tokens: vec![10; n],
            nmse: (0..n).map(|i| 10.0 * nmse(i)).collect(),
            predictions: vec![10; n],
            ce_clean: one.clone(),
            ce_patched: one.clone(),
            ce_zero: one,
        }
    }

    fn pairs<'a>(runs: &'a [[BySequence; 2]]) -> Vec<Pair<'a>> {
        let pair = |(seed, [ours, base]): (usize, &'a [BySequence; 2])| Pair {
            seed: seed as u64,
            ours,
            base,
        };
        runs.iter().enumerate().map(pair).collect()
    }

    #[test]
    fn what_is_the_same_everywhere_leaves_no_doubt() {
        let run = || [figures(40, |_| 0.5), figures(40, |_| 1.0)];
        let least = least_change(&pairs(&[run(), run()]), Measure::Nmse);
        assert_eq!(least, Some(0.0));
        // Sequences that differ, but in which both arms differ by the same share, leave none either.
        let run = [figures(40, |i| 0.5 * i as f64), figures(40, |i| i as f64)];
        assert!(least_change(&pairs(&[run]), Measure::Nmse).unwrap() < 1e-12);
    }

    #[test]
    fn text_and_seeds_are_doubted_as_theory_has_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut normal = move || rng.sample::<f64, _>(StandardNormal);
        // One seed: ours differ from 1 by 0.2 a sequence, so the mean over 400 by 0.01.
        let run = [figures(400, |_| 1.0 + 0.2 * normal()), figures(400, |_| 1.0)];
        let least = least_change(&pairs(&[run]), Measure::Nmse).unwrap();
        assert!((least / (1.96 * 0.01) - 1.0).abs() < 0.15, "{least}");
        // Many seeds, all of whose sequences are alike: the mean over s seeds differs by sd / √s.
        let s = 30;
        let values: Vec<f64> = (0..s).map(|_| 1.0 + 0.1 * normal()).collect();
        let mean = values.iter().sum::<f64>() / s as f64;
        let sd = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (s - 1) as f64).sqrt();
        let runs: Vec<_> =
            values.iter().map(|&x| [figures(4, |_| x), figures(4, |_| 1.0)]).collect();
        let least = least_change(&pairs(&runs), Measure::Nmse).unwrap();
        assert!(
            (least / (1.96 * sd / (s as f64).sqrt()) - 1.0).abs() < 0.15,
            "{least} for sd {sd}"
        );
    }

    #[test]
    fn without_figures_by_sequence_there_is_none() {
        let none = [BySequence::default(), BySequence::default()];
        assert_eq!(least_change(&pairs(&[none]), Measure::Nmse), None);
        let differ = [figures(3, |_| 1.0), figures(4, |_| 1.0)];
        assert_eq!(least_change(&pairs(&[differ]), Measure::Nmse), None);
        assert_eq!(least_change(&[], Measure::Nmse), None);
        let run = [figures(3, |_| 1.0), figures(3, |_| 1.0)];
        assert_eq!(least_change(&pairs(&[run]), Measure::Dead), None);
    }
}
