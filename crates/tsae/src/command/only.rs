//! `--only`: the share of the work that a process does.

use tokenized_sae::Share;
use tsae::Result;

/// A share as it is typed: `2/8`, `auto` or `auto/8`.
#[derive(Clone, Copy)]
pub enum Only {
    /// This one.
    Given(Share),
    /// That of the task of a job array that the process is, of so many if it is typed.
    Task(Option<usize>),
}

impl Only {
    /// The share, looked up in the environment if it has to be.
    ///
    /// # Errors
    /// As [`Share::of_task`].
    pub fn share(self) -> Result<Share> {
        Ok(match self {
            Only::Given(share) => share,
            Only::Task(of) => Share::of_task(of)?,
        })
    }
}

/// Reads what is typed.
pub fn parse(text: &str) -> std::result::Result<Only, String> {
    let wrong = || "write it as I/N, from 1/N to N/N, or as auto or auto/N".to_owned();
    let count = |n: &str| n.trim().parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(wrong);
    match text.split_once('/') {
        None if text.trim() == "auto" => Ok(Only::Task(None)),
        None => Err(wrong()),
        Some((i, n)) if i.trim() == "auto" => Ok(Only::Task(Some(count(n)?))),
        Some((i, n)) => Share::new(count(i)?, count(n)?).map(Only::Given).map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_typed() {
        let given = |text| match parse(text) {
            Ok(Only::Given(share)) => Some(share.to_string()),
            _ => None,
        };
        assert_eq!(given("2/8").as_deref(), Some("2/8"));
        assert_eq!(given(" 1 / 1 ").as_deref(), Some("1/1"));
        assert!(matches!(parse("auto"), Ok(Only::Task(None))));
        assert!(matches!(parse("auto/8"), Ok(Only::Task(Some(8)))));
        for wrong in ["", "2", "0/2", "3/2", "a/2", "1/0", "auto/0", "auto/", "/", "-1/2", "auto2"]
        {
            assert!(parse(wrong).is_err_and(|why| why.contains("auto/N")), "{wrong}");
        }
    }
}
