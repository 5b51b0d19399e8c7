//! A figure over several seeds.

use crate::base::format;

/// The mean of a figure over several seeds, and how far apart they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of one seed: the root of Σ(x − mean)² / (n − 1); none of a single
    /// one.
    pub sd: Option<f64>,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many there are.
    pub n: usize,
}

impl Spread {
    /// The spread of no number.
    pub(crate) const NONE: Spread =
        Spread { mean: f64::NAN, sd: None, min: f64::NAN, max: f64::NAN, n: 0 };

    /// The spread of some values; none if there is no value.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        Some(Spread {
            mean,
            sd: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            n,
        })
    }

    /// `0.0412 ± 0.0003`, or the mean alone where there is no deviation.
    pub fn text(&self) -> String {
        self.written(1.0, "")
    }

    /// `41.5 ± 0.3 %`.
    pub(crate) fn percent(&self) -> String {
        self.written(100.0, " %")
    }

    /// `8.1× ± 0.3`.
    pub(super) fn times(&self) -> String {
        format::times(self.mean) + &self.deviation(1.0, if self.mean.abs() < 9.95 { 1 } else { 0 })
    }

    fn written(&self, factor: f64, unit: &str) -> String {
        let mean = format::significant(factor * self.mean, 3);
        let digits = mean.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        if mean.contains('e') {
            return mean
                + &self.sd.filter(|&sd| sd > 0.0).map_or(String::new(), |sd| {
                    format!(" ± {}", format::significant(factor * sd, 1))
                })
                + unit;
        }
        mean + &self.deviation(factor, digits) + unit
    }

    /// With as many digits after the point as the mean has, or as many as it takes for one that is
    /// not 0.
    fn deviation(&self, factor: f64, digits: usize) -> String {
        // What is the same for all seeds, as the L0 of a TopK SAE, needs no deviation.
        let Some(sd) = self.sd.map(|sd| factor * sd).filter(|&sd| sd > 0.0) else {
            return String::new();
        };
        let shown = format!("{sd:.digits$}");
        let vanishes = shown.chars().all(|c| c == '0' || c == '.');
        format!(" ± {}", if vanishes { format::significant(sd, 1) } else { shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_four_numbers_is_the_one_worked_out_by_hand() {
        // Mean 5, squares 9 + 1 + 1 + 9 = 20, over 3.
        let spread = Spread::of(&[2.0, 4.0, 6.0, 8.0]).unwrap();
        assert_eq!((spread.mean, spread.min, spread.max, spread.n), (5.0, 2.0, 8.0, 4));
        assert!((spread.sd.unwrap() - (20.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(
            Spread::of(&[0.25]).unwrap(),
            Spread { mean: 0.25, sd: None, min: 0.25, max: 0.25, n: 1 }
        );
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn it_is_written_with_the_digits_of_the_mean() {
        let written = |values: &[f64]| Spread::of(values).unwrap().text();
        assert_eq!(written(&[0.0412]), "0.0412");
        assert_eq!(written(&[0.0409, 0.0415]), "0.0412 ± 0.0004");
        assert_eq!(written(&[0.041_20, 0.041_201]), "0.0412 ± 7e-7");
        assert_eq!(written(&[0.5, 0.5]), "0.500");
        assert_eq!(Spread::of(&[0.41, 0.42]).unwrap().percent(), "41.5 ± 0.7 %");
        assert_eq!(Spread::of(&[8.0, 8.4]).unwrap().times(), "8.2× ± 0.3");
        assert_eq!(Spread::of(&[12.0, 14.0]).unwrap().times(), "13× ± 1");
    }
}
