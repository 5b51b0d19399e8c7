//! How token ids show themselves: as numbers, for only a model knows their text.

use super::Tokens;
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, shows};

/// Sequences shown, and ids of each.
const ROWS: usize = 5;
const IDS: usize = 12;

impl Tokens {
    /// The shape and the first ids, as a table; [`Model::view`](crate::model::Model::view) shows
    /// them as text.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("sequence"),
            Column::text("ids").defined("the first ids of the sequence"),
        ];
        let mut table =
            Table::new(&format!("Tokens [{}, {}]", self.n_seq(), self.n_ctx()), &columns);
        for i in 0..self.n_seq().min(ROWS) {
            let shown: Vec<String> = self.row(i).iter().take(IDS).map(u32::to_string).collect();
            let more = if self.n_ctx() > IDS { " …" } else { "" };
            table.push(Row::new(&i.to_string()).text(&(shown.join(" ") + more)));
        }
        let all = format!(
            "{} tokens, fingerprint {}",
            format::count(self.len() as u64),
            &self.fingerprint()[..12]
        );
        let hidden = self.n_seq().saturating_sub(ROWS);
        let more = if hidden > 0 {
            format!("; {} more sequences", format::count(hidden as u64))
        } else {
            String::new()
        };
        table
            .caption(&format!("{all}{more}. model.view(&tokens, 3) shows three sequences as text."))
    }
}

shows!(Tokens);

impl Show for Tokens {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}
