//! Results as files for other programs.

use std::path::Path;

use serde_json::{Value, json};

use super::{Setting, SweepResults, SweepRun};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::eval::Measure;
use crate::train::{Speedup, in_words};

impl SweepResults {
    /// Writes one line a run as comma-separated values: its place in the grid, its seed, every
    /// figure with position 0 left out and, under names that end in `_with_bos`, counted, and how
    /// many times sooner than the baseline it was.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_csv(&self, path: impl AsRef<Path>) -> Result<()> {
        let text = self.csv()?;
        files::write_atomic(path.as_ref(), |out| out.write_all(text.as_bytes()))
    }

    /// Writes the same as JSON: an object with the sweep's model and settings, and `runs`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_json(&self, path: impl AsRef<Path>) -> Result<()> {
        let runs: Vec<Value> = self.runs.iter().map(|run| self.object(run)).collect();
        let all = json!({
            "model": self.plan.model,
            "processing": self.plan.processing,
            "n_layers": self.plan.n_layers,
            "train": self.plan.train,
            "held_out_tokens": self.plan.text_tokens,
            "baseline": self.plan.baseline,
            "runs": runs,
            "failed": self.failed,
        });
        files::write_json(path.as_ref(), &all)
    }

    fn object(&self, run: &SweepRun) -> Value {
        json!({
            "setting": run.setting,
            "seed": run.seed,
            "name": run.name,
            "without_bos": run.metrics,
            "with_bos": run.with_bos,
            "speedup": run.speedup,
        })
    }

    fn csv(&self) -> Result<String> {
        let mut further: Vec<&str> = Vec::new();
        for (axis, _) in self.runs.iter().flat_map(|run| &run.setting.also) {
            if !further.contains(&axis.as_str()) {
                further.push(axis);
            }
        }
        let mut header: Vec<String> =
            ["hook", "layer", "arm", "k", "expansion", "lr"].map(str::to_owned).to_vec();
        header.extend(further.iter().map(|axis| (*axis).to_owned()));
        header.push("seed".to_owned());
        for suffix in ["", "_with_bos"] {
            for measure in Measure::ALL {
                header.push(key(measure)? + suffix);
            }
        }
        header.extend(["sooner_nmse", "sooner_ce_added"].map(str::to_owned));
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let mut out = line(&header);
        for run in &self.runs {
            let Setting { hook, arm, k, expansion, lr, .. } = &run.setting;
            let mut cells = vec![
                hook.to_string(),
                hook.layer.to_string(),
                arm.clone(),
                number(k.map(|k| k as f64)),
                expansion.to_string(),
                lr.to_string(),
            ];
            cells.extend(further.iter().map(|axis| number(run.setting.get(axis))));
            cells.push(run.seed.to_string());
            for metrics in [&run.metrics, &run.with_bos] {
                cells.extend(Measure::ALL.map(|measure| metrics.get(measure).to_string()));
            }
            // Empty where there is nothing to compare with.
            let sooner = |factor: fn(&Speedup) -> Option<f64>| {
                let factor = run.speedup.as_ref().map(|speedup| in_words(factor(speedup)));
                factor
                    .map_or(String::new(), |it| it.map_or_else(str::to_owned, |it| it.to_string()))
            };
            cells.extend([sooner(|speedup| speedup.nmse), sooner(|speedup| speedup.ce_added)]);
            out += &line(&cells);
        }
        Ok(out)
    }
}

/// The name of a measure in files: "ce_added".
fn key(measure: Measure) -> Result<String> {
    let value = serde_json::to_value(measure).map_err(Error::json("measure"))?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// A line as RFC 4180 has it, but for its end, which is a line feed.
fn line(cells: &[String]) -> String {
    let quoted = |cell: &String| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}
