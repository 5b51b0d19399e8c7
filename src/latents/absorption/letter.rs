//! One letter: its direction, its main latents, and what the other latents do where those are
//! silent.

use super::result::{AbsorbedWord, Carried, LetterAbsorption};
use super::{F1_JUMP, FULL_COSINE, MOST_ABSORBERS, MOST_MAIN, PARTIAL_COSINE, SILENT, WORD_SHARE};
use crate::base::error::Result;
use crate::latents::probe::rows::{Encoded, Rows, largest};
use crate::latents::probe::score::Confusion;
use crate::latents::probe::{C, ClassWeight, Logistic};
use crate::sae::Sae;

/// Rows to learn from and to try on, with the letter of each.
pub(super) struct Words<'a> {
    pub rows: &'a Rows,
    pub train: Side,
    pub test: Side,
}

/// Rows, and of each the letter and the token.
#[derive(Default)]
pub(super) struct Side {
    pub rows: Vec<usize>,
    pub letters: Vec<u8>,
    pub tokens: Vec<u32>,
}

impl Side {
    fn labels(&self, letter: u8) -> Vec<bool> {
        self.letters.iter().map(|&it| it == letter).collect()
    }
}

/// What a probe on the activations says of a letter.
pub(super) struct Truth {
    pub letter: u8,
    /// The probe's direction, of length 1 `[d_model]`.
    direction: Vec<f64>,
    pub f1: f64,
    /// The words of the letter that it finds, by their place in the test side.
    pub found: Vec<usize>,
}

impl Truth {
    /// Learns the direction of a letter.
    pub fn of(letter: u8, words: &Words<'_>) -> Result<Truth> {
        let Words { rows, train, test } = words;
        let x = rows.gather(&train.rows);
        let probe = Logistic::fit(&x, rows.d, &train.labels(letter), C, ClassWeight::Balanced)?;
        let said: Vec<bool> = test.rows.iter().map(|&row| probe.score(rows.x(row)) > 0.0).collect();
        let labels = test.labels(letter);
        let f1 = Confusion::of(said.iter().copied().zip(labels.iter().copied())).f1();
        let found = (0..said.len()).filter(|&at| said[at] && labels[at]).collect();
        let length = probe.weights.iter().map(|w| w * w).sum::<f64>().sqrt();
        let direction = probe.weights.iter().map(|w| w / length).collect();
        Ok(Truth { letter, direction, f1, found })
    }

    fn along(&self, x: &[f32]) -> f64 {
        self.direction.iter().zip(x).map(|(p, x)| p * f64::from(*x)).sum()
    }

    /// Measures one SAE by this direction.
    pub fn measure(
        &self,
        sae: &Sae,
        encoded: &Encoded,
        words: &Words<'_>,
        text: impl Fn(u32) -> String,
    ) -> Result<LetterAbsorption> {
        let (main, f1) = self.main_latents(sae, encoded, words)?;
        let decoder = Decoder::along(self, sae);
        let test = &words.test;
        let parts: Vec<Parts> = test
            .rows
            .iter()
            .map(|&row| Parts::of(self, &decoder, sae, encoded, &main, words.rows.x(row), row))
            .collect();
        let found = || self.found.iter().map(|&at| &parts[at]);
        let mean = |value: &dyn Fn(&Parts) -> f64| {
            found().map(value).sum::<f64>() / self.found.len().max(1) as f64
        };
        let has_table = sae.lookup.is_some();
        let absorbed = self.found.iter().filter_map(|&at| {
            let (part, token) = (&parts[at], test.tokens[at]);
            let strongest = part.strongest()?;
            (part.fraction(false) > 0.0 || part.is_full()).then(|| AbsorbedWord {
                token,
                text: text(token),
                latent: strongest.latent,
                share: strongest.adds / part.projection,
                fraction: part.fraction(false),
                full: part.is_full(),
            })
        });
        Ok(LetterAbsorption {
            letter: char::from(self.letter),
            words: self.found.len(),
            f1,
            fraction: mean(&|it| it.fraction(false)),
            full: mean(&|it| f64::from(u8::from(it.is_full()))),
            with_table: has_table.then(|| mean(&|it| it.fraction(true))),
            by_table: has_table.then(|| mean(&|it| f64::from(u8::from(it.is_by_table())))),
            carried: Carried::of(&parts, &test.labels(self.letter), has_table),
            absorbed: absorbed.collect(),
            main,
        })
    }

