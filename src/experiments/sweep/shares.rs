//! What processes share: how a grid is cut, and whether all of it is there.

use super::SweepResults;
use super::grid::Point;
use crate::base::error::{Error, Result};
use crate::base::share::Share;

/// A run, and the [work](crate::train::work_of) that training it takes.
pub(super) struct Costed {
    pub point: Point,
    pub work: u128,
}

/// A share of what is in order: shares are stretches, as equal in work as whole runs allow, so that
/// runs of one stream stay together and train on the same batches.
///
/// A run is in the share in which the middle of its work lies, so that no share has more than its
/// part and one run.
pub(super) fn share(all: Vec<Costed>, share: Share) -> Vec<Point> {
    let total: u128 = all.iter().map(|run| run.work).sum();
    let (index, of) = (share.number() as u128 - 1, share.of() as u128);
    let mut before = 0;
    let mut mine = Vec::new();
    for Costed { point, work } in all {
        // Twice the middle, in whole numbers.
        let middle = 2 * before + work;
        before += work;
        if (middle * of / (2 * total).max(1)).min(of - 1) == index {
            mine.push(point);
        }
    }
    mine
}

impl SweepResults {
    /// These results, if nothing is missing: for whoever collects what many processes have made.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with the first runs that are neither finished nor failed.
    pub fn complete(self) -> Result<SweepResults> {
        /// Runs that are named.
        const NAMED: usize = 8;
        let is_there = |point: &&Point| {
            let it = (&point.setting, point.seed);
            self.runs.iter().any(|run| it == (&run.setting, run.seed))
                || self.failed.iter().any(|run| it == (&run.setting, run.seed))
        };
        let missing: Vec<&Point> = self.plan.runs.iter().filter(|point| !is_there(point)).collect();
        if missing.is_empty() {
            return Ok(self);
        }
        let named = missing.iter().take(NAMED);
        let mut names: Vec<String> =
            named.map(|run| format!("\"{}\" at {}", run.name, run.setting.hook)).collect();
        if missing.len() > NAMED {
            names.push("…".to_owned());
        }
        Err(Error::Incomplete {
            what: format!("the sweep in {}", self.dir.display()),
            left: format!(
                "{} of {} runs are missing ({})",
                missing.len(),
                self.planned(),
                names.join(", ")
            ),
            remedy:
                "run its shares again, or the sweep without a share, which does what is missing"
                    .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::sweep::grid;
    use crate::model::HookPoint;
    use crate::sae::SaeConfig;

    /// The places in the grid of each share's runs.
    fn cut(work: &[u128], of: usize) -> Vec<Vec<u64>> {
        let sae = SaeConfig::new(16, 8);
        let template = grid::point(HookPoint::resid_pre(1), "SAE", &Vec::new(), &sae);
        let shares = (1..=of).map(|number| {
            let costed = |(seed, &work)| Costed {
                point: Point { seed: seed as u64, ..template.clone() },
                work,
            };
            let all = work.iter().enumerate().map(costed).collect();
            share(all, Share::new(number, of).unwrap()).iter().map(|point| point.seed).collect()
        });
        shares.collect()
    }

    #[test]
    fn shares_are_stretches_that_make_up_the_whole() {
        let mut state = 1u64;
        for (n, of) in [(12, 4), (10, 3), (2, 5), (0, 2), (1, 1), (37, 8)] {
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u128::from(state >> 60)
            };
            let unequal: Vec<u128> = (0..n).map(|_| random()).collect();
            for work in [vec![7; n], vec![0; n], vec![u128::from(u64::MAX); n], unequal] {
                let shares = cut(&work, of);
                assert_eq!(shares.concat(), (0..n as u64).collect::<Vec<_>>(), "{work:?}");
                let of_share = |share: &Vec<u64>| share.iter().map(|i| work[*i as usize]).sum();
                let most: u128 = shares.iter().map(of_share).max().unwrap();
                let (total, largest) = (work.iter().sum::<u128>(), work.iter().max().copied());
                assert!(most <= total / of as u128 + largest.unwrap_or(0) + 1, "{work:?}");
            }
        }
    }

    #[test]
    fn a_share_is_cut_by_work_and_not_by_number() {
        assert_eq!(cut(&[1, 1, 1, 9], 2), [vec![0, 1, 2], vec![3]]);
        assert_eq!(cut(&[9, 1, 1, 1], 2), [vec![0], vec![1, 2, 3]]);
        assert_eq!(cut(&[5; 4], 3), [vec![0], vec![1, 2], vec![3]]);
    }
}
