//! The points of a grid, their names and their order.

use serde::{Deserialize, Serialize};

use super::arm::{Arm, Axis};
use crate::base::error::{Error, Result};
use crate::model::HookPoint;
use crate::sae::SaeConfig;

/// A place in the grid of a sweep: all that tells its runs from others, but for the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The hook.
    pub hook: HookPoint,
    /// The name of the arm.
    pub arm: String,
    /// Active latents per token; none where the architecture leaves that to a penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Latents per dimension.
    pub expansion: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// The values of further axes, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<(String, f64)>,
}

impl Setting {
    /// The value along an axis: "k", "expansion", "lr", or a further one by its name.
    pub fn get(&self, axis: &str) -> Option<f64> {
        match axis {
            "k" => self.k.map(|k| k as f64),
            "expansion" => Some(self.expansion as f64),
            "lr" => Some(self.lr),
            other => self.also.iter().find(|(name, _)| name == other).map(|(_, value)| *value),
        }
    }

    /// How a value along an axis is written.
    pub(super) fn written(axis: &str, value: f64) -> String {
        let size = value.abs();
        if axis == "lr" || (size != 0.0 && !(1e-3..1e6).contains(&size)) {
            format!("{value:e}")
        } else {
            value.to_string()
        }
    }
}

/// One run of a sweep: a place in its grid and a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    #[serde(flatten)]
    pub setting: Setting,
    pub seed: u64,
    /// Its name, which is its folder's.
    pub name: String,
}

/// One value on each of several axes.
pub(super) type Values = Vec<(Axis, f64)>;

/// The axes that mean something to an arm: the sweep's, with the arm's own in the place of those of
/// the same name, and then the arm's others.
pub(super) fn axes_of(arm: &Arm, common: &[Axis]) -> Vec<Axis> {
    let mut axes = common.to_vec();
    arm.axes.iter().for_each(|own| super::arm::add(&mut axes, own.clone()));
    axes.retain(|axis| (axis.applies)(&arm.base));
    axes
}

