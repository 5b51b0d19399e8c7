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

/// A setting: its name, its value, and what it means.
type Setting = (&'static str, String, &'static str);

fn row(name: &'static str, value: impl ToString) -> Setting {
    let meaning = match name {
        "d_model" => "the width of the activations",
        "d_vocab" => "rows of a token table, if there is one",
        "d_sae" | "latents" => "how many latents there are",
        "expansion" => "latents per dimension",
        "threshold" => "what a pre-activation must exceed to be a code",
        "parameters" => "weights, biases and the table",
        "model" => "the model whose activations it reads, and how its weights were processed",
        "revision" => "the commit of the model's repository on the hub",
        "hook" => "the place in the model that it reads",
        "n_ctx" => "the length of the sequences that it was trained on",
        "relu" => "what becomes of the k largest pre-activations; the authors keep them",
        "prefixes" => "each of these numbers of first latents must reconstruct by itself",
        "AuxK" => "dead latents are asked to reconstruct what the others leave",
        "unit_norm" => "rows of the decoder are kept at length 1",
        "centred" => "where the decoder's bias starts",
        "subspace" => {
            "the directions, those in which activations vary most, that the decoder starts in"
        }
        "aligned" => "the inner product of a latent's two rows is kept at 1",
        "resamplings" => "how often latents that do not fire start anew",
        "frozen" => "the matrix that training leaves as it starts: a control",
        "lr" => "the learning rate of the weights at the start",
        "seed" => "decides the directions of the decoder at the start",
        "lookup" => "the token table of a TSAE",
        "first threshold" => "where thresholds start, in units of the activations' scale",
        "T" => "its directions, row by row",
        "balance α" => {
            "the table starts as α·T and the encoder as (1 − α)·W_dec, or as W_dec if a whole table (1) is subtracted"
        }
        "learned" => "whether training moves it",
        "subtracted" => "whether the encoder reads only what it leaves",
        "mean ‖T[token]‖" => "mean length of a row, not yet scaled by α",
        "n-grams" => "those with rows of their own, behind the tokens'",
        "longest" => "how long they may be",
        "rows" => "rows of a table with one for every token and every n-gram",
        "bandwidth" => {
            "how near its threshold a pre-activation moves it, in units of the activations' scale"
        }
        "each row" => {
            "how activations are scaled before the SAE reads them; what it gives is scaled back"
        }
        _ => "",
    };
    (name, value.to_string(), meaning)
}

/// Width and height of the small figure beside an SAE's table.
const SMALL: (u32, u32) = (460, 240);

