//! Parameters and moments that stay on the device from step to step.

use std::sync::Arc;

use super::learned::Learned;
use super::table::Table;
use super::work::Work;
use crate::backend::adam::AdamStep;
use crate::backend::state::AdamState;
use crate::base::error::Result;
use crate::device::{Buffer, Driver, Shape, launch};
use crate::sae::Sae;

/// An SAE in training, as the device holds it.
pub(super) struct Resident {
    pub(super) device: Arc<dyn Driver>,
    pub(super) w_enc: Learned,
    pub(super) b_enc: Learned,
    pub(super) w_dec: Learned,
    pub(super) b_dec: Learned,
    pub(super) table: Option<Table>,
    pub(super) work: Option<Work>,
    /// The steps that these parameters have made.
    pub(super) steps: u64,
    /// Whether the host's are behind: those of the table, and the others.
    pub(super) ahead: [bool; 2],
}

impl Resident {
    /// Takes an SAE and its optimiser to the device.
    pub(super) fn upload(
        device: &Arc<dyn Driver>,
        sae: &Sae,
        state: &AdamState,
    ) -> Result<Resident> {
        Ok(Resident {
            device: device.clone(),
            w_enc: Learned::upload(device, &sae.w_enc, &state.w_enc)?,
            b_enc: Learned::upload(device, &sae.b_enc, &state.b_enc)?,
            w_dec: Learned::upload(device, &sae.w_dec, &state.w_dec)?,
            b_dec: Learned::upload(device, &sae.b_dec, &state.b_dec)?,
            table: Table::upload(device, sae, state)?,
            work: None,
            steps: state.steps,
            ahead: [false; 2],
        })
    }

    /// Brings the host's table up to date.
    pub(super) fn download_table(&mut self, sae: &mut Sae, state: &mut AdamState) -> Result<()> {
        if let Some(table) = &mut self.table
            && self.ahead[0]
        {
            table.download(sae, state)?;
        }
        self.ahead[0] = false;
        Ok(())
    }

    /// Brings all of the host's up to date.
    pub(super) fn download(&mut self, sae: &mut Sae, state: &mut AdamState) -> Result<()> {
        self.download_table(sae, state)?;
        if self.ahead[1] {
            self.w_enc.download(&mut sae.w_enc, &mut state.w_enc)?;
            self.b_enc.download(&mut sae.b_enc, &mut state.b_enc)?;
            self.w_dec.download(&mut sae.w_dec, &mut state.w_dec)?;
            self.b_dec.download(&mut sae.b_dec, &mut state.b_dec)?;
        }
        self.ahead[1] = false;
        Ok(())
    }

    /// Moves the bias of the encoder against its gradient.
    pub(super) fn move_b_enc(
        &self,
        gradient: &Buffer<f32>,
        adam: AdamStep,
        report: &Buffer<u32>,
    ) -> Result<()> {
        let Learned { w, m, v } = &self.b_enc;
        let d_sae = w.len();
        launch!(
            self.device,
            "move_b_enc",
            Shape::blocks(d_sae.div_ceil(256), 256),
            [gradient, d_sae, adam, w, m, v, report]
        )
    }
}
