//! How a model of known features shows itself.

use super::SyntheticModel;
use crate::base::format;
use crate::display::{Table, shows_as_table};

shows_as_table!(SyntheticModel);

impl SyntheticModel {
    /// Its laws, in numbers.
    pub fn table(&self) -> Table {
        let it = self.config();
        let share = |p: f64| format!("{} %", format::significant(100.0 * p, 2));
        let mut pairs = vec![
            ("features", self.n_features().to_string()),
            ("dimensions", self.d_model().to_string()),
            (
                "fire on",
                format!(
                    "{} to {} of rows, by Zipf's law",
                    share(it.firing.max),
                    share(it.firing.min)
                ),
            ),
            ("active on a row", format::significant(self.l0_of_first(self.n_features()), 3)),
        ];
        if let Some(trees) = it.trees {
            let (roots, branching, depth) = (trees.roots, trees.branching, trees.depth);
            pairs.push(("trees", format!("{roots}, {branching} children each, {depth} deep")));
        }
        if let Some(correlation) = it.correlation {
            pairs.push(("correlated", format!("by a matrix of rank {}", correlation.rank)));
        }
        if let Some(tokens) = it.tokens {
            pairs.extend([
                ("tokens", tokens.d_vocab.to_string()),
                ("features of a token alone", format!("{} each", tokens.per_token)),
                ("features of the context and a token", tokens.shared.to_string()),
                ("features of two tokens", tokens.pairs.to_string()),
            ]);
        }
        pairs.push(("seed", it.seed.to_string()));
        Table::pairs("Rows of known features", &pairs)
    }
}
