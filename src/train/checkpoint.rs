//! The whole state of a run in one file, so that a killed run resumes and ends with the same bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::History;
use super::job::{Job, Sums};
use crate::backend::AdamState;
use crate::backend::adam::Moments;
use crate::base::error::{Error, Result};
use crate::formats::arrays::{self, Arrays};
use crate::sae::Sae;

/// What stands beside the arrays.
#[derive(Serialize, Deserialize)]
struct About {
    key: String,
    steps: u64,
    /// The sums since the last point of the history, as bits: a JSON number would not hold them
    /// exactly.
    sums: [u64; 3],
    history: History,
}

/// A parameter's name, its shape, itself and its moments.
type Parameter<'a> = (&'static str, Vec<usize>, &'a mut Vec<f32>, Option<&'a mut Moments>);

/// Everything that training moves.
fn parameters<'a>(sae: &'a mut Sae, state: &'a mut AdamState) -> Vec<Parameter<'a>> {
    let (d, d_sae) = (sae.d_model(), sae.d_sae());
    let mut all: Vec<Parameter<'a>> = vec![
        ("W_enc", vec![d_sae, d], &mut sae.w_enc, Some(&mut state.w_enc)),
        ("b_enc", vec![d_sae], &mut sae.b_enc, Some(&mut state.b_enc)),
        ("W_dec", vec![d_sae, d], &mut sae.w_dec, Some(&mut state.w_dec)),
        ("b_dec", vec![d], &mut sae.b_dec, Some(&mut state.b_dec)),
    ];
    // Empty where the architecture has none; the one threshold of a BatchTopK SAE follows its
    // codes, without moments.
    let some = [
        ("threshold", &mut sae.threshold, &mut state.threshold),
        ("r_mag", &mut sae.r_mag, &mut state.r_mag),
        ("b_mag", &mut sae.b_mag, &mut state.b_mag),
    ];
    for (name, values, moments) in some.into_iter().filter(|(_, values, _)| !values.is_empty()) {
        let moments = (moments.m.len() == values.len()).then_some(moments);
        all.push((name, vec![values.len()], values, moments));
    }
    if let (Some(table), Some(moments)) = (&mut sae.lookup, &mut state.lookup) {
        all.push(("W_lookup", vec![table.len() / d, d], table, Some(moments)));
    }
    all
}

/// A checksum over what the next steps of `job` depend on.
pub(super) fn checksum(job: &mut Job) -> [u64; 4] {
    let mut hash = Sha256::new();
    hash.update(&job.key);
    hash.update(job.state.steps.to_le_bytes());
    hash.update(bytemuck::cast_slice::<u32, u8>(&job.fired_at));
    if let (Some(frozen), None) = (&job.sae.lookup, &job.state.lookup) {
        hash.update(bytemuck::cast_slice::<f32, u8>(frozen));
    }
    for (_, _, values, moments) in parameters(&mut job.sae, &mut job.state) {
        hash.update(bytemuck::cast_slice::<f32, u8>(values));
        if let Some(moments) = moments {
            hash.update(bytemuck::cast_slice::<f32, u8>(&moments.m));
            hash.update(bytemuck::cast_slice::<f32, u8>(&moments.v));
        }
    }
    bytemuck::pod_read_unaligned(&hash.finalize())
}

/// Writes the state of `job`, in one atomic step.
pub(super) fn save(path: &Path, job: &mut Job) -> Result<()> {
    let d_sae = job.sae.d_sae();
    let fired: Vec<f32> = job.fired_at.iter().map(|&step| step as f32).collect(); // below 2^24 steps, hence exact
    let sums = [job.sums.loss, job.sums.nmse, job.sums.l0].map(f64::to_bits);
    let about =
        About { key: job.key.clone(), steps: job.state.steps, sums, history: job.history.clone() };
    let all = parameters(&mut job.sae, &mut job.state);
    let names: Vec<[String; 3]> =
        all.iter().map(|(name, ..)| ["", ".m", ".v"].map(|end| format!("{name}{end}"))).collect();
    let mut arrays = vec![("fired_at", vec![d_sae], &fired[..])];
    for ((_, shape, values, moments), [name, m, v]) in all.iter().zip(&names) {
        arrays.push((name, shape.clone(), values));
        if let Some(moments) = moments {
            arrays.push((m, shape.clone(), &moments.m));
            arrays.push((v, shape.clone(), &moments.v));
        }
    }
    arrays::save(path, &arrays, &serde_json::to_string(&about).map_err(Error::json("checkpoint"))?)
}

/// Puts the state in `path` into a fresh `job` of this many steps. False if it belongs to other
/// settings.
pub(super) fn load(path: &Path, job: &mut Job, steps: u64) -> Result<bool> {
    let mut file = Arrays::load(path)?;
    let text = file.about.take().ok_or_else(|| {
        Error::format(path, "is not a checkpoint of this crate: delete it to restart this run")
    })?;
    let about: About = serde_json::from_str(&text).map_err(Error::json(path.display()))?;
    if about.key != job.key {
        return Ok(false);
    }
    for (name, shape, values, moments) in parameters(&mut job.sae, &mut job.state) {
        *values = file.take(name, &shape)?;
        if let Some(moments) = moments {
            *moments = Moments {
                m: file.take(&format!("{name}.m"), &shape)?,
                v: file.take(&format!("{name}.v"), &shape)?,
            };
        }
    }
    job.fired_at =
        file.take("fired_at", &[job.sae.d_sae()])?.into_iter().map(|step| step as u32).collect();
    job.state.steps = about.steps;
    let last = job.fired_at.iter().copied().max().unwrap_or(0);
    if about.steps > steps || u64::from(last) > about.steps {
        let why = format!(
            "is of {} steps and a latent that fired after {last}, in a run of {steps}: delete it to restart this run",
            about.steps
        );
        return Err(Error::format(path, why));
    }
    let [loss, nmse, l0] = about.sums.map(f64::from_bits);
    job.sums = Sums { loss, nmse, l0 };
    job.history = about.history;
    Ok(true)
}
