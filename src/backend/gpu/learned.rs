//! What Adam moves, on the device.

use std::sync::Arc;

use crate::backend::adam::Moments;
use crate::base::error::Result;
use crate::device::{Buffer, Driver};

/// A parameter array and its moments.
pub(super) struct Learned {
    pub(super) w: Buffer<f32>,
    pub(super) m: Buffer<f32>,
    pub(super) v: Buffer<f32>,
}

impl Learned {
    pub(super) fn upload(
        device: &Arc<dyn Driver>,
        w: &[f32],
        moments: &Moments,
    ) -> Result<Learned> {
        Ok(Learned {
            w: Buffer::of(device, w)?,
            m: Buffer::of(device, &moments.m)?,
            v: Buffer::of(device, &moments.v)?,
        })
    }

    pub(super) fn download(&self, w: &mut [f32], moments: &mut Moments) -> Result<()> {
        self.w.read(w)?;
        self.m.read(&mut moments.m)?;
        self.v.read(&mut moments.v)
    }
}
