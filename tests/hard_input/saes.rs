//! SAEs of every library.

use std::path::{Path, PathBuf};

use tokenized_sae::prelude::*;
use tokenized_sae::sae::ModelCard;

use super::hammer::{self, Reader, Seed, kind};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sae")
}

/// SAEs that the other libraries wrote.
fn theirs() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name == "sparsify" {
            seeds.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.is_dir())
                    .map(|path| Seed::of_folder(&path, kind)),
            );
        } else if path.is_dir() {
            seeds.push(Seed::of_folder(&path, kind));
        } else if name.ends_with(".pt") {
            seeds.push(Seed::of_file(&name, kind(&name).unwrap(), std::fs::read(&path).unwrap()));
        }
    }
    seeds.retain(|seed| {
        let dir = tempfile::tempdir().unwrap();
        seed.files
            .iter()
            .for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
        // Some are there to be refused.
        Sae::load(dir.path()).is_ok()
    });
    assert!(seeds.len() > 20, "{}", seeds.len());
    seeds
}

/// Ours: every architecture, every kind of table.
fn ours() -> Vec<Seed> {
    let base = SaeConfig { expansion: 2, k: 3, seed: 5, ..SaeConfig::new(8, 12) };
    let table = |rows: usize| (0..rows * 8).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
    let unigram = Lookup::from_table(table(12), 8).unwrap();
    let mut preceding = Sae::new(base.clone()).unwrap();
    preceding.origin.hook = Some(HookPoint::resid_pre(1));
    let saved = |sae: &Sae| {
        let dir = tempfile::tempdir().unwrap();
        sae.save(dir.path()).unwrap();
        Seed::of_folder(dir.path(), kind)
    };
    let mut seeds = Vec::new();
    for architecture in [
        Architecture::TopK,
        Architecture::BatchTopK,
        Architecture::Relu { l1: 1.0 },
        Architecture::Gated { l1: 1.0 },
        Architecture::jump_relu(1.0),
    ] {
        let mut sae =
            Sae::new(base.clone().with_architecture(architecture).with_lookup(unigram.clone()))
                .unwrap();
        sae.origin.hook = Some(HookPoint::resid_pre(1));
        sae.origin.model = Some("tiny".to_owned());
        seeds.push(saved(&sae));
    }
    let preceded = base.clone().with_lookup(Lookup::preceding(&preceding).unwrap());
    let matryoshka = base.clone().with_prefixes(&[4, 8]).with_aux(AuxK::default()).with_lr(1e-3);
    for config in
        [preceded, matryoshka, base.clone().with_lookup(unigram.clone().subtracted().frozen())]
    {
        seeds.push(saved(&Sae::new(config).unwrap()));
    }
    for format in [SaeFormat::Sparsify, SaeFormat::DictionaryLearning, SaeFormat::Llamascopium] {
        let dir = tempfile::tempdir().unwrap();
        let mut sae =
            Sae::new(SaeConfig { relu: true, ..base.clone() }.with_lookup(unigram.clone()))
                .unwrap();
        sae.origin.hook = Some(HookPoint::resid_pre(1));
        sae.export(dir.path(), format, TableExport::Keep).unwrap();
        seeds.push(Seed::of_folder(dir.path(), kind));
    }
    seeds
}

/// What is read encodes, decodes and shows itself.
fn used(sae: &Sae) {
    let x: Vec<f32> = (0..2 * sae.d_model()).map(|i| (i as f32 * 0.7).cos()).collect();
    let codes = sae.encode_on(&x, vec![0, 1]);
    if let Ok(codes) = &codes {
        assert!(codes.latents().iter().all(|&latent| (latent as usize) < sae.d_sae()));
    }
    let _ = sae.reconstruct(&x, vec![1, u32::MAX]).map_err(|error| error.to_string());
    if let Ok(reconstructed) = sae.reconstruct(&x, vec![0, 1]) {
        assert_eq!(reconstructed.len(), x.len());
    }
    assert!(!format!("{sae:?}{:?}", sae.table()).is_empty());
    assert!(!sae.card(&ModelCard::default()).is_empty());
    let _ = (sae.without_table(), sae.fold_table(None));
}

#[test]
fn an_sae_with_spoilt_files_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let seeds = [theirs(), ours()].concat();
    // A pickle's values take some dozens of bytes for each of its own, and are there beside a
    // JSON's; weights come as bytes, as numbers, turned and folded.
    let reader = Reader { name: "saes", share: 24, times: 48, beside: 2 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        let sae = Sae::load(of(folder))?;
        used(&sae);
        Ok(())
    });
}

/// The folder, or the file in it whose name says what it is.
fn of(folder: &Path) -> PathBuf {
    let named = folder.join("gpt2_resid_pre_8_o3.pt");
    if named.is_file() { named } else { folder.to_owned() }
}
