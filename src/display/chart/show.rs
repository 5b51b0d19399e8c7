//! How the parts of a figure show themselves: what can be drawn alone is drawn.

use super::{Axis, Content, Group, Mark, Options, PanelSpec, Sample, Scale, Series, Unit, panels};
use crate::base::format;
use crate::display::{Show, Shown, settings, shows};

shows!(Series, Sample, Group, Content, PanelSpec, Axis, Mark, Options, Scale, Unit);

/// As the figure it makes; or, if there is nothing to draw, why.
impl Show for PanelSpec {
    fn shown(&self) -> Shown {
        match panels("", std::slice::from_ref(self), 1) {
            Ok(figure) => figure.shown(),
            Err(error) => error.shown(),
        }
    }
}

impl Show for Content {
    fn shown(&self) -> Shown {
        let panel = PanelSpec {
            title: String::new(),
            x: Axis::default(),
            y: Axis::default(),
            content: self.clone(),
            marks: Vec::new(),
        };
        panel.shown()
    }
}

impl Show for Series {
    fn shown(&self) -> Shown {
        Shown::line(&format!("curve \"{}\" of {} points", self.name, self.points.len()))
            .and(Content::Curves(vec![self.clone()]).shown())
    }
}

impl Show for Sample {
    fn shown(&self) -> Shown {
        let drawn = Content::Histogram { samples: vec![self.clone()], bins: 0 }.shown();
        Shown::line(&format!("sample \"{}\" of {} values", self.name, self.values.len())).and(drawn)
    }
}

impl Show for Group {
    fn shown(&self) -> Shown {
        let values: Vec<String> =
            self.values.iter().map(|&value| format::significant(value, 3)).collect();
        Shown::line(&format!("bars \"{}\": {}", self.name, values.join(", ")))
    }
}

impl Show for Axis {
    fn shown(&self) -> Shown {
        let range =
            self.range.map_or("everything".to_owned(), |(from, to)| format!("{from} to {to}"));
        let rows = vec![
            ("label", self.label.clone(), "what it measures, with its unit"),
            ("scale", format!("{:?}", self.scale), "linear or logarithmic"),
            ("unit", format!("{:?}", self.unit), "how its numbers are written"),
            ("range", range, "from where to where; what lies outside is cut off"),
        ];
        settings("Axis", rows).into()
    }
}

impl Show for Mark {
    fn shown(&self) -> Shown {
        Shown::line(&match self {
            Mark::Level { y, label } => format!("a line across at {y}: {label}"),
            Mark::At { x, label } => format!("a line up at {x}: {label}"),
            Mark::Sooner { y, from, to, label } => format!("from {from} to {to} at {y}: {label}"),
        })
    }
}

impl Show for Options {
    fn shown(&self) -> Shown {
        let size = self.size.map_or("by what is drawn".to_owned(), |(width, height)| {
            format!("{width} × {height} pixels")
        });
        let axes = Shown::line("x:").and(self.x.shown()).and(Shown::line("y:")).and(self.y.shown());
        let marks = self.marks.iter().fold(axes, |shown, mark| shown.and(mark.shown()));
        marks.and(Shown::line(&format!("size: {size}")))
    }
}

impl Show for Scale {
    fn shown(&self) -> Shown {
        match self {
            Scale::Linear => Shown::sentence("Linear", "equal differences are equally far apart"),
            Scale::Log => Shown::sentence("Log", "equal ratios are equally far apart"),
        }
    }
}

impl Show for Unit {
    fn shown(&self) -> Shown {
        match self {
            Unit::Number => Shown::sentence("Number", "as they are: 0.05, 120"),
            Unit::Count => Shown::sentence("Count", "with suffixes: 500 k, 2 M"),
            Unit::Share => Shown::sentence("Share", "as percentages of one"),
        }
    }
}
