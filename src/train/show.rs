//! How training, its settings and its results show themselves.

use super::{Run, Runs, Speedup, TrainConfig, Trainer, Training, TrainingStatus};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, debug, settings, shows};
use crate::eval::HeldOutPoint;
use crate::train::figures;

shows!(Run, Speedup, Training);
shows!(tables: TrainConfig, Runs, Trainer, TrainingStatus);

impl TrainConfig {
    /// The settings, as a table.
    pub fn table(&self) -> Table {
        let exponent = |x: f64| format!("{x:e}");
        let rows = vec![
            (
                "tokens",
                format!("{}, in {} steps", format::count(self.tokens), self.steps()),
                "tokens to train on, in whole batches",
            ),
            ("batch", self.batch.to_string(), "tokens in a batch"),
            ("lr", exponent(self.lr), "learning rate of weights and biases at the start"),
            ("lookup_lr", exponent(self.lookup_lr), "learning rate of the table at the start"),
            (
                "lr_warmup",
                format::percent(self.lr_warmup),
                "share of the steps over which learning rates rise from 0",
            ),
            (
                "sparsity_warmup",
                format::percent(self.sparsity_warmup),
                "share of the steps over which the coefficient of a penalty rises from 0",
            ),
            (
                "skip_first",
                self.skip_first.map_or_else(|| "by family".to_owned(), |n| n.to_string()),
                "first positions of each sequence that are left out; by default 1 for the Llama family, else 0",
            ),
            (
                "max_norm_multiple",
                self.max_norm_multiple.map_or_else(|| "by family".to_owned(), |n| n.to_string()),
                "medians that an activation may be long and not be left out; by default 10 for the Llama family, else inf",
            ),
            (
                "normalize",
                if self.normalize { "yes" } else { "no" }.to_owned(),
                "whether rates of biases and of the table are in units of the activations' scale",
            ),
            ("lr_end", exponent(self.lr_end), "where the cosine schedule ends, for both"),
            ("beta1", self.beta1.to_string(), "Adam's decay of the first moment"),
            ("beta2", self.beta2.to_string(), "Adam's decay of the second moment"),
            ("epsilon", exponent(self.epsilon), "Adam's ε"),
            ("seed", self.seed.to_string(), "decides the order of the activations"),
            ("order", self.order.to_string(), "which rows may come after which"),
            (
                "log_every",
                format!("{} steps", self.log_every),
                "steps between two points of the training history",
            ),
            (
                "evaluations",
                self.evaluations.to_string(),
                "held-out measurements over the run, closer together early on",
            ),
            (
                "held_out_tokens",
                format::count(self.held_out_tokens as u64),
                "held-out tokens for those measurements",
            ),
            (
                "dead_window",
                format::count(self.dead_window),
                "a latent is dead if it has not fired for this many training tokens",
            ),
            (
                "checkpoint_seconds",
                format::duration(self.checkpoint_seconds),
                "time between two checkpoints, at least",
            ),
        ];
        settings("TrainConfig", rows)
    }
}

fn held_out_rows(point: &HeldOutPoint) -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("tokens", format::count(point.tokens), "training tokens seen"),
        (
            "held-out NMSE",
            format::significant(point.nmse, 3),
            "mean of ‖x̂ − x‖² / (‖x‖² + 1e-4) on held-out text, without position 0",
        ),
        (
            "CE added",
            format::significant(point.ce_added, 3),
            "(CE patched − CE clean) / (CE clean + 0.001) on the same",
        ),
        (
            "loss recovered",
            format::significant(point.loss_recovered, 3),
            "1 − (CE patched − CE clean) / (CE zero − CE clean) on the same",
        ),
        (
            "dead on it",
            format::percent(point.dead),
            "share of latents that fire on none of the held-out tokens",
        ),
    ]
}

impl Run {
    /// What it is and where it stands, as a table.
    pub fn table(&self) -> Table {
        let finished = if self.finished { "yes" } else { "no: the same call continues from here" };
        let mut table = self.sae.table();
        let rows = [
            ("lr", format!("{:e}", self.lr), "the learning rate it started with"),
            ("tokens", format::count(self.tokens), "training tokens seen"),
            ("finished", finished.to_owned(), "whether it has seen all its training tokens"),
        ];
        let last = self.history.held_out.last().map(held_out_rows).unwrap_or_default();
        // Of interest where it costs time.
        let in_full = self.scored_in_full.filter(|share| *share > 0.001).map(|share| {
            let meaning =
                "share of rows of which 8 bits could not tell which latents lead: slow, not wrong";
            ("scored in full", format::percent(share), meaning)
        });
        for (name, value, meaning) in
            rows.into_iter().chain(in_full).chain(last.into_iter().skip(1))
        {
            table.push(Row::new(name).defined(meaning).text(&value));
        }
        table.titled(&format!("{} · {}", self.name, self.sae.table().title()))
    }
}

/// What it is, and its curves.
impl Show for Run {
    fn shown(&self) -> Shown {
        Shown::from(self.table())
            .and_figure(figures::courses(&self.name, &[(&self.name, &self.history)]))
    }
}

impl Show for Speedup {
    fn shown(&self) -> Shown {
        Shown::line(&self.text())
    }
}

impl Trainer {
    /// What it is going to train, as a table.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("run"),
            Column::number("d_sae").defined("how many latents there are"),
            Column::number("k").defined("how many of them are active on every token"),
            Column::number("lr").defined("learning rate at the start"),
            Column::text("token table"),
        ];
        let rows = self.saes.iter().map(|(name, sae)| {
            let row = Row::new(name).digits(sae.d_sae()).digits(sae.k);
            let row = row.rate(sae.lr.unwrap_or(self.config.lr));
            match &sae.lookup {
                Some(lookup) => row.text(&format!("{lookup:?}")),
                None => row.missing(),
            }
        });
        let held_out = match &self.held_out {
            Some(text) => format!("{} held-out tokens", format::count(text.n_tokens() as u64)),
            None => "no held-out text".to_owned(),
        };
        let tokens = format::count(self.config.tokens);
        let backend = self
            .choose_backend()
            .map_or_else(|error| error.to_string(), |chosen| chosen.backend.name());
        let title = format!("To be trained on {}", self.material.name());
        Table::filled(&title, &columns, rows).caption(&format!(
            "{tokens} tokens each, {held_out}, backend {backend}. fit(\"folder\") trains."
        ))
    }
}

/// Its status, and the curves so far.
impl Show for Training {
    fn shown(&self) -> Shown {
        self.status().shown().and_figure(self.plot())
    }
}

debug!(Run: it => "Run \"{}\" ({:?}, {} tokens)", it.name, it.sae, format::count(it.tokens));

debug!(Runs: it => "{:?}", it.runs);

debug!(Trainer: it =>
    "Trainer of {:?} on {}",
    it.saes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), it.material.place()
);
