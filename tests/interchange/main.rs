//! The promise: SAEs and caches of activations go from this library to others and back, and are the
//! same there.
//!
//! Files that the real packages wrote lie in `tests/golden/sae` and `tests/golden/caches`. With
//! `TSAE_INTERCHANGE_PYTHON`, the Python that `environment.sh` prints, the packages write new ones,
//! and read what this library writes.

mod caches;
mod guide;
mod packages;
mod probes;
mod refusing;
mod synthetic;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tokenized_sae::prelude::*;
use tokenized_sae::sae::{Origin, RowNorm};

/// The greatest difference allowed in any code and any number of a reconstruction.
const TOLERANCE: f32 = 1e-5;

const D: usize = 6;
const D_SAE: usize = 10; // no multiple of D
const D_VOCAB: usize = 5;
const N: usize = 7;

/// Activations, and what an SAE makes of them.
struct Case {
    x: Vec<f32>,
    tokens: Vec<u32>,
    codes: Vec<f32>,
    x_hat: Vec<f32>,
}

impl Case {
    fn read(path: &Path) -> Case {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| {
            file.tensor(name)
                .unwrap()
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect::<Vec<_>>()
        };
        let tokens = file
            .tensor("tokens")
            .map(|t| t.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect());
        let x = floats("x");
        Case {
            tokens: tokens.unwrap_or_else(|_| vec![0; x.len() / D]),
            codes: floats("codes"),
            x_hat: floats("x_hat"),
            x,
        }
    }

    /// What an SAE makes of activations of one seed.
    fn of(sae: &Sae) -> Case {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let x: Vec<f32> = numbers(&mut rng, N * sae.d_model());
        let tokens: Vec<u32> = (0..N as u32).map(|i| i % D_VOCAB as u32).collect();
        let codes = sae.encode_on(&x, &tokens).unwrap();
        Case {
            x_hat: sae.decode(&codes, &tokens).unwrap(),
            codes: dense(&codes, sae.d_sae()),
            tokens,
            x,
        }
    }

    fn write(&self, path: &Path) {
        let view = |shape: Vec<usize>, data| TensorView::new(Dtype::F32, shape, data).unwrap();
        let wide =
            |numbers: &[f32]| numbers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (x, codes, x_hat) = (wide(&self.x), wide(&self.codes), wide(&self.x_hat));
        let tokens: Vec<u8> = self.tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        let of = |data: &[u8]| vec![N, data.len() / 4 / N];
        let tensors = HashMap::from([
            ("x", view(of(&x), &x[..])),
            ("codes", view(of(&codes), &codes[..])),
            ("x_hat", view(of(&x_hat), &x_hat[..])),
            ("tokens", TensorView::new(Dtype::I32, vec![N], &tokens).unwrap()),
        ]);
        std::fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    }

    /// Holds an SAE to it.
    fn check(&self, name: &str, sae: &Sae) {
        let codes = sae.encode_on(&self.x, &self.tokens).unwrap();
        let apart = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len(), "{name}");
            a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(self.codes.iter().any(|code| *code != 0.0), "{name} has no codes to compare");
        let of_codes = apart(&dense(&codes, sae.d_sae()), &self.codes);
        assert!(of_codes <= TOLERANCE, "{name}: codes are {of_codes} apart");
        let of_x_hat = apart(&sae.decode(&codes, &self.tokens).unwrap(), &self.x_hat);
        assert!(of_x_hat <= TOLERANCE, "{name}: reconstructions are {of_x_hat} apart");
    }
}

fn dense(codes: &Codes, d_sae: usize) -> Vec<f32> {
    let mut dense = vec![0.0; codes.n() * d_sae];
    for i in 0..codes.n() {
        let (latents, values) = codes.row(i);
        latents
            .iter()
            .zip(values)
            .for_each(|(&latent, &value)| dense[i * d_sae + latent as usize] = value);
    }
    dense
}

fn numbers(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0f32) + rng.random_range(-0.5..1.0f32)).collect()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sae")
}

