//! A row's k best of all latents, rank by rank.

use crate::backend::cpu::rescore::choose;

/// In the place of a latent: none yet.
pub(super) const NONE: u32 = u32::MAX;

/// The buffers of one thread.
#[derive(Default)]
pub(super) struct Choice {
    latents: Vec<u32>,
    values: Vec<f32>,
    sorted: Vec<f32>,
    of_latents: Vec<u32>,
    of_values: Vec<f32>,
}

impl Choice {
    /// Keeps the best of a row: of those that lower latents have left and of those that this rank
    /// gives, whose latents are counted from its first.
    pub(super) fn put(
        &mut self,
        best: &mut [[u32; 2]],
        first: u32,
        (latents, values): (&[u32], &[f32]),
    ) {
        let k = best.len();
        self.latents.clear();
        self.values.clear();
        for [latent, value] in best.iter().take_while(|[latent, _]| *latent != NONE) {
            self.latents.push(*latent);
            self.values.push(f32::from_bits(*value));
        }
        self.latents.extend(latents.iter().map(|latent| first + latent));
        self.values.extend_from_slice(values);
        if self.latents.len() > k {
            self.of_latents.resize(k, 0);
            self.of_values.resize(k, 0.0);
            let (of_latents, of_values) = (&mut self.of_latents[..], &mut self.of_values[..]);
            choose(&self.latents, &self.values, &mut self.sorted, of_latents, of_values);
            std::mem::swap(&mut self.latents, &mut self.of_latents);
            std::mem::swap(&mut self.values, &mut self.of_values);
        }
        let chosen = self.latents.iter().zip(&self.values);
        for (best, (latent, value)) in best.iter_mut().zip(chosen) {
            *best = [*latent, value.to_bits()];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chosen_rank_by_rank_as_from_all_at_once(
            values in prop::collection::vec((-3i8..3).prop_map(f32::from), 1..90),
            k in 1usize..20,
            at_once in 1usize..30,
        ) {
            let k = k.min(values.len());
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
            order.truncate(k);
            order.sort_unstable();
            let want: Vec<_> = order.iter().map(|&i| [i as u32, values[i].to_bits()]).collect();

            let (mut best, mut choice) = (vec![[NONE, 0]; k], Choice::default());
            for (rank, values) in values.chunks(at_once).enumerate() {
                let latents: Vec<u32> = (0..values.len() as u32).collect();
                let (mut of_latents, mut of_values) = (latents.clone(), values.to_vec());
                if values.len() > k {
                    of_latents.truncate(k);
                    of_values.truncate(k);
                    choose(&latents, values, &mut Vec::new(), &mut of_latents, &mut of_values);
                }
                choice.put(&mut best, (rank * at_once) as u32, (&of_latents, &of_values));
            }
            prop_assert_eq!(best, want);
        }
    }
}
