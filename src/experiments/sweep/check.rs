//! What is wrong with a sweep, as far as it can be known before anything is trained.

use super::arm::Axis;
use super::{Sweep, grid};
use crate::base::error::{Error, Result};
use crate::train::check_name;

/// More than anybody waits for, and few enough to list at once.
const MOST_RUNS: usize = 100_000;

impl Sweep {
    /// Checks all that can be known before anything is trained.
    pub(super) fn check(&self) -> Result<()> {
        let model = &self.text()?.0;
        self.acts.check_model(
            model,
            "sweep with the model and processing that the activations came from",
        )?;
        for (field, what, n) in [
            ("hooks", "hook", self.hooks.len()),
            ("seeds", "seed", self.seeds.len()),
            ("arm", "arm", self.arms.len()),
        ] {
            if n == 0 {
                return Err(Error::config(
                    field,
                    format!("there is no {what} to run: give at least one"),
                ));
            }
        }
        self.hooks.iter().try_for_each(|&hook| self.acts.check_hook(hook))?;
        for arm in &self.arms {
            check_name(&arm.name)?;
            arm.axes.iter().try_for_each(Axis::check)?;
        }
        self.axes.iter().try_for_each(Axis::check)?;
        self.axes
            .iter()
            .chain(self.arms.iter().flat_map(|arm| &arm.axes))
            .try_for_each(|axis| check_name(&axis.name))?;
        let of_streams =
            |arm| grid::n_combinations(arm, &self.axes).saturating_mul(self.n_streams());
        let runs = self.arms.iter().map(of_streams).fold(0, usize::saturating_add);
        if runs > MOST_RUNS {
            return Err(Error::config(
                "arms",
                format!(
                    "{runs} runs; at most {MOST_RUNS} make a sweep: vary fewer values with each other"
                ),
            ));
        }
        match &self.baseline {
            Some(name) if !self.arms.iter().any(|arm| arm.name == *name) => {
                Err(Error::UnknownRun {
                    name: name.clone(),
                    there: self.arms.iter().map(|arm| arm.name.clone()).collect(),
                })
            }
            _ => Ok(()),
        }
    }
}
