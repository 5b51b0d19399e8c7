//! Shares of work: which of how many parts a process does, as it is told or as an engine's
//! environment says.

use std::fmt;

use crate::base::error::{Error, Result};

/// One of some shares that together are all of the work, and of which no two have anything in
/// common.
///
/// ```
/// use tokenized_sae::Share;
/// let second = Share::new(2, 8)?;
/// assert_eq!((second.number(), second.of()), (2, 8));
/// assert!(Share::new(9, 8).is_err());
/// # Ok::<(), tokenized_sae::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    number: usize,
    of: usize,
}

/// Where an engine says which task of a job a process is: the variable, the number of the first
/// task, and whose it is. HyperQueue's workers may themselves be tasks of Slurm, whose variables
/// theirs then inherit, so it comes first.
const TASKS: [(&str, usize, &str); 3] = [
    ("HQ_TASK_ID", 1, "a HyperQueue array"),
    ("JOB_COMPLETION_INDEX", 0, "a Kubernetes Indexed Job"),
    (SLURM, 1, "a Slurm array"),
];

const SLURM: &str = "SLURM_ARRAY_TASK_ID";

/// Looks a variable of the environment up.
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Share {
    /// The share of this number, counted from 1.
    ///
    /// # Errors
    /// [`Error::Config`] unless `1 ≤ number ≤ of`.
    pub fn new(number: usize, of: usize) -> Result<Share> {
        if number == 0 || number > of {
            let why = format!("{number}/{of} is not a share: give 1/{of} to {of}/{of}");
            return Err(Error::config("only", why));
        }
        Ok(Share { number, of })
    }

    /// The share of the task of a job array that this process is, of `of` shares.
    ///
    /// The number is that of the task: `SLURM_ARRAY_TASK_ID` and `HQ_TASK_ID`, counted from 1, or
    /// Kubernetes' `JOB_COMPLETION_INDEX`, counted from 0. How many shares there are, only Slurm
    /// says; without `of`, the task is counted from the first of its array,
    /// `SLURM_ARRAY_TASK_MIN`, among `SLURM_ARRAY_TASK_COUNT`.
    ///
    /// # Errors
    /// [`Error::Config`] with what was looked for, if this process is no task of an array, or
    /// nothing says how many shares there are, or the number is none of them.
    pub fn of_task(of: Option<usize>) -> Result<Share> {
        Share::of_task_in(of, &|name| std::env::var(name).ok())
    }

    fn of_task_in(of: Option<usize>, variable: Variable<'_>) -> Result<Share> {
        let found = TASKS.into_iter().find_map(|task| Some((task, variable(task.0)?)));
        let Some(((name, first, whose), value)) = found else {
            let names = TASKS.map(|(name, _, whose)| format!("{name} ({whose})")).join(", ");
            return Err(refused(format!(
                "this process is no task of a job array: none of {names} is set; write the share as I/N, such as 2/8"
            )));
        };
        let task = number(name, &value)?;
        match of {
            Some(of) => match (task + 1).checked_sub(first) {
                Some(number) if 1 <= number && number <= of => Share::new(number, of),
                _ => Err(refused(format!(
                    "{name} is {task}, and tasks of {of} shares are {first} to {}: number them so",
                    (of + first).saturating_sub(1)
                ))),
            },
            None if name == SLURM => of_slurm(task, variable),
            None => Err(refused(format!(
                "{name} is {task}, but {whose} does not say how many tasks it has: write auto/N, such as auto/8"
            ))),
        }
    }

    /// Its number, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many shares there are.
    pub fn of(&self) -> usize {
        self.of
    }
}

/// The share of a task of a Slurm array whose numbers have no gaps.
fn of_slurm(task: usize, variable: Variable<'_>) -> Result<Share> {
    let read = |name: &str| match variable(name) {
        Some(value) => number(name, &value),
        None => Err(refused(format!(
            "{SLURM} is {task}, but {name} is not set, so nothing says how many tasks there are: write auto/N, such as auto/8"
        ))),
    };
    let (min, count) = (read("SLURM_ARRAY_TASK_MIN")?, read("SLURM_ARRAY_TASK_COUNT")?);
    let max = variable("SLURM_ARRAY_TASK_MAX")
        .map_or(Ok(min + count.saturating_sub(1)), |max| number("SLURM_ARRAY_TASK_MAX", &max))?;
    // A part of an array, submitted again by its numbers, is not a smaller array.
    if max < min || max - min + 1 != count || !(min..=max).contains(&task) {
        return Err(refused(format!(
            "the array has {count} tasks between {min} and {max}, and only one without gaps can be counted: write auto/N, with tasks 1 to N"
        )));
    }
    Share::new(task - min + 1, count)
}