/// Every combination of the values of the axes of an arm; the last axis is the first to move on.
pub(super) fn combinations(arm: &Arm, common: &[Axis]) -> Vec<Values> {
    let mut all: Vec<Values> = vec![Vec::new()];
    for axis in axes_of(arm, common) {
        let longer = |values: Values| {
            axis.values
                .iter()
                .map(|&value| [&values[..], &[(axis.clone(), value)]].concat())
                .collect::<Vec<_>>()
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

/// How many runs an arm comes to, for one hook and one seed.
pub(super) fn n_combinations(arm: &Arm, common: &[Axis]) -> usize {
    axes_of(arm, common).iter().fold(1, |n, axis| n.saturating_mul(axis.values.len()))
}

/// The configuration of a run, from that of its arm at its hook; `lr` is that of a configuration
/// that has none of its own.
pub(super) fn config(
    at_hook: &SaeConfig,
    values: &Values,
    seed: u64,
    lr: f64,
) -> Result<SaeConfig> {
    let sae =
        values.iter().try_fold(at_hook.clone(), |sae, (axis, value)| axis.applied(sae, *value))?;
    let lr = sae.lr.unwrap_or(lr);
    Ok(SaeConfig { seed, lr: Some(lr), ..sae })
}

/// The run of an arm with these values. `sae` is its configuration, with or without what it gets at
/// the hook.
pub(super) fn point(hook: HookPoint, arm: &str, values: &Values, sae: &SaeConfig) -> Point {
    let known = |axis: &str| ["k", "expansion", "lr"].contains(&axis);
    let also = values
        .iter()
        .filter(|(axis, _)| !known(&axis.name))
        .map(|(axis, value)| (axis.name.clone(), *value))
        .collect();
    let k = sae.architecture.uses_k().then_some(sae.k);
    let setting = Setting {
        hook,
        arm: arm.to_owned(),
        k,
        expansion: sae.expansion,
        lr: sae.lr.unwrap_or(f64::NAN),
        also,
    };
    let written = |axis: &str, value: f64| format!("{axis}={}", Setting::written(axis, value));
    let mut words = vec![arm.to_owned()];
    words.extend(k.map(|k| written("k", k as f64)));
    words.extend([written("expansion", sae.expansion as f64), written("lr", setting.lr)]);
    words.extend(setting.also.iter().map(|(axis, value)| written(axis, *value)));
    words.push(format!("seed={}", sae.seed));
    Point { name: words.join(" "), seed: sae.seed, setting }
}

/// Checks that no two runs have the same folder.
pub(super) fn check_names<'a>(points: impl Iterator<Item = &'a Point>) -> Result<()> {
    let mut places: Vec<(HookPoint, &str)> =
        points.map(|point| (point.setting.hook, point.name.as_str())).collect();
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let why = format!(
                "two runs at {} would both be called \"{}\": give the arms different names",
                pair[0].0, pair[0].1
            );
            Err(Error::config("arms", why))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::Architecture;

    fn points(arm: &Arm, common: &[Axis]) -> Vec<Point> {
        let combinations = combinations(arm, common).into_iter();
        combinations
            .map(|values| {
                point(
                    HookPoint::resid_pre(1),
                    "SAE",
                    &values,
                    &config(&arm.base, &values, 3, 1e-4).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_last_axis_moves_first_and_names_say_every_value() {
        let arm = Arm::new("SAE", SaeConfig::new(16, 8)).expansions(&[2]);
        let names: Vec<String> = points(&arm, &[Axis::ks(&[5, 10]), Axis::lrs(&[1e-3, 3e-3])])
            .into_iter()
            .map(|point| point.name)
            .collect();
        let want = [
            "SAE k=5 expansion=2 lr=1e-3 seed=3",
            "SAE k=5 expansion=2 lr=3e-3 seed=3",
            "SAE k=10 expansion=2 lr=1e-3 seed=3",
            "SAE k=10 expansion=2 lr=3e-3 seed=3",
        ];
        assert_eq!(names, want);
    }

    #[test]
    fn an_arm_has_its_own_values_in_the_place_of_the_sweeps() {
        let arm = Arm::new("SAE", SaeConfig::new(16, 8)).ks(&[7]).vary(
            "relu",
            &[0.0, 1.0],
            |sae, relu| Ok(SaeConfig { relu: relu > 0.5, ..sae }),
        );
        let all = points(&arm, &[Axis::ks(&[5, 10])]);
        assert_eq!(all.iter().map(|point| point.setting.k).collect::<Vec<_>>(), [Some(7), Some(7)]);
        assert_eq!(all[1].setting.also, [("relu".to_owned(), 1.0)]);
        assert_eq!(all[1].name, "SAE k=7 expansion=16 lr=1e-4 relu=1 seed=3");
        assert_eq!(
            (all[1].setting.get("relu"), all[1].setting.get("k"), all[1].setting.get("l1")),
            (Some(1.0), Some(7.0), None)
        );
        let values = &combinations(&arm, &[])[1];
        assert!(config(&arm.base, values, 3, 1e-4).unwrap().relu);
    }

    #[test]
    fn an_axis_is_applied_where_it_means_something() {
        let sae = SaeConfig::new(16, 8);
        let common = [Axis::ks(&[5, 10]), Axis::penalties(&[0.5, 1.0, 2.0])];
        assert_eq!(points(&Arm::new("SAE", sae.clone()), &common).len(), 2);
        for architecture in [
            Architecture::Relu { l1: 9.0 },
            Architecture::Gated { l1: 9.0 },
            Architecture::jump_relu(9.0),
        ] {
            let arm = Arm::new("SAE", sae.clone().with_architecture(architecture));
            let all = points(&arm, &common);
            assert_eq!(
                all.iter().map(|point| point.setting.get("penalty")).collect::<Vec<_>>(),
                [Some(0.5), Some(1.0), Some(2.0)]
            );
            assert_eq!(
                (all[2].name.as_str(), all[2].setting.k),
                ("SAE expansion=16 lr=1e-4 penalty=2 seed=3", None)
            );
            let made =
                config(&arm.base, &combinations(&arm, &common)[2], 3, 1e-4).unwrap().architecture;
            let (Architecture::Relu { l1: got }
            | Architecture::Gated { l1: got }
            | Architecture::JumpRelu { l0: got, .. }) = made
            else {
                panic!("{made:?}")
            };
            assert_eq!((got, made.name()), (2.0, architecture.name()));
        }
    }

    #[test]
    fn two_runs_of_one_name_are_refused() {
        let arm = Arm::new("SAE", SaeConfig::new(16, 8)).vary("x", &[1.0, 2.0], |sae, _| Ok(sae));
        let mut all = points(&arm, &[]);
        check_names(all.iter()).unwrap();
        all[1].name = all[0].name.clone();
        assert!(
            check_names(all.iter()).unwrap_err().to_string().contains("both be called \"SAE k=30")
        );
    }
}
