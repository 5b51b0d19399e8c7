//! How a prediction shows itself: the next tokens with their probabilities as bars.

use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, shows};
use crate::model::{Candidate, Prediction};

impl Prediction {
    /// The candidates with their probabilities, as a table.
    pub fn table(&self) -> Table {
        let table = candidates("Next token", &self.top);
        match self.loss {
            Some(loss) => table.caption(&format!(
                "The model expected the given tokens with a mean cross-entropy of {} nats.",
                format::significant(loss, 3)
            )),
            None => table,
        }
    }
}

fn candidates(title: &str, candidates: &[Candidate]) -> Table {
    let columns = [
        Column::text("token").defined("as a quoted string, so that its white space shows"),
        Column::number("id"),
        Column::text("probability"),
        Column::number("log").defined("the natural logarithm of the probability"),
    ];
    candidates.iter().fold(Table::new(title, &columns), |table, candidate| {
        let row = Row::new(&format!("{:?}", candidate.token))
            .shown(f64::from(candidate.id), candidate.id.to_string());
        table.with(row.bar(candidate.logprob.exp()).number(candidate.logprob))
    })
}

impl Show for Prediction {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for Candidate {
    fn shown(&self) -> Shown {
        candidates("", std::slice::from_ref(self)).into()
    }
}

shows!(Prediction, Candidate);
