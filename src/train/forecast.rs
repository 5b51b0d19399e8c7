//! What a training will take.

use std::time::Instant;

use super::Trainer;
use super::job::Job;
use super::penalty::Penalty;
use super::session::CHECKPOINTS;
use crate::activations::{Batch, Waiting};
use crate::backend::Chosen;
use crate::base::error::Result;
use crate::base::forecast::{self, Forecast};
use crate::sae::{Architecture, Keys, Sae, SaeConfig};
use crate::train::TrainConfig;

/// Steps that are tried, of which the first, which finds cold caches and fresh memory, does not
/// count.
const TRIED: u64 = 6;

/// Bytes that an SAE takes in training: parameters, Adam's two moments, the packed encoder and what
/// a step needs for its batch. Where its table started is in memory before.
pub(crate) fn memory_of(sae: &SaeConfig, batch: usize) -> u64 {
    let (d, d_sae) = (sae.d_model as u64, sae.d_sae() as u64);
    let weights = 2 * d_sae * d + d_sae + d;
    let table = sae.lookup.as_ref().map_or(0, |lookup| {
        let numbers = lookup.rows() as u64 * d;
        if lookup.is_learned() { 3 * numbers } else { numbers }
    });
    // The encoder is packed for the screen in one to four bytes a number, half an f32 on the
    // average of processors.
    let packed = d_sae * d / 2;
    // Without a k, about so many are active before the penalty has done its work.
    let active = if sae.architecture.uses_k() { sae.k as u64 } else { d_sae / 4 };
    // The rows centred, decoded, what is left of them and packed; codes, their gradients and their
    // order by latent. A card needs none of that here, but, in less, the rows of the next step, and
    // pinned memory for what travels.
    let step = batch as u64 * (4 * d + 8 * active);
    4 * (3 * weights + table + packed + step)
}

/// What training an SAE takes, in units of one number of the encoder that is screened for a token:
/// the same on every machine, so that all cut a sweep at the same places.
///
/// The weights are those of the step's parts in docs/performance.md (768 → 12,288, k 30, batch
/// 4,096): screening and packing 120 ms; gradients and Adam 36, for a batch of any size; decoding,
/// its gradients and scoring candidates again 46, for the active latents.
pub(crate) fn work_of(sae: &SaeConfig, config: &TrainConfig) -> u128 {
    /// Gradients and Adam of a number of the encoder and its like in the decoder, a step.
    const ADAM: u128 = 1_200;
    /// A number of an active latent, a token.
    const ACTIVE: u128 = 160;
    let (d, d_sae) = (sae.d_model as u128, sae.d_sae() as u128);
    // Without a k every latent's value is formed in f32; how many are active is for the penalty.
    let (screened, active) = match sae.architecture.uses_k() {
        true => (d_sae, sae.k as u128),
        false => (4 * d_sae, d_sae / 32),
    };
    let batch = config.batch as u128;
    u128::from(config.steps()) * d * (batch * (screened + ACTIVE * active) + ADAM * d_sae)
}

/// Makes `l0` latents a row active on these rows, or all that are positive if they are fewer.
///
/// A step costs by what is active. Where training steers to an L0, it begins with a hundred times as
/// much as it has at the end, and the first steps would tell little about the rest.
fn leave_active(sae: &mut Sae, x: &[f32], keys: &Keys<'_>, l0: f64) -> Result<()> {
    sae.threshold.fill(0.0);
    let codes = sae.encode_on(x, keys)?;
    let mut values: Vec<f32> =
        codes.values().iter().copied().filter(|value| *value > 0.0).collect();
    let stay = (l0 * codes.n() as f64) as usize;
    if stay < values.len() {
        let (_, &mut least, _) = values.select_nth_unstable_by(stay, |a, b| b.total_cmp(a));
        match sae.config.architecture {
            Architecture::JumpRelu { .. } => sae.threshold.fill(least),
            _ => sae.b_enc.iter_mut().for_each(|bias| *bias -= least),
        }
    }
    Ok(())
}

