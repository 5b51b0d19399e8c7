//! What is counted and kept of one latent while its activations are read.

use super::FeaturesConfig;
use super::firings::Firing;
use super::histogram::Histogram;

/// A row on which a latent fires, with what the latent does on the rows around it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub row: u32,
    pub value: f32,
    /// Every firing of the latent within the context, this one included.
    pub around: Box<[Firing]>,
}

/// One latent's counts and contexts.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub firings: u64,
    pub sum: f64,
    pub max: f32,
    pub histogram: Histogram,
    /// The strongest firing of each sequence: those with the greatest values, the greatest first;
    /// of equals, the earlier.
    pub top: Vec<Kept>,
    /// A firing of each sequence, drawn: those with the least numbers drawn, which are kept beside
    /// them, the least first.
    pub drawn: Vec<(u64, Kept)>,
}

impl Tally {
    /// Adds the firings of some whole sequences, in the order of reading.
    pub fn add(&mut self, firings: &[Firing], n_ctx: u32, config: &FeaturesConfig) {
        for firing in firings {
            self.firings += 1;
            self.sum += f64::from(firing.value);
            self.max = self.max.max(firing.value);
            self.histogram.add(firing.value);
        }
        for sequence in firings.chunk_by(|a, b| a.row / n_ctx == b.row / n_ctx) {
            self.offer_strongest(sequence, config);
            self.offer_drawn(sequence, config);
        }
    }

    fn offer_strongest(&mut self, sequence: &[Firing], config: &FeaturesConfig) {
        let strongest = sequence
            .iter()
            .reduce(|best, firing| if firing.value > best.value { firing } else { best });
        let Some(&Firing { row, value }) = strongest else { return };
        let place = self.top.partition_point(|kept| kept.value >= value);
        if place < config.top {
            self.top.truncate(config.top - 1);
            self.top.insert(place, Kept { row, value, around: around(sequence, row, config) });
        }
    }

    fn offer_drawn(&mut self, sequence: &[Firing], config: &FeaturesConfig) {
        let draws = sequence.iter().map(|firing| (draw(config.seed, firing.row), firing));
        let Some((number, &Firing { row, value })) = draws.min_by_key(|(number, _)| *number) else {
            return;
        };
        let place = self.drawn.partition_point(|(kept, _)| *kept <= number);
        let most = config.drawn();
        if place < most {
            self.drawn.truncate(most - 1);
            self.drawn.insert(
                place,
                (number, Kept { row, value, around: around(sequence, row, config) }),
            );
        }
    }
}

/// The firings of a sequence that lie in the context of its row `row`.
fn around(sequence: &[Firing], row: u32, config: &FeaturesConfig) -> Box<[Firing]> {
    let within = |at: u32| at + config.before as u32 >= row && at <= row + config.after as u32;
    sequence.iter().filter(|firing| within(firing.row)).copied().collect()
}

/// The number that a row draws, the same for all latents: SplitMix64 of the seed and the row.
pub(super) fn draw(seed: u64, row: u32) -> u64 {
    let mut z = seed
        .wrapping_mul(0xD1B5_4A32_D192_ED03)
        .wrapping_add((u64::from(row) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
