//! Shares of token latents: by several tests, under several weightings, and within bins of firing
//! frequency.

use serde::Serialize;

use super::latent::{LatentTokenness, SaeTokenness};
use super::pass::Coverage;
use crate::base::error::{Error, Result, by_name};
use crate::model::HookPoint;

/// The share of its mass that a latent has on one token if it is a token latent: most of it.
pub(super) const MOST: f64 = 0.5;

/// The share of a firing's entropy that the token tells if the latent is trivial: sparsify's.
pub(super) const TRIVIAL: f64 = 0.9;

/// The cosine from which a decoder row resembles a row of a table: the authors'.
pub(super) const RESEMBLES: f64 = 0.4;

/// Less entropy, in bits, than two tokens have that share the mass evenly.
pub(super) const FEW: f64 = 1.0;

/// Bins of firing frequency in a decade.
const BINS_A_DECADE: f64 = 2.0;

/// A bin in which an SAE has fewer latents says nothing of it, and is left out where SAEs are
/// matched.
const MATCHED_FROM: usize = 10;

/// When a latent is a token latent: several definitions are in use, and they do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenTest {
    /// At least half of its activation mass stands on one token.
    TopToken,
    /// The entropy of its tokens, weighted by activation mass, is less than 1 bit.
    FewTokens,
    /// The token decides when it fires: (MI − chance) / (H(fires) − chance) > 0.9.
    Trivial,
    /// The same without the correction for chance: MI / H(fires) > 0.9, as sparsify counts its
    /// trivial latents.
    TrivialUncorrected,
    /// Its decoder row has a cosine of at least 0.4 with a row of the table that all SAEs are
    /// compared with, less the table's mean row.
    ///
    /// In a narrow model a random direction comes near: with 128 dimensions and 4,096 tokens its
    /// greatest cosine is 0.29 in the median, and one of 250 passes.
    LikeTable,
    /// The same with the SAE's own table.
    LikeOwnTable,
    /// At least half of its activation mass stands on one bigram.
    TopBigram,
    /// The bigram decides when it fires, corrected for chance.
    TrivialBigram,
}

/// What a share is a share of. Dead and rare latents are left out of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Of the latents.
    Latents,
    /// Of their firings.
    Firings,
    /// Of their activation mass: Σ value · ‖W_dec\[latent\]‖.
    Mass,
    /// Of latents, weighted so that every SAE has the same distribution over firing frequencies: in
    /// each bin of half a decade in which all have ten latents or more, the mean of their shares of
    /// latents there.
    Matched,
}

impl TokenTest {
    /// All of them.
    pub const ALL: [TokenTest; 8] = [
        TokenTest::TopToken,
        TokenTest::FewTokens,
        TokenTest::Trivial,
        TokenTest::TrivialUncorrected,
        TokenTest::LikeTable,
        TokenTest::LikeOwnTable,
        TokenTest::TopBigram,
        TokenTest::TrivialBigram,
    ];

    /// Whether it passes, as a number of which a mean can be taken.
    pub(super) fn share(self, latent: &LatentTokenness) -> Option<f64> {
        self.passes(latent).map(|passes| f64::from(u8::from(passes)))
    }

    /// Whether the latent is a token latent by this test; `None` if the test cannot be made:
    /// bigrams were not counted, the SAE has no table, or the latent never fired.
    pub fn passes(self, latent: &LatentTokenness) -> Option<bool> {
        let of = |n: usize| latent.ngrams.get(n - 1);
        Some(match self {
            TokenTest::TopToken => of(1)?.mass_share >= MOST,
            TokenTest::FewTokens => of(1)?.mass_entropy < FEW,
            TokenTest::Trivial => of(1)?.mi_share_corrected > TRIVIAL,
            TokenTest::TrivialUncorrected => of(1)?.mi_share > TRIVIAL,
            TokenTest::LikeTable => latent.table.cosine >= RESEMBLES,
            TokenTest::LikeOwnTable => latent.own_table.as_ref()?.cosine >= RESEMBLES,
            TokenTest::TopBigram => of(2)?.mass_share >= MOST,
            TokenTest::TrivialBigram => of(2)?.mi_share_corrected > TRIVIAL,
        })
    }
}

