//! How a corpus shows itself.

use std::fmt;

use super::{Corpus, Encoder, TextCorpus};
use crate::display::{Column, Row, Show, Shown, Table, format, settings, shows};
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
}

shows!(Corpus, TextCorpus, Encoder);

impl Show for Corpus {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for TextCorpus {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for Encoder {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("model", self.name.clone(), "the model whose tokenizer it is"),
            ("BOS", self.bos.to_string(), "the token that every sequence begins with"),
            ("EOS", self.eos.to_string(), "the token between two documents"),
            ("n_ctx", self.n_ctx.to_string(), "the longest sequence that the model reads"),
            ("d_vocab", self.d_vocab.to_string(), "how many token ids there are"),
        ];
        settings("Encoder", rows).into()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder of {} ({} tokens)", self.name, self.d_vocab)
    }
}

impl fmt::Debug for TextCorpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextCorpus ({} documents of {}, sequences of {})", self.documents.len(), self.pattern, self.n_ctx)
    }
}
