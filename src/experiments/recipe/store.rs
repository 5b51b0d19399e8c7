//! What is kept beside harvested activations: how they were made, and the held-out text.
//!
//! | file | holds |
//! | --- | --- |
//! | `harvest.toml` | the description of the harvest: a [`RunRecipe`] without training |
//! | `held_out.safetensors` | the held-out sequences, `ids` `[n_seq, n_ctx]`, with the fingerprints of both sides |
//! | `corpus/` | what the model wrote, if it sampled the text |
//! | `tables/` | the authors' token tables, once they have been needed |

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::{HarvestRecipe, RunRecipe};
use crate::activations::{ActivationStore, HarvestConfig};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::model::tokens::Tokens;

/// The description of the harvest.
const DESCRIPTION: &str = "harvest.toml";
const HELD_OUT: &str = "held_out.safetensors";
/// The one key of the metadata (one, since a map of several has no fixed order).
const ABOUT: &str = "tokenized_sae";
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
            write(&dir.join(HELD_OUT), &acts, tokens)?;
        }
        // Last, because it says that the rest is there.
        let text = spec.harvest_toml()?;
        files::write_atomic(&dir.join(DESCRIPTION), |out| out.write_all(text.as_bytes()))?;
        Ok(Harvested { acts, held_out, description: Some(spec.clone()) })
    }

    /// The finished harvest in `dir` if it was made by this description.
    pub(super) fn made_by(spec: &RunRecipe, dir: &Path) -> Result<Option<Harvested>> {
        if !dir.join(DESCRIPTION).exists() {
            return Ok(None);
        }
        let there = Harvested::open(dir)?;
        Ok((there.acts.is_complete() && there.description.as_ref() == Some(spec)).then_some(there))
    }

    /// The description of the harvest, from which that of a training begins: add
    /// [`RunRecipe::train`] and [`RunRecipe::sae`]. Where the folder does not remember one, it says
    /// that the activations are taken as they are.
    pub fn description(&self) -> RunRecipe {
        let acts = &self.acts;
        let store = Some(acts.dir().to_owned());
        match &self.description {
            Some(spec) => RunRecipe { store, ..spec.clone() },
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

fn write(path: &Path, acts: &ActivationStore, tokens: &Tokens) -> Result<()> {
    let about = About {
        version: VERSION,
        train: acts.corpus_fingerprint().to_owned(),
        held_out: tokens.fingerprint(),
    };
    let about = HashMap::from([(
        ABOUT.to_owned(),
        serde_json::to_string(&about).map_err(Error::json(HELD_OUT))?,
    )]);
    let view = TensorView::new(
        Dtype::U32,
        vec![tokens.n_seq(), tokens.n_ctx()],
        bytemuck::cast_slice(tokens.ids()),
    );
    let bytes = view.and_then(|view| safetensors::serialize([("ids", view)], Some(about)));
    let bytes = bytes.map_err(|e| Error::format(path, format!("could not be serialised: {e}")))?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}

fn read(path: &Path, acts: &ActivationStore) -> Result<Option<Tokens>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    let remedy = "delete it and harvest.toml beside it, and harvest again to recreate both";
    let damaged =
        |why: String| Error::format(path, format!("does not hold held-out text ({why}): {remedy}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let about = header
        .metadata()
        .as_ref()
        .and_then(|map| map.get(ABOUT))
        .ok_or_else(|| damaged("it has no description".into()))?;
    let about: About = serde_json::from_str(about).map_err(|e| damaged(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let tensor = tensors.tensor("ids").map_err(|e| damaged(e.to_string()))?;
    if tensor.dtype() != Dtype::U32
        || tensor.shape().len() != 2
        || tensor.shape()[1] != acts.n_ctx()
    {
        return Err(damaged(format!("ids are {:?} {:?}", tensor.dtype(), tensor.shape())));
    }
    let ids = tensor.data().as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
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
