//! Speed, measured: `tsae bench`.

mod made_up;
pub mod step;
