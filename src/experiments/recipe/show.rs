//! How descriptions show themselves: as the TOML that they are.

use super::{Harvested, RunRecipe};
use crate::base::format;
use crate::display::{Show, Shown, debug, escape, shows};

/// TOML as it would stand in a file, or what keeps it from that.
impl Show for RunRecipe {
    fn shown(&self) -> Shown {
        let text = self.to_toml().unwrap_or_else(|error| error.to_string());
        Shown {
            html: format!(
                "<pre style=\"margin:.3em 0;line-height:1.35\">{}</pre>",
                escape(text.trim_end())
            ),
            text,
        }
    }
}

/// The activations, and how much text was held out.
impl Show for Harvested {
    fn shown(&self) -> Shown {
        let held_out = match &self.held_out {
            Some(tokens) => {
                format!("{} held-out tokens beside them.", format::count(tokens.len() as u64))
            }
            None => "No held-out text beside them.".to_owned(),
        };
        self.acts.shown().and(Shown::line(&held_out))
    }
}

shows!(RunRecipe, Harvested);

debug!(Harvested: it =>
    "{:?}, {} held-out tokens", it.acts, it.held_out.as_ref().map_or(0, |tokens| tokens.len())
);