    /// The latents that stand for the letter, and the F1 of a probe on them: the best one, and
    /// further ones as long as each raises F1 by more than [`F1_JUMP`].
    fn main_latents(
        &self,
        sae: &Sae,
        encoded: &Encoded,
        words: &Words<'_>,
    ) -> Result<(Vec<usize>, f64)> {
        let Words { train, test, .. } = words;
        let (labels, expected) = (train.labels(self.letter), test.labels(self.letter));
        let differences = encoded.differences(&train.rows, &labels, sae.d_sae());
        let mut latents = largest(&differences, MOST_MAIN);
        latents.retain(|&latent| differences[latent] > 0.0);
        let (mut kept, mut best) = (0, 0.0);
        for k in 1..=latents.len() {
            let x = encoded.gather(&train.rows, &latents[..k]);
            let probe = Logistic::fit(&x, k, &labels, C, ClassWeight::Balanced)?;
            let x = encoded.gather(&test.rows, &latents[..k]);
            let said = x.chunks_exact(k).map(|x| probe.score(x) > 0.0);
            let f1 = Confusion::of(said.zip(expected.iter().copied())).f1();
            if k > 1 && f1 <= best + F1_JUMP {
                break;
            }
            (kept, best) = (k, f1);
        }
        latents.truncate(kept);
        Ok((latents, best))
    }
}

/// How far every decoder row points along a direction.
struct Decoder {
    along: Vec<f64>,  // [d_sae]
    cosine: Vec<f64>, // [d_sae]
}

impl Decoder {
    fn along(truth: &Truth, sae: &Sae) -> Decoder {
        let rows = || sae.w_dec.chunks_exact(sae.d_model());
        let along: Vec<f64> = rows().map(|row| truth.along(row)).collect();
        let cosine = rows().zip(&along).map(|(row, along)| cosine(*along, row)).collect();
        Decoder { along, cosine }
    }
}

/// The cosine of a direction and a row that reaches so far along it; 0 for a row of zeros.
fn cosine(along: f64, row: &[f32]) -> f64 {
    let length = row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 { along / length } else { 0.0 }
}

/// What one latent, or the table, adds along the direction.
#[derive(Clone, Copy, Default)]
pub(super) struct Part {
    latent: usize,
    pub adds: f64,
    cosine: f64,
}

/// A word's activation along the direction, and what it is made of.
#[derive(Clone, Default)]
pub(super) struct Parts {
    pub projection: f64,
    /// What the main latents add.
    pub main: f64,
    is_silent: bool,
    /// All other latents that are active.
    pub others: Vec<Part>,
    /// What the table adds.
    pub table: Part,
}

impl Parts {
    fn of(
        truth: &Truth,
        decoder: &Decoder,
        sae: &Sae,
        encoded: &Encoded,
        main: &[usize],
        x: &[f32],
        row: usize,
    ) -> Parts {
        let mut parts = Parts { projection: truth.along(x), is_silent: true, ..Parts::default() };
        let scale = f64::from(encoded.codes.scale(row));
        let (latents, values) = encoded.codes.row(row);
        for (&latent, &value) in latents.iter().zip(values) {
            let latent = latent as usize;
            let adds = scale * f64::from(value) * decoder.along[latent];
            if main.contains(&latent) {
                parts.main += adds;
                parts.is_silent &= f64::from(value) < SILENT;
            } else {
                parts.others.push(Part { latent, adds, cosine: decoder.cosine[latent] });
            }
        }
        if let Some(table) = encoded.of_table(sae, row) {
            let adds = truth.along(&table);
            parts.table = Part { latent: usize::MAX, adds, cosine: cosine(adds, &table) };
        }
        parts
    }

    /// The latent, not a main one, that adds most.
    fn strongest(&self) -> Option<Part> {
        self.others.iter().copied().reduce(|a, b| if b.adds > a.adds { b } else { a })
    }

    /// The share of what the main latents should say that others say for them; `with_table`, the
    /// table's row may be one of these.
    pub fn fraction(&self, with_table: bool) -> f64 {
        let table = with_table.then_some(&self.table);
        let may = |it: &&Part| it.cosine >= PARTIAL_COSINE && it.adds > 0.0;
        let mut adds: Vec<f64> =
            self.others.iter().chain(table).filter(may).map(|it| it.adds).collect();
        adds.sort_by(|a, b| b.total_cmp(a));
        let absorbed: f64 = adds.iter().take(MOST_ABSORBERS).sum();
        let too_little = self.projection <= 0.0 || absorbed / self.projection < WORD_SHARE;
        if too_little || self.main >= self.projection {
            return 0.0;
        }
        if self.main <= 0.0 {
            return 1.0;
        }
        let absorbed = absorbed.min(self.projection - self.main);
        absorbed / (absorbed + self.main)
    }

