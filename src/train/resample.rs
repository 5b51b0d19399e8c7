//! Latents that do not fire start anew.
//!
//! As [Bricken et al., 2023](https://transformer-circuits.pub/2023/monosemantic-features) do it: each
//! dead latent takes the place of a row of the batch, drawn by the square of its error, so that it is
//! one that the living reconstruct badly. What they are to reconstruct of it, made 1 long, becomes
//! the row of the decoder; the row of the encoder is the same, a fifth as long as those of the living
//! are on average; the bias is 0, and Adam forgets.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::TrainConfig;
use super::job::Job;
use crate::backend::without_table;
use crate::base::error::Result;
use crate::sae::Keys;

/// How long the row of an encoder is, where those of the living are 1 long.
const SHARE_OF_LIVING: f64 = 0.2;

impl Job {
    /// Whether dead latents start anew before the next step.
    pub(super) fn resamples_now(&self, config: &TrainConfig) -> bool {
        // The i-th of n at the share i/(2n) of the steps, rounded down; before the first none is dead.
        let (step, steps) = (self.state.steps, config.steps());
        let twice = 2 * u64::from(self.sae.config.resamplings);
        let i = (twice * step).div_ceil(steps);
        i >= 1 && i <= twice / 2 && steps * i / twice == step
    }

    /// Starts the latents anew that have not fired for a while, from rows `x` `[n, d_model]` of a
    /// batch. What is trained has to be [settled](Job::settle).
    pub(super) fn resample(
        &mut self,
        x: &[f32],
        keys: &Keys<'_>,
        config: &TrainConfig,
    ) -> Result<()> {
        let dead: Vec<usize> = self.dead(config).collect();
        let d = self.sae.d_model();
        if dead.is_empty() || x.is_empty() {
            return Ok(());
        }
        let x_hat = self.sae.reconstruct(x, keys)?;
        let errors = x.chunks_exact(d).zip(x_hat.chunks_exact(d)).map(|(x, x_hat)| {
            x.iter().zip(x_hat).map(|(x, x_hat)| f64::from(x - x_hat).powi(2)).sum::<f64>()
        });
        let mut up_to: Vec<f64> = errors.map(|error| error * error).collect();
        let mut sum = 0.0;
        for error in &mut up_to {
            sum += *error;
            *error = sum;
        }
        let left = without_table(&self.sae, x, keys);
        let of_encoder = SHARE_OF_LIVING * self.length_of_living(&dead);
        let mut rng = ChaCha8Rng::seed_from_u64(self.sae.config.seed);
        rng.set_stream(self.state.steps);
        for latent in dead {
            let at = rng.random::<f64>() * sum;
            let row = up_to.partition_point(|&error| error <= at).min(up_to.len() - 1);
            let direction: Vec<f64> = left[row * d..][..d]
                .iter()
                .zip(&self.sae.b_dec)
                .map(|(&x, &b)| f64::from(x) - f64::from(b))
                .collect();
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length > 0.0 {
                let place = latent * d..(latent + 1) * d;
                for (at, x) in place.clone().zip(direction) {
                    self.sae.w_dec[at] = (x / length) as f32;
                    self.sae.w_enc[at] = (x / length * of_encoder) as f32;
                }
                self.sae.b_enc[latent] = 0.0;
                for moments in [&mut self.state.w_enc, &mut self.state.w_dec] {
                    moments.forget(place.clone());
                }
                self.state.b_enc.forget(latent..latent + 1);
                self.fired_at[latent] = self.state.steps as u32;
            }
        }
        Ok(())
    }

