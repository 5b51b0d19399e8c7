//! The table on the device: rows whose tokens occur are brought up to date, looked at, and moved.

use std::sync::Arc;

use super::learned::Learned;
use crate::backend::adam::AdamStep;
use crate::backend::cpu::csr::Csr;
use crate::backend::deferred::{DeferredAdam, MAX_STEPS, bounds_ahead};
use crate::backend::state::AdamState;
use crate::base::error::Result;
use crate::device::{Buffer, Driver, Shape, launch};
use crate::sae::{Keys, Sae};

/// A table, learned or frozen.
pub(super) struct Table {
    device: Arc<dyn Driver>,
    rows: usize,
    pub(super) values: Values,
    /// The token of every row of the batch.
    pub(super) tokens: Buffer<u32>,
    by_token: Csr,
}

/// The numbers of a table.
pub(super) enum Values {
    Frozen(Buffer<f32>),
    Learned(Box<LearnedTable>),
}

/// A table that moves, and the steps that its rows owe.
pub(super) struct LearnedTable {
    learned: Learned,
    /// The steps since all rows were last up to date, on the host and on the device.
    steps: Vec<AdamStep>,
    on_device: Buffer<[f32; 7]>,
    ahead: Buffer<[f32; 3]>,
    /// How many of them each row has made.
    made: Buffer<u32>,
    /// The tokens that occur, where each one's rows begin, and those rows.
    occurring: [Buffer<u32>; 3],
    n_occurring: usize,
}

impl Table {
    /// Takes the table to the device, if the SAE has one.
    pub(super) fn upload(
        device: &Arc<dyn Driver>,
        sae: &Sae,
        state: &AdamState,
    ) -> Result<Option<Table>> {
        let Some(table) = &sae.lookup else { return Ok(None) };
        let rows = table.len() / sae.d_model().max(1);
        let values = match &state.lookup {
            None => Values::Frozen(Buffer::of(device, table)?),
            Some(moments) => {
                let (steps, made) = match &state.deferred {
                    Some(deferred) => deferred.owed(),
                    None => (&[][..], &[][..]),
                };
                let of_rows = Buffer::zeros(device, rows)?;
                of_rows.write(made)?;
                let empty = || Buffer::new(device, 0);
                Values::Learned(Box::new(LearnedTable {
                    learned: Learned::upload(device, table, moments)?,
                    steps: steps.to_vec(),
                    on_device: Buffer::new(device, MAX_STEPS)?,
                    ahead: Buffer::new(device, MAX_STEPS)?,
                    made: of_rows,
                    occurring: [empty()?, empty()?, empty()?],
                    n_occurring: 0,
                }))
            }
        };
        let (tokens, by_token) = (Buffer::new(device, 0)?, Csr::default());
        Ok(Some(Table { device: device.clone(), rows, values, tokens, by_token }))
    }

    /// The array itself.
    pub(super) fn rows(&self) -> &Buffer<f32> {
        match &self.values {
            Values::Frozen(table) => table,
            Values::Learned(table) => &table.learned.w,
        }
    }

    /// Takes the tokens of a batch, and brings their rows up to date.
    pub(super) fn look_at(&mut self, keys: &Keys<'_>, d: usize) -> Result<()> {
        let tokens = keys.all();
        self.tokens.take(tokens)?;
        let Values::Learned(table) = &mut self.values else { return Ok(()) };
        self.by_token.fill(tokens, self.rows);
        let (mut rows, mut starts) = (Vec::new(), vec![0]);
        for (row, entries) in self.by_token.keys() {
            rows.push(row as u32);
            starts.push(starts[rows.len() - 1] + entries.len() as u32);
        }
        table.n_occurring = rows.len();
        for (to, from) in table.occurring.iter_mut().zip([&rows[..], &starts, self.by_token.all()])
        {
            to.take(from)?;
        }
        table.replay(&self.device, true, self.rows, d)
    }

    /// Moves the rows whose tokens occur against their residuals `[n, d]`.
    pub(super) fn update(
        &self,
        residuals: &Buffer<f32>,
        d: usize,
        adam: AdamStep,
        report: &Buffer<u32>,
    ) -> Result<()> {
        let Values::Learned(table) = &self.values else { return Ok(()) };
        let ([rows, starts, entries], Learned { w, m, v }) = (&table.occurring, &table.learned);
        launch!(
            self.device,
            "move_table",
            Shape::blocks(table.n_occurring, 128),
            [
                rows,
                starts,
                entries,
                residuals,
                d,
                adam,
                table.steps.len() + 1,
                w,
                m,
                v,
                &table.made,
                report
            ]
        )
    }

    /// Takes down a step that the rows whose tokens occur have made.
    pub(super) fn record(&mut self, adam: AdamStep, d: usize) -> Result<()> {
        let Values::Learned(table) = &mut self.values else { return Ok(()) };
        table.steps.push(adam);
        if table.steps.len() == MAX_STEPS {
            table.flush(&self.device, self.rows, d)
        } else {
            Ok(())
        }
    }

    /// Brings all rows up to date, here and on the host.
    pub(super) fn download(&mut self, sae: &mut Sae, state: &mut AdamState) -> Result<()> {
        let d = sae.d_model();
        if let (Values::Learned(table), Some(rows), Some(moments)) =
            (&mut self.values, &mut sae.lookup, &mut state.lookup)
        {
            table.flush(&self.device, self.rows, d)?;
            table.learned.download(rows, moments)?;
            if let Some(deferred) = &mut state.deferred {
                *deferred = DeferredAdam::up_to_date(self.rows);
            }
        }
        Ok(())
    }
}

impl LearnedTable {
    fn flush(&mut self, device: &Arc<dyn Driver>, rows: usize, d: usize) -> Result<()> {
        self.replay(device, false, rows, d)?;
        self.steps.clear();
        self.made.clear()
    }

    /// Makes the steps that rows owe: those whose tokens occur, or all.
    fn replay(
        &self,
        device: &Arc<dyn Driver>,
        occurring: bool,
        rows: usize,
        d: usize,
    ) -> Result<()> {
        let n = if occurring { self.n_occurring } else { rows };
        if self.steps.is_empty() || n == 0 {
            return Ok(());
        }
        let steps: Vec<[f32; 7]> = self.steps.iter().map(AdamStep::numbers).collect();
        self.on_device.write(&steps)?;
        self.ahead.write(&bounds_ahead(&self.steps))?;
        let Learned { w, m, v } = &self.learned;
        launch!(
            device,
            "replay",
            Shape::blocks(n, 128),
            [
                occurring.then_some(&self.occurring[0]),
                &self.on_device,
                &self.ahead,
                steps.len(),
                d,
                w,
                m,
                v,
                &self.made
            ]
        )
    }
}
