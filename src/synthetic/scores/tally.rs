//! What scores are made of: counts, and sums in f64.

use super::super::matching::Matching;
use super::super::model::SyntheticModel;
use super::super::rows::SyntheticBatch;
use super::super::ties::Kind;
use super::{KindScores, Scores};
use crate::base::error::Result;
use crate::sae::Sae;

/// What is too short to speak of shrinkage: SAELens' bound on ‖x‖.
const LEAST_NORM: f64 = 1e-6;

/// From this F1 on a feature counts as recovered.
const RECOVERED: f64 = 0.5;

/// Counts of a latent or a feature.
#[derive(Clone, Copy, Default)]
struct Counts {
    fired: u64,
    /// How often its partner fired too.
    hits: u64,
}

impl Counts {
    fn share(self) -> f64 {
        self.hits as f64 / self.fired as f64
    }
}

/// What scores are made of.
pub(super) struct Tally {
    matching: Matching,
    /// Of each feature the latent that is paired with it.
    latent_of: Vec<Option<u32>>,
    rows: u64,
    /// Of each latent, with its nearest feature.
    latents: Vec<Counts>,
    /// Of each feature, with its latent,
    features: Vec<Counts>,
    /// and on rows of its own token alone.
    on_token: Vec<Counts>,
    /// The last row, counted from 1, on which each latent and each feature was active.
    latent_at: Vec<u64>,
    feature_at: Vec<u64>,
    sums: Vec<f64>, // [d_model]
    squares: f64,
    errors: f64,
    shrinkage: Counted,
}

/// A sum of so many.
#[derive(Default)]
struct Counted {
    n: u64,
    sum: f64,
}

impl Tally {
    pub(super) fn new(model: &SyntheticModel, sae: &Sae) -> Result<Tally> {
        let matching = Matching::of(&sae.w_dec, model.directions(), model.d_model())?;
        let (n_latents, n_features) = (sae.d_sae(), model.n_features());
        let mut latent_of = vec![None; n_features];
        for pair in &matching.pairs {
            latent_of[pair.feature as usize] = Some(pair.latent);
        }
        Ok(Tally {
            matching,
            latent_of,
            rows: 0,
            latents: vec![Counts::default(); n_latents],
            features: vec![Counts::default(); n_features],
            on_token: vec![Counts::default(); n_features],
            latent_at: vec![0; n_latents],
            feature_at: vec![0; n_features],
            sums: vec![0.0; model.d_model()],
            squares: 0.0,
            errors: 0.0,
            shrinkage: Counted::default(),
        })
    }

    pub(super) fn add(
        &mut self,
        model: &SyntheticModel,
        sae: &Sae,
        batch: &SyntheticBatch,
    ) -> Result<()> {
        let keys = model.keys(&sae.index, &batch.tokens, &batch.before)?;
        let codes = sae.encode_on(&batch.x, &keys)?;
        let x_hat = sae.decode(&codes, &keys)?;
        let d = model.d_model();
        for i in 0..batch.len() {
            self.rows += 1;
            let (latents, values) = codes.row(i);
            let active = latents.iter().zip(values).filter(|(_, value)| **value != 0.0);
            active.clone().for_each(|(&latent, _)| self.latent_at[latent as usize] = self.rows);
            for &feature in batch.features.row(i).0 {
                self.see(
                    feature as usize,
                    model.token_of(feature as usize) == Some(batch.tokens[i]),
                );
            }
            for (&latent, _) in active {
                let nearest = self.matching.nearest[latent as usize] as usize;
                let counts = &mut self.latents[latent as usize];
                counts.fired += 1;
                counts.hits += u64::from(self.feature_at[nearest] == self.rows);
            }
            self.measure(&batch.x[i * d..][..d], &x_hat[i * d..][..d]);
        }
        Ok(())
    }

    /// Sees a feature that is active on the row.
    fn see(&mut self, feature: usize, is_own_token: bool) {
        self.feature_at[feature] = self.rows;
        let latent = self.latent_of[feature];
        let hit = latent.is_some_and(|latent| self.latent_at[latent as usize] == self.rows);
        let counts = [&mut self.features[feature], &mut self.on_token[feature]];
        for counts in counts.into_iter().take(1 + usize::from(is_own_token)) {
            counts.fired += 1;
            counts.hits += u64::from(hit);
        }
    }

