//! How SAEs, their settings and their codes show themselves.

use std::fmt;

use super::{Architecture, Codes, Index, Lookup, Ngrams, Origin, RowNorm, Sae, SaeConfig};
use crate::base::error::Result;
use crate::base::format;
use crate::display::chart::{self, Axis, Options, Sample};
use crate::display::{Column, Figure, Row, Show, Shown, Table, settings, shows};

/// Rows of codes that are shown, and codes of each.
const ROWS: usize = 5;
const CODES: usize = 8;

/// Names, values and what they mean.
type Rows = Vec<(&'static str, String, &'static str)>;

/// Width and height of the small figure beside an SAE's table.
const SMALL: (u32, u32) = (460, 240);

impl Sae {
    /// Its shape and origin as a table.
    pub fn table(&self) -> Table {
        let kind = if self.lookup.is_some() { "Tokenized SAE" } else { "SAE" };
        let weights = self.weights().map(Vec::len).iter().sum::<usize>();
        let parameters = weights + self.lookup.as_ref().map_or(0, Vec::len);
        let mut rows = vec![
            ("d_model", self.d_model().to_string(), "the width of the activations"),
            ("d_sae", latents(&self.config), "how many latents there are"),
        ];
        rows.extend(activity(&self.config));
        if let [threshold] = self.threshold[..] {
            let threshold = format::significant(f64::from(threshold), 3);
            rows.push(("threshold", threshold, "what a pre-activation must exceed to be a code"));
        }
        if let Some(table) = &self.lookup {
            let rows_of = self.index.count(table.len() / self.d_model().max(1));
            let shape = format!("{rows_of} × {}", self.d_model());
            rows.push(("W_lookup", shape, self.index.meaning()));
        }
        if self.row_norm != RowNorm::None {
            rows.push(self.row_norm.row());
        }
        let parameters = format::count(parameters as u64);
        rows.push(("parameters", parameters, "weights, biases and the table"));
        rows.extend(origin(&self.origin));
        settings(kind, rows)
    }

    /// How long the rows of encoder and decoder are: `‖W_enc[latent]‖` and `‖W_dec[latent]‖` over
    /// latents.
    ///
    /// # Errors
    /// [`Error::Figure`](crate::Error::Figure) if there are no finite weights.
    pub fn norms(&self) -> Result<Figure> {
        let sample = |name: &str, w: &[f32]| {
            Sample::new(name, w.chunks_exact(self.d_model().max(1)).map(length).collect())
        };
        let samples = [sample("W_enc", &self.w_enc), sample("W_dec", &self.w_dec)];
        let options = Options {
            size: Some(SMALL),
            x: Axis { range: unless_all_equal(&samples), ..Axis::default() },
            ..Options::default()
        };
        let title = "Lengths of the latents' weights";
        chart::histogram(title, "‖W[latent]‖", "latents", &samples, 0, &options)
    }
}

/// `‖row‖`.
fn length(row: &[f32]) -> f64 {
    row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt()
}

/// The rows of an untrained SAE are equally long but for rounding, which is nothing to look at.
fn unless_all_equal(samples: &[Sample]) -> Option<(f64, f64)> {
    let values =
        || samples.iter().flat_map(|sample| &sample.values).copied().filter(|v| v.is_finite());
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    (most > 0.0 && most - least < 1e-3 * most).then_some((0.0, 2.0 * most))
}

fn origin(origin: &Origin) -> Rows {
    let processing = origin.processing.as_deref().unwrap_or("processing unknown");
    let rows = [
        (
            "model",
            origin.model.as_ref().map(|model| format!("{model} ({processing})")),
            "the model whose activations it reads, and how its weights were processed",
        ),
        (
            "revision",
            origin.revision.as_ref().map(|id| id.get(..12).unwrap_or(id).to_owned()),
            "the commit of the model's repository on the hub",
        ),
        ("hook", origin.hook.map(|it| it.to_string()), "the place in the model that it reads"),
        (
            "n_ctx",
            origin.n_ctx.map(|it| it.to_string()),
            "the length of the sequences that it was trained on",
        ),
    ];
    rows.into_iter().filter_map(|(name, value, meaning)| Some((name, value?, meaning))).collect()
}

