//! Parts of results: some arms, one value of an axis, the best value of an axis.

use super::grid::Setting;
use super::{SweepResults, SweepRow};
use crate::base::error::{Error, Result};
use crate::display::Best;
use crate::eval::Measure;

/// The axes that every run has.
const COMMON: [&str; 3] = ["k", "expansion", "lr"];

impl SweepResults {
    /// Only the runs of these arms.
    ///
    /// # Errors
    /// [`Error::UnknownRun`] for an arm without any run.
    pub fn of_arms(mut self, arms: &[&str]) -> Result<SweepResults> {
        let there = self.arms();
        if let Some(unknown) = arms.iter().find(|arm| !there.iter().any(|known| known == *arm)) {
            return Err(Error::UnknownRun { name: (*unknown).to_owned(), there });
        }
        self.runs.retain(|run| arms.contains(&run.setting.arm.as_str()));
        Ok(self)
    }

    /// Only the runs with this value along an axis, "k", "expansion", "lr" or a further one; runs
    /// that do not have the axis stay.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such axis, or no run with that value.
    pub fn at(mut self, axis: &str, value: f64) -> Result<SweepResults> {
        self.check_axis(axis)?;
        if !self.runs.iter().any(|run| run.setting.get(axis) == Some(value)) {
            let mut there: Vec<f64> =
                self.runs.iter().filter_map(|run| run.setting.get(axis)).collect();
            there.sort_by(f64::total_cmp);
            there.dedup();
            return Err(Error::config(
                "at",
                format!("no run has {axis} = {value}; the values are {there:?}"),
            ));
        }
        self.runs.retain(|run| run.setting.get(axis).is_none_or(|own| own == value));
        Ok(self)
    }

    /// Of the rows that differ only along this axis, the best by its mean: `results.best_over("lr",
    /// Measure::Nmse)`.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such axis.
    pub fn best_over(mut self, axis: &str, measure: Measure) -> Result<SweepResults> {
        self.check_axis(axis)?;
        let rows = self.rows();
        let is_best = |row: &SweepRow| {
            let rivals = rows
                .iter()
                .filter(|other| without(&other.setting, axis) == without(&row.setting, axis));
            best(rivals, measure).is_some_and(|best| best.setting == row.setting)
        };
        let kept: Vec<Setting> =
            rows.iter().filter(|row| is_best(row)).map(|row| row.setting.clone()).collect();
        self.runs.retain(|run| kept.contains(&run.setting));
        match self.plan.baseline.clone() {
            Some(arm) if self.arms().contains(&arm) => self.with_baseline(&arm),
            _ => Ok(self),
        }
    }

    /// The row with the best mean; none without any run.
    pub fn best_by(&self, measure: Measure) -> Option<SweepRow> {
        best(self.rows().iter(), measure).cloned()
    }

    /// The axes along which runs of one arm differ.
    pub(super) fn varied(&self) -> Vec<String> {
        let mut axes: Vec<String> = COMMON.map(str::to_owned).to_vec();
        for (axis, _) in self.runs.iter().flat_map(|run| &run.setting.also) {
            if !axes.contains(axis) {
                axes.push(axis.clone());
            }
        }
        axes.retain(|axis| {
            let values: Vec<(&str, Option<f64>)> = self
                .runs
                .iter()
                .map(|run| (run.setting.arm.as_str(), run.setting.get(axis)))
                .collect();
            values.iter().any(|(arm, value)| {
                values.iter().any(|(other, another)| arm == other && value != another)
            })
        });
        axes
    }

    fn check_axis(&self, axis: &str) -> Result<()> {
        let known = self.runs.iter().any(|run| run.setting.get(axis).is_some());
        let further: Vec<&str> = self
            .runs
            .iter()
            .flat_map(|run| &run.setting.also)
            .map(|(axis, _)| axis.as_str())
            .collect();
        if known || COMMON.contains(&axis) {
            return Ok(());
        }
        Err(Error::config(
            "axis",
            format!("there is no axis \"{axis}\"; the axes are {COMMON:?} and {further:?}"),
        ))
    }
}

/// The place without its value along an axis.
fn without(setting: &Setting, axis: &str) -> Setting {
    let mut setting = setting.clone();
    match axis {
        "k" => setting.k = None,
        "expansion" => setting.expansion = 0,
        "lr" => setting.lr = 0.0,
        other => setting.also.retain(|(name, _)| name != other),
    }
    setting
}

/// The best row by its mean; the first of equals. What has no better end is taken to be the better
/// the lower it is.
fn best<'a>(rows: impl Iterator<Item = &'a SweepRow>, measure: Measure) -> Option<&'a SweepRow> {
    let sign = if measure.best() == Best::Highest { -1.0 } else { 1.0 };
    // What is no number is no better than any.
    let key = |row: &SweepRow| Some(sign * row.spread(measure).mean).filter(|mean| !mean.is_nan());
    rows.min_by(|a, b| key(a).unwrap_or(f64::INFINITY).total_cmp(&key(b).unwrap_or(f64::INFINITY)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::super::SweepRun;
    use super::*;
    use crate::eval::BySequence;
    use crate::model::HookPoint;
    use crate::train::History;

    fn row(arm: &str, figure: f64) -> SweepRow {
        let name = |measure: Measure| json!(measure).as_str().unwrap_or_default().to_owned();
        let figure = if figure.is_finite() { json!(figure) } else { json!(figure.to_string()) };
        let mut all: Map<String, Value> =
            Measure::ALL.map(|measure| (name(measure), figure.clone())).into_iter().collect();
        all.insert("tokens".to_owned(), json!(1));
        let metrics = serde_json::from_value(Value::Object(all)).unwrap();
        let hook = HookPoint::resid_pre(1);
        let (k, expansion, lr, also) = (Some(4), 2, 1e-3, Vec::new());
        let setting = Setting { hook, arm: arm.to_owned(), k, expansion, lr, also };
        let run = SweepRun {
            setting: setting.clone(),
            seed: 0,
            name: arm.to_owned(),
            dir: "x".into(),
            metrics,
            with_bos: metrics,
            by_sequence: BySequence::default(),
            history: History::default(),
            speedup: None,
        };
        SweepRow { setting, runs: vec![run] }
    }

    #[test]
    fn what_is_no_number_is_never_the_best() {
        let rows = [row("none", f64::NAN), row("low", 0.1), row("high", 0.9)];
        let best = |measure| best(rows.iter(), measure).map(|row| row.setting.arm.as_str());
        assert_eq!(best(Measure::Nmse), Some("low"));
        assert_eq!(best(Measure::LossRecovered), Some("high"));
        assert!(super::best(rows[..1].iter(), Measure::Nmse).is_some(), "it is all there is");
    }
}
