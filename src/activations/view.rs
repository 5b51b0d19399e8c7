//! How a store shows itself.

mod parts;

use std::fmt;

use super::manifest::short;
use super::{ActivationStore, Source};
use crate::base::format;
use crate::display::{Table, shows_as_table};

impl ActivationStore {
    /// What is in the store, as a table.
    pub fn table(&self) -> Table {
        let manifest = &self.inner.manifest;
        let (made, all) = (manifest.shards.len(), manifest.all_shards());
        let mut rows = format::count(self.n_rows() as u64);
        let mut shards = all.to_string();
        if !self.is_complete() {
            rows += &format!(" of {}", format::count(manifest.all_rows() as u64));
            shards = format!("{made} of {all}; the same harvest continues from there");
        }
        let Source { name, fingerprint, processing, d_model, .. } = &manifest.model;
        let weights = short(fingerprint);
        let revision = self
            .model_revision()
            .map_or(String::new(), |revision| format!(", revision {}", short(revision)));
        let pairs = [
            (if self.hooks().len() == 1 { "hook" } else { "hooks" }, manifest.hook_names(", ")),
            ("rows", format!("{rows}, one a token; sequences of {}", self.n_ctx())),
            (
                "numbers",
                format!("{d_model} a row, {}, computed in {}", self.dtype(), self.compute()),
            ),
            ("model", format!("{name} ({processing}){revision}, weights {weights}")),
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
        let (n_rows, d_model, dir) = (self.n_rows(), self.d_model(), self.dir().display());
        write!(f, "ActivationStore [{n_rows}, {d_model}] in {dir}")
    }
}