/// What [`token_or_context`](super::token_or_context) found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenOrContext {
    /// The SAEs in the order given.
    pub saes: Vec<SaeTokenness>,
    /// The model's name.
    pub model: String,
    /// How its weights were processed.
    pub processing: String,
    /// The hook.
    pub hook: HookPoint,
    /// The longest n-gram that was counted.
    pub order: usize,
    /// Latents that fired less often are rare.
    pub min_firings: u64,
    /// How many tokens were counted, position 0 left out.
    pub tokens: usize,
    /// How many there are in the source.
    pub available: usize,
    /// Which part of them was counted.
    pub coverage: Coverage,
    /// The table that all SAEs are compared with, in words.
    pub table: String,
}

/// A bin of firing frequency, with what each SAE has there.
#[derive(Debug, PartialEq)]
pub(crate) struct FrequencyBin {
    /// The least density.
    pub from: f64,
    /// The density that is too large.
    pub to: f64,
    /// How many latents of each SAE lie in it.
    pub latents: Vec<usize>,
    /// The share of token latents among them; NaN where there are none or the test cannot be made.
    pub shares: Vec<f64>,
}

impl TokenOrContext {
    /// The share of token latents of the SAE called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownRun`]; [`Error::Config`] if the test cannot be made of this SAE, or nothing
    /// is left to weigh.
    pub fn share(&self, name: &str, test: TokenTest, weighting: Weighting) -> Result<f64> {
        let sae = self.get(name)?;
        let at = self.saes.iter().position(|other| std::ptr::eq(other, sae)).unwrap_or(0);
        self.mean(at, weighting, |latent| test.share(latent)).ok_or_else(|| {
            let why = format!(
                "{test:?} of \"{name}\" over {weighting:?} cannot be computed: {}",
                self.why_not(sae, test, weighting)
            );
            Error::config("test", why)
        })
    }

    fn why_not(&self, sae: &SaeTokenness, test: TokenTest, weighting: Weighting) -> String {
        match (test, weighting) {
            (TokenTest::LikeOwnTable, _) if !sae.has_lookup => {
                "it has no table of its own".to_owned()
            }
            (TokenTest::TopBigram | TokenTest::TrivialBigram, _) if self.order < 2 => {
                "bigrams were not counted: set order to 2".to_owned()
            }
            (_, Weighting::Matched) => format!(
                "there is no bin of firing frequency in which every SAE has {MATCHED_FROM} latents"
            ),
            _ => format!("no latent fired {} times or more", self.min_firings),
        }
    }

