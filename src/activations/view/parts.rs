//! How what goes into a store and comes out of it shows itself.

use crate::activations::{Batch, Dtype, HarvestConfig, HarvestPlan, Source};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows, shows_as_table};

/// Rows of a batch that are shown.
const ROWS: usize = 5;

impl Batch {
    /// The shape and the first rows, as a table.
    pub fn table(&self) -> Table {
        let d_model = self.x.len() / self.len().max(1);
        let columns = [
            Column::number("row"),
            Column::number("token").defined("id of the token that the activation stands on"),
            Column::number("position").defined("its place in its sequence; 0 is BOS"),
            Column::number("‖x‖").defined("length of the activation"),
        ];
        let mut table = Table::new(&format!("Batch [{}, {d_model}]", self.len()), &columns);
        let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let ids = self.tokens.iter().zip(&self.positions);
        for (i, ((token, position), x)) in
            ids.zip(self.x.chunks(d_model.max(1))).take(ROWS).enumerate()
        {
            let whole = |row: Row, n: u32| row.shown(f64::from(n), n.to_string());
            table.push(whole(whole(Row::new(&i.to_string()), *token), *position).number(norm(x)));
        }
        match self.len().saturating_sub(ROWS) {
            0 => table,
            more => table.caption(&format!("{} more rows.", format::count(more as u64))),
        }
    }
}

impl Show for HarvestConfig {
    fn shown(&self) -> Shown {
        let shard_tokens = format::count(self.shard_tokens as u64);
        let lost = "tokens in a file; a killed harvest loses at most one file";
        let rows = vec![
            ("dtype", self.dtype.to_string(), "how numbers are stored"),
            ("compute", self.compute.to_string(), "the number format of the model's products"),
            ("shard_tokens", shard_tokens, lost),
            ("batch", self.batch.to_string(), "sequences in one pass of the model"),
            ("device", self.device.to_string(), "where the model runs"),
        ];
        settings("HarvestConfig", rows).into()
    }
}

impl Show for HarvestPlan {
    fn shown(&self) -> Shown {
        let count = |n: usize| format::count(n as u64);
        let rows = vec![
            ("shards", count(self.shards), "files, which any number of processes share out"),
            ("tokens", count(self.tokens), "rows of activations"),
            ("bytes", format::bytes(self.bytes), "size of the files"),
        ];
        settings("Plan of a harvest", rows).into()
    }
}

impl Show for Source {
    fn shown(&self) -> Shown {
        let Source { name, revision, fingerprint, processing, .. } = self.clone();
        let revision = revision.unwrap_or_else(|| "none".to_owned());
        let rows = vec![
            ("name", name, "the model's name, for people"),
            ("revision", revision, "the commit of its repository on the hub"),
            ("fingerprint", fingerprint, "a checksum of its configuration and weights"),
            ("processing", processing, "what was done to its weights"),
            ("d_model", self.d_model.to_string(), "numbers in an activation"),
            ("d_vocab", self.d_vocab.to_string(), "number of token ids"),
            ("skip_first", self.skip_first.to_string(), "first positions that training leaves out"),
        ];
        settings("Source of activations", rows).into()
    }
}

impl Show for Dtype {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Dtype::F16 => "16 bits a number: a relative error of at most 2⁻¹¹",
            Dtype::F32 => "32 bits a number: exactly what the model computed",
            Dtype::Int8 => {
                "8 bits a number: off by at most 1/254 of the largest of 32 side by side"
            }
        };
        Shown::sentence(&self.to_string(), meaning)
    }
}

shows_as_table!(Batch);
shows!(HarvestConfig, HarvestPlan, Source, Dtype);
