//! Checking a description, and filling in what it leaves to the model.

use super::read::Step;
use super::{LookupRecipe, RunRecipe, SAMPLED, SaeRecipe};
use crate::base::error::{Error, Result};
use crate::corpus::{DEFAULT_N_CTX, TextFormat};
use crate::experiments::no_text_to_cut;
use crate::model::{HookPoint, Model};
use crate::sae::{Sae, SaeConfig};
use crate::train::check_name;

/// A width and a vocabulary with which a configuration is checked before the model is known: more
/// than any model has.
const WIDEST: (usize, usize) = (1 << 20, 1 << 24);

/// Checks the number of tokens in a sequence.
pub(super) fn check_context(context: Option<usize>) -> Result<()> {
    match context {
        Some(0 | 1) => {
            Err(Error::config("context", "context = 0 or 1; a sequence has at least 2 tokens"))
        }
        _ => Ok(()),
    }
}

impl RunRecipe {
    /// Checks every setting that can be checked without the model.
    ///
    /// # Errors
    /// [`Error::Description`] with file and line if it was read from one, else [`Error::Config`]:
    /// with what is wrong, and what is allowed.
    pub fn check(&self) -> Result<()> {
        self.train.check().map_err(|error| self.located(&[Step::Key("train")], error))?;
        self.check_text().map_err(|error| self.located(&[], error))?;
        self.check_harvest().map_err(|error| self.located(&[Step::Key("harvest")], error))?;
        for (i, sae) in self.sae.iter().enumerate() {
            let check = || {
                check_name(&sae.name)?;
                if self.sae[..i].iter().any(|other| other.name == sae.name) {
                    return Err(Error::config(
                        "name",
                        format!(
                            "name = \"{}\" is taken: every SAE needs a name of its own",
                            sae.name
                        ),
                    ));
                }
                sae.table()?;
                // What depends on the model's width is checked when it is known.
                let any_width =
                    SaeConfig { prefixes: Vec::new(), ..sae.config(WIDEST.0, WIDEST.1) };
                let too_many = |error: &Error| {
                    matches!(error, Error::Config { field: "expansion", .. }) && sae.expansion > 0
                };
                any_width
                    .check()
                    .or_else(|error| if too_many(&error) { Ok(()) } else { Err(error) })
            };
            check().map_err(|error| self.located(&[Step::Key("sae"), Step::Item(i)], error))?;
        }
        Ok(())
    }

    fn check_text(&self) -> Result<()> {
        for (field, value) in [
            ("sampled", self.sampled),
            ("max_tokens", self.max_tokens),
            ("evaluated_on", Some(self.evaluated_on)),
        ] {
            Error::at_least_1(field, value.unwrap_or(1) as u64)?;
        }
        check_context(self.context)?;
        if let (Some(least), Some(most)) = (self.min_chars, self.max_chars)
            && least > most
        {
            let why = format!("max_chars = {most}; it must be at least min_chars = {least}");
            return Err(Error::config("max_chars", why));
        }
        if !(0.0..1.0).contains(&self.held_out_share) {
            let why = format!(
                "held_out_share = {}; it must be at least 0 and below 1",
                self.held_out_share
            );
            return Err(Error::config("held_out_share", why));
        }
        if let Some(format) = &self.format {
            format.parse::<TextFormat>()?;
        }
        if self.text.is_some() && self.sampled.is_some() {
            return Err(Error::config(
                "sampled",
                "sampled: `text` is given as well: keep one of the two",
            ));
        }
        Ok(())
    }

    fn check_harvest(&self) -> Result<()> {
        Error::at_least_1("shard_tokens", self.harvest.shard_tokens as u64)?;
        Error::at_least_1("batch", self.harvest.batch as u64)?;
        match self
            .hook
            .filter(|hook| !self.harvest.hooks.is_empty() && !self.harvest.hooks.contains(hook))
        {
            Some(hook) => Err(Error::config(
                "hooks",
                format!("hooks must include {hook}, which is trained on, or be left out"),
            )),
            None => Ok(()),
        }
    }

    /// Whether it says where the text comes from; if not, and there is a store, that is taken as it
    /// is.
    pub(super) fn names_text(&self) -> bool {
        self.text.is_some() || self.sampled.is_some() || self.store.is_none()
    }

    /// The same with all defaults filled in.
    ///
    /// # Errors
    /// As [`check`](RunRecipe::check), now also for what depends on the model;
    /// [`Error::UnknownHook`].
    pub fn resolved(&self, model: &Model) -> Result<RunRecipe> {
        self.check()?;
        let config = model.config();
        for (i, sae) in self.sae.iter().enumerate() {
            let check = sae.config(config.d_model, config.d_vocab).check();
            check.map_err(|error| self.located(&[Step::Key("sae"), Step::Item(i)], error))?;
        }
        let mut spec = self.clone();
        if let Some(commit) =
            model.revision().filter(|_| !std::path::Path::new(&self.model).is_dir())
        {
            spec.model =
                format!("{}@{commit}", self.model.split('@').next().unwrap_or(&self.model));
        }
        let half_way = HookPoint::resid_pre(config.n_layers / 2);
        let hook = self.hook.or(self.harvest.hooks.first().copied()).unwrap_or(half_way);
        spec.hook = Some(hook);
        if spec.harvest.hooks.is_empty() {
            spec.harvest.hooks.push(hook);
            for sae in &self.sae {
                if let Some(LookupRecipe::Preceding(folder)) = &sae.lookup {
                    spec.harvest.hooks.push(Sae::load(folder)?.own_hook()?);
                }
            }
        }
        spec.harvest.hooks.sort_unstable();
        spec.harvest.hooks.dedup();
        spec.harvest.hooks.iter().try_for_each(|&hook| model.check_hook(hook))?;
        if self.names_text() {
            spec.resolve_text(config.n_ctx.min(DEFAULT_N_CTX))
                .map_err(|error| self.located(&[], error))?;
        }
        spec.sae = self.sae.iter().map(SaeRecipe::resolved).collect();
        Ok(spec)
    }

    fn resolve_text(&mut self, n_ctx: usize) -> Result<()> {
        if self.text.is_some() {
            self.context = self.context.or(Some(n_ctx));
            if self.store.is_none() && !self.sae.is_empty() {
                self.max_tokens = self.max_tokens.or(usize::try_from(self.train.tokens).ok());
            }
            return Ok(());
        }
        if self.context.is_some_and(|asked| asked != n_ctx) {
            return Err(Error::config(
                "context",
                format!(
                    "context: the model's own samples have {n_ctx} tokens; leave it out, or give `text`"
                ),
            ));
        }
        if self.max_tokens.is_some() {
            return Err(no_text_to_cut());
        }
        if self.stream
            || self.format.is_some()
            || self.column.is_some()
            || self.min_chars.is_some()
            || self.max_chars.is_some()
        {
            return Err(Error::config(
                "text",
                "`stream`, `format`, `column`, `min_chars` and `max_chars` need `text`: give it, or leave them out",
            ));
        }
        self.sampled = self.sampled.or(Some(SAMPLED));
        self.context = Some(n_ctx);
        Ok(())
    }
}
