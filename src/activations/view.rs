//! How a store shows itself.

mod parts;

use std::fmt;

use super::ActivationStore;
use super::manifest::short;
use crate::base::format;
use crate::display::{Table, shows_as_table};

impl ActivationStore {
    /// What is in the store, as a table.
    pub fn table(&self) -> Table {
        let manifest = &self.inner.manifest;
        let (made, all) = (manifest.shards.len(), manifest.all_shards());
        let rows = match self.is_complete() {
            true => format::count(self.n_rows() as u64),
            false => format!(
                "{} of {}",
                format::count(self.n_rows() as u64),
                format::count(manifest.all_rows() as u64)
            ),
        };
        let shards = if self.is_complete() {
            all.to_string()
        } else {
            format!("{made} of {all}; the same harvest continues from there")
        };
        let hooks = manifest.hook_names(", ");
        let revision = self
            .model_revision()
            .map_or(String::new(), |revision| format!(", revision {}", short(revision)));
        let pairs = [
            (if self.hooks().len() == 1 { "hook" } else { "hooks" }, hooks),
            ("rows", format!("{rows}, one a token; sequences of {}", self.n_ctx())),
            (
                "numbers",
                format!(
                    "{} a row, {}, computed in {}",
                    self.d_model(),
                    self.dtype(),
                    self.compute()
                ),
            ),
            (
                "model",
                format!(
                    "{} ({}){revision}, weights {}",
                    self.model_name(),
                    self.processing(),
                    short(self.model_fingerprint())
                ),
            ),
            ("tokens", short(self.corpus_fingerprint()).to_owned()),
            ("shards", shards),
            ("on disk", format!("{} in {}", format::bytes(self.bytes()), self.dir().display())),
        ];
        Table::pairs("activations", &pairs)
    }
}

shows_as_table!(ActivationStore);

impl fmt::Display for ActivationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table().text())
    }
}

impl fmt::Debug for ActivationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ActivationStore [{}, {}] in {}",
            self.n_rows(),
            self.d_model(),
            self.dir().display()
        )
    }
}