impl Sae {
    /// Its shape and origin as a table.
    pub fn table(&self) -> Table {
        let kind = if self.lookup.is_some() { "Tokenized SAE" } else { "SAE" };
        let weights = self.weights().map(Vec::len).iter().sum::<usize>();
        let parameters = weights + self.lookup.as_ref().map_or(0, Vec::len);
        let mut rows = vec![row("d_model", self.d_model()), row("d_sae", latents(&self.config))];
        rows.extend(activity(&self.config));
        if let [threshold] = self.threshold[..] {
            rows.push(row("threshold", format::significant(f64::from(threshold), 3)));
        }
        if let Some(table) = &self.lookup {
            let rows_of = self.index.count(table.len() / self.d_model().max(1));
            let shape = format!("{rows_of} × {}", self.d_model());
            rows.push(("W_lookup", shape, self.index.meaning()));
        }
        match self.row_norm {
            RowNorm::None => {}
            RowNorm::LayerNorm => {
                rows.push(row("each row", "less its mean, divided by its standard deviation"))
            }
            RowNorm::ConstantNorm => rows.push(row("each row", "made √d_model long")),
        }
        rows.push(row("parameters", format::count(parameters as u64)));
        let Origin { model, revision, hook, place, processing, n_ctx } = &self.origin;
        let processing = processing.as_deref().unwrap_or("processing unknown");
        rows.extend(model.as_ref().map(|it| row("model", format!("{it} ({processing})"))));
        rows.extend(revision.as_ref().map(|it| row("revision", it.get(..12).unwrap_or(it))));
        rows.extend(hook.map(|it| row("hook", it)));
        rows.extend(
            place
                .as_ref()
                .filter(|_| hook.is_none())
                .map(|it| row("hook", format!("{it}, which is none of those here"))),
        );
        rows.extend(n_ctx.map(|it| row("n_ctx", it)));
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

impl SaeConfig {
    /// The settings, as a table.
    pub fn table(&self) -> Table {
        let mut rows = vec![row("d_model", self.d_model), row("d_vocab", self.d_vocab)];
        rows.push(match self.latents {
            Some(_) => row("latents", latents(self)),
            None => row("expansion", format!("{}, so d_sae = {}", self.expansion, self.d_sae())),
        });
        rows.extend(activity(self));
        if self.architecture == Architecture::TopK {
            let kept = ["values are kept as they are", "negative values become 0"];
            rows.push(row("relu", kept[usize::from(self.relu)]));
        }
        if let Some(l0) = self.target_l0 {
            rows.push((
                "target_l0",
                l0.to_string(),
                "active latents per token at which training aims",
            ));
        }
        if !self.prefixes.is_empty() {
            rows.push(row("prefixes", format!("{:?}", self.prefixes)));
        }
        if let Some(aux) = &self.aux {
            let k = aux.k(self.d_model);
            rows.push(row("AuxK", format!("{k} dead latents a token, coefficient {}", aux.alpha)));
        }
        if self.keeps_unit_norm() {
            rows.push(row("unit_norm", "yes"));
        }
        if self.centred {
            rows.push(row("centred", "at the mean of the activations"));
        }
        rows.extend(self.subspace.map(|n| row("subspace", n)));
        if self.aligned {
            rows.push(row("aligned", "yes"));
        }
        if self.resamplings > 0 {
            rows.push(row("resamplings", self.resamplings));
        }
        if let Some(frozen) = self.frozen {
            rows.push(row("frozen", frozen.name()));
        }
        let lookup = self.lookup.as_ref().map(|lookup| format!("{lookup:?}"));
        rows.extend([
            row("lr", self.lr.map_or("TrainConfig's".to_owned(), |lr| format!("{lr:e}"))),
            row("seed", self.seed),
            row("lookup", lookup.as_deref().unwrap_or("none: a plain SAE")),
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
fn activity(config: &SaeConfig) -> Vec<Setting> {
    let meaning = match config.architecture {
        Architecture::TopK | Architecture::BatchTopK => {
            "which latents are active: the largest pre-activations"
        }
        Architecture::Relu { .. } => {
            "which latents are active: the positive ones; training charges for their sum"
        }
        Architecture::Gated { .. } => {
            "which latents are active: those whose gate is open; training charges for the gates"
        }
        Architecture::JumpRelu { .. } => {
            "which latents are active: those above their threshold; training charges for each"
        }
    };
    let (name, k) = (config.architecture.name(), config.k.to_string());
    let (named, more) = match config.architecture {
        Architecture::TopK => {
            let k = ("k", k, "how many latents are active on every token");
            (name.to_owned(), vec![k])
        }
        Architecture::BatchTopK => {
            let k = ("k", k, "how many latents are active on a token, in the mean over a batch");
            (name.to_owned(), vec![k])
        }
        Architecture::Relu { l1 } | Architecture::Gated { l1 } => {
            (format!("{name}, l1 {l1}"), Vec::new())
        }
        Architecture::JumpRelu { l0, bandwidth, threshold } => (
            format!("{name}, l0 {l0}"),
            vec![row("bandwidth", bandwidth), row("first threshold", threshold)],
        ),
    };
    [vec![("architecture", named, meaning)], more].concat()
}

/// The shape and the first rows.
impl Show for Codes {
    fn shown(&self) -> Shown {
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
        table
            .caption(&format!(
                "L0 {}: mean number of values per row that are not 0.",
                format::significant(self.l0(), 3)
            ))
            .into()
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

impl Show for Lookup {
    fn shown(&self) -> Shown {
        let lengths = self.table().chunks_exact(self.d_model()).map(length);
        let mean = lengths.sum::<f64>() / self.rows().max(1) as f64;
        let rows = vec![
            row("T", format!("{} × {}", self.index().count(self.rows()), self.d_model())),
            row("balance α", self.balance()),
            row("learned", if self.is_learned() { "yes" } else { "no: frozen" }),
            row("subtracted", if self.is_subtracted() { "yes" } else { "no" }),
            row("mean ‖T[token]‖", format::significant(mean, 3)),
        ];
        settings("Lookup", rows).into()
    }
}

impl Show for Ngrams {
    fn shown(&self) -> Shown {
        let longest = format!("{} tokens", self.longest());
        let rows =
            vec![row("n-grams", self.len()), row("longest", longest), row("rows", self.rows())];
        settings("Ngrams", rows).into()
    }
}

shows!(Sae, SaeConfig, Lookup, Ngrams, Codes);

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

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Index::Token => "by token",
            Index::Ngrams(_) => "by token and n-gram",
            Index::Latents(_) => "by a preceding SAE's latents",
        })
    }
}

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
