//! The codes of some sequences, turned round: for each latent the rows on which it fires.

use crate::latents::source::each_firing;
use crate::sae::Codes;

/// A row on which a latent fires, numbered in the order of reading, and how strongly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Firing {
    pub row: u32,
    pub value: f32,
}

/// All firings of some sequences, latent by latent, each latent's in the order of reading.
#[derive(Default)]
pub(super) struct Firings {
    /// Where each latent's begin, and where the last one's end: `[d_sae + 1]`.
    starts: Vec<usize>,
    firings: Vec<Firing>,
}

impl Firings {
    /// Turns the codes of whole sequences round, the first row of which is number `first`. Position
    /// 0 of each sequence is left out.
    pub fn fill(&mut self, codes: &Codes, d_sae: usize, n_ctx: usize, first: u32) {
        self.starts.clear();
        self.starts.resize(d_sae + 1, 0);
        each_firing(codes, n_ctx, |latent, _, _| self.starts[latent + 1] += 1);
        (0..d_sae).for_each(|latent| self.starts[latent + 1] += self.starts[latent]);
        self.firings.clear();
        self.firings.resize(self.starts[d_sae], Firing { row: 0, value: 0.0 });
        let mut next = self.starts.clone();
        each_firing(codes, n_ctx, |latent, row, value| {
            self.firings[next[latent]] = Firing { row: first + row as u32, value };
            next[latent] += 1;
        });
    }

    /// Those of one latent.
    pub fn of(&self, latent: usize) -> &[Firing] {
        &self.firings[self.starts[latent]..self.starts[latent + 1]]
    }
}