const ARCHITECTURES: [Architecture; 5] = [
    Architecture::TopK,
    Architecture::BatchTopK,
    Architecture::Relu { l1: 0.5 },
    Architecture::Gated { l1: 0.5 },
    Architecture::JumpRelu { l0: 0.5, bandwidth: 0.1, threshold: 0.1 },
];

/// An SAE with a number of its own everywhere.
fn sample(architecture: Architecture, with_table: bool) -> Sae {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let config = SaeConfig { k: 3, relu: true, architecture, ..SaeConfig::new(D, D_VOCAB) }
        .with_latents(D_SAE);
    let table = Lookup::from_table(numbers(&mut rng, D_VOCAB * D), D).unwrap();
    let mut sae = Sae::new(if with_table { config.with_lookup(table) } else { config }).unwrap();
    let all = [&mut sae.w_enc, &mut sae.b_enc, &mut sae.b_dec, &mut sae.r_mag, &mut sae.b_mag];
    for values in all {
        let fresh = numbers(&mut rng, values.len());
        values.copy_from_slice(&fresh);
    }
    sae.threshold.iter_mut().for_each(|threshold| *threshold = rng.random_range(0.1..0.6));
    sae.origin = Origin {
        model: Some("gpt2".into()),
        hook: Some("blocks.3.hook_resid_post".parse().unwrap()),
        n_ctx: Some(32),
        ..sae.origin
    };
    sae
}

/// Which formats have a place for it.
fn formats(architecture: Architecture) -> Vec<SaeFormat> {
    let all = [
        SaeFormat::SaeLens,
        SaeFormat::DictionaryLearning,
        SaeFormat::Llamascopium,
        SaeFormat::Sparsify,
    ];
    let has = |format: &SaeFormat| match format {
        SaeFormat::Sparsify => architecture == Architecture::TopK,
        SaeFormat::Llamascopium => !matches!(architecture, Architecture::Gated { .. }),
        _ => true,
    };
    all.into_iter().filter(has).collect()
}

/// Loads every SAE in a folder that `check.py make` wrote, and holds it to what the package made of
/// the activations beside it.
fn load_all(folder: &Path) -> usize {
    let mut n = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() == "sparsify" {
            n += load_all(&path);
        }
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".safetensors"))
        else {
            continue;
        };
        let sae = Sae::load(path.with_file_name(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        Case::read(&path).check(name, &sae);
        let model = if name.starts_with("openai") { None } else { Some("gpt2") };
        assert_eq!(sae.origin.model.as_deref(), model, "{name}");
        assert_eq!(sae.origin.hook.is_some(), model.is_some(), "{name}");
        n += 1;
    }
    n
}

#[test]
fn files_of_the_real_packages_compute_what_they_did_there() {
    assert_eq!(load_all(&golden()), 36);
}

#[test]
fn what_is_exported_is_loaded_as_it_was() {
    for architecture in ARCHITECTURES {
        for format in formats(architecture) {
            let dir = tempfile::tempdir().unwrap();
            let sae = sample(architecture, false);
            let dir = dir.path().join("layers.3"); // sparsify's hook
            let exported = sae.export(&dir, format, TableExport::Drop).unwrap();
            let read = Sae::load(&dir).unwrap();
            Case::of(&sae).check(&format!("{} {format}", architecture.name()), &read);
            assert_eq!(
                (read.d_model(), read.d_sae(), &read.origin.hook),
                (D, D_SAE, &sae.origin.hook),
                "{format}"
            );
            let card = std::fs::read_to_string(dir.join("README.md")).unwrap();
            assert!(
                card.starts_with("---\nlibrary_name: ") && card.contains(architecture.name()),
                "{card}"
            );
            assert!(exported.iter().all(|note| card.contains(note.as_str())), "{card}");
        }
    }
}

/// What an SAE makes of rows far from a mean of 0 and a length of √d, each in a scale of its own.
fn scaled_by_row(row_norm: RowNorm, with_table: bool) -> Sae {
    Sae { row_norm, ..sample(Architecture::TopK, with_table) }
}

