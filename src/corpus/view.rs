//! How a corpus shows itself.

use std::fmt;

use super::{Corpus, TextCorpus};
use crate::display::{Column, Row, Table, format, show};
use crate::tokens::Tokens;

impl Corpus {
    /// The two sides of the corpus, as a table.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("side"),
            Column::number("documents"),
            Column::number("sequences"),
            Column::number("tokens").defined("BOS included, which begins every sequence"),
            Column::text("fingerprint").defined("the first characters of the SHA-256 of n_ctx and all ids"),
        ];
        let side = |name: &str, tokens: &Tokens, documents: &[String]| {
            let row = Row::new(name);
            let row = if documents.is_empty() { row.missing() } else { row.count(documents.len() as u64) };
            row.count(tokens.n_seq() as u64).count(tokens.len() as u64).text(&tokens.fingerprint()[..12])
        };
        Table::new(&format!("corpus: {}", self.source), &columns)
            .with(side("training", &self.train, &self.train_documents))
            .with(side("held out", &self.valid, &self.valid_documents))
            .caption(&format!("Sequences of {} tokens. No document is on both sides.", self.n_ctx()))
    }

    /// Shows the corpus in a notebook cell.
    pub fn evcxr_display(&self) {
        let table = self.table();
        show(&table.html(), &table.text());
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table().text())
    }
}

impl fmt::Debug for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Corpus (train {:?}, held out {:?}) from {}", self.train, self.valid, self.source)
    }
}

impl TextCorpus {
    /// What was found and is going to be made of it, as a table.
    pub fn table(&self) -> Table {
        let bytes = self.documents.iter().map(|document| document.bytes).sum();
        let limit = self.max_tokens.map_or("all there are".to_owned(), |n| format!("at most {} to train on", format::count(n as u64)));
        let pairs = [
            ("documents", format!("{}, {} of text, not read yet", self.documents.len(), format::bytes(bytes))),
            ("context", format!("sequences of {} tokens", self.n_ctx)),
            ("tokens", limit),
            ("next", "split(valid_share) makes the corpus".to_owned()),
        ];
        Table::pairs(&format!("text: {}", self.pattern), &pairs)
    }

    /// Shows what was found in a notebook cell.
    pub fn evcxr_display(&self) {
        let table = self.table();
        show(&table.html(), &table.text());
    }
}

impl fmt::Debug for TextCorpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextCorpus ({} documents of {}, sequences of {})", self.documents.len(), self.pattern, self.n_ctx)
    }
}
