//! How tables, their parts and figures show themselves.

use super::{Show, Shown, shows};
use crate::display::{Best, Cell, Column, Figure, Row, Table};

shows!(Row, Column, Cell, Best);

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

/// As the only row of a table.
impl Show for Row {
    fn shown(&self) -> Shown {
        Table::new("", &[]).with(self.clone()).into()
    }
}

/// As the only column of a table without rows.
impl Show for Column {
    fn shown(&self) -> Shown {
        Table::new("", std::slice::from_ref(self)).into()
    }
}

impl Show for Cell {
    fn shown(&self) -> Shown {
        Shown::line(Cell::shown(self))
    }
}

impl Show for Best {
    fn shown(&self) -> Shown {
        match self {
            Best::None => Shown::sentence("None", "no number is set in bold"),
            Best::Lowest => Shown::sentence("Lowest", "the least number is set in bold"),
            Best::Highest => Shown::sentence("Highest", "the greatest number is set in bold"),
        }
    }
}
