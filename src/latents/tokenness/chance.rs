//! Entropies, and the mutual information of firing with the n-gram: as counted, and as it would be
//! by chance.
//!
//! Of `N` tokens a latent fires on `F`, and on `c` of the `n` that stand at the end of some n-gram.
//! Then, in nats,
//!
//! ```text
//! H(fires)        = ln N − [F ln F + (N−F) ln(N−F)] / N
//! MI(fires; gram) = Σ_gram g(c, n) / N,   g(c, n) = c ln(cN / nF) + (n−c) ln((n−c)N / n(N−F)),   0 ln 0 = 0
//! ```
//!
//! Dealt out at random, c is hypergeometric, and the mean of MI is `Σ_gram E[g(c, n)] / N`, which
//! depends on the gram by its `n` alone: one sum over the distinct sizes there are, each over the
//! few `c` whose probability is not 0 in f64.

use std::f64::consts::LN_2;

use super::counts::{Entry, Gram, grouped};

/// Probabilities that are less than this share of the greatest are left out.
const NEGLIGIBLE: f64 = 1e-18;

/// The entropy in bits of weights that need not sum to 1; 0 if there are none.
pub(super) fn entropy(weights: impl Iterator<Item = f64> + Clone) -> f64 {
    let total: f64 = weights.clone().sum();
    // An entropy is not negative; the sum may be, by a rounding.
    weights.filter(|w| *w > 0.0).map(|w| -(w / total) * (w / total).log2()).sum::<f64>().max(0.0)
}

/// How often each n-gram of one length stands in the text that was counted.
pub(super) struct Margins {
    /// Ascending by n-gram.
    grams: Vec<(Gram, u32)>,
    /// How many n-grams there are of each size.
    sizes: Vec<(u32, u32)>,
    /// The number of tokens.
    total: u64,
    /// `x ln x` for every size there is.
    x_ln_x: Vec<f64>,
}

fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

impl Margins {
    /// Those of the n-grams of length `n`.
    pub(super) fn new(text: &[Entry], n: usize) -> Margins {
        let grams: Vec<(Gram, u32)> =
            grouped(text, n).map(|entry| (entry.gram, entry.count)).collect();
        let mut all: Vec<u32> = grams.iter().map(|(_, count)| *count).collect();
        all.sort_unstable();
        let sizes: Vec<(u32, u32)> =
            all.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect();
        let largest = all.last().copied().unwrap_or(0);
        let total = all.iter().map(|&count| u64::from(count)).sum();
        Margins {
            grams,
            sizes,
            total,
            x_ln_x: (0..=largest).map(|x| x_ln_x(f64::from(x))).collect(),
        }
    }

    /// How many different n-grams there are.
    pub(super) fn distinct(&self) -> usize {
        self.grams.len()
    }

    /// H(fires) in bits, of a latent that fires `firings` times.
    pub(super) fn firing_entropy(&self, firings: u64) -> f64 {
        let (n, f) = (self.total as f64, firings as f64);
        ((x_ln_x(n) - x_ln_x(f) - x_ln_x(n - f)) / n / LN_2).max(0.0)
    }

    /// MI(fires; n-gram) in bits, of a latent with these firings on n-grams, which ascend.
    pub(super) fn mutual_information(&self, fired: &[Entry]) -> f64 {
        let g = self.terms(fired.iter().map(|entry| u64::from(entry.count)).sum());
        let (mut sum, mut elsewhere, mut rest) = (0.0, self.total, &self.grams[..]);
        for entry in fired {
            rest = &rest[rest.partition_point(|(gram, _)| *gram < entry.gram)..];
            let Some(&(_, size)) = rest.first().filter(|(gram, _)| *gram == entry.gram) else {
                continue;
            };
            sum += g(entry.count, size);
            elsewhere -= u64::from(size);
        }
        // On all other n-grams it never fires: g(0, n) is in proportion to n.
        let never = if elsewhere > 0 { elsewhere as f64 * g(0, 1) } else { 0.0 };
        ((sum + never) / self.total as f64 / LN_2).max(0.0)
    }

    /// The mean of [`mutual_information`](Margins::mutual_information) in bits if `firings` were
    /// dealt out at random over the text.
    pub(super) fn by_chance(&self, firings: u64) -> f64 {
        let g = self.terms(firings);
        let mean = |size: u32| {
            expectation(self.total as f64, f64::from(size), firings as f64, |c| g(c as u32, size))
        };
        let sum: f64 = self.sizes.iter().map(|&(size, many)| f64::from(many) * mean(size)).sum();
        (sum / self.total as f64 / LN_2).max(0.0)
    }

