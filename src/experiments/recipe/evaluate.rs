//! Evaluating what runs have left in their folders.

use std::path::{Path, PathBuf};

use super::resolve::check_context;
use super::{EVALUATED, FILE, Harvested, RunRecipe};
use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::corpus::Corpus;
use crate::eval::{self, Evaluations};
use crate::latents::ActivationSource;
use crate::latents::absorption::{AbsorptionConfig, Absorptions, absorption_with};
use crate::latents::probe::{ProbeConfig, Probes, probe_with};
use crate::latents::tokenness::{TokenOrContext, TokennessConfig, token_or_context_with};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model, Processing};
use crate::sae::Sae;

/// What SAEs are evaluated on; `None` is what the SAEs and the description beside them say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvalRecipe {
    /// The model, as [`Model::load`] takes it.
    pub model: Option<String>,
    /// What is done to its weights.
    pub processing: Option<Processing>,
    /// The hook.
    pub hook: Option<HookPoint>,
    /// Text: a file, a folder or a glob. It should be other than what was trained on.
    pub text: Option<String>,
    /// The format of its files, as of [`RunRecipe::format`].
    pub format: Option<String>,
    /// The field or column that holds it, as of [`RunRecipe::column`].
    pub column: Option<String>,
    /// This many tokens of the model's own samples.
    pub sampled: Option<usize>,
    /// The held-out text of these activations.
    pub store: Option<PathBuf>,
    /// Tokens in a sequence of the text.
    pub context: Option<usize>,
    /// No more tokens than these.
    pub tokens: Option<usize>,
}

impl RunRecipe {
    /// Evaluates the SAEs that [`run`](RunRecipe::run) has trained in `out`, on the text that was
    /// held out.
    ///
    /// # Errors
    /// [`Error::EmptyCorpus`] if none was; what loading and [`evaluate`](eval::evaluate) report.
    pub fn evaluate(&self, out: impl AsRef<Path>) -> Result<Evaluations> {
        EvalRecipe::default().evaluate(&[out.as_ref()])
    }
}

/// An SAE, its name, and the folder of the run it came from.
struct Named {
    name: String,
    sae: Sae,
    run: Option<PathBuf>,
}

impl EvalRecipe {
    /// Evaluates SAEs: `paths` are folders of SAEs, folders that a [description](RunRecipe) was run
    /// in, or the `run.toml` in one.
    ///
    /// Without another text it is the text that was held out when the activations were harvested.
    /// Position 0 is treated as [`evaluate`](eval::evaluate) does.
    ///
    /// # Errors
    /// [`Error::Config`] if the SAEs read different models or hooks, or it is not known which;
    /// [`Error::EmptyCorpus`] if no held-out text is known; what loading and
    /// [`evaluate`](eval::evaluate) report.
    pub fn evaluate<P: AsRef<Path>>(&self, paths: &[P]) -> Result<Evaluations> {
        let (model, hook, all) = self.open(paths)?;
        let text = self.text(&model, &all[0])?;
        eval::evaluate(&model, hook, &named(&all), &text)
    }

    /// Tells [token latents from context latents](token_or_context_with): of SAEs as
    /// [`evaluate`](EvalRecipe::evaluate) takes them; without a text, on the activations of the
    /// store or the run.
    ///
    /// # Errors
    /// As [`evaluate`](EvalRecipe::evaluate) and [`token_or_context_with`].
    pub fn token_or_context<P: AsRef<Path>>(
        &self,
        paths: &[P],
        config: &TokennessConfig,
    ) -> Result<TokenOrContext> {
        let (model, hook, all) = self.open(paths)?;
        let source = self.source(&model, &all[0])?;
        token_or_context_with(&model, hook, &named(&all)[..], source, config)
    }

