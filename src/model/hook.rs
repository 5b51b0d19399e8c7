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
    /// The residual stream between attention and MLP: `hook_resid_mid`. Pythia has none: its two
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

/// A place in a model, `blocks.{layer}.{site}`, written as TransformerLens' `HookedTransformer`
/// does.
///
/// It is read by other names as well: those of `TransformerBridge` (`blocks.8.hook_in`,
/// `blocks.8.hook_out`, `blocks.8.attn.hook_out`, `blocks.8.mlp.hook_out`), and those of Hugging
/// Face's modules, whose output it is (`transformer.h.8`, `gpt_neox.layers.8.mlp`,
/// `model.layers.8.self_attn`). What a module gives is what [`Processing`](super::Processing)
/// leaves of it.
///
/// ```
/// use tokenized_sae::prelude::*;
/// use tokenized_sae::model::Site;
/// let hook: HookPoint = "blocks.8.hook_resid_pre".parse()?;
/// assert_eq!((hook.layer, hook.site), (8, Site::ResidPre));
/// assert_eq!(hook.to_string(), "blocks.8.hook_resid_pre");
/// assert_eq!("model.layers.7".parse::<HookPoint>()?.to_string(), "blocks.7.hook_resid_post");
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

    /// By the name of the module in Hugging Face's model whose output it is, as `layers.3`,
    /// `gpt_neox.layers.3.mlp` or `transformer.h.3.attn`, with or without `.output`; or of the
    /// block whose input it is, `model.layers.3.input`.
    fn by_module(name: &str) -> Option<HookPoint> {
        let (_, rest) = name
            .split_once("h.")
            .filter(|(before, _)| is_path(before))
            .or_else(|| name.split_once("layers.").filter(|(before, _)| is_path(before)))?;
        let rest = rest.strip_suffix(".output").unwrap_or(rest);
        let (layer, module) = rest.split_once('.').unwrap_or((rest, ""));
        let site = match module {
            "" => Site::ResidPost,
            "input" => Site::ResidPre,
            "mlp" => Site::MlpOut,
            "attn" | "attention" | "self_attn" => Site::AttnOut,
            _ => return None,
        };
        Some(HookPoint { layer: layer.parse().ok()?, site })
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
        let s = s.trim();
        let of_block = || {
            let (layer, site) = s.strip_prefix("blocks.")?.split_once('.')?;
            let site = match site {
                "hook_in" => Site::ResidPre,
                "hook_out" => Site::ResidPost,
                "attn.hook_out" => Site::AttnOut,
                "mlp.hook_out" => Site::MlpOut,
                _ => Site::ALL.into_iter().find(|known| known.name() == site)?,
            };
            Some(HookPoint { layer: layer.parse().ok()?, site })
        };
        of_block().or_else(|| HookPoint::by_module(s)).ok_or_else(|| Error::UnknownHook {
            hook: s.to_owned(),
            why: format!(
                "a hook is written blocks.LAYER.SITE, with a SITE of {}; blocks.LAYER.hook_out and the names of Hugging Face's modules, such as model.layers.LAYER, are read too",
                Site::ALL.map(Site::name).join(", ")
            ),
        })
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
        let told = |name: &str| name.parse::<HookPoint>().ok().map(|hook| hook.to_string());
        assert_eq!(told("model.layers.3.output").as_deref(), Some("blocks.3.hook_resid_post"));
        assert_eq!(told("model.layers.3.input").as_deref(), Some("blocks.3.hook_resid_pre"));
        assert_eq!(
            told("model.layers.3.self_attn.output").as_deref(),
            Some("blocks.3.hook_attn_out")
        );
        assert_eq!(told("blocks.3.hook_in").as_deref(), Some("blocks.3.hook_resid_pre"));
        assert_eq!(told("blocks.3.hook_out").as_deref(), Some("blocks.3.hook_resid_post"));
        assert_eq!(told("blocks.3.attn.hook_out").as_deref(), Some("blocks.3.hook_attn_out"));
        assert_eq!(told("blocks.3.mlp.hook_out").as_deref(), Some("blocks.3.hook_mlp_out"));
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
