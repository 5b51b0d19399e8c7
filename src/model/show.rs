//! How a model shows itself as the last value of a notebook's cell.

use crate::display::Table;
use crate::display::format::count;
use crate::model::{Model, ModelConfig};

impl Model {
    /// Shows the model as a table; a notebook calls this for the last value of a cell.
    pub fn evcxr_display(&self) {
        let mut rows = vec![("parameters", count(self.n_params() as u64)), ("processing", self.processing().to_string())];
        rows.extend(rows_of(self.config()));
        let bos = self.bos();
        if let Some(row) = rows.iter_mut().find(|(what, _)| *what == "BOS") {
            row.1 = format!("{bos}, {:?}", self.token_str(bos));
        }
        rows.push(("tokenizer", if self.inner.tokenizer.is_some() { "yes".to_owned() } else { "none: token ids only".to_owned() }));
        let hooks = self.hooks();
        if let (Some(first), Some(last)) = (hooks.first(), hooks.last()) {
            rows.push(("hooks", format!("{}, {first} to {last}", hooks.len())));
        }
        Table::pairs(&format!("{} · {}", self.name(), self.config().family), &rows).evcxr_display();
    }
}

impl ModelConfig {
    /// Shows the configuration as a table; a notebook calls this for the last value of a cell.
    pub fn evcxr_display(&self) {
        Table::pairs(&self.family.to_string(), &rows_of(self)).evcxr_display();
    }
}

fn rows_of(config: &ModelConfig) -> Vec<(&'static str, String)> {
    vec![
        ("blocks", config.n_layers.to_string()),
        ("d_model", config.d_model.to_string()),
        ("heads", format!("{} of {}", config.n_heads, config.d_head)),
        ("d_mlp", config.d_mlp.to_string()),
        ("n_ctx", config.n_ctx.to_string()),
        ("d_vocab", config.d_vocab.to_string()),
        ("BOS", config.bos.to_string()),
    ]
}
