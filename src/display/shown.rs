//! What a value looks like in a notebook cell, in its two forms at once.

use super::{Column, Figure, Row, Table, escape, show};

/// A value as a notebook cell shows it: as HTML, and as the text that stands where there is no
/// HTML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// As HTML, in the colours of the page around it.
    pub html: String,
    /// As text.
    pub text: String,
}

/// Values that show themselves as the last of a cell.
///
/// Each of them also has an `evcxr_display` of its own, by which a notebook finds it without this
/// trait.
///
/// ```
/// use tokenized_sae::display::Show;
/// use tokenized_sae::prelude::*;
/// let shown = HookPoint::resid_pre(2).shown();
/// assert!(shown.html.contains("<code>blocks.2.hook_resid_pre</code>"));
/// assert!(shown.text.starts_with("blocks.2.hook_resid_pre: "));
/// ```
pub trait Show {
    /// Both forms of it.
    fn shown(&self) -> Shown;
}

/// Gives types that [`Show`] themselves the method by which a notebook finds that out.
///
/// Those after `tables:` show nothing but what their method `table` gives.
macro_rules! shows {
    (tables: $($type:ty),+ $(,)?) => {
        $(impl $crate::display::Show for $type {
            fn shown(&self) -> $crate::display::Shown {
                self.table().into()
            }
        })+
        $crate::display::shows!($($type),+);
    };
    ($($type:ty),+ $(,)?) => {$(
        impl $type {
            /// Shows it in a notebook cell.
            pub fn evcxr_display(&self) {
                $crate::display::Show::shown(self).evcxr_display();
            }
        }
    )+};
}
pub(crate) use shows;

/// What `{:?}` writes of a type whose fields would fill the screen.
macro_rules! debug {
    ($type:ty: $it:ident => $($text:tt)+) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $it = self;
                write!(f, $($text)+)
            }
        }
    };
}
pub(crate) use debug;

/// As [`shows`], for types that show themselves as the table that they have.
macro_rules! shows_as_table {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::display::Show for $type {
            fn shown(&self) -> $crate::display::Shown {
                self.table().into()
            }
        })+
        $crate::display::shows!($($type),+);
    };
}
pub(crate) use shows_as_table;

impl Shown {
    /// A name and what it means: `hook_mlp_out: what the MLP adds`.
    pub(crate) fn sentence(name: &str, meaning: &str) -> Shown {
        Shown {
            html: format!(
                "<p style=\"margin:.3em 0\"><code>{}</code>: {}</p>",
                escape(name),
                escape(meaning)
            ),
            text: format!("{name}: {meaning}"),
        }
    }

    /// A line of text.
    pub(crate) fn line(text: &str) -> Shown {
        Shown {
            html: format!("<p style=\"margin:.3em 0;white-space:pre-wrap\">{}</p>", escape(text)),
            text: text.to_owned(),
        }
    }

    /// This, and `other` below it.
    pub(crate) fn and(self, other: impl Into<Shown>) -> Shown {
        let other = other.into();
        Shown {
            html: format!("{}\n{}", self.html, other.html),
            text: format!("{}\n\n{}", self.text.trim_end(), other.text),
        }
    }

    /// This, and a figure below it if one could be drawn.
    pub(crate) fn and_figure<E>(self, figure: Result<Figure, E>) -> Shown {
        match figure {
            Ok(figure) => self.and(figure.shown()),
            Err(_) => self,
        }
    }

    /// Shows it in a notebook cell.
    pub fn evcxr_display(&self) {
        show(&self.html, &self.text);
    }
}

impl Show for Shown {
    fn shown(&self) -> Shown {
        self.clone()
    }
}

impl Show for Table {
    fn shown(&self) -> Shown {
        self.clone().into()
    }
}

impl Show for Figure {
    fn shown(&self) -> Shown {
        Shown { html: self.html(), text: self.summary().to_owned() }
    }
}

impl From<Table> for Shown {
    fn from(table: Table) -> Shown {
        Shown { html: table.html(), text: table.text() }
    }
}

/// A table of settings: the name of each, its value, and what it means.
pub(crate) fn settings(title: &str, rows: Vec<(&str, String, &str)>) -> Table {
    let rows =
        rows.into_iter().map(|(name, value, meaning)| Row::new(name).defined(meaning).text(&value));
    Table::filled(title, &[Column::text(""), Column::text("")], rows)
}