impl SaeConfig {
    /// The settings, as a table.
    pub fn table(&self) -> Table {
        let lookup = self
            .lookup
            .as_ref()
            .map_or("none: a plain SAE".to_owned(), |lookup| format!("{lookup:?}"));
        let relu =
            if self.relu { "negative values become 0" } else { "values are kept as they are" };
        let lr = self.lr.map_or("TrainConfig's".to_owned(), |lr| format!("{lr:e}"));
        let mut rows = vec![
            ("d_model", self.d_model.to_string(), "the width of the activations"),
            ("d_vocab", self.d_vocab.to_string(), "rows of a token table, if there is one"),
            match self.latents {
                Some(_) => ("latents", latents(self), "how many latents there are"),
                None => (
                    "expansion",
                    format!("{}, so d_sae = {}", self.expansion, self.d_sae()),
                    "latents per dimension",
                ),
            },
        ];
        rows.extend(activity(self));
        if self.architecture == Architecture::TopK {
            rows.push((
                "relu",
                relu.to_owned(),
                "what becomes of the k largest pre-activations; the authors keep them",
            ));
        }
        if let Some(l0) = self.target_l0 {
            rows.push((
                "target_l0",
                l0.to_string(),
                "active latents per token at which training aims",
            ));
        }
        if !self.prefixes.is_empty() {
            rows.push((
                "prefixes",
                format!("{:?}", self.prefixes),
                "each of these numbers of first latents must reconstruct by itself",
            ));
        }
        if let Some(aux) = &self.aux {
            let shown =
                format!("{} dead latents a token, coefficient {}", aux.k(self.d_model), aux.alpha);
            rows.push((
                "AuxK",
                shown,
                "dead latents are asked to reconstruct what the others leave",
            ));
        }
        if self.keeps_unit_norm() {
            rows.push(("unit_norm", "yes".to_owned(), "rows of the decoder are kept at length 1"));
        }
        rows.extend([
            ("lr", lr, "the learning rate of the weights at the start"),
            ("seed", self.seed.to_string(), "decides the directions of the decoder at the start"),
            ("lookup", lookup, "the token table of a TSAE"),
        ]);
        settings("SaeConfig", rows)
    }
}

/// `512 (4 × d_model)`.
fn latents(config: &SaeConfig) -> String {
    match config.latents {
        Some(d_sae) => format!(
            "{d_sae} ({} × d_model)",
            format::significant(d_sae as f64 / config.d_model.max(1) as f64, 3)
        ),
        None => format!("{} ({} × d_model)", config.d_sae(), config.expansion),
    }
}

/// What makes a latent active.
fn activity(config: &SaeConfig) -> Rows {
    let (settings, meaning) = match config.architecture {
        Architecture::TopK | Architecture::BatchTopK => {
            (String::new(), "which latents are active: the largest pre-activations")
        }
        Architecture::Relu { l1 } => (
            format!(", l1 {l1}"),
            "which latents are active: the positive ones; training charges for their sum",
        ),
        Architecture::Gated { l1 } => (
            format!(", l1 {l1}"),
            "which latents are active: those whose gate is open; training charges for the gates",
        ),
        Architecture::JumpRelu { l0, .. } => (
            format!(", l0 {l0}"),
            "which latents are active: those above their threshold; training charges for each",
        ),
    };
    let mut rows =
        vec![("architecture", config.architecture.name().to_owned() + &settings, meaning)];
    let mut more =
        |name, value: &dyn ToString, meaning| rows.push((name, value.to_string(), meaning));
    match config.architecture {
        Architecture::TopK => more("k", &config.k, "how many latents are active on every token"),
        Architecture::BatchTopK => {
            more("k", &config.k, "how many latents are active on a token, in the mean over a batch")
        }
        Architecture::JumpRelu { bandwidth, threshold, .. } => {
            let meaning = "how near its threshold a pre-activation moves it, in units of the activations' scale";
            more("bandwidth", &bandwidth, meaning);
            let meaning = "where thresholds start, in units of the activations' scale";
            more("first threshold", &threshold, meaning);
        }
        Architecture::Relu { .. } | Architecture::Gated { .. } => {}
    }
    rows
}

impl Lookup {
    /// Its shape and settings, as a table.
    pub fn describe(&self) -> Table {
        let lengths = self.table().chunks_exact(self.d_model()).map(length);
        let mean = lengths.sum::<f64>() / self.rows().max(1) as f64;
        let learned = if self.is_learned() { "yes" } else { "no: frozen" };
        let shape = format!("{} × {}", self.index().count(self.rows()), self.d_model());
        let rows = vec![
            ("T", shape, "its directions, row by row"),
            (
                "balance α",
                self.balance().to_string(),
                "the table starts as α·T and the encoder as (1 − α)·W_dec",
            ),
            ("learned", learned.to_owned(), "whether training moves it"),
            (
                "subtracted",
                if self.is_subtracted() { "yes" } else { "no" }.to_owned(),
                "whether the encoder reads only what it leaves",
            ),
            (
                "mean ‖T[token]‖",
                format::significant(mean, 3),
                "mean length of a row, not yet scaled by α",
            ),
        ];
        settings("Lookup", rows)
    }
}