impl Trainer {
    /// What [`fit`](Trainer::fit) will take, all SAEs together, if none of them is finished or
    /// begun: memory by calculation, time by a few steps of each on batches of the store, which
    /// change nothing. Held-out measurements are not in the time; an SAE that is steered to an L0 is
    /// tried with as many active latents as a run has on average.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// # let model = Model::load("tiny-gpt2")?;
    /// # let hook = HookPoint::resid_pre(2);
    /// # let acts = ActivationStore::open("cache")?;
    /// let trainer = Trainer::new(&acts, hook, TrainConfig::default())?.add("SAE", SaeConfig::for_model(&model))?;
    /// println!("{}", trainer.forecast()?); // this will take about 40 min and 3.1 GB of memory
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it is more than there is, and what
    /// [`fit`](Trainer::fit) reports of its first steps.
    pub fn forecast(&self) -> Result<Forecast> {
        self.check_memory()?;
        let Chosen { backend, card, .. } = self.choose_backend()?;
        let (longest, mut batch) = (self.longest()?, Batch::default());
        let mut seconds = 0.0;
        for (name, sae) in &self.saes {
            let begun = Instant::now();
            let penalty = Penalty::of(sae, || self.scale())?;
            let mean_l0 = penalty.mean_l0(sae.d_sae(), self.config.sparsity_warmup);
            let mut job = Job::new(
                name.clone(),
                String::new(),
                sae.lr.unwrap_or(self.config.lr),
                Sae::new(sae.clone())?,
                (penalty.unsteered(), self.unit()?),
            );
            let mut times = Vec::new();
            for step in 0..TRIED {
                let start = Instant::now();
                let mut rows = self.rows(step);
                self.gather(Waiting::Cell, longest, &mut rows, &mut batch)?;
                if let (0, Some(l0)) = (step, mean_l0) {
                    let keys = self.keys(&job.sae, Waiting::Cell, &rows)?;
                    let keys = keys.unwrap_or_else(|| Keys::from(&batch.tokens[..]));
                    leave_active(&mut job.sae, &batch.x, &keys, l0)?;
                }
                let (x, d_model) = (&batch.x, self.material.d_model());
                let sent = backend.send(x, d_model)?;
                let reading = sent.is_some().then(|| start.elapsed());
                let prepared = backend.prepare_sent(x, &batch.tokens, d_model, sent)?;
                let keys = self.keys(&job.sae, Waiting::Cell, &rows)?;
                self.step(backend.as_ref(), &mut job, &prepared, keys.as_ref())?;
                // Rows that are sent are read while the step before is computed.
                let (took, reading) = (start.elapsed(), reading.unwrap_or_default());
                times.push((took - reading).max(reading).as_secs_f64());
            }
            let beginning = begun.elapsed().as_secs_f64() - times[1..].iter().sum::<f64>();
            let logging = Instant::now();
            job.log(backend.as_ref(), &self.config)?;
            let logging = logging.elapsed().as_secs_f64() / self.config.log_every as f64;
            let step = times[1..].iter().sum::<f64>() / times[1..].len() as f64;
            seconds +=
                beginning + (step + logging) * self.config.steps() as f64 / (1.0 - CHECKPOINTS);
        }
        Ok(Forecast { memory: self.memory(), card, disk: 0, seconds })
    }

    /// Bytes that all SAEs and their batch take.
    fn memory(&self) -> u64 {
        let batch = 8 * (self.config.batch * self.material.d_model()) as u64;
        batch + self.saes.iter().map(|(_, sae)| memory_of(sae, self.config.batch)).sum::<u64>()
    }

    /// Refuses what does not fit.
    pub(super) fn check_memory(&self) -> Result<()> {
        let what = match &self.saes[..] {
            [(name, _)] => format!("training \"{name}\""),
            saes => format!("training {} SAEs together", saes.len()),
        };
        forecast::check(&what, self.memory(), |free| self.fitting(free))
    }

