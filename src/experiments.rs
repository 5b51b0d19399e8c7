//! Whole experiments: one described in a file ([`recipe`]), an SAE and a TSAE side by side
//! ([`compare`](mod@compare)), a grid of runs ([`sweep`]), and what the [`paper`] reports.

pub mod compare;
pub mod paper;
pub mod recipe;
pub mod sweep;
