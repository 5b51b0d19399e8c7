//! SAEs for other libraries.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::table::{self, BESIDE};
use super::{dictionary_learning, llamascopium, sparsify};
use crate::base::error::{Error, Result};
use crate::sae::{Architecture, RowNorm, Sae};

/// The library that is to read an SAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaeFormat {
    /// This crate: `cfg.json` and `sae_weights.safetensors`, the table with them. See
    /// [`Sae::save`].
    Tsae,
    /// SAELens 6: the same files without the table.
    #[serde(rename = "saelens")]
    SaeLens,
    /// EleutherAI's sparsify: `cfg.json` and `sae.safetensors`. TopK only.
    Sparsify,
    /// dictionary_learning: `ae.pt` and `config.json`.
    DictionaryLearning,
    /// Llamascopium: `config.json` and `sae_weights.safetensors`. ReLU, TopK, JumpReLU, and
    /// BatchTopK as JumpReLU.
    Llamascopium,
}

/// What becomes of the table of a TSAE for a library that has no tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableExport {
    /// It stands in a file of its own, `lookup.safetensors`, which [`Sae::load`] returns to the
    /// SAE beside it. What the library reconstructs lacks `W_lookup[token]`, which must be added
    /// by hand.
    Keep,
    /// Its mean row, every row counted the same, becomes part of `b_dec`, and `b_enc` is corrected
    /// so that codes stay the same. See [`Sae::fold_table`], also for a mean by how often tokens
    /// occur.
    Fold,
    /// It is left out.
    Drop,
}

impl Sae {
    /// Writes the SAE to `dir` as another library has it, with a model card (`README.md`), so that
    /// its codes and reconstructions there are the same.
    ///
    /// | | TopK | BatchTopK | ReLU | Gated | JumpReLU |
    /// | --- | --- | --- | --- | --- | --- |
    /// | [`SaeLens`](SaeFormat::SaeLens) | topk | jumprelu | standard | gated | jumprelu |
    /// | [`Sparsify`](SaeFormat::Sparsify) | topk | – | – | – | – |
    /// | [`DictionaryLearning`](SaeFormat::DictionaryLearning) | AutoEncoderTopK | BatchTopKSAE, or MatryoshkaBatchTopKSAE with prefixes | AutoEncoder | GatedAutoEncoder | JumpReluAutoEncoder |
    /// | [`Llamascopium`](SaeFormat::Llamascopium) | topk | jumprelu | relu | – | jumprelu |
    ///
    /// Nothing is lost silently: it returns what to know about the files, what changed and what must
    /// be done by hand. What concerns training alone (AuxK, prefixes) is named there, and what
    /// becomes of a table.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// let mut tsae = Sae::load("runs/quickstart/TSAE")?;
    /// tsae.config.relu = true; // other libraries make negative codes 0
    /// tsae.export("for-sparsify/layers.1", SaeFormat::Sparsify, TableExport::Fold)?
    /// # ; Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for what the library cannot compute: its kind of SAE, a TopK SAE that
    /// keeps negative codes ([`relu`](super::SaeConfig::relu) is false), one that [scales
    /// rows](Sae::row_norm) as it does not, a table to be folded that is not one of tokens,
    /// or to be left out but is [subtracted](Sae::subtract). [`Error::Format`] if `dir` holds other
    /// files already, [`Error::Io`].
    pub fn export(
        &self,
        dir: impl AsRef<Path>,
        format: SaeFormat,
        table: TableExport,
    ) -> Result<Vec<String>> {
        let dir = dir.as_ref();
        self.check_for(format)?;
        let mut notes = Vec::new();
        let plain = self.with_table_as(format, table, &mut notes)?;
        check_folder(dir)?;
        match format {
            SaeFormat::Tsae | SaeFormat::SaeLens => plain.save(dir)?,
            SaeFormat::Sparsify => sparsify::save(&plain, dir, &mut notes)?,
            SaeFormat::DictionaryLearning => dictionary_learning::save(&plain, dir, &mut notes)?,
            SaeFormat::Llamascopium => llamascopium::save(&plain, dir, &mut notes)?,
        }
        if format != SaeFormat::Tsae {
            if table == TableExport::Keep && self.lookup.is_some() {
                table::save_beside(self, dir)?;
            }
            self.note_training(format, &mut notes);
        }
        plain.write_card_of(dir, format, &notes)?;
        Ok(notes)
    }