    /// g(c, n) of a latent that fires `firings` times, in nats.
    fn terms(&self, firings: u64) -> impl Fn(u32, u32) -> f64 + '_ {
        let (total, fires) = (self.total as f64, firings as f64);
        let (ln_total, ln_fires, ln_rests) = (total.ln(), fires.ln(), (total - fires).ln());
        move |c, n| {
            let not = n - c;
            let with = |count: u32, ln: f64| {
                if count == 0 { 0.0 } else { self.x_ln_x[count as usize] - f64::from(count) * ln }
            };
            with(c, ln_fires) + with(not, ln_rests) - self.x_ln_x[n as usize]
                + f64::from(n) * ln_total
        }
    }
}

/// The mean of `value(c)` where c is hypergeometric: of `total` tokens `marked` are marked, and c
/// is how many marked ones are among `drawn`.
///
/// The probabilities come from the greatest outwards by their ratios, and are divided by their sum
/// at the end.
fn expectation(total: f64, drawn: f64, marked: f64, value: impl Fn(f64) -> f64) -> f64 {
    let (least, most) = ((drawn + marked - total).max(0.0), drawn.min(marked));
    let mode = (((drawn + 1.0) * (marked + 1.0) / (total + 2.0)).floor()).clamp(least, most);
    // p(c + 1) / p(c)
    let ratio =
        |c: f64| (drawn - c) * (marked - c) / ((c + 1.0) * (total - drawn - marked + c + 1.0));
    let (mut weights, mut sum) = (1.0, value(mode));
    let (mut c, mut p) = (mode, 1.0);
    while c < most && p > NEGLIGIBLE {
        p *= ratio(c);
        c += 1.0;
        weights += p;
        sum += p * value(c);
    }
    (c, p) = (mode, 1.0);
    while c > least && p > NEGLIGIBLE {
        c -= 1.0;
        p /= ratio(c);
        weights += p;
        sum += p * value(c);
    }
    sum / weights
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::counts::{Counts, NOTHING};
    use super::*;

    fn listed(tokens: impl Iterator<Item = u32>) -> Counts {
        let mut counts = Counts::default();
        tokens.for_each(|token| counts.add([token, NOTHING, NOTHING], 1.0));
        counts.merge();
        counts
    }

    fn of(tokens: &[u32], fires: &[bool]) -> (Margins, Counts, u64) {
        let margins = Margins::new(listed(tokens.iter().copied()).entries(), 1);
        let fired =
            listed(tokens.iter().zip(fires).filter(|(_, fires)| **fires).map(|(token, _)| *token));
        (margins, fired, fires.iter().filter(|fires| **fires).count() as u64)
    }

    /// Tokens as a text has them: few often, many seldom.
    fn text(rng: &mut ChaCha8Rng, n: usize) -> Vec<u32> {
        (0..n).map(|_| (1.0 / (rng.random::<f64>() + 0.002)) as u32).collect()
    }

    /// MI from the dense joint distribution, by its definition.
    fn naive(tokens: &[u32], fires: &[bool]) -> f64 {
        let n = tokens.len() as f64;
        let p = |token: Option<u32>, fire: Option<bool>| {
            let both = |(t, f): (&u32, &bool)| {
                token.is_none_or(|token| token == *t) && fire.is_none_or(|fire| fire == *f)
            };
            tokens.iter().zip(fires).filter(|pair| both(*pair)).count() as f64 / n
        };
        let mut distinct = tokens.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut sum = 0.0;
        for token in distinct {
            for fire in [false, true] {
                let joint = p(Some(token), Some(fire));
                if joint > 0.0 {
                    sum += joint * (joint / (p(Some(token), None) * p(None, Some(fire)))).log2();
                }
            }
        }
        sum
    }

    #[test]
    fn mutual_information_is_that_of_the_joint_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let tokens = text(&mut rng, 400);
        for share in [0.0, 0.01, 0.3, 0.9, 1.0] {
            let fires: Vec<bool> = tokens
                .iter()
                .map(|token| rng.random::<f64>() < share * f64::from(2 - token % 2) / 2.0)
                .collect();
            let (margins, fired, firings) = of(&tokens, &fires);
            let (got, want) = (margins.mutual_information(fired.entries()), naive(&tokens, &fires));
            assert!((got - want).abs() < 1e-12, "{share}: {got} {want}");
            assert!(got <= margins.firing_entropy(firings) + 1e-12);
        }
    }

    /// scikit-learn 1.9.1: `mutual_info_score(tokens, fires)`, and
    /// `expected_mutual_information(contingency_matrix(tokens, fires, sparse=True), n)` from
    /// `sklearn.metrics.cluster._expected_mutual_info_fast`, in nats, for `tokens = [i * i % 23 % 7
    /// for i in range(300)]` and `fires = [int(i % 5 == 0 or t == 3) for i, t in
    /// enumerate(tokens)]`; and the same for the pairs `tokens[i] * 7 + tokens[i - 1]` from i = 1
    /// on.
    #[test]
    fn golden_values_of_scikit_learn() {
        let tokens: Vec<u32> = (0..300u32).map(|i| i * i % 23 % 7).collect();
        let fires: Vec<bool> =
            tokens.iter().enumerate().map(|(i, t)| i % 5 == 0 || *t == 3).collect();
        let pairs: Vec<u32> = tokens.windows(2).map(|w| w[1] * 7 + w[0]).collect();
        for (tokens, fires, mi, chance) in
            [(&tokens, &fires[..], MI, CHANCE), (&pairs, &fires[1..], MI_OF_PAIRS, CHANCE_OF_PAIRS)]
        {
            let (margins, fired, firings) = of(tokens, fires);
            let (got, by_chance) = (
                margins.mutual_information(fired.entries()) * LN_2,
                margins.by_chance(firings) * LN_2,
            );
            assert!((got - mi).abs() < 1e-12, "{got}");
            assert!((by_chance - chance).abs() < 1e-12, "{by_chance}");
        }
    }
    const MI: f64 = 0.12569531376769505;
    const CHANCE: f64 = 0.010287303477385474;
    const MI_OF_PAIRS: f64 = 0.13097374268075876;
    const CHANCE_OF_PAIRS: f64 = 0.03415037464923551;

    #[test]
    fn chance_is_the_mean_over_shuffles() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let tokens = text(&mut rng, 2000);
        let margins = Margins::new(listed(tokens.iter().copied()).entries(), 1);
        for firings in [1, 20, 300, 1990] {
            let mut fires: Vec<bool> = (0..tokens.len()).map(|i| i < firings).collect();
            let shuffled = (0..200).map(|_| {
                fires.shuffle(&mut rng);
                margins.mutual_information(of(&tokens, &fires).1.entries())
            });
            let values: Vec<f64> = shuffled.collect();
            let mean = values.iter().sum::<f64>() / 200.0;
            let error =
                (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 200.0 / 199.0).sqrt();
            let chance = margins.by_chance(firings as u64);
            assert!(
                (mean - chance).abs() < 4.0 * error + 1e-9,
                "{firings}: {mean} {chance} ± {error}"
            );
        }
    }

    #[test]
    fn of_a_latent_that_ignores_the_token_nothing_is_left() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let tokens = text(&mut rng, 20_000);
        for density in [0.002, 0.02, 0.2] {
            let (mut raw, mut corrected) = (0.0, 0.0);
            for _ in 0..100 {
                let fires: Vec<bool> =
                    tokens.iter().map(|_| rng.random::<f64>() < density).collect();
                let (margins, fired, firings) = of(&tokens, &fires);
                let (h, mi, chance) = (
                    margins.firing_entropy(firings),
                    margins.mutual_information(fired.entries()),
                    margins.by_chance(firings),
                );
                raw += mi / h / 100.0;
                corrected += (mi - chance) / (h - chance) / 100.0;
            }
            // The mean of 100 latents, the rarest of which fire 40 times.
            assert!(corrected.abs() < 0.01, "{density}: {corrected}");
            assert!(raw > 0.01 && raw > 5.0 * corrected.abs(), "{density}: as it is counted {raw}");
        }
    }

    #[test]
    fn of_a_latent_that_is_its_token_all_is_left() {
        let tokens: Vec<u32> = (0..5000).map(|i| i * i % 97).collect();
        let fires: Vec<bool> = tokens.iter().map(|token| *token == 4).collect();
        let (margins, fired, firings) = of(&tokens, &fires);
        let (h, mi) =
            (margins.firing_entropy(firings), margins.mutual_information(fired.entries()));
        assert!((mi - h).abs() < 1e-12 && margins.by_chance(firings) < 0.1 * h, "{mi} {h}");
    }

    #[test]
    fn n_grams_that_occur_once_tell_everything_by_chance() {
        let tokens: Vec<u32> = (0..1000).collect();
        let fires: Vec<bool> = tokens.iter().map(|token| token % 7 == 0).collect();
        let (margins, fired, firings) = of(&tokens, &fires);
        let h = margins.firing_entropy(firings);
        assert!((margins.mutual_information(fired.entries()) - h).abs() < 1e-12);
        assert!((margins.by_chance(firings) - h).abs() < 1e-12);
    }

    #[test]
    fn entropies_by_hand() {
        assert_eq!(entropy([1.0, 1.0, 1.0, 1.0].into_iter()), 2.0);
        assert_eq!(entropy([3.0].into_iter()), 0.0);
        assert_eq!(entropy([].into_iter()), 0.0);
        assert!(
            (entropy([3.0, 1.0, 0.0].into_iter()) - (0.75 * (4.0f64 / 3.0).log2() + 0.5)).abs()
                < 1e-15
        );
    }
}