    /// How long the rows of the encoder are on average, but for those of these latents, ascending;
    /// 1 if there are no others.
    fn length_of_living(&self, dead: &[usize]) -> f64 {
        let lengths = self.sae.w_enc.chunks_exact(self.sae.d_model()).enumerate();
        let lengths = lengths
            .filter(|(latent, _)| dead.binary_search(latent).is_err())
            .map(|(_, row)| row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt());
        let (sum, n) = lengths.fold((0.0, 0), |(sum, n), length| (sum + length, n + 1));
        if n == 0 { 1.0 } else { sum / f64::from(n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::AdamState;
    use crate::sae::{Lookup, Sae, SaeConfig};
    use crate::train::penalty::Penalty;

    const D: usize = 3;

    /// A job after `steps` steps, of five latents of which two have never fired.
    fn job(config: SaeConfig, steps: u64) -> Job {
        let mut sae = Sae::new(config).unwrap();
        sae.b_dec = vec![0.5, -1.0, 0.25];
        sae.b_enc.fill(0.125);
        let mut job = Job::new("it".into(), "key".into(), 1e-3, sae, (Penalty::default(), 1.0));
        let state = &mut job.state;
        for moments in [&mut state.w_enc, &mut state.w_dec, &mut state.b_enc] {
            moments.m.fill(1.0);
            moments.v.fill(1.0);
        }
        state.steps = steps;
        job.fired_at = vec![steps as u32, 0, steps as u32, 0, steps as u32];
        job
    }

    fn settings(steps: u64) -> TrainConfig {
        TrainConfig { tokens: steps * 2, batch: 2, dead_window: 8, ..Default::default() }
    }

    #[test]
    fn resamplings_lie_evenly_in_the_first_half() {
        let plain = SaeConfig { k: 1, latents: Some(5), ..SaeConfig::new(D, 2) };
        let when = |resamplings, steps| -> Vec<u64> {
            let due = |&step: &u64| {
                job(plain.clone().with_resamplings(resamplings), step)
                    .resamples_now(&settings(steps))
            };
            (0..steps).filter(due).collect()
        };
        assert_eq!(when(0, 80), [0u64; 0]);
        assert_eq!(when(1, 80), [40]);
        assert_eq!(when(4, 80), [10, 20, 30, 40]);
        assert_eq!(when(3, 100), [16, 33, 50]);
        assert_eq!(when(9, 5), [1, 2]);
    }

    #[test]
    fn dead_latents_take_the_place_of_what_is_reconstructed_badly() {
        let table = Lookup::from_table(vec![1.0, 2.0, 3.0, -4.0, 0.5, 0.0], D).unwrap();
        let plain = SaeConfig { k: 1, latents: Some(5), ..SaeConfig::new(D, 2) };
        for config in [plain.clone(), plain.with_lookup(table)] {
            let mut job = job(config, 20);
            let before = job.sae.clone();
            // The second row is a hundred times as far away: its square outweighs the other's.
            let x = [0.6, -1.0, 0.3, 90.0, -70.0, 40.0];
            let tokens = [0u32, 1];
            job.resample(&x, &Keys::from(&tokens), &settings(100)).unwrap();

            let said = |j: usize| before.lookup.as_ref().map_or(0.0, |table| table[D + j]);
            let left: Vec<f32> = (0..D).map(|j| x[D + j] - said(j) - before.b_dec[j]).collect();
            let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let living = [0, 2, 4].map(|i| length(&before.w_enc[i * D..][..D]));
            let of_encoder = 0.2 * living.iter().sum::<f32>() / 3.0;
            for latent in 0..5 {
                let at = latent * D..(latent + 1) * D;
                let is_dead = latent % 2 == 1;
                for (j, at) in at.clone().enumerate() {
                    let unit = left[j] / length(&left);
                    let [dec, enc] = match is_dead {
                        true => [unit, unit * of_encoder],
                        false => [before.w_dec[at], before.w_enc[at]],
                    };
                    assert!((job.sae.w_dec[at] - dec).abs() < 1e-6, "{latent} {j}");
                    assert!((job.sae.w_enc[at] - enc).abs() < 1e-6, "{latent} {j}");
                }
                let (bias, moment) = if is_dead { (0.0, 0.0) } else { (0.125, 1.0) };
                assert_eq!(job.sae.b_enc[latent], bias);
                let AdamState { w_enc, w_dec, b_enc, .. } = &job.state;
                for moments in [&w_enc.m[at.clone()], &w_dec.v[at], &b_enc.m[latent..=latent]] {
                    assert!(moments.iter().all(|&it| it == moment));
                }
                assert_eq!(job.fired_at[latent], 20);
            }
            assert_eq!((&job.sae.b_dec, &job.sae.lookup), (&before.b_dec, &before.lookup));
        }
    }
}
