//! The names of the places in a model where activations are read or replaced: TransformerLens'
//! names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// A place within a block. Each is a `[n_seq, n_ctx, d_model]` activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The residual stream as it enters the block: `hook_resid_pre`.
    ResidPre,
    /// What attention adds to the residual stream, output bias included: `hook_attn_out`.
    AttnOut,
    /// The residual stream between attention and MLP: `hook_resid_mid`. GPT-2 only; Pythia's two
    /// halves run in parallel.
    ResidMid,
    /// What the MLP adds to the residual stream, output bias included: `hook_mlp_out`.
    MlpOut,
    /// The residual stream as it leaves the block: `hook_resid_post`.
    ResidPost,
}

impl Site {
    /// Every site, in the order in which a block computes them.
    pub const ALL: [Site; 5] =
        [Site::ResidPre, Site::AttnOut, Site::ResidMid, Site::MlpOut, Site::ResidPost];

    /// The part of the hook's name after `blocks.N.`.
    pub fn name(self) -> &'static str {
        match self {
            Site::ResidPre => "hook_resid_pre",
            Site::AttnOut => "hook_attn_out",
            Site::ResidMid => "hook_resid_mid",
            Site::MlpOut => "hook_mlp_out",
            Site::ResidPost => "hook_resid_post",
        }
    }

    /// Whether the site is the whole residual stream, so that the rest of the model can be computed
    /// from it alone.
    pub fn is_resid(self) -> bool {
        matches!(self, Site::ResidPre | Site::ResidMid | Site::ResidPost)
    }
}

/// A place in a model, `blocks.{layer}.{site}`, written and read as TransformerLens does.
///
/// ```
/// use tokenized_sae::prelude::*;
/// use tokenized_sae::model::Site;
/// let hook: HookPoint = "blocks.8.hook_resid_pre".parse()?;
/// assert_eq!((hook.layer, hook.site), (8, Site::ResidPre));
/// assert_eq!(hook.to_string(), "blocks.8.hook_resid_pre");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HookPoint {
    /// The block, counted from 0.
    pub layer: usize,
    /// The place within the block.
    pub site: Site,
}

impl HookPoint {
    /// `blocks.{layer}.hook_resid_pre`, the hook of the paper.
    pub fn resid_pre(layer: usize) -> HookPoint {
        HookPoint { layer, site: Site::ResidPre }
    }

    /// By TransformerLens' name or by that of the module whose output it is: `layers.3`,
    /// `gpt_neox.layers.3.mlp`, `transformer.h.3.attn`.
    pub(crate) fn by_any_name(name: &str) -> Option<HookPoint> {
        if let Ok(hook) = name.parse() {
            return Some(hook);
        }
        let (_, rest) = name
            .split_once("h.")
            .filter(|(before, _)| is_path(before))
            .or_else(|| name.split_once("layers.").filter(|(before, _)| is_path(before)))?;
        let mut parts = rest.split('.');
        let layer = parts.next()?.parse().ok()?;
        let site = match (parts.next(), parts.next()) {
            (None, _) => Site::ResidPost,
            (Some("mlp"), None) => Site::MlpOut,
            (Some("attn" | "attention" | "self_attn"), None) => Site::AttnOut,
            _ => return None,
        };
        Some(HookPoint { layer, site })
    }

    /// How many blocks come before it, if it is the residual stream between two of them.
    pub(crate) fn blocks_before(self) -> Option<usize> {
        match self.site {
            Site::ResidPre => Some(self.layer),
            Site::ResidPost => Some(self.layer + 1),
            Site::AttnOut | Site::ResidMid | Site::MlpOut => None,
        }
    }
}

/// Whether a module may stand behind this.
fn is_path(before: &str) -> bool {
    before.is_empty() || before.ends_with('.')
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks.{}.{}", self.layer, self.site.name())
    }
}

impl fmt::Debug for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for HookPoint {
    type Err = Error;

    fn from_str(s: &str) -> Result<HookPoint> {
        let unknown = || Error::UnknownHook {
            hook: s.to_owned(),
            why: format!(
                "a hook is written blocks.LAYER.SITE, with a SITE of {}",
                Site::ALL.map(Site::name).join(", ")
            ),
        };
        let rest = s.trim().strip_prefix("blocks.").ok_or_else(unknown)?;
        let (layer, site) = rest.split_once('.').ok_or_else(unknown)?;
        let layer = layer.parse().map_err(|_| unknown())?;
        let site = Site::ALL.into_iter().find(|known| known.name() == site).ok_or_else(unknown)?;
        Ok(HookPoint { layer, site })
    }
}

impl From<HookPoint> for String {
    fn from(hook: HookPoint) -> String {
        hook.to_string()
    }
}

impl TryFrom<String> for HookPoint {
    type Error = Error;

    fn try_from(s: String) -> Result<HookPoint> {
        s.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_reads_back_as_it_is_written() {
        for site in Site::ALL {
            for layer in [0, 8, 23] {
                let hook = HookPoint { layer, site };
                assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
            }
        }
    }

    #[test]
    fn a_module_is_the_hook_of_its_output() {
        let told = |name: &str| HookPoint::by_any_name(name).map(|hook| hook.to_string());
        assert_eq!(told("layers.3").as_deref(), Some("blocks.3.hook_resid_post"));
        assert_eq!(told("transformer.h.2").as_deref(), Some("blocks.2.hook_resid_post"));
        assert_eq!(told("gpt_neox.layers.11.mlp").as_deref(), Some("blocks.11.hook_mlp_out"));
        assert_eq!(told("h.0.attn").as_deref(), Some("blocks.0.hook_attn_out"));
        assert_eq!(told("blocks.4.hook_resid_mid").as_deref(), Some("blocks.4.hook_resid_mid"));
        for other in [
            "",
            "seed1",
            "layers.3.mlp.act",
            "embed_tokens",
            "layers.x",
            "blocks.2.ln1.hook_normalized",
            "blocks.2.attn.hook_z",
            "transformer.h.2.ln_1",
            "vision.blocks.3",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_hook_is_refused_with_the_list_of_sites() {
        for wrong in [
            "",
            "blocks",
            "blocks.x.hook_resid_pre",
            "blocks.1",
            "blocks.1.hook_q",
            "blocks.-1.hook_resid_pre",
            "hook_embed",
        ] {
            let told = wrong.parse::<HookPoint>().unwrap_err().to_string();
            assert!(told.contains("hook_resid_mid"), "{told}");
        }
    }
}