#[test]
fn rows_that_are_scaled_one_by_one_are_so_in_libraries_that_do_it() {
    for row_norm in [RowNorm::LayerNorm, RowNorm::ConstantNorm] {
        for format in [
            SaeFormat::Tsae,
            SaeFormat::SaeLens,
            SaeFormat::Llamascopium,
            SaeFormat::Sparsify,
            SaeFormat::DictionaryLearning,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("layers.3");
            let sae = scaled_by_row(row_norm, format == SaeFormat::Tsae);
            let exported = sae.export(&dir, format, TableExport::Keep);
            if row_norm == RowNorm::LayerNorm && format == SaeFormat::Llamascopium
                || matches!(format, SaeFormat::Sparsify | SaeFormat::DictionaryLearning)
            {
                assert!(matches!(exported, Err(Error::Config { .. })), "{row_norm:?} {format}");
                continue;
            }
            exported.unwrap();
            let read = Sae::load(&dir).unwrap();
            assert_eq!(read.row_norm, row_norm);
            Case::of(&sae).check(&format!("{row_norm:?} {format}"), &read);
        }
    }
}

#[test]
fn prefixes_become_groups_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut sae = sample(Architecture::BatchTopK, false);
    sae.config = sae.config.with_prefixes(&[2, 5]);
    let exported =
        sae.export(dir.path(), SaeFormat::DictionaryLearning, TableExport::Drop).unwrap();
    assert!(exported.is_empty(), "{exported:?}");
    let read = Sae::load(dir.path()).unwrap();
    assert_eq!(read.config.prefixes, [2, 5, 10]);
    Case::of(&sae).check("Matryoshka", &read);
}

#[test]
fn a_table_is_kept_folded_or_dropped_and_codes_stay_the_same() {
    for architecture in ARCHITECTURES {
        let sae = sample(architecture, true);
        let table = sae.lookup.clone().unwrap();
        let want = Case::of(&sae);
        let mean: Vec<f32> = (0..D)
            .map(|i| (0..D_VOCAB).map(|row| table[row * D + i]).sum::<f32>() / D_VOCAB as f32)
            .collect();
        for format in formats(architecture).into_iter().chain([SaeFormat::Tsae]) {
            let as_table = |kind: TableExport| {
                let dir = tempfile::tempdir().unwrap();
                let exported = sae.export(dir.path(), format, kind).unwrap();
                assert_eq!(
                    exported.is_empty(),
                    format == SaeFormat::Tsae && kind == TableExport::Keep,
                    "{exported:?}"
                );
                Sae::load(dir.path()).unwrap()
            };
            let kept = as_table(TableExport::Keep);
            assert_eq!(kept.lookup, sae.lookup);
            want.check(&format!("{} {format} keep", architecture.name()), &kept);
            let without = |kind: TableExport, lacks: &dyn Fn(usize, usize) -> f32| {
                let read = as_table(kind);
                assert!(read.lookup.is_none());
                let x_hat = want
                    .x_hat
                    .iter()
                    .enumerate()
                    .map(|(at, x_hat)| x_hat - lacks(at / D, at % D))
                    .collect();
                let case = Case {
                    x_hat,
                    x: want.x.clone(),
                    tokens: want.tokens.clone(),
                    codes: want.codes.clone(),
                };
                case.check(&format!("{} {format} {kind:?}", architecture.name()), &read);
            };
            let row = |n: usize, i: usize| table[want.tokens[n] as usize * D + i];
            without(TableExport::Drop, &row);
            without(TableExport::Fold, &|n, i| row(n, i) - mean[i]);
        }
    }
}

#[test]
fn a_mean_row_may_count_each_token_by_its_weight() {
    let sae = sample(Architecture::TopK, true);
    let table = sae.lookup.clone().unwrap();
    let one = sae.fold_table(Some(&[0.0, 0.0, 2.0, 0.0, 0.0])).unwrap();
    let want: Vec<f32> = sae.b_dec.iter().zip(&table[2 * D..]).map(|(b, w)| b + w).collect();
    assert!(one.b_dec.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6));
    for wrong in [&[0.0; 5][..], &[1.0; 4], &[1.0, -1.0, 1.0, 1.0, 1.0], &[f32::NAN; 5]] {
        assert!(sae.fold_table(Some(wrong)).is_err(), "{wrong:?}");
    }
}
