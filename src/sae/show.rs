//! How an SAE shows itself.

use super::Sae;
use crate::display::{Table, format};

impl Sae {
    /// Its shape and origin as a table.
    pub fn table(&self) -> Table {
        let kind = if self.lookup.is_some() { "Tokenized SAE" } else { "SAE" };
        let mut parameters = self.w_enc.len() + self.w_dec.len() + self.b_enc.len() + self.b_dec.len();
        let mut pairs = vec![
            ("d_model", self.d_model().to_string()),
            ("d_sae", format!("{} ({} × d_model)", self.d_sae(), self.config.expansion)),
            ("k", self.config.k.to_string()),
        ];
        if let Some(table) = &self.lookup {
            parameters += table.len();
            pairs.push(("W_lookup", format!("{} tokens × {}", table.len() / self.d_model(), self.d_model())));
        }
        pairs.push(("parameters", format::count(parameters as u64)));
        if let Some(model) = &self.origin.model {
            pairs.push(("model", format!("{model} ({})", self.origin.processing.as_deref().unwrap_or("processing unknown"))));
        }
        if let Some(hook) = self.origin.hook {
            pairs.push(("hook", hook.to_string()));
        }
        Table::pairs(kind, &pairs)
    }

    /// Shows [`table`](Sae::table) in a notebook cell.
    pub fn evcxr_display(&self) {
        self.table().evcxr_display();
    }
}
