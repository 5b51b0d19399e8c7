//! The token table: where it starts, and whether it learns.

use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::{HookPoint, Model};
use crate::tokens::Tokens;

/// How many `[BOS, t]` pairs go through the model at once: the authors' 1,024.
const PAIRS: usize = 1024;

/// The share of the reconstruction that the table starts with: the authors' α.
const BALANCE: f32 = 0.5;

/// Numbers that are summed at a time, so that the sum is the same on any number of threads.
const SUMMED: usize = 1 << 16;

/// `a · b`, summed in f64.
fn wide_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// A token table before training: its directions `T` `[d_vocab, d_model]`, its balance α and whether it learns.
///
/// A TSAE starts with `W_lookup = α·T` and `W_enc = (1 − α)·W_dec`.
#[derive(Clone)]
pub struct Lookup {
    table: Arc<Vec<f32>>,
    d_model: usize,
    balance: f32,
    learned: bool,
}

impl Lookup {
    /// The authors' table: row `t` is what the hook holds at position 1 of the two tokens `[BOS, t]`.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, and what the model itself reports.
    pub fn unigram(model: &Model, hook: HookPoint) -> Result<Lookup> {
        model.check_hook(hook)?;
        let (d_vocab, d_model) = (model.config().d_vocab, model.config().d_model);
        let mut table = Vec::with_capacity(d_vocab * d_model);
        for from in (0..d_vocab).step_by(PAIRS) {
            let pairs = (from..(from + PAIRS).min(d_vocab)).flat_map(|t| [model.bos(), t as u32]).collect();
            let value = model.run_to(&Tokens::new(pairs, 2)?, hook)?; // [pairs, 2, d_model]
            table.extend(value.narrow(1, 1, 1)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Lookup::from_table(table, d_model)
    }

    /// A table of your own: `[d_vocab, d_model]`, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no whole number of rows, [`Error::NotFinite`] if it holds NaN or an infinity.
    pub fn from_table(table: Vec<f32>, d_model: usize) -> Result<Lookup> {
        if d_model == 0 || table.is_empty() || !table.len().is_multiple_of(d_model) {
            return Err(Error::Shape {
                what: "lookup table".to_owned(),
                want: vec![table.len() / d_model.max(1), d_model],
                got: vec![table.len()],
            });
        }
        if let Some(at) = table.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: "lookup table".to_owned(),
                value: table[at],
                at: format!("token {}, dimension {}", at / d_model, at % d_model),
            });
        }
        Ok(Lookup { table: Arc::new(table), d_model, balance: BALANCE, learned: true })
    }

    /// The same table, kept as it is: no gradient reaches it.
    pub fn frozen(self) -> Lookup {
        Lookup { learned: false, ..self }
    }

    /// The same table with balance α: 0 starts it empty, 1 leaves the encoder at 0.
    ///
    /// # Errors
    /// [`Error::Config`] unless `0 ≤ α ≤ 1`.
    pub fn with_balance(self, alpha: f32) -> Result<Lookup> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::config("balance", format!("balance = {alpha}; it must lie between 0 and 1")));
        }
        Ok(Lookup { balance: alpha, ..self })
    }

    /// How many tokens it has a row for.
    pub fn d_vocab(&self) -> usize {
        self.table.len() / self.d_model
    }

    /// The width of a row.
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// The balance α.
    pub fn balance(&self) -> f32 {
        self.balance
    }

    /// Whether training moves it.
    pub fn is_learned(&self) -> bool {
        self.learned
    }

    /// Its directions `T` `[d_vocab, d_model]`, not yet scaled by α.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// `⟨W, W₀⟩ / ‖W₀‖²` of a table `W` trained from this one, `W₀ = α·T`: 1 at the start, the authors' `lookup_sim`.
    pub fn similarity(&self, trained: &[f32]) -> f64 {
        let pairs = self.table.par_chunks(SUMMED).zip(trained.par_chunks(SUMMED));
        let parts: Vec<[f64; 2]> = pairs.map(|(start, trained)| [wide_dot(start, trained), wide_dot(start, start)]).collect();
        let [dot, norm] = parts.iter().fold([0.0; 2], |sum, part| [sum[0] + part[0], sum[1] + part[1]]);
        dot / (f64::from(self.balance) * norm).max(f64::MIN_POSITIVE)
    }

    /// A checksum over the directions, the balance and whether it learns.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(bytemuck::cast_slice::<f32, u8>(&self.table));
        hash.update(self.balance.to_le_bytes());
        hash.update([u8::from(self.learned)]);
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}
