//! What is kept beside harvested activations: how they were made, and the held-out text.
//!
//! | file | holds |
//! | --- | --- |
//! | `harvest.toml` | the description of the harvest: a [`RunRecipe`] without training; `plan.toml` until a harvest by many is collected |
//! | `held_out.safetensors` | the held-out sequences, `ids` `[n_seq, n_ctx]`, with the fingerprints of both sides |
//! | `corpus/` | what the model wrote, if it sampled the text |
//! | `tables/` | the authors' token tables, once they have been needed |

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HarvestRecipe, RunRecipe, Written};
use crate::activations::{ActivationStore, HarvestConfig, is_whole};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::ids;
use crate::model::tokens::Tokens;

/// The description of the harvest.
pub(super) const DESCRIPTION: &str = "harvest.toml";
pub(super) const HELD_OUT: &str = "held_out.safetensors";
const VERSION: u32 = 1;

/// Activations, and what their folder remembers of the text they are of.
#[derive(Clone)]
pub struct Harvested {
    /// The activations.
    pub acts: ActivationStore,
    /// The held-out text; none if the folder does not remember any, as where
    /// [`ActivationStore::harvest`] was given tokens alone.
    pub held_out: Option<Tokens>,
    description: Option<RunRecipe>,
}

/// What stands beside the held-out ids.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct About {
    version: u32,
    /// The fingerprint of the training side, which is the store's.
    train: String,
    /// The fingerprint of the held-out side.
    held_out: String,
}

impl Harvested {
    /// Opens the activations in `dir`, with what is remembered beside them.
    ///
    /// # Errors
    /// As [`ActivationStore::open`]; [`Error::Checksum`] or [`Error::Format`] if what lies beside
    /// them is damaged, or of another harvest.
    pub fn open(dir: impl AsRef<Path>) -> Result<Harvested> {
        let dir = dir.as_ref();
        let acts = ActivationStore::open(dir)?;
        let path = dir.join(DESCRIPTION);
        let description = if path.exists() { Some(RunRecipe::load(&path)?) } else { None };
        let held_out = read(&dir.join(HELD_OUT), &acts)?;
        Ok(Harvested { acts, held_out, description })
    }

    /// Puts the description of a harvest and the held-out text beside the activations.
    pub(super) fn remember(
        acts: ActivationStore,
        spec: &RunRecipe,
        held_out: &Tokens,
    ) -> Result<Harvested> {
        let dir = acts.dir();
        let held_out = (!held_out.is_empty()).then(|| held_out.clone());
        if let Some(tokens) = &held_out {
            write_held_out(&dir.join(HELD_OUT), acts.corpus_fingerprint(), tokens)?;
        }
        // Last, because it says that the rest is there.
        let text = spec.harvest_toml()?;
        files::write_atomic(&dir.join(DESCRIPTION), |out| out.write_all(text.as_bytes()))?;
        Ok(Harvested { acts, held_out, description: Some(spec.clone()) })
    }

    /// The finished harvest in `dir` if it was made by this description.
    pub(super) fn made_by(spec: &RunRecipe, dir: &Path) -> Result<Option<Harvested>> {
        let path = dir.join(DESCRIPTION);
        let lacks_held_out = spec.held_out_share > 0.0 && !dir.join(HELD_OUT).exists();
        if !path.exists() || RunRecipe::load(&path)? != *spec || lacks_held_out || !is_whole(dir)? {
            return Ok(None);
        }
        Harvested::open(dir).map(Some)
    }

    /// The description of the harvest, from which that of a training begins: add
    /// [`RunRecipe::train`] and [`RunRecipe::sae`]. Where the folder does not remember one, it says
    /// that the activations are taken as they are.
    pub fn description(&self) -> RunRecipe {
        let acts = &self.acts;
        let store = Some(acts.dir().to_owned());
        match &self.description {
            Some(spec) => RunRecipe { store, written: Written::default(), ..spec.clone() },
            None => {
                let name = match acts.model_revision() {
                    Some(commit) => format!("{}@{commit}", acts.model_name()),
                    None => acts.model_name().to_owned(),
                };
                let config = HarvestConfig {
                    dtype: acts.dtype(),
                    compute: acts.compute(),
                    ..HarvestConfig::default()
                };
                RunRecipe {
                    processing: acts.processing().parse().unwrap_or_default(),
                    harvest: HarvestRecipe::of(config, acts.hooks()),
                    store,
                    ..RunRecipe::new(&name)
                }
            }
        }
    }
}

/// Keeps held-out text, beside the fingerprint of the training side.
pub(super) fn write_held_out(path: &Path, train: &str, tokens: &Tokens) -> Result<()> {
    let about = About { version: VERSION, train: train.to_owned(), held_out: tokens.fingerprint() };
    ids::write(path, &about, &[("ids", tokens.ids())], tokens.n_ctx())
}

fn read(path: &Path, acts: &ActivationStore) -> Result<Option<Tokens>> {
    let remedy = "delete it and harvest.toml beside it, and harvest again to recreate both";
    let damaged =
        |why: String| Error::format(path, format!("does not hold held-out text ({why}): {remedy}"));
    let Some((about, [ids])) = ids::read::<About, 1>(path, ["ids"], acts.n_ctx(), &damaged)? else {
        return Ok(None);
    };
    let tokens = Tokens::new(ids, acts.n_ctx())?;
    let got = tokens.fingerprint();
    if got != about.held_out {
        return Err(Error::Checksum {
            path: path.to_owned(),
            want: about.held_out,
            got,
            remedy: remedy.to_owned(),
        });
    }
    if about.version != VERSION || about.train != acts.corpus_fingerprint() {
        return Err(damaged("it is from another harvest or version".into()));
    }
    tokens.check(acts.d_vocab())?;
    Ok(Some(tokens))
}