fn number(name: &str, value: &str) -> Result<usize> {
    /// More than any array has.
    const MOST: usize = 1 << 32;
    let number = value.trim().parse().ok().filter(|number| *number <= MOST);
    number
        .ok_or_else(|| refused(format!("{name} is \"{value}\", which is not the number of a task")))
}

fn refused(why: String) -> Error {
    Error::config("only", why)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_task(
        of: Option<usize>,
        environment: &[(&str, &str)],
    ) -> std::result::Result<String, String> {
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Share::of_task_in(of, &variable)
            .map(|share| share.to_string())
            .map_err(|error| error.to_string())
    }

    fn slurm<'a>(
        id: &'a str,
        min: &'a str,
        max: &'a str,
        count: &'a str,
    ) -> [(&'a str, &'a str); 4] {
        [
            (SLURM, id),
            ("SLURM_ARRAY_TASK_MIN", min),
            ("SLURM_ARRAY_TASK_MAX", max),
            ("SLURM_ARRAY_TASK_COUNT", count),
        ]
    }

    #[test]
    fn the_task_of_an_array_is_a_share() {
        assert_eq!(of_task(None, &slurm("3", "1", "8", "8")).unwrap(), "3/8");
        assert_eq!(of_task(None, &slurm("0", "0", "7", "8")).unwrap(), "1/8");
        assert_eq!(of_task(None, &slurm("12", "11", "12", "2")).unwrap(), "2/2");
        // One task of eight, submitted again by its number.
        assert_eq!(of_task(Some(8), &slurm("5", "5", "5", "1")).unwrap(), "5/8");
        assert_eq!(of_task(Some(4), &[("HQ_TASK_ID", "4")]).unwrap(), "4/4");
        assert_eq!(of_task(Some(4), &[(SLURM, "1"), ("HQ_TASK_ID", "3")]).unwrap(), "3/4");
        assert_eq!(of_task(Some(4), &[("JOB_COMPLETION_INDEX", "0")]).unwrap(), "1/4");
        assert_eq!(of_task(Some(4), &[("JOB_COMPLETION_INDEX", "3")]).unwrap(), "4/4");
    }

    #[test]
    fn what_is_missing_is_named() {
        let nothing = of_task(None, &[]).unwrap_err();
        for (name, _, _) in TASKS {
            assert!(nothing.contains(name), "{nothing}");
        }
        assert!(of_task(Some(3), &[]).unwrap_err().contains("none of"));
        for name in ["HQ_TASK_ID", "JOB_COMPLETION_INDEX"] {
            let told = of_task(None, &[(name, "1")]).unwrap_err();
            assert!(told.contains(name) && told.contains("auto/N"), "{told}");
        }
        let told = of_task(None, &[(SLURM, "1")]).unwrap_err();
        assert!(told.contains("SLURM_ARRAY_TASK_MIN is not set"), "{told}");
        let told = of_task(None, &[(SLURM, "1"), ("SLURM_ARRAY_TASK_MIN", "1")]).unwrap_err();
        assert!(told.contains("SLURM_ARRAY_TASK_COUNT is not set"), "{told}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (of, environment, words) in [
            (None, slurm("3", "1", "5", "3"), "without gaps"),
            (None, slurm("9", "1", "8", "8"), "without gaps"),
            (None, slurm("many", "1", "8", "8"), "\"many\""),
            (None, slurm("1", "1", "18446744073709551615", "8"), "not the number"),
            (Some(4), slurm("5", "5", "5", "1"), "1 to 4"),
            (Some(4), slurm("0", "0", "3", "4"), "1 to 4"),
            (Some(0), slurm("1", "1", "1", "1"), "SLURM_ARRAY_TASK_ID is 1"),
        ] {
            let told = of_task(of, &environment).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        assert!(of_task(Some(4), &[("JOB_COMPLETION_INDEX", "4")]).unwrap_err().contains("0 to 3"));
        assert!(
            Share::new(0, 2).is_err() && Share::new(3, 2).is_err() && Share::new(1, 0).is_err()
        );
    }
}
