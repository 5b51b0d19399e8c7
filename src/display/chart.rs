//! Figures: curves, histograms and bars, one or several panels, drawn by plotters as SVG.
//!
//! Everything here takes plain numbers. The series have a palette that colour-blind readers
//! can tell apart, with a contrast of at least 3.5 on white and on black; text and axes of the bare
//! SVG have the colour of the page that shows it.
//!
//! ```
//! use tokenized_sae::plot::{self, Axis, Mark, Options, Scale, Series, Unit};
//!
//! let sae = Series::new("SAE", vec![(1e6, 0.11), (2e6, 0.06), (4e6, 0.041)]);
//! let tsae = Series::new("TSAE", vec![(0.4e6, 0.041), (2e6, 0.018), (4e6, 0.013)]);
//! let options = Options {
//!     x: Axis { unit: Unit::Count, ..Axis::default() },
//!     y: Axis { scale: Scale::Log, ..Axis::default() },
//!     marks: vec![Mark::Sooner { y: 0.041, from: 0.4e6, to: 4e6, label: "10× sooner".into() }],
//!     ..Options::default()
//! };
//! let figure = plot::curves("Reconstruction", "tokens seen", "NMSE", &[sae, tsae], &options)?;
//! assert!(figure.svg().contains("10× sooner"));
//! # Ok::<(), tokenized_sae::error::Error>(())
//! ```

mod axis;
mod bars;
mod canvas;
mod histogram;
mod layout;
mod lines;
mod marks;
mod measure;
mod palette;
mod panel;
mod spec;
mod ticks;

pub(crate) use layout::PUBLISHED;
pub use spec::{Axis, Mark, Options, Sample, Scale, Series, Unit};
pub(crate) use spec::{Content, PanelSpec};

pub(super) use ticks::superscript;

use crate::base::error::Result;
use crate::display::Figure;

/// Draws series as curves over common axes.
///
/// Points that are not finite are left out and break the curve there. A legend stands above the
/// axes if there is more than one name.
///
/// # Errors
/// [`Error::Figure`](crate::base::error::Error::Figure) if there is nothing to draw, or a number
/// that a logarithmic axis cannot hold.
pub fn curves(
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[Series],
    options: &Options,
) -> Result<Figure> {
    single(title, x_label, y_label, Content::Curves(series.to_vec()), options)
}

/// Draws how the values of each sample are distributed: counts in common bins, the samples over
/// each other.
///
/// The bins are equal on the x axis, also if that is logarithmic; `bins` 0 chooses a number by the
/// size of the samples. Values that are not finite are left out.
///
/// # Errors
/// [`Error::Figure`](crate::base::error::Error::Figure) if there is nothing to draw, or a number
/// that a logarithmic axis cannot hold.
pub fn histogram(
    title: &str,
    x_label: &str,
    y_label: &str,
    samples: &[Sample],
    bins: usize,
    options: &Options,
) -> Result<Figure> {
    single(title, x_label, y_label, Content::Histogram { samples: samples.to_vec(), bins }, options)
}

/// Draws groups of bars side by side: each group has one value for each category.
///
/// # Errors
/// [`Error::Figure`](crate::base::error::Error::Figure) if there is nothing to draw, if a group has
/// too many or too few values, or for a number that a logarithmic axis cannot hold.
pub fn bars(
    title: &str,
    x_label: &str,
    y_label: &str,
    categories: &[String],
    groups: &[Sample],
    options: &Options,
) -> Result<Figure> {
    single(
        title,
        x_label,
        y_label,
        Content::Bars { categories: categories.to_vec(), groups: groups.to_vec() },
        options,
    )
}

/// Draws several panels in rows of `columns`, under one title and one legend; equal names have
/// equal colours in all of them.
///
/// # Errors
/// [`Error::Figure`](crate::base::error::Error::Figure) as for the single figures, naming the
/// panel.
pub(crate) fn panels(title: &str, panels: &[PanelSpec], columns: usize) -> Result<Figure> {
    layout::draw(title, panels, columns, None)
}

fn single(
    title: &str,
    x_label: &str,
    y_label: &str,
    content: Content,
    options: &Options,
) -> Result<Figure> {
    let panel = PanelSpec {
        title: String::new(),
        x: Axis { label: x_label.to_owned(), ..options.x.clone() },
        y: Axis { label: y_label.to_owned(), ..options.y.clone() },
        content,
        marks: options.marks.clone(),
    };
    layout::draw(title, &[panel], 1, options.size)
}

#[cfg(test)]
pub(crate) mod tests;
