//! How often a probe is right.

use serde::Serialize;

use super::task::Task;
use crate::base::error::by_name;
use crate::base::number;
use crate::model::HookPoint;

/// What a probe reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The activation itself `[d_model]`: what is there to be found.
    Activation,
    /// So many latents of the SAE, chosen for the task.
    Latents(usize),
    /// What the SAE's table adds to the reconstruction `[d_model]`.
    Table,
    /// Both: so many latents, and what the table adds.
    LatentsAndTable(usize),
}

/// One probe: one class of a task against the rest, as many of the class as of the rest, on
/// positions that it has not learned from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProbeScore {
    /// What was asked.
    pub task: Task,
    /// The class that is told from the rest: a letter, or "yes".
    pub class: String,
    /// What the probe reads.
    pub input: Input,
    /// Positions that it learned from.
    pub train: usize,
    /// Positions that it was tried on.
    pub test: usize,
    /// Share of these on which it is right; a guess has one half.
    #[serde(with = "number")]
    pub accuracy: f64,
    /// 2 · hits / (2 · hits + false alarms + misses), of the class; "always yes" has 2/3.
    #[serde(with = "number")]
    pub f1: f64,
    /// The latents that it reads, those that tell most first.
    pub latents: Vec<usize>,
}

/// All probes on one SAE.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeProbes {
    /// The SAE's name.
    pub name: String,
    /// Each of them.
    pub scores: Vec<ProbeScore>,
}

/// What probes find in the activations, and in the latents of some SAEs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Probes {
    /// The model's name.
    pub model: String,
    /// How its weights were processed.
    pub processing: String,
    /// The hook.
    pub hook: HookPoint,
    /// Tokens among which positions were chosen.
    pub tokens: usize,
    /// The probes on the activations themselves.
    pub activations: Vec<ProbeScore>,
    /// Those on each SAE.
    pub saes: Vec<SaeProbes>,
}

by_name!(Probes, saes: SaeProbes, "SAE");

impl Probes {
    /// Mean accuracy of the probes on the activations, over the classes of a task; `None` if the
    /// text has too few examples of any.
    pub fn accuracy(&self, task: Task) -> Option<f64> {
        mean(&self.activations, task, Input::Activation, |it| it.accuracy)
    }
}

impl SaeProbes {
    /// Mean accuracy over the classes of a task; `None` if there is no such probe.
    pub fn accuracy(&self, task: Task, input: Input) -> Option<f64> {
        mean(&self.scores, task, input, |it| it.accuracy)
    }

    /// Mean F1 over the classes of a task; `None` if there is no such probe.
    pub fn f1(&self, task: Task, input: Input) -> Option<f64> {
        mean(&self.scores, task, input, |it| it.f1)
    }
}

pub(super) fn mean(
    scores: &[ProbeScore],
    task: Task,
    input: Input,
    value: impl Fn(&ProbeScore) -> f64,
) -> Option<f64> {
    let scores = scores.iter().filter(|it| it.task == task && it.input == input);
    let values: Vec<f64> = scores.map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Answers against labels.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::latents) struct Confusion {
    hits: usize,
    false_alarms: usize,
    misses: usize,
    rejections: usize,
}

impl Confusion {
    pub fn of(answers: impl IntoIterator<Item = (bool, bool)>) -> Confusion {
        let mut found = Confusion::default();
        for (said, label) in answers {
            *match (said, label) {
                (true, true) => &mut found.hits,
                (true, false) => &mut found.false_alarms,
                (false, true) => &mut found.misses,
                (false, false) => &mut found.rejections,
            } += 1;
        }
        found
    }

    pub fn accuracy(self) -> f64 {
        let right = self.hits + self.rejections;
        right as f64 / (right + self.false_alarms + self.misses) as f64
    }

    /// 0 if there is nothing to hit.
    pub fn f1(self) -> f64 {
        2.0 * self.hits as f64 / (2 * self.hits + self.false_alarms + self.misses).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_and_f1_are_those_of_counts() {
        let answers = [(true, true), (true, true), (true, false), (false, true), (false, false)];
        let found = Confusion::of(answers);
        assert!((found.accuracy() - 0.6).abs() < 1e-12 && (found.f1() - 4.0 / 6.0).abs() < 1e-12);
        assert_eq!(Confusion::of([(false, false)]).f1(), 0.0);
    }
}