impl Codes {
    /// The shape and the first rows, as a table.
    pub fn table(&self) -> Table {
        let columns = [
            Column::number("row"),
            Column::text("codes").defined("latent: value, in ascending order of latent"),
        ];
        let mut table = Table::new(&format!("Codes of {} rows", self.n()), &columns);
        for i in 0..self.n().min(ROWS) {
            let (latents, values) = self.row(i);
            let one = |(latent, &value): (&u32, &f32)| {
                format!("{latent}: {}", format::significant(f64::from(value), 3))
            };
            let shown: Vec<String> = latents.iter().zip(values).take(CODES).map(one).collect();
            let more = if latents.len() > CODES { ", …" } else { "" };
            table.push(Row::new(&i.to_string()).text(&(shown.join(", ") + more)));
        }
        table.caption(&format!(
            "L0 {}: mean number of values per row that are not 0.",
            format::significant(self.l0(), 3)
        ))
    }
}

impl Show for Sae {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and_figure(self.norms())
    }
}

impl Show for SaeConfig {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Index {
    /// So many rows, in words.
    fn count(&self, rows: usize) -> String {
        match self {
            Index::Token => format!("{rows} tokens"),
            Index::Ngrams(grams) => {
                format!("{} tokens and {} n-grams", rows.saturating_sub(grams.len()), grams.len())
            }
            Index::Latents(_) => format!("{rows} latents"),
        }
    }

    /// What the rows are added for.
    fn meaning(&self) -> &'static str {
        match self {
            Index::Token => {
                "the table whose row of the current token is added to every reconstruction"
            }
            Index::Ngrams(_) => {
                "the table whose row of the longest known n-gram, or of the current token, is added to every reconstruction"
            }
            Index::Latents(_) => {
                "the table whose rows of a preceding SAE's active latents are added to every reconstruction, each times its code"
            }
        }
    }
}

impl Show for Ngrams {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("n-grams", self.len().to_string(), "those with rows of their own, behind the tokens'"),
            ("longest", format!("{} tokens", self.longest()), "how long they may be"),
            (
                "rows",
                self.rows().to_string(),
                "rows of a table with one for every token and every n-gram",
            ),
        ];
        settings("Ngrams", rows).into()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Index::Token => "by token",
            Index::Ngrams(_) => "by token and n-gram",
            Index::Latents(_) => "by a preceding SAE's latents",
        })
    }
}

impl RowNorm {
    fn row(self) -> (&'static str, String, &'static str) {
        let how = match self {
            RowNorm::None => "as it is",
            RowNorm::LayerNorm => "less its mean, divided by its standard deviation",
            RowNorm::ConstantNorm => "made √d_model long",
        };
        (
            "each row",
            how.to_owned(),
            "how activations are scaled before the SAE reads them; what it gives is scaled back",
        )
    }
}

impl Show for Lookup {
    fn shown(&self) -> Shown {
        self.describe().into()
    }
}

impl Show for Codes {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

shows!(Sae, SaeConfig, Lookup, Ngrams, Codes);

/// `k 16`, `BatchTopK k 16` or `ReLU`.
fn in_short(config: &SaeConfig) -> String {
    match config.architecture {
        Architecture::TopK => format!("k {}", config.k),
        Architecture::BatchTopK => format!("BatchTopK k {}", config.k),
        other => other.name().to_owned(),
    }
}

impl fmt::Debug for Sae {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.lookup.is_some() { "TSAE" } else { "SAE" };
        write!(
            f,
            "{kind} ({} latents of width {}, {})",
            self.d_sae(),
            self.d_model(),
            in_short(&self.config)
        )
    }
}

impl fmt::Debug for SaeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lookup = if self.lookup.is_some() { ", with a table" } else { "" };
        write!(
            f,
            "SaeConfig (d_model {}, d_sae {}, {}{lookup})",
            self.d_model,
            self.d_sae(),
            in_short(self)
        )
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let learned = if self.is_learned() { "learned" } else { "frozen" };
        let subtracted = if self.is_subtracted() { ", subtracted" } else { "" };
        let rows = self.index().count(self.rows());
        write!(f, "{rows} × {}, {learned}{subtracted}, α = {}", self.d_model(), self.balance())
    }
}