    /// [Probes](probe_with) SAEs for what tokens can answer; SAEs and activations as of
    /// [`token_or_context`](EvalRecipe::token_or_context).
    ///
    /// # Errors
    /// As [`evaluate`](EvalRecipe::evaluate) and [`probe_with`].
    pub fn probe<P: AsRef<Path>>(&self, paths: &[P], config: &ProbeConfig) -> Result<Probes> {
        let (model, hook, all) = self.open(paths)?;
        let source = self.source(&model, &all[0])?;
        probe_with(&model, hook, &named(&all)[..], source, config)
    }

    /// Measures [first-letter absorption](absorption_with); SAEs and activations as of
    /// [`token_or_context`](EvalRecipe::token_or_context).
    ///
    /// # Errors
    /// As [`evaluate`](EvalRecipe::evaluate) and [`absorption_with`].
    pub fn absorption<P: AsRef<Path>>(
        &self,
        paths: &[P],
        config: &AbsorptionConfig,
    ) -> Result<Absorptions> {
        let (model, hook, all) = self.open(paths)?;
        let source = self.source(&model, &all[0])?;
        absorption_with(&model, hook, &named(&all)[..], source, config)
    }

    /// The text that is named, or else the activations of the store or the run.
    fn source(&self, model: &Model, first: &Named) -> Result<ActivationSource> {
        if self.text.is_some() || self.sampled.is_some() {
            return Ok((&self.text(model, first)?).into());
        }
        match self.store_beside(first)? {
            Some(store) => Ok((&ActivationStore::open(store)?).into()),
            None => {
                let why = format!(
                    "no activations are known for \"{}\": give `store`, `text` or `sampled`",
                    first.name
                );
                Err(Error::EmptyCorpus { why })
            }
        }
    }

    /// The SAEs, and the model and the hook that all of them read.
    fn open<P: AsRef<Path>>(&self, paths: &[P]) -> Result<(Model, HookPoint, Vec<Named>)> {
        for (field, value) in [("tokens", self.tokens), ("sampled", self.sampled)] {
            Error::at_least_1(field, value.unwrap_or(1) as u64)?;
        }
        check_context(self.context)?;
        let mut all = Vec::new();
        for path in paths {
            all.extend(saes_in(path.as_ref())?);
        }
        let first = all
            .first()
            .ok_or_else(|| Error::config("sae", "there is no SAE to evaluate: name a folder"))?;
        let hook = hook_of(&first.sae, self.hook)?;
        for other in &all {
            let (a, b) = (&first.sae.origin, &other.sae.origin);
            let is_other_model =
                self.model.is_none() && (&a.model, &a.processing) != (&b.model, &b.processing);
            if is_other_model || hook_of(&other.sae, self.hook)? != hook {
                let why = format!(
                    "\"{}\" reads another model or hook than \"{}\": evaluate them separately",
                    other.name, first.name
                );
                return Err(Error::config("sae", why));
            }
        }
        // A run's description knows better where its model is than an SAE, which has only its name.
        let model = match (&self.model, &first.run) {
            (None, Some(run)) => {
                let spec = RunRecipe::load(run)?;
                model_of(&first.sae, Some(&spec.model), self.processing.or(Some(spec.processing)))?
            }
            (model, _) => model_of(&first.sae, model.as_deref(), self.processing)?,
        };
        Ok((model, hook, all))
    }

    /// The activations that are named, or those of the run that an SAE came from.
    fn store_beside(&self, sae: &Named) -> Result<Option<PathBuf>> {
        match (&self.store, &sae.run) {
            (Some(store), _) => Ok(Some(store.clone())),
            (None, Some(run)) => Ok(Some(RunRecipe::load(run)?.store_of(run))),
            (None, None) => Ok(None),
        }
    }