    /// The weighted mean of a value over the counted latents of the SAE at place `at`; `None` if it
    /// has none somewhere, or no weight.
    pub(super) fn mean(
        &self,
        at: usize,
        weighting: Weighting,
        value: impl Fn(&LatentTokenness) -> Option<f64>,
    ) -> Option<f64> {
        let weights = self.bin_weights(at);
        let (mut sum, mut total) = (0.0, 0.0);
        for latent in self.saes[at].counted() {
            let weight = match weighting {
                Weighting::Latents => 1.0,
                Weighting::Firings => latent.firings as f64,
                Weighting::Mass => latent.mass,
                Weighting::Matched => weights
                    .iter()
                    .find(|(bin, _)| *bin == bin_of(latent.density))
                    .map_or(0.0, |(_, weight)| *weight),
            };
            if weight > 0.0 {
                sum += weight * value(latent)?;
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    }

    /// The weight of a latent in each bin if all SAEs are to have the same distribution over the
    /// bins.
    fn bin_weights(&self, at: usize) -> Vec<(i32, f64)> {
        let counts = self.bin_counts();
        let matched = || {
            counts.iter().filter(|(_, counts)| counts.iter().all(|count| *count >= MATCHED_FROM))
        };
        let totals: Vec<usize> =
            (0..self.saes.len()).map(|i| matched().map(|(_, counts)| counts[i]).sum()).collect();
        let share = |counts: &[usize]| {
            counts
                .iter()
                .zip(&totals)
                .map(|(count, total)| *count as f64 / *total as f64)
                .sum::<f64>()
        };
        matched().map(|(bin, counts)| (*bin, share(counts) / counts[at] as f64)).collect()
    }

    /// The share of the counted latents of the SAE at place `at` that lie in bins in which SAEs are
    /// matched.
    pub(super) fn matched_share(&self, at: usize) -> f64 {
        let bins: Vec<i32> = self.bin_weights(at).into_iter().map(|(bin, _)| bin).collect();
        let counted = self.saes[at].counted();
        counted.iter().filter(|latent| bins.contains(&bin_of(latent.density))).count() as f64
            / counted.len().max(1) as f64
    }

    /// How many counted latents each SAE has in each bin, from the rarest bin that has any to the
    /// most frequent.
    fn bin_counts(&self) -> Vec<(i32, Vec<usize>)> {
        let bins: Vec<Vec<i32>> = self
            .saes
            .iter()
            .map(|sae| sae.counted().iter().map(|latent| bin_of(latent.density)).collect())
            .collect();
        let all = || bins.iter().flatten().copied();
        let (Some(first), Some(last)) = (all().min(), all().max()) else { return Vec::new() };
        (first..=last)
            .map(|bin| {
                (bin, bins.iter().map(|bins| bins.iter().filter(|b| **b == bin).count()).collect())
            })
            .collect()
    }

    /// The share of token latents in each bin of firing frequency, half a decade wide, from the
    /// rarest to the most frequent.
    pub(crate) fn bins(&self, test: TokenTest) -> Vec<FrequencyBin> {
        let share = |sae: &SaeTokenness, bin: i32| {
            let latents: Vec<_> =
                sae.counted().into_iter().filter(|latent| bin_of(latent.density) == bin).collect();
            let passes: Option<Vec<bool>> =
                latents.iter().map(|latent| test.passes(latent)).collect();
            passes.map_or(f64::NAN, |passes| {
                passes.iter().filter(|passes| **passes).count() as f64 / passes.len() as f64
            })
        };
        let edge = |bin: i32| 10f64.powf(f64::from(bin) / BINS_A_DECADE);
        let bins = self.bin_counts().into_iter();
        bins.map(|(bin, latents)| FrequencyBin {
            from: edge(bin),
            to: edge(bin + 1),
            latents,
            shares: self.saes.iter().map(|sae| share(sae, bin)).collect(),
        })
        .collect()
    }
}

/// The bin of a density above 0.
fn bin_of(density: f64) -> i32 {
    (density.log10() * BINS_A_DECADE).floor() as i32
}

by_name!(TokenOrContext, saes: SaeTokenness, "SAE");

#[cfg(test)]
mod tests {
    use super::super::latent::{NgramProfile, TableMatch};
    use super::*;

    fn latent(latent: usize, firings: u64, is_token: bool) -> LatentTokenness {
        let mass_share = if is_token { 0.9 } else { 0.1 };
        let profile = NgramProfile {
            top: vec![1],
            text: "a".into(),
            mass_share,
            firing_share: mass_share,
            distinct: 2,
            mass_entropy: 1.5,
            firing_entropy: 1.5,
            normalized_entropy: 0.5,
            mi: 0.1,
            mi_by_chance: 0.01,
            mi_share: 0.1,
            mi_share_corrected: 0.1,
        };
        let table = TableMatch { token: 0, text: "a".into(), cosine: 0.4 };
        let ngrams = if firings > 0 { vec![profile] } else { vec![] };
        let density = firings as f64 / 10_000.0;
        LatentTokenness {
            latent,
            firings,
            density,
            mass: firings as f64 * 2.0,
            fires_entropy: 0.1,
            ngrams,
            table,
            own_table: None,
        }
    }

    /// Each group: how many latents, how often they fire, how many of them are token latents.
    fn sae(name: &str, groups: &[(usize, u64, usize)]) -> SaeTokenness {
        let each = groups
            .iter()
            .flat_map(|&(n, firings, tokens)| (0..n).map(move |i| latent(i, firings, i < tokens)));
        SaeTokenness {
            name: name.into(),
            has_lookup: false,
            min_firings: 10,
            latents: each.collect(),
        }
    }

    fn found(saes: Vec<SaeTokenness>) -> TokenOrContext {
        TokenOrContext {
            saes,
            model: "m".into(),
            processing: "p".into(),
            hook: HookPoint::resid_pre(0),
            order: 1,
            min_firings: 10,
            tokens: 10_000,
            available: 10_000,
            coverage: Coverage::Everything,
            table: "t".into(),
        }
    }

    #[test]
    fn shares_by_every_weight() {
        // Besides: one dead latent and one rare one, both left out.
        let found = found(vec![sae("A", &[(20, 10, 20), (20, 1000, 0), (1, 0, 0), (1, 9, 1)])]);
        let share = |weighting| found.share("A", TokenTest::TopToken, weighting).unwrap();
        assert_eq!(share(Weighting::Latents), 0.5);
        assert_eq!(share(Weighting::Firings), 10.0 / 1010.0);
        assert_eq!(share(Weighting::Mass), 10.0 / 1010.0);
        assert!((share(Weighting::Matched) - 0.5).abs() < 1e-12, "one SAE is matched with itself");
        assert_eq!(found.share("A", TokenTest::LikeTable, Weighting::Latents).unwrap(), 1.0);
    }

    #[test]
    fn matched_saes_with_equal_shares_in_every_bin_are_equal() {
        // In each bin the same share of token latents, but another number of latents, and a bin
        // that only one of them has.
        let a = sae("A", &[(100, 10, 80), (20, 1000, 2), (50, 9000, 0)]);
        let b = sae("B", &[(20, 10, 16), (100, 1000, 10)]);
        let found = found(vec![a, b]);
        let share = |name, weighting| found.share(name, TokenTest::TopToken, weighting).unwrap();
        assert!((share("A", Weighting::Latents) - share("B", Weighting::Latents)).abs() > 0.2);
        let matched = share("A", Weighting::Matched);
        assert!((matched - share("B", Weighting::Matched)).abs() < 1e-12);
        assert!((matched - (0.8 + 0.1) / 2.0).abs() < 1e-12, "{matched}");
        assert!(
            (found.matched_share(0) - 120.0 / 170.0).abs() < 1e-12 && found.matched_share(1) == 1.0
        );
    }

    #[test]
    fn bins_are_half_decades_and_hold_every_counted_latent() {
        let found = found(vec![sae("A", &[(4, 10, 1), (5, 40, 5), (6, 10_000, 0)])]);
        let bins = found.bins(TokenTest::TopToken);
        assert_eq!(bins.iter().map(|bin| bin.latents[0]).sum::<usize>(), 15);
        assert!(bins.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!((bins[0].latents[0], bins[0].shares[0]), (4, 0.25));
        assert!(
            (bins[0].from - 1e-3).abs() < 1e-12
                && (bins[0].to / bins[0].from - 10f64.sqrt()).abs() < 1e-12
        );
        assert!(bins[2].shares[0].is_nan(), "nothing between 1 % and 3 %");
    }

    #[test]
    fn what_cannot_be_said_is_an_error_that_says_why() {
        let found = found(vec![sae("A", &[(20, 10, 20)]), sae("B", &[(5, 10, 5), (3, 5, 0)])]);
        let why =
            |name, test, weighting| found.share(name, test, weighting).unwrap_err().to_string();
        assert!(
            why("A", TokenTest::LikeOwnTable, Weighting::Latents).contains("no table of its own")
        );
        assert!(why("A", TokenTest::TopBigram, Weighting::Mass).contains("set order to 2"));
        assert!(why("B", TokenTest::TopToken, Weighting::Matched).contains("10 latents"));
        assert!(matches!(
            found.share("C", TokenTest::TopToken, Weighting::Mass),
            Err(Error::UnknownRun { .. })
        ));
        let mut nothing = TokenOrContext { min_firings: 1000, ..found };
        nothing.saes.iter_mut().for_each(|sae| sae.min_firings = 1000);
        assert!(nothing.bins(TokenTest::TopToken).is_empty());
        assert!(
            nothing
                .share("A", TokenTest::TopToken, Weighting::Mass)
                .unwrap_err()
                .to_string()
                .contains("1000 times")
        );
    }
}
