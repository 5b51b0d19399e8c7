//! Who is whose child, and how often a feature must try to fire.

use std::ops::Range;

use super::config::{Firing, Trees};

/// Trees whose features are numbered generation by generation: children of one parent stand side by
/// side, in the order of their parents.
pub struct Forest {
    /// The children of each feature; of a leaf an empty range.
    children: Vec<Range<u32>>,
    parents: Vec<Option<u32>>,
}

impl Forest {
    /// The forest of `n` features, of which those beyond the trees are by themselves. Where features
    /// run out, the last parents have fewer children or none.
    pub fn new(trees: Option<Trees>, n: usize) -> Forest {
        let mut forest = Forest { children: vec![0..0; n], parents: vec![None; n] };
        let Some(Trees { roots, branching, depth }) = trees else { return forest };
        let (mut generation, mut next) = (0..roots.min(n), roots.min(n));
        for _ in 0..depth {
            let first = next;
            for parent in generation {
                let end = (next + branching).min(n);
                forest.children[parent] = next as u32..end as u32;
                forest.parents[next..end].fill(Some(parent as u32));
                next = end;
            }
            generation = first..next;
        }
        forest
    }

    /// The children of a feature.
    pub fn children(&self, feature: usize) -> Range<usize> {
        let Range { start, end } = self.children[feature];
        start as usize..end as usize
    }

    /// The parent of a feature.
    pub fn parent(&self, feature: usize) -> Option<usize> {
        self.parents[feature].map(|parent| parent as usize)
    }

    /// The probabilities with which features must try to fire, so that they fire about as often as
    /// `rates` says: over the parent's rate, and, since of siblings only one remains, times one plus
    /// the rivals that are to be expected. None exceeds 1.
    pub fn tries(&self, rates: &[f64]) -> Vec<f64> {
        let attempt = |(feature, &rate): (usize, &f64)| {
            let Some(parent) = self.parent(feature) else { return rate };
            let siblings = self.children(parent);
            let of_parent = rates[parent];
            let rivals = match siblings.len() {
                1 => 0.0,
                _ => (rates[siblings].iter().sum::<f64>() - rate).max(0.0) / of_parent,
            };
            (rate / of_parent * (1.0 + rivals)).min(1.0)
        };
        rates.iter().enumerate().map(attempt).collect()
    }
}

/// How often each of `n` features is to fire.
pub fn rates(Firing { exponent, max, min }: Firing, n: usize) -> Vec<f64> {
    let rarest = (n as f64).powf(-exponent);
    let rate = |rank: usize| match n {
        1 => max,
        _ => min + (max - min) * ((rank as f64).powf(-exponent) - rarest) / (1.0 - rarest),
    };
    (1..=n).map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_follow_each_other_and_what_is_left_is_by_itself() {
        let forest = Forest::new(Some(Trees { roots: 2, branching: 3, depth: 2 }), 30);
        assert_eq!((forest.children(0), forest.children(1)), (2..5, 5..8));
        assert_eq!((forest.children(2), forest.children(7)), (8..11, 23..26));
        assert_eq!((forest.children(8), forest.children(26)), (0..0, 0..0));
        assert_eq!((forest.parent(0), forest.parent(25), forest.parent(26)), (None, Some(7), None));
        let few = Forest::new(Some(Trees { roots: 2, branching: 3, depth: 2 }), 9);
        assert_eq!((few.children(2), few.children(3)), (8..9, 9..9));
    }

    #[test]
    fn rates_and_tries_are_those_of_the_definition() {
        let rates = rates(Firing { exponent: 0.5, max: 0.4, min: 0.1 }, 8);
        assert!((rates[0] - 0.4).abs() < 1e-12 && (rates[7] - 0.1).abs() < 1e-12);
        assert!(rates.is_sorted_by(|a, b| a > b));
        let forest = Forest::new(Some(Trees { roots: 1, branching: 2, depth: 2 }), 8);
        let tries = forest.tries(&rates);
        assert_eq!((tries[0], tries[7]), (rates[0], rates[7]));
        let want = rates[1] / rates[0] * (1.0 + rates[2] / rates[0]);
        assert!((tries[1] - want.min(1.0)).abs() < 1e-12);
        assert!(tries.iter().all(|try_| (0.0..=1.0).contains(try_)));
    }
}
