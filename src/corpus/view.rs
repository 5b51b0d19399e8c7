//! How a corpus shows itself.

use std::fmt;

use super::reading::DocumentFilter;
use super::{Corpus, Encoder, TextCorpus, TokenStream};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows, shows_as_table};
use crate::model::tokens::Tokens;

impl Corpus {
    /// The two sides of the corpus, as a table.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("side"),
            Column::number("documents"),
            Column::number("sequences"),
            Column::number("tokens").defined("BOS included, which begins every sequence"),
            Column::text("fingerprint")
                .defined("the first characters of the SHA-256 of n_ctx and all ids"),
        ];
        let side = |name: &str, tokens: &Tokens, documents: &[String]| {
            let row = match documents.len() {
                0 => Row::new(name).missing(),
                n => Row::new(name).count(n as u64),
            };
            let row = row.count(tokens.n_seq() as u64).count(tokens.len() as u64);
            row.text(&tokens.fingerprint()[..12])
        };
        let caption =
            format!("Sequences of {} tokens. No document is on both sides.", self.n_ctx());
        Table::new(&format!("corpus: {}", self.source), &columns)
            .with(side("training", &self.train, &self.train_documents))
            .with(side("held out", &self.valid, &self.valid_documents))
            .caption(&caption)
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table().text())
    }
}

impl<T: fmt::Debug> fmt::Debug for Corpus<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Corpus (train {:?}, held out {:?}) from {}", self.train, self.valid, self.source)
    }
}

impl TextCorpus {
    /// How many files there are, and how large they are if that is known.
    pub(super) fn files_in_words(&self) -> String {
        let n = self.files.len();
        match self.files.iter().any(|file| file.remote.is_some()) {
            true => format!("{n} on the hub"),
            false => {
                let bytes = format::bytes(self.files.iter().map(|file| file.bytes).sum());
                format!("{n} of {bytes}")
            }
        }
    }

    /// What was found and is going to be made of it, as a table.
    pub fn table(&self) -> Table {
        let limit = self.max_tokens.map_or("all there are".to_owned(), |n| {
            format!("at most {} to train on", format::count(n as u64))
        });
        let mut pairs = vec![
            ("files", format!("{}, not read yet", self.files_in_words())),
            ("context", format!("sequences of {} tokens", self.n_ctx)),
            ("tokens", limit),
        ];
        if let Some(format) = self.format {
            pairs.push(("format", format.to_string()));
        }
        if self.files.iter().any(|file| file.form.holds_many()) {
            pairs.push(("column", self.wanted.column.clone()));
        }
        let DocumentFilter { min_chars, max_chars, .. } = self.wanted;
        if (min_chars, max_chars) != (0, usize::MAX) {
            let most = match max_chars {
                usize::MAX => String::new(),
                most => format!(" to {most}"),
            };
            pairs.push(("documents", format!("of {min_chars}{most} characters")));
        }
        let next = "split(valid_share) makes the corpus, or stream(valid_share)";
        pairs.push(("next", next.to_owned()));
        Table::pairs(&format!("text: {}", self.pattern), &pairs)
    }
}

impl Corpus<TokenStream> {
    /// What streams and what is held out, as a table.
    pub fn table(&self) -> Table {
        let count = |n: usize| format::count(n as u64);
        let (held_out, documents) = (count(self.valid.len()), count(self.valid_documents.len()));
        let (n_seq, n_ctx) = (self.train.n_seq(), self.train.n_ctx());
        let most = format!("at most {} tokens, in sequences of {n_ctx}", count(n_seq * n_ctx));
        let pairs = [
            ("training", most),
            ("held out", format!("{held_out} tokens of {documents} documents")),
        ];
        Table::pairs(&format!("streamed corpus: {}", self.source), &pairs)
    }
}

impl TokenStream {
    /// What decides which sequences come, as a table.
    pub fn table(&self) -> Table {
        let pairs: Vec<(&str, String)> =
            self.made_of().iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        Table::pairs("token stream", &pairs)
    }
}

shows_as_table!(Corpus, Corpus<TokenStream>, TextCorpus, TokenStream);
shows!(Encoder);

impl fmt::Debug for TokenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenStream [{} at most, {}]", self.n_seq(), self.n_ctx())
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
        let TextCorpus { files, pattern, n_ctx, .. } = self;
        write!(f, "TextCorpus ({} files of {pattern}, sequences of {n_ctx})", files.len())
    }
}
