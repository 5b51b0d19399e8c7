//! How values show themselves: text and HTML for a notebook cell, tables, figures, progress, and
//! the stop button.
//!
//! The ground floor of the crate: it knows nothing of models or autoencoders. A type that wants to
//! be seen in a notebook says by [`Show`] what it looks like and has an `evcxr_display` method,
//! which ends in [`show`]; the same value printed by a command shows its text form.

mod base;
pub mod chart;
mod figure;
pub mod interrupt;
mod live;
mod progress;
mod show;
mod shown;
mod table;

pub use figure::Figure;
pub(crate) use figure::base64;
pub(crate) use live::Place;
pub use progress::Progress;
pub(crate) use progress::{Recent, remark};
pub use show::{escape, in_notebook, show};
pub use shown::{Show, Shown};
pub(crate) use shown::{debug, settings, shows, shows_as_table};
pub(crate) use table::{Best, Cell};
pub use table::{Column, Row, Table};
