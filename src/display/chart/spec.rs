//! What a figure is made of, in plain numbers.

/// A curve: its name and its points `(x, y)`, in order of x.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name in the legend; equal names have equal colours, and "paper: NAME" has that of "NAME".
    pub name: String,
    /// The points; one that is not finite breaks the curve.
    pub points: Vec<(f64, f64)>,
    /// Whether every point has a marker, which is good for up to about forty.
    pub markers: bool,
    /// The share of the points over which a moving mean is drawn, with the points themselves pale
    /// behind it: 0 draws them plainly.
    pub smooth: f64,
    /// From where to where the value at each point goes, as over several seeds: drawn as upright
    /// bars. Empty, or one pair a point.
    pub spread: Vec<(f64, f64)>,
    /// Whether the curve is dashed, as one that is there for comparison.
    pub dashed: bool,
}

impl Series {
    /// A plain curve.
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.to_owned(), points, ..Series::default() }
    }

    /// The curve with a marker at every point.
    pub fn with_markers(mut self) -> Series {
        self.markers = true;
        self
    }

    /// The curve with an upright bar at every point, from the first to the second number.
    pub fn with_spread(mut self, spread: Vec<(f64, f64)>) -> Series {
        self.spread = spread;
        self
    }

    /// The curve dashed.
    pub fn dashed(mut self) -> Series {
        self.dashed = true;
        self
    }

    /// The curve as a moving mean over `share` of its points, the points pale behind it.
    pub fn smoothed(mut self, share: f64) -> Series {
        self.smooth = share;
        self
    }
}

/// Values under one name: those of which a histogram is drawn, in any order, or the heights of the
/// bars of one colour, one a category.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The name in the legend.
    pub name: String,
    /// The values; one that is not finite is left out, a bar's place stays empty.
    pub values: Vec<f64>,
}

impl Sample {
    /// A sample.
    pub fn new(name: &str, values: Vec<f64>) -> Sample {
        Sample { name: name.to_owned(), values }
    }
}

/// How numbers are laid out along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; only positive numbers.
    Log,
}

/// How the numbers at an axis are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// As they are: `0.05`, `120`; powers of ten where that would be long.
    #[default]
    Number,
    /// With suffixes: `500 k`, `2 M`.
    Count,
    /// As percentages of one.
    Share,
}

/// One axis of a panel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What it measures, with its unit: "tokens seen".
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// How its numbers are written.
    pub unit: Unit,
    /// From where to where; what lies outside is cut off. `None` shows everything.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// An axis that shows everything.
    pub(crate) fn of(label: &str, scale: Scale, unit: Unit) -> Axis {
        Axis { label: label.to_owned(), scale, unit, range: None }
    }
}

/// Something pointed out over the data.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A dashed line across the panel at a height.
    Level {
        /// The height.
        y: f64,
        /// What it is.
        label: String,
    },
    /// A dashed line up the panel.
    At {
        /// Where.
        x: f64,
        /// What it is.
        label: String,
    },
    /// That `y` was reached at `from` by one curve and at `to` by another: a dashed line between,
    /// with an arrow to the sooner.
    Sooner {
        /// The value that both reach.
        y: f64,
        /// Where the sooner one does.
        from: f64,
        /// Where the later one does.
        to: f64,
        /// What to write at it: "9.8× sooner".
        label: String,
    },
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Curves.
    Curves(Vec<Series>),
    /// Distributions, in this many bins (0 to have the number chosen).
    Histogram {
        /// The samples.
        samples: Vec<Sample>,
        /// The number of bins.
        bins: usize,
    },
    /// Bars.
    Bars {
        /// The names along the x axis.
        categories: Vec<String>,
        /// One value a category each.
        groups: Vec<Sample>,
    },
}

impl Content {
    /// The names of what is shown, in order.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Content::Curves(series) => series.iter().map(|s| s.name.as_str()).collect(),
            Content::Histogram { samples: all, .. } | Content::Bars { groups: all, .. } => {
                all.iter().map(|sample| sample.name.as_str()).collect()
            }
        }
    }
}

/// One panel of a figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PanelSpec {
    /// The line above the panel; may be empty.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The data.
    pub content: Content,
    /// What is pointed out.
    pub marks: Vec<Mark>,
}

impl PanelSpec {
    /// Curves, with nothing pointed out.
    pub(crate) fn curves(title: &str, x: Axis, y: Axis, curves: Vec<Series>) -> PanelSpec {
        let content = Content::Curves(curves);
        PanelSpec { title: title.to_owned(), x, y, content, marks: Vec::new() }
    }
}

/// How a single figure is drawn; the default is good for most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The horizontal axis; its label is the call's.
    pub x: Axis,
    /// The vertical axis; its label is the call's.
    pub y: Axis,
    /// What is pointed out.
    pub marks: Vec<Mark>,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
}
