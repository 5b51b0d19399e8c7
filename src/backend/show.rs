//! How kernels and what their steps report show themselves.

use std::fmt;

use super::adam::Moments;
use super::{
    AdamState, Candle, Cpu, Exactness, Kernel, Objective, Prepared, Rates, Scratch, Screen, Stage,
    Stages, StepReport,
};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows};

shows!(
    dyn Kernel,
    Cpu,
    Candle,
    Stage,
    Stages,
    StepReport,
    Rates,
    Objective,
    AdamState,
    Moments,
    Scratch,
    Screen,
    Exactness
);

impl Show for dyn Kernel {
    fn shown(&self) -> Shown {
        Shown::sentence(&self.name(), "a kernel: a way to compute the training step")
    }
}

impl Show for Cpu {
    fn shown(&self) -> Shown {
        (self as &dyn Kernel).shown()
    }
}

impl Show for Candle {
    fn shown(&self) -> Shown {
        (self as &dyn Kernel).shown()
    }
}

impl Show for Stage {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Stage::Pack => "the encoder into the numbers of the screen",
            Stage::Screen => "scores, margins, candidates",
            Stage::Rescore => "exact scores of the candidates, and the choice",
            Stage::Decode => "reconstructions, residuals, gradients of the codes",
            Stage::Transpose => "codes by latent",
            Stage::Gradients => "gradients of the SAE's weights, and Adam",
            Stage::Table => "gradients of the token table, and Adam",
        };
        Shown::sentence(self.name(), meaning)
    }
}

impl Show for Stages {
    fn shown(&self) -> Shown {
        let seconds = |stage: Stage| self.get(stage).as_secs_f64();
        let all = Stage::ALL.into_iter().map(seconds).sum::<f64>();
        let columns = [Column::text("stage"), Column::number("time"), Column::text("share")];
        let table = Stage::ALL.into_iter().fold(
            Table::new("Where the time of the steps went", &columns),
            |table, stage| {
                let share = if all > 0.0 { seconds(stage) / all } else { 0.0 };
                table.with(
                    Row::new(stage.name())
                        .shown(seconds(stage), format::duration(seconds(stage)))
                        .bar(share),
                )
            },
        );
        table.into()
    }
}

impl Show for StepReport {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("loss", format::significant(self.loss, 4), "mean over rows of ‖x̂ − x‖²"),
            (
                "objective",
                format::significant(self.objective, 4),
                "what the step goes down: penalties and help for dead latents included",
            ),
            (
                "NMSE",
                format::significant(self.nmse, 4),
                "mean over rows of ‖x̂ − x‖² / (‖x‖² + 1e-4)",
            ),
            ("L0", format::significant(self.l0, 3), "mean number of codes per row that are not 0"),
            (
                "fallback rows",
                self.fallback_rows.to_string(),
                "rows that no screen could decide and that were scored in full",
            ),
        ];
        settings("A step, before it moved the parameters", rows).into()
    }
}

impl Show for Objective {
    fn shown(&self) -> Shown {
        let rows = vec![
            (
                "sparsity",
                format::significant(self.sparsity, 3),
                "the coefficient of the penalty, in the units of the activations",
            ),
            (
                "bandwidth",
                format::significant(self.bandwidth, 3),
                "how near its threshold a pre-activation moves it",
            ),
            ("dead", self.dead.len().to_string(), "dead latents that are asked to help"),
        ];
        settings("What a step aims at", rows).into()
    }
}

impl Show for Rates {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("lr", format!("{:e}", self.lr), "learning rate of weights and biases"),
            ("lookup_lr", format!("{:e}", self.lookup_lr), "learning rate of the table"),
            ("beta1", self.beta1.to_string(), "decay of the first moment"),
            ("beta2", self.beta2.to_string(), "decay of the second moment"),
            ("epsilon", format!("{:e}", self.epsilon), "added to the root of the second moment"),
        ];
        settings("Rates of a step", rows).into()
    }
}

impl Show for AdamState {
    fn shown(&self) -> Shown {
        let table = if self.lookup.is_some() { ", with a table" } else { "" };
        Shown::line(&format!("Adam after {} steps{table}", format::count(self.steps)))
    }
}

impl Show for Moments {
    fn shown(&self) -> Shown {
        Shown::line(&format!(
            "Adam's two moments of {} parameters",
            format::count(self.m.len() as u64)
        ))
    }
}

/// As the codes of the last step, and where the time went.
impl Show for Scratch {
    fn shown(&self) -> Shown {
        self.codes().shown().and(self.stages().shown())
    }
}

impl Show for Screen {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Screen::Int8 => "scores are screened in bytes",
            Screen::Bf16 => "scores are screened in bf16",
            Screen::F32 => "scores are screened in f32",
            Screen::Portable => "scores are screened in f32, on any processor",
        };
        let here = if self.is_supported() { "this processor can" } else { "this processor cannot" };
        Shown::sentence(self.name(), &format!("{meaning}; {here}"))
    }
}

impl Show for Exactness {
    fn shown(&self) -> Shown {
        match self {
            Exactness::Proven => {
                Shown::sentence("Proven", "a screen rules out only what arithmetic proves")
            }
            Exactness::Statistical => Shown::sentence(
                "Statistical",
                "a screen allows for six standard deviations of the rounding noise",
            ),
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch ({} rows)", self.codes().n())
    }
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared [{}, {}]", self.keys.n(), self.d_model)
    }
}
