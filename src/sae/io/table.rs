//! The table of a TSAE as tensors; and as a file of its own, beside the SAE of a library that knows
//! no tables.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::formats::arrays::{self, Array, Arrays};
use crate::sae::{Index, Lookup, Ngrams, Sae};

/// Beside the files of another library, the table that belongs to them.
pub(super) const BESIDE: &str = "lookup.safetensors";

/// The rows of the table `[rows, d_model]`.
pub(super) const ROWS: &str = "W_lookup";

/// The tokens of the n-grams `[n, longest]`, ended by −1 where they are shorter.
const GRAMS: &str = "W_lookup.grams";

/// Beside the files of an SAE, the one whose latents index its table.
const PRECEDING: &str = "preceding";

/// What training made the table from.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableAbout {
    balance: f32,
    learned: bool,
    #[serde(default)]
    subtracted: bool,
    #[serde(default)]
    index: IndexName,
}

/// What the rows of a table stand for. N-grams stand in the tensor [`GRAMS`], a preceding SAE in
/// the folder [`PRECEDING`].
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IndexName {
    #[default]
    Token,
    Ngrams,
    Latents,
}

/// What a table's tensors need beside its rows.
pub(super) type GramNumbers = Option<(Vec<usize>, Vec<f32>)>;

impl TableAbout {
    pub(super) fn of(sae: &Sae) -> Option<TableAbout> {
        let index = match &sae.index {
            Index::Token => IndexName::Token,
            Index::Ngrams(_) => IndexName::Ngrams,
            Index::Latents(_) => IndexName::Latents,
        };
        let about = |start: &Lookup| TableAbout {
            balance: start.balance(),
            learned: start.is_learned(),
            subtracted: sae.subtract,
            index,
        };
        sae.config.lookup.as_ref().map(about)
    }

    /// Reads the table from the file of weights in `dir`, and gives it to the SAE that it belongs to.
    pub(super) fn read(&self, tensors: &mut Arrays, dir: &Path, sae: &mut Sae) -> Result<()> {
        let (d_vocab, d) = (sae.config.d_vocab, sae.d_model());
        let (index, n) = match self.index {
            IndexName::Token => (Index::Token, d_vocab),
            IndexName::Ngrams => {
                let grams = read_grams(tensors, d_vocab)?;
                let n = grams.rows();
                (Index::Ngrams(Arc::new(grams)), n)
            }
            IndexName::Latents => {
                let preceding = Sae::load(dir.join(PRECEDING))?;
                let n = preceding.d_sae();
                (Index::Latents(Arc::new(preceding)), n)
            }
        };
        let rows = tensors.take(ROWS, &[n, d])?;
        // Directions T with α·T the table as it is now: a new SAE of the loaded settings starts
        // from there.
        let unscaled = if self.balance > 0.0 { 1.0 / self.balance } else { 1.0 };
        let mut start = Lookup::from_table(rows.iter().map(|w| w * unscaled).collect(), d)?
            .with_balance(self.balance)?
            .indexed_by(index.clone())?;
        if !self.learned {
            start = start.frozen();
        }
        if self.subtracted {
            start = start.subtracted();
        }
        sae.config.lookup = Some(start);
        (sae.lookup, sae.index, sae.subtract) = (Some(rows), index, self.subtracted);
        Ok(())
    }
}

/// The n-grams of an SAE's table as numbers.
pub(super) fn grams(sae: &Sae) -> GramNumbers {
    match &sae.index {
        Index::Ngrams(grams) => Some((vec![grams.len(), grams.longest()], gram_numbers(grams))),
        _ => None,
    }
}

/// The tensors of an SAE's table; a preceding SAE is saved at once.
pub(super) fn tensors<'a>(
    sae: &'a Sae,
    grams: &'a GramNumbers,
    dir: &Path,
) -> Result<Vec<Array<'a>>> {
    let mut tensors = Vec::new();
    if let Some(table) = &sae.lookup {
        tensors.push((ROWS, vec![table.len() / sae.d_model(), sae.d_model()], &table[..]));
        if let Some((shape, grams)) = grams {
            tensors.push((GRAMS, shape.clone(), &grams[..]));
        }
        if let Index::Latents(sae) = &sae.index {
            sae.save(dir.join(PRECEDING))?;
        }
    }
    Ok(tensors)
}

/// The text of a table's own file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    d_vocab: usize,
    table: TableAbout,
}

/// Writes the table of an SAE beside the files of another library.
pub(super) fn save_beside(sae: &Sae, dir: &Path) -> Result<()> {
    let Some(table) = TableAbout::of(sae) else { return Ok(()) };
    let grams = grams(sae);
    let about = serde_json::to_string(&Beside { d_vocab: sae.config.d_vocab, table })
        .map_err(Error::json(BESIDE))?;
    arrays::save(&dir.join(BESIDE), &tensors(sae, &grams, dir)?, &about)
}

/// Gives an SAE of another library the table beside it, if there is one.
pub(super) fn attach(mut sae: Sae, dir: &Path) -> Result<Sae> {
    let path = dir.join(BESIDE);
    if !path.is_file() {
        return Ok(sae);
    }
    let mut tensors = Arrays::load(&path)?;
    let about = tensors.about.take().ok_or_else(|| {
        Error::format(
            &path,
            "does not say what its table is for: it is not one that this crate wrote",
        )
    })?;
    let about: Beside = serde_json::from_str(&about).map_err(Error::json(path.display()))?;
    sae.config.d_vocab = about.d_vocab;
    about.table.read(&mut tensors, dir, &mut sae)?;
    tensors.finish(&[])?;
    sae.config.check()?;
    Ok(sae)
}

/// The tokens of n-grams as f32, which holds every number below 2²⁴.
fn gram_numbers(grams: &Ngrams) -> Vec<f32> {
    let padded = |gram: Vec<u32>| {
        let ended = grams.longest() - gram.len();
        gram.into_iter()
            .map(|token| token as f32)
            .chain(std::iter::repeat_n(-1.0, ended))
            .collect::<Vec<f32>>()
    };
    grams.grams().into_iter().flat_map(padded).collect()
}

fn read_grams(tensors: &mut Arrays, d_vocab: usize) -> Result<Ngrams> {
    let (shape, numbers) = tensors.take_any(GRAMS)?;
    let path = tensors.path();
    let wrong = || {
        Error::format(
            path,
            format!(
                "tensor \"{GRAMS}\" of shape {shape:?} does not hold n-grams of 2 or 3 tokens below {d_vocab}"
            ),
        )
    };
    let [n, longest] = shape[..] else { return Err(wrong()) };
    let token = |&number: &f32| (number >= 0.0 && number.fract() == 0.0).then_some(number as u32);
    let grams: Vec<Vec<u32>> =
        numbers.chunks(longest.max(1)).map(|gram| gram.iter().map_while(token).collect()).collect();
    let read = Ngrams::new(&grams, d_vocab).map_err(|_| wrong())?;
    // Rows of the table are in the order of the n-grams.
    if read.len() == n && read.grams() == grams { Ok(read) } else { Err(wrong()) }
}
