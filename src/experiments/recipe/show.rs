//! How descriptions show themselves: as the TOML that they are.

use std::fmt;

use super::{
    EvalRecipe, HarvestRecipe, Harvested, LookupRecipe, NgramRecipe, RunRecipe, SaeRecipe,
};
use crate::base::error::Result;
use crate::base::format;
use crate::display::{Show, Shown, escape, settings, shows};

/// TOML as it would stand in a file, or what keeps it from that.
fn toml(text: Result<String>) -> Shown {
    let text = text.unwrap_or_else(|error| error.to_string());
    Shown {
        html: format!(
            "<pre style=\"margin:.3em 0;line-height:1.35\">{}</pre>",
            escape(text.trim_end())
        ),
        text,
    }
}

impl Show for RunRecipe {
    fn shown(&self) -> Shown {
        toml(self.to_toml())
    }
}

impl Show for SaeRecipe {
    fn shown(&self) -> Shown {
        toml(self.to_toml())
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

impl Show for HarvestRecipe {
    fn shown(&self) -> Shown {
        let hooks: Vec<String> = self.hooks.iter().map(|hook| hook.to_string()).collect();
        let hooks = if hooks.is_empty() {
            "the one that is trained on".to_owned()
        } else {
            hooks.join(", ")
        };
        let rows = vec![
            ("hooks", hooks, "the places in the model"),
            ("dtype", self.dtype.to_string(), "how numbers are stored"),
            (
                "compute",
                self.compute.to_string(),
                "the number format of the model's matrix products",
            ),
            ("shard_tokens", self.shard_tokens.to_string(), "tokens in a file"),
            ("batch", self.batch.to_string(), "sequences in one pass of the model"),
        ];
        settings("Harvest", rows).into()
    }
}

impl Show for LookupRecipe {
    fn shown(&self) -> Shown {
        let (name, meaning) = match self {
            LookupRecipe::Unigram => (
                "unigram",
                "a row for every token, which starts at the hook after BOS and the token"
                    .to_owned(),
            ),
            LookupRecipe::Means => (
                "means",
                "a row for every token, which starts at the mean activation on it".to_owned(),
            ),
            LookupRecipe::Zeros => ("zeros", "a row for every token, which starts at 0".to_owned()),
            LookupRecipe::Ngrams(grams) => {
                ("ngrams", format!("as unigram, with rows for {} n-grams", grams.rows))
            }
            LookupRecipe::NgramMeans(grams) => {
                ("ngram_means", format!("as means, with rows for {} n-grams", grams.rows))
            }
            LookupRecipe::Preceding(folder) => {
                ("preceding", format!("a row for every latent of the SAE in {}", folder.display()))
            }
        };
        Shown::sentence(name, &meaning)
    }
}

impl Show for NgramRecipe {
    fn shown(&self) -> Shown {
        Shown::line(&format!(
            "the {} most common n-grams of 2 to {} tokens",
            self.rows, self.longest
        ))
    }
}

impl Show for EvalRecipe {
    fn shown(&self) -> Shown {
        let said = |value: Option<String>| value.unwrap_or_else(|| "as the SAE says".to_owned());
        let text = match (&self.text, self.sampled, &self.store) {
            (Some(pattern), ..) => pattern.clone(),
            (None, Some(n), _) => {
                format!("{} tokens of the model's own samples", format::count(n as u64))
            }
            (None, None, Some(store)) => format!("what was held out of {}", store.display()),
            (None, None, None) => "what was held out".to_owned(),
        };
        let rows = vec![
            ("model", said(self.model.clone()), "the model"),
            ("hook", said(self.hook.map(|hook| hook.to_string())), "the place in the model"),
            ("text", text, "what it is evaluated on"),
        ];
        settings("Evaluation", rows).into()
    }
}

shows!(RunRecipe, SaeRecipe, Harvested, HarvestRecipe, LookupRecipe, NgramRecipe, EvalRecipe);

impl fmt::Debug for Harvested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}, {} held-out tokens",
            self.acts,
            self.held_out.as_ref().map_or(0, |tokens| tokens.len())
        )
    }
}