    /// The setting that would fit.
    fn fitting(&self, free: u64) -> String {
        let memory = |sae: &SaeConfig| memory_of(sae, self.config.batch);
        let single = self.saes.iter().map(|(_, sae)| memory(sae)).max().unwrap_or(0);
        if self.saes.len() > 1 && single <= free {
            return "train them one after the other, in a Trainer each; what is finished is found again".to_owned();
        }
        let largest = |expansion: usize| {
            self.saes
                .iter()
                .map(|(_, sae)| memory(&SaeConfig { expansion, ..sae.clone() }))
                .max()
                .unwrap_or(0)
        };
        let most = self.saes.iter().map(|(_, sae)| sae.expansion).max().unwrap_or(1);
        match (forecast::largest(most, free, largest), self.saes.len()) {
            (Some(expansion), 1) => format!("expansion = {expansion} would fit"),
            (Some(expansion), _) => format!("expansion = {expansion} would fit, in a Trainer each, one after the other"),
            (None, _) => "no expansion would fit: train without a token table, on a narrower model, or on a larger machine".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::Lookup;

    /// docs/performance.md: 0.80 GB at the peak for 768 → 12,288, k 30, batch 4,096 with a learned
    /// table of 50,257 tokens, of which some 0.05 GB are the synthetic batches and the program
    /// itself.
    #[test]
    fn a_run_of_gpt_2_is_predicted_as_it_was_measured() {
        let config = SaeConfig::new(768, 50_257);
        let table =
            config.clone().with_lookup(Lookup::from_table(vec![0.5; 50_257 * 768], 768).unwrap());
        let bytes = memory_of(&table, 4096) as f64;
        assert!((0.65e9..0.85e9).contains(&bytes), "{bytes}");
        assert!(memory_of(&config, 4096) < memory_of(&table, 4096) - 4 * 3 * 50_257 * 768 + 1);
    }

    #[test]
    fn work_is_in_the_proportions_that_were_measured() {
        let config = TrainConfig { tokens: 4_096, batch: 4_096, ..Default::default() };
        let sae = SaeConfig { k: 30, ..SaeConfig::new(768, 50_257) };
        let work = |sae: &SaeConfig| work_of(sae, &config) as f64;
        assert_eq!(sae.d_sae(), 12_288);
        // 46 ms of 202 go into the active latents.
        let twice = SaeConfig { k: 60, ..sae.clone() };
        assert!((work(&twice) / work(&sae) - 1.0 - 46.0 / 202.0).abs() < 0.02);
        // 36 of 202 do not shrink with the batch.
        let small = TrainConfig { batch: 256, ..config.clone() };
        let by_step = 15.0 * 36.0 / 202.0;
        assert!((work_of(&sae, &small) as f64 / work(&sae) - 1.0 - by_step).abs() < 0.2);
    }

    #[test]
    fn a_steered_sae_is_tried_with_the_active_latents_of_a_whole_run() {
        let jump_relu = Architecture::JumpRelu { l0: 1.0, bandwidth: 0.1, threshold: 0.1 };
        let config = SaeConfig::new(16, 8).with_latents(512);
        for architecture in [jump_relu, Architecture::Relu { l1: 1.0 }] {
            let config = config.clone().with_architecture(architecture).with_target_l0(4.0);
            let penalty = Penalty::of(&config, || Ok(1.0)).unwrap();
            // From 256 down to 4 in the first half, by the same factor a step.
            let mean = (0..10_000).map(|step| {
                let share = (f64::from(step) / 5_000.0).min(1.0);
                4.0 * 64f64.powf(1.0 - share) / 10_000.0
            });
            let l0 = penalty.mean_l0(512, 0.5).unwrap();
            assert!((l0 / mean.sum::<f64>() - 1.0).abs() < 0.01, "{l0}");

            let mut sae = Sae::new(config).unwrap();
            // Another's decoder rows are as good as any in all directions.
            let x = Sae::new(SaeConfig { seed: 1, ..sae.config.clone() }).unwrap().w_dec;
            let tokens = vec![0; 512];
            leave_active(&mut sae, &x, &Keys::from(&tokens[..]), l0).unwrap();
            let left = sae.encode_on(&x, &tokens[..]).unwrap().l0();
            assert!((left / l0 - 1.0).abs() < 0.02, "{left} for {l0}");
        }
        let top_k = Penalty::of(&config, || Ok(1.0)).unwrap();
        assert_eq!(top_k.mean_l0(512, 0.5), None);
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let dir = tempfile::tempdir().unwrap();
        let model = crate::model::Model::load("tiny-gpt2").unwrap();
        let hook = crate::model::HookPoint::resid_pre(1);
        let tokens = model.sample(2, 16, 0).unwrap();
        let acts = crate::activations::ActivationStore::harvest(
            &model,
            &[hook],
            &tokens,
            dir.path(),
            Default::default(),
        )
        .unwrap();
        let config = crate::train::TrainConfig { tokens: 64, batch: 16, ..Default::default() };
        let sae = SaeConfig { expansion: 64, k: 4, ..SaeConfig::for_model(&model) };
        let one = Trainer::new(&acts, hook, config).unwrap().add("one", sae.clone()).unwrap();
        let [small, large] =
            [4, 64].map(|expansion| memory_of(&SaeConfig { expansion, ..sae.clone() }, 16));
        assert_eq!(one.fitting(small), "expansion = 4 would fit");
        let two = one.add("two", sae).unwrap();
        assert!(
            two.fitting(large).contains("one after the other, in a Trainer each; what is finished"),
            "{}",
            two.fitting(large)
        );
        assert_eq!(
            two.fitting(small),
            "expansion = 4 would fit, in a Trainer each, one after the other"
        );
        assert!(two.fitting(0).starts_with("no expansion would fit"));
    }
}
