//! The whole state of a run in one file, so that a killed run goes on and ends with the same bytes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::History;
use super::job::{Job, Sums};
use crate::arrays::{self, Arrays};
use crate::error::{Error, Result};
use crate::kernel::adam::Moments;

/// What stands beside the arrays.
#[derive(Serialize, Deserialize)]
struct About {
    key: String,
    steps: u64,
    /// The sums since the last point of the history, as bits: a JSON number would not hold them exactly.
    sums: [u64; 3],
    history: History,
}

/// Writes the state of `job`, in one atomic step.
pub(super) fn save(path: &Path, job: &Job) -> Result<()> {
    let (d, d_sae) = (job.sae.d_model(), job.sae.d_sae());
    let fired: Vec<f32> = job.fired_at.iter().map(|&step| step as f32).collect(); // below 2^24 steps, hence exact
    let (sae, state) = (&job.sae, &job.state);
    let mut all = vec![
        ("W_enc", vec![d_sae, d], &sae.w_enc[..]),
        ("b_enc", vec![d_sae], &sae.b_enc[..]),
        ("W_dec", vec![d_sae, d], &sae.w_dec[..]),
        ("b_dec", vec![d], &sae.b_dec[..]),
        ("W_enc.m", vec![d_sae, d], &state.w_enc.m[..]),
        ("W_enc.v", vec![d_sae, d], &state.w_enc.v[..]),
        ("b_enc.m", vec![d_sae], &state.b_enc.m[..]),
        ("b_enc.v", vec![d_sae], &state.b_enc.v[..]),
        ("W_dec.m", vec![d_sae, d], &state.w_dec.m[..]),
        ("W_dec.v", vec![d_sae, d], &state.w_dec.v[..]),
        ("b_dec.m", vec![d], &state.b_dec.m[..]),
        ("b_dec.v", vec![d], &state.b_dec.v[..]),
        ("fired_at", vec![d_sae], &fired[..]),
    ];
    if let (Some(table), Some(moments)) = (&sae.lookup, &state.lookup) {
        let shape = vec![table.len() / d, d];
        all.push(("W_lookup", shape.clone(), table));
        all.push(("W_lookup.m", shape.clone(), &moments.m));
        all.push(("W_lookup.v", shape, &moments.v));
    }
    let sums = [job.sums.loss, job.sums.nmse, job.sums.l0].map(f64::to_bits);
    let about = About { key: job.key.clone(), steps: state.steps, sums, history: job.history.clone() };
    arrays::save(path, &all, &serde_json::to_string(&about).map_err(Error::json("checkpoint"))?)
}

/// Puts the state in `path` into a fresh `job`. False if it belongs to other settings.
pub(super) fn load(path: &Path, job: &mut Job) -> Result<bool> {
    let mut file = Arrays::load(path)?;
    let text = file.about.take().ok_or_else(|| Error::format(path, "is no checkpoint of this crate: delete it to start this run anew"))?;
    let about: About = serde_json::from_str(&text).map_err(Error::json(path.display()))?;
    if about.key != job.key {
        return Ok(false);
    }
    let (d, d_sae) = (job.sae.d_model(), job.sae.d_sae());
    let mut moments = |name: &str, shape: &[usize]| -> Result<(Vec<f32>, Moments)> {
        let (m, v) = (file.take(&format!("{name}.m"), shape)?, file.take(&format!("{name}.v"), shape)?);
        Ok((file.take(name, shape)?, Moments { m, v }))
    };
    (job.sae.w_enc, job.state.w_enc) = moments("W_enc", &[d_sae, d])?;
    (job.sae.b_enc, job.state.b_enc) = moments("b_enc", &[d_sae])?;
    (job.sae.w_dec, job.state.w_dec) = moments("W_dec", &[d_sae, d])?;
    (job.sae.b_dec, job.state.b_dec) = moments("b_dec", &[d])?;
    if job.state.lookup.is_some() {
        let (table, state) = moments("W_lookup", &[job.sae.config.d_vocab, d])?;
        (job.sae.lookup, job.state.lookup) = (Some(table), Some(state));
    }
    job.fired_at = file.take("fired_at", &[d_sae])?.into_iter().map(|step| step as u32).collect();
    job.state.steps = about.steps;
    let [loss, nmse, l0] = about.sums.map(f64::from_bits);
    job.sums = Sums { loss, nmse, l0 };
    job.history = about.history;
    Ok(true)
}