    fn measure(&mut self, x: &[f32], x_hat: &[f32]) {
        let (mut norm, mut norm_hat, mut error) = (0.0, 0.0, 0.0);
        for ((&x, &x_hat), sum) in x.iter().zip(x_hat).zip(&mut self.sums) {
            let (x, x_hat) = (f64::from(x), f64::from(x_hat));
            *sum += x;
            norm += x * x;
            norm_hat += x_hat * x_hat;
            error += (x - x_hat) * (x - x_hat);
        }
        self.squares += norm;
        self.errors += error;
        if norm.sqrt() > LEAST_NORM {
            self.shrinkage.n += 1;
            self.shrinkage.sum += (norm_hat / norm).sqrt();
        }
    }

    pub(super) fn scores(&self, model: &SyntheticModel) -> Scores {
        let (rows, n_latents) = (self.rows as f64, self.latents.len() as f64);
        let variance = self.squares - self.sums.iter().map(|sum| sum * sum).sum::<f64>() / rows;
        let per_row =
            |counts: &[Counts]| counts.iter().map(|it| it.fired).sum::<u64>() as f64 / rows;
        let mut sums = [0.0; 4];
        for (counts, &nearest) in self.latents.iter().zip(&self.matching.nearest) {
            let found = detection(*counts, self.features[nearest as usize].fired, self.rows);
            sums.iter_mut().zip(found).for_each(|(sum, value)| *sum += value);
        }
        let [precision, recall, f1, accuracy] = sums.map(|sum| sum / n_latents);
        let pairs = &self.matching.pairs;
        let mut nearest = self.matching.nearest.clone();
        nearest.sort_unstable();
        nearest.dedup();
        Scores {
            rows: self.rows,
            true_l0: per_row(&self.features),
            l0: per_row(&self.latents),
            dead: self.latents.iter().filter(|counts| counts.fired == 0).count(),
            shrinkage: self.shrinkage.sum / self.shrinkage.n as f64,
            explained_variance: 1.0 - self.errors / variance,
            mcc: pairs.iter().map(|pair| f64::from(pair.cosine)).sum::<f64>() / pairs.len() as f64,
            uniqueness: nearest.len() as f64 / n_latents,
            precision,
            recall,
            f1,
            accuracy,
            kinds: self.kinds(model),
        }
    }

    /// The features of each kind, in a model with tokens.
    fn kinds(&self, model: &SyntheticModel) -> Vec<KindScores> {
        if model.config().tokens.is_none() {
            return Vec::new();
        }
        Kind::ALL.into_iter().map(|kind| self.kind(model, kind)).collect()
    }

    fn kind(&self, model: &SyntheticModel, kind: Kind) -> KindScores {
        let is_kind = |feature: &usize| model.kind(*feature) == kind;
        let fired = |feature: &usize| self.features[*feature].fired > 0;
        let all: Vec<usize> = (0..self.features.len()).filter(is_kind).filter(fired).collect();
        let f1 = |&feature: &usize| {
            let Some(latent) = self.latent_of[feature] else { return 0.0 };
            let counts = self.features[feature];
            let latent = Counts { hits: counts.hits, ..self.latents[latent as usize] };
            detection(latent, counts.fired, self.rows)[2]
        };
        let f1s: Vec<f64> = all.iter().map(f1).collect();
        let cosines: Vec<f64> = (self.matching.pairs.iter())
            .filter(|pair| is_kind(&(pair.feature as usize)))
            .map(|pair| f64::from(pair.cosine))
            .collect();
        let sum = |of: &[Counts]| {
            all.iter().map(|&feature| of[feature]).fold(Counts::default(), |sum, it| Counts {
                fired: sum.fired + it.fired,
                hits: sum.hits + it.hits,
            })
        };
        let (firings, on_token) = (sum(&self.features), sum(&self.on_token));
        let elsewhere =
            Counts { fired: firings.fired - on_token.fired, hits: firings.hits - on_token.hits };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        KindScores {
            kind: kind.name(),
            features: all.len(),
            recovered: f1s.iter().filter(|f1| **f1 >= RECOVERED).count(),
            f1: if f1s.is_empty() { 0.0 } else { mean(&f1s) },
            mcc: mean(&cosines),
            recall: firings.share(),
            recall_on_token: on_token.share(),
            recall_elsewhere: elsewhere.share(),
        }
    }
}

/// Precision, recall, F1 and accuracy of a latent on a feature that fired `positives` times in `rows`
/// rows.
fn detection(latent: Counts, positives: u64, rows: u64) -> [f64; 4] {
    let share = |part: u64, all: u64| if all > 0 { part as f64 / all as f64 } else { 0.0 };
    let precision = share(latent.hits, latent.fired);
    let recall = share(latent.hits, positives);
    let f1 = match precision + recall {
        0.0 => 0.0,
        sum => 2.0 * precision * recall / sum,
    };
    let wrong = latent.fired + positives - 2 * latent.hits;
    [precision, recall, f1, share(rows - wrong, rows)]
}