    /// Refuses what the library would compute otherwise.
    fn check_for(&self, format: SaeFormat) -> Result<()> {
        if format != SaeFormat::Tsae
            && self.config.architecture == Architecture::TopK
            && !self.config.relu
        {
            let why = format!(
                "this TopK SAE keeps negative values among the k largest, and {format} makes them 0: set its config.relu to true (--relu), which changes \
                 nothing on a token that has k positive pre-activations"
            );
            return Err(Error::config("relu", why));
        }
        if self.row_norm != RowNorm::None
            && matches!(format, SaeFormat::Sparsify | SaeFormat::DictionaryLearning)
        {
            let why = format!(
                "this SAE scales each row of activations by itself ({:?}), and {format} has no SAEs that do",
                self.row_norm
            );
            return Err(Error::config("row_norm", why));
        }
        Ok(())
    }

    /// The SAE that the library itself gets.
    fn with_table_as(
        &self,
        format: SaeFormat,
        table: TableExport,
        notes: &mut Vec<String>,
    ) -> Result<Sae> {
        if self.lookup.is_none() || format == SaeFormat::Tsae && table == TableExport::Keep {
            return Ok(self.clone());
        }
        match table {
            TableExport::Keep => {
                let is_token = self.index.is_token();
                let row = if is_token { "W_lookup[token]" } else { "its row of W_lookup" };
                let how = match self.subtract {
                    true => "subtracted before encoding and added after decoding",
                    false => "added to what is decoded",
                };
                let scaled =
                    if self.row_norm == RowNorm::None { "" } else { ", in the scale of the row" };
                notes.push(format!("the table is in {BESIDE}: {row} must be {how}{scaled}"));
                Sae { subtract: false, ..self.clone() }.without_table()
            }
            TableExport::Fold => {
                notes.push(
                    "the mean row m of the table, every row counted the same, is part of b_dec, and W_enc·m of b_enc: codes are the same, and \
                     reconstructions lack W_lookup[token] − m"
                        .to_owned(),
                );
                self.fold_table(None)
            }
            TableExport::Drop => {
                notes.push("the table is left out: codes are the same, and reconstructions lack W_lookup[token]".to_owned());
                self.without_table()
            }
        }
    }

    /// Says which settings of training the library has no word for.
    fn note_training(&self, format: SaeFormat, notes: &mut Vec<String>) {
        let of_class = format == SaeFormat::DictionaryLearning
            && self.config.architecture == Architecture::BatchTopK;
        if !self.config.prefixes.is_empty() && format != SaeFormat::SaeLens && !of_class {
            notes.push(format!(
                "Matryoshka prefixes {:?} concern training alone, and are not written",
                self.config.prefixes
            ));
        }
        if self.config.aux.is_some() && format != SaeFormat::SaeLens {
            notes.push("AuxK concerns training alone, and is not written".to_owned());
        }
        if self.config.architecture == Architecture::BatchTopK
            && matches!(format, SaeFormat::SaeLens | SaeFormat::Llamascopium)
        {
            notes.push("a BatchTopK SAE is a JumpReLU SAE with equal thresholds outside of training, and written as one".to_owned());
        }
    }
}

/// Refuses a folder with the files of an SAE, whichever library's: two in one folder would be one
/// that nobody wrote.
fn check_folder(dir: &Path) -> Result<()> {
    let files =
        ["cfg.json", "config.json", "sae_weights.safetensors", "sae.safetensors", "ae.pt", BESIDE];
    match files.iter().find(|name| dir.join(name).exists()) {
        None => Ok(()),
        Some(name) => {
            let why = format!("has a {name} already: choose another folder, or move it away");
            Err(Error::format(dir, why))
        }
    }
}

impl SaeFormat {
    /// The library's own name.
    pub fn name(self) -> &'static str {
        match self {
            SaeFormat::Tsae => "tokenized-sae",
            SaeFormat::SaeLens => "SAELens",
            SaeFormat::Sparsify => "sparsify",
            SaeFormat::DictionaryLearning => "dictionary_learning",
            SaeFormat::Llamascopium => "Llamascopium",
        }
    }
}

impl fmt::Display for SaeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
