//! The checkpoints of the authors of tokenized SAEs: a pickled state dict, `W_enc [d_sae,
//! d_model]`, `W_dec [d_model, d_sae]`, `b_enc`, `b_dec`, and in a TSAE `lookup.W_lookup.weight
//! [d_vocab, d_model]`. What it was trained on stands in the file's name:
//! `gpt2_resid_pre_8_ot30.pt`.

use std::path::Path;

use super::weights::{Matrix, Names};
use super::{Architecture, Given, Library, Origin, Sae, bare};
use crate::base::error::{Error, Result};
use crate::formats::arrays::Arrays;
use crate::model::HookPoint;
use crate::sae::Lookup;

const TABLE: &str = "lookup.W_lookup.weight";

const NAMES: Names = Names {
    w_enc: Matrix::Rows("W_enc"),
    b_enc: "b_enc",
    w_dec: Matrix::Columns("W_dec"),
    b_dec: "b_dec",
};

pub(super) const LIBRARY: Library = Library { read, harmless: &[] };

/// Whether these are an SAE with a table, or the four tensors of one without, with rows of `W_enc`
/// for latents.
pub(super) fn is_theirs(tensors: &Arrays) -> bool {
    let shape = |name: &str| tensors.shape(name).unwrap_or_default();
    tensors.has(TABLE)
        || tensors.names() == ["W_dec", "W_enc", "b_dec", "b_enc"]
            && shape("W_enc") == [shape("b_enc"), shape("b_dec")].concat()
            && shape("W_dec") == [shape("b_dec"), shape("b_enc")].concat()
}

fn read(Given { tensors, k, .. }: &mut Given) -> Result<Sae> {
    let path = tensors.path().to_owned();
    if tensors.has("r_mag") || tensors.has("b_gate") {
        return Err(Error::format(
            &path,
            "holds a gated SAE of the authors'; their TopK SAEs are read",
        ));
    }
    let (named, origin) = of_name(&path);
    let k = k.or(named).ok_or_else(|| {
        let why = "is an SAE of the authors', whose file does not say k, nor does its name (as in gpt2_resid_pre_8_ot30.pt): give it, with \
                   Sae::load_with_k or --k";
        Error::format(&path, why)
    })?;
    let [d_sae, d] = NAMES.sizes(tensors)?;
    let mut sae = Sae { origin, ..bare(d, d_sae, Architecture::TopK, k) };
    sae.config.relu = false;
    if tensors.has(TABLE) {
        let d_vocab = tensors.shape(TABLE)?.first().copied().unwrap_or(0);
        let table = tensors.take(TABLE, &[d_vocab, d])?;
        let balance = 0.5; // theirs
        let start = table.iter().map(|w| w / balance).collect();
        sae.config.lookup = Some(Lookup::from_table(start, d)?.with_balance(balance)?);
        (sae.config.d_vocab, sae.lookup) = (d_vocab, Some(table));
    }
    sae.config.check()?;
    NAMES.take(tensors, sae)
}

/// What `gpt2_resid_pre_8_ot30.pt` says: k, the model and the hook.
fn of_name(path: &Path) -> (Option<usize>, Origin) {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let parsed = || {
        let (trained, last) = stem.rsplit_once('_')?;
        let k = last.strip_prefix("ot").or_else(|| last.strip_prefix('o'))?.parse().ok()?;
        let (place, layer) = trained.rsplit_once('_')?;
        let (model, site) = place.split_once('_')?;
        let hook: Option<HookPoint> = format!("blocks.{layer}.hook_{site}").parse().ok();
        Some((
            k,
            Origin {
                model: Some(model.to_owned()),
                hook,
                processing: Some("TransformerLens".to_owned()),
                ..Origin::default()
            },
        ))
    };
    parsed().map_or((None, Origin::default()), |(k, origin)| (Some(k), origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_file_names_say_what_was_trained_on() {
        for (name, k) in [
            ("gpt2_resid_pre_8_o30.pt", Some(30)),
            ("gpt2_resid_pre_8_ot5.pt", Some(5)),
            ("gpt2.pt", None),
            ("a_b_c_d.pt", None),
        ] {
            let (found, origin) = of_name(Path::new(name));
            assert_eq!(found, k, "{name}");
            assert_eq!(
                origin.hook.map(|hook| hook.to_string()),
                k.map(|_| "blocks.8.hook_resid_pre".to_owned())
            );
        }
    }
}