    /// Whether all main latents are silent and another says it for them.
    pub fn is_full(&self) -> bool {
        self.is_silent && self.strongest().is_some_and(|it| self.says(it))
    }

    /// Whether all main latents are silent and the table says it for them, more than any latent.
    pub fn is_by_table(&self) -> bool {
        let beats = self.strongest().is_none_or(|it| it.adds < self.table.adds);
        self.is_silent && beats && self.says(self.table)
    }

    fn says(&self, part: Part) -> bool {
        self.projection > 0.0
            && part.cosine >= FULL_COSINE
            && part.adds / self.projection >= WORD_SHARE
    }
}

impl Carried {
    fn of(parts: &[Parts], labels: &[bool], has_table: bool) -> Carried {
        let n = labels.iter().filter(|it| **it).count();
        let shares = [-1.0 / (labels.len() - n) as f64, 1.0 / n as f64];
        let distance = |value: &dyn Fn(&Parts) -> f64| -> f64 {
            parts
                .iter()
                .zip(labels)
                .map(|(it, &label)| shares[usize::from(label)] * value(it))
                .sum()
        };
        let all = distance(&|it| it.projection);
        let main = distance(&|it| it.main) / all;
        let others = distance(&|it| it.others.iter().map(|it| it.adds).sum()) / all;
        let table = has_table.then(|| distance(&|it| it.table.adds) / all);
        Carried { main, others, table, lost: 1.0 - main - others - table.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(projection: f64, main: f64, others: &[(f64, f64)], table: (f64, f64)) -> Parts {
        let part = |&(adds, cosine): &(f64, f64)| Part { latent: 0, adds, cosine };
        Parts {
            projection,
            main,
            is_silent: main == 0.0,
            others: others.iter().map(part).collect(),
            table: part(&table),
        }
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got}, not {want}");
    }

    #[test]
    fn fractions_are_those_of_hand() {
        let none = (0.0, 0.0);
        // The main latent says all of it; half of it, and another the rest; nothing.
        near(parts(2.0, 2.0, &[(1.0, 0.5)], none).fraction(false), 0.0);
        near(parts(2.0, 1.0, &[(1.0, 0.5)], none).fraction(false), 0.5);
        near(parts(2.0, 0.0, &[(1.0, 0.5)], none).fraction(false), 1.0);
        // More than is missing counts as what is missing.
        near(parts(2.0, 1.5, &[(4.0, 0.5)], none).fraction(false), 0.25);
        // Less than four tenths in all, a cosine below a tenth, a fourth latent: not counted.
        near(parts(2.0, 0.0, &[(0.79, 0.5)], none).fraction(false), 0.0);
        near(parts(2.0, 0.0, &[(1.0, 0.09)], none).fraction(false), 0.0);
        near(
            parts(2.0, 1.0, &[(0.3, 0.5), (0.3, 0.2), (0.3, 0.1), (0.3, 0.4)], none)
                .fraction(false),
            0.9 / 1.9,
        );
        // Nothing is absorbed where the activation points the other way.
        near(parts(-2.0, 0.0, &[(1.0, 0.5)], none).fraction(false), 0.0);
        // The table counts only if it is asked for.
        let table = parts(2.0, 1.0, &[], (1.0, 0.5));
        near(table.fraction(false), 0.0);
        near(table.fraction(true), 0.5);
    }

    #[test]
    fn full_absorption_needs_silent_main_latents_and_one_that_says_it() {
        let none = (0.0, 0.0);
        assert!(parts(2.0, 0.0, &[(0.8, 0.025), (0.1, 0.9)], none).is_full());
        for other in [
            parts(2.0, 0.1, &[(0.8, 0.5)], none),
            parts(2.0, 0.0, &[(0.79, 0.5)], none),
            parts(2.0, 0.0, &[(0.8, 0.02)], none),
            parts(-2.0, 0.0, &[(0.8, 0.5)], none),
            parts(2.0, 0.0, &[], (1.0, 0.5)),
        ] {
            assert!(!other.is_full());
        }
        assert!(parts(2.0, 0.0, &[(0.9, 0.5)], (1.0, 0.5)).is_by_table());
        assert!(!parts(2.0, 0.0, &[(1.1, 0.5)], (1.0, 0.5)).is_by_table());
        assert!(!parts(2.0, 0.1, &[], (1.0, 0.5)).is_by_table());
    }
}