    fn text(&self, model: &Model, first: &Named) -> Result<Tokens> {
        let spec = first.run.as_ref().map(RunRecipe::load).transpose()?;
        let most = self.tokens.or(spec.as_ref().map(|spec| spec.evaluated_on)).unwrap_or(EVALUATED);
        let n_ctx = self.context.or(first.sae.origin.n_ctx);
        let tokens = match (&self.text, self.sampled) {
            (Some(pattern), _) => {
                let text = Corpus::text_files(model, pattern)?;
                let text = text.read_as(self.format.as_deref(), self.column.as_deref())?;
                let text = n_ctx.into_iter().fold(text, |text, n_ctx| text.context(n_ctx));
                text.max_tokens(most).split(0.0)?.train
            }
            (None, Some(sampled)) => {
                let n_ctx = n_ctx.unwrap_or(model.config().n_ctx).min(model.config().n_ctx);
                model.sample(sampled.div_ceil(n_ctx), n_ctx, 0)?
            }
            (None, None) => {
                let store = self.store_beside(first)?;
                let held_out = store
                    .map(Harvested::open)
                    .transpose()?
                    .and_then(|harvested| harvested.held_out);
                held_out.ok_or_else(|| {
                    let why = format!(
                        "no held-out text is known for \"{}\": give `text`, `sampled` or `store`",
                        first.name
                    );
                    Error::EmptyCorpus { why }
                })?
            }
        };
        Ok(tokens.rows(0, most.div_ceil(tokens.n_ctx()).max(1)))
    }
}

fn named(all: &[Named]) -> Vec<(&str, &Sae)> {
    all.iter().map(|it| (it.name.as_str(), &it.sae)).collect()
}

/// The SAEs that a path means.
fn saes_in(path: &Path) -> Result<Vec<Named>> {
    let run = match path.is_dir() {
        true => path.to_owned(),
        false if path.file_name().is_some_and(|name| name == FILE) => {
            path.parent().unwrap_or(Path::new(".")).to_owned()
        }
        false => return Ok(vec![Named { name: name_of(path), sae: Sae::load(path)?, run: None }]),
    };
    let run = if run.as_os_str().is_empty() { PathBuf::from(".") } else { run };
    if run.join(FILE).exists() {
        let load = |name: &String| {
            let folder = run.join(name);
            if !folder.join("cfg.json").exists() {
                return Err(Error::format(
                    folder,
                    "holds no finished SAE: the training that made it continues when it is run again",
                ));
            }
            Ok(Named { name: name.clone(), sae: Sae::load(&folder)?, run: Some(run.clone()) })
        };
        return RunRecipe::load(&run)?.sae.iter().map(|sae| load(&sae.name)).collect();
    }
    let above = run
        .canonicalize()
        .ok()
        .and_then(|run| Some(run.parent()?.to_owned()))
        .filter(|above| above.join(FILE).exists());
    Ok(vec![Named { name: name_of(&run), sae: Sae::load(&run)?, run: above }])
}

fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The model whose activations an SAE reads: the one named, or else the SAE's own.
///
/// # Errors
/// [`Error::Config`] if neither is known; as [`Model::load`].
pub fn model_of(sae: &Sae, model: Option<&str>, processing: Option<Processing>) -> Result<Model> {
    let origin = &sae.origin;
    let asked =
        || Error::config("model", "the SAE does not say which model it is for: give `model`");
    let name = match (model, &origin.model, &origin.revision) {
        (Some(name), ..) => name.to_owned(),
        (None, Some(name), Some(commit)) if !name.contains('@') => format!("{name}@{commit}"),
        (None, Some(name), _) => name.clone(),
        (None, None, _) => return Err(asked()),
    };
    let said = origin.processing.as_deref().map(str::parse).transpose()?;
    Model::load_with(&name, processing.or(said).unwrap_or_default())
}

/// The hook that an SAE reads: the one named, or else the SAE's own.
///
/// # Errors
/// [`Error::Config`] if neither is known.
pub fn hook_of(sae: &Sae, hook: Option<HookPoint>) -> Result<HookPoint> {
    hook.or(sae.origin.hook)
        .ok_or_else(|| Error::config("hook", format!("{}: give `hook`", sae.origin.why_no_hook())))
}
