//! The authors' table kept in a file: of a large model it takes minutes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Lookup;
use super::init::Unigrams;
use crate::base::error::{Error, Result};
use crate::base::files::{FolderLock, create_folder, hex, remove_stale_files};
use crate::formats::arrays::{self, Arrays};
use crate::model::gpu::Bits;
use crate::model::{HookPoint, Model};

/// The one array of the file: `[rows so far, d_model]`.
const ROWS: &str = "rows";

/// How often the file is brought up to date.
const SAVED_EVERY: Duration = Duration::from_secs(60);

impl Lookup {
    /// As [`Lookup::unigram`], kept in a file in the folder `dir`: the same call reads it back, and
    /// one after being killed or stopped continues where the file ends. The file's name tells the
    /// model and the hook, so a folder may hold several, and one of an earlier residual stream is
    /// continued; in bf16 also whether a card made it, which none but a card continues.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("EleutherAI/pythia-1.4b")?;
    /// let lookup = Lookup::unigram_in(&model, HookPoint::resid_pre(16), "cache")?; // minutes the first time
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Lookup::unigram`]; [`Error::Locked`] while another process writes into the folder;
    /// [`Error::Checksum`] or [`Error::Format`] if the file is damaged; [`Error::Io`].
    pub fn unigram_in(model: &Model, hook: HookPoint, dir: impl AsRef<Path>) -> Result<Lookup> {
        let mut wanted = Unigrams::of(model, hook)?;
        if let Some(lookup) = wanted.at_hand() {
            return Ok(lookup);
        }
        // A whole one is as good from a card as from a processor.
        for bits in [Bits::Processor, Bits::Card] {
            CachedTable::new(model, hook, dir.as_ref(), bits).read(&mut wanted)?;
            if wanted.is_whole() {
                return wanted.lookup();
            }
        }
        create_folder(dir.as_ref())?;
        let _lock = FolderLock::acquire(dir.as_ref())?;
        wanted.choose()?;
        let kept = CachedTable::new(model, hook, dir.as_ref(), wanted.bits);
        let name = kept.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        remove_stale_files(dir.as_ref(), |target| target == name)?;
        // Again under the lock: another process may have continued it.
        wanted.rows.clear();
        kept.read(&mut wanted)?;
        begin_with_nearest(&mut wanted, model, dir.as_ref());
        let mut saved = Instant::now();
        let made = wanted.make(&mut |rows| {
            if saved.elapsed() >= SAVED_EVERY {
                kept.write(rows)?;
                saved = Instant::now();
            }
            Ok(())
        });
        if !wanted.rows.is_empty() {
            kept.write(&wanted.rows)?;
        }
        match made {
            Ok(()) => wanted.lookup(),
            Err(Error::Interrupted { what, .. }) => {
                let n = wanted.rows.len() / kept.d_model;
                Err(Error::Interrupted {
                    what,
                    remedy: format!("{n} rows are kept, and the same call continues from there"),
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Begins with the table in the folder of the nearest residual stream before, if it holds one.
fn begin_with_nearest(wanted: &mut Unigrams<'_>, model: &Model, dir: &Path) {
    let mut hooks: Vec<HookPoint> =
        model.hooks().into_iter().filter(|hook| wanted.is_nearer(*hook)).collect();
    hooks.sort_by_key(|hook| std::cmp::Reverse(hook.blocks_before()));
    for hook in hooks {
        // Whoever asks for a damaged one gets the error.
        let Ok(mut other) = Unigrams::of(model, hook) else { continue };
        let kept = CachedTable::new(model, hook, dir, wanted.bits);
        if kept.read(&mut other).is_ok() && other.is_whole() {
            return wanted.begin_with(hook, Arc::new(other.rows));
        }
    }
}

/// A file, and what its rows are.
struct CachedTable {
    path: PathBuf,
    d_model: usize,
    bits: Bits,
    about: About,
}

/// What stands beside the rows.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct About {
    format: String,
    version: u32,
    model: String,
    hook: String,
    compute: String,
    #[serde(default)]
    sha256: String,
}

impl CachedTable {
    fn new(model: &Model, hook: HookPoint, dir: &Path, bits: Bits) -> CachedTable {
        let (model_id, mut compute) = (model.fingerprint().to_owned(), model.compute().to_string());
        if bits == Bits::Card {
            compute += "-card";
        }
        let start = model_id.get(..12).unwrap_or_default();
        let path = dir.join(format!("unigram-{hook}-{start}-{compute}.safetensors"));
        let about = About {
            format: "tokenized-sae token table".to_owned(),
            version: 1,
            model: model_id,
            hook: hook.to_string(),
            compute,
            sha256: String::new(),
        };
        CachedTable { path, d_model: model.config().d_model, bits, about }
    }

    /// Gives what an earlier call has kept, if any did.
    fn read(&self, wanted: &mut Unigrams<'_>) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        let damaged = |why: &str| {
            Error::format(
                &self.path,
                format!(
                    "does not hold the table ({why}): delete it, and the same call makes it again"
                ),
            )
        };
        let mut file = Arrays::load(&self.path)?;
        let about = file.about.as_deref().ok_or_else(|| damaged("it has no description"))?;
        let about: About =
            serde_json::from_str(about).map_err(|error| damaged(&error.to_string()))?;
        let [n, _] = file.shape(ROWS)?[..] else {
            return Err(damaged("its rows are not a matrix"));
        };
        let rows = file.take(ROWS, &[n, self.d_model])?;
        let got = sha256(&rows);
        if got != about.sha256 {
            let remedy = "delete it, and the same call makes it again".to_owned();
            let (path, want) = (self.path.clone(), about.sha256);
            return Err(Error::Checksum { path, want, got, remedy });
        }
        if about != (About { sha256: got, ..self.about.clone() }) || rows.len() > wanted.len() {
            return Err(damaged("it is from another model, hook or version"));
        }
        (wanted.rows, wanted.bits) = (rows, self.bits);
        Ok(())
    }

    fn write(&self, rows: &[f32]) -> Result<()> {
        let about = About { sha256: sha256(rows), ..self.about.clone() };
        let about = serde_json::to_string(&about).map_err(Error::json("the token table"))?;
        let shape = vec![rows.len() / self.d_model, self.d_model];
        arrays::save(&self.path, &[(ROWS, shape, rows)], &about)
    }
}

fn sha256(rows: &[f32]) -> String {
    hex(Sha256::digest(bytemuck::cast_slice::<f32, u8>(rows)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Compute, Processing, Site};

    /// Of this hook, since tests that run at the same time share the tables that are in memory.
    const HOOK: HookPoint = HookPoint { layer: 0, site: Site::AttnOut };

    #[test]
    fn a_table_is_made_once_and_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let kept = CachedTable::new(&model, HOOK, dir.path(), Bits::Processor);
        let made = Lookup::unigram(&model, HOOK).unwrap();
        let want = made.table().to_vec();
        // While somebody holds it, it is not made again, and not read.
        assert_eq!(
            Lookup::unigram_in(&model, HOOK, dir.path()).unwrap().table().as_ptr(),
            made.table().as_ptr()
        );
        assert!(!kept.path.exists());
        drop(made);
        // A part of it, as a stopped call leaves it, marked to be known again.
        let mut part = want[..500 * kept.d_model].to_vec();
        part[7] += 1.0;
        kept.write(&part).unwrap();
        for _ in 0..2 {
            let table = Lookup::unigram_in(&model, HOOK, dir.path()).unwrap();
            assert_eq!(
                (&table.table()[..part.len()], &table.table()[part.len()..]),
                (&part[..], &want[part.len()..])
            );
        }
        std::fs::remove_file(&kept.path).unwrap();
        assert_eq!(Lookup::unigram_in(&model, HOOK, dir.path()).unwrap().table(), want);
    }

    #[test]
    fn a_table_goes_on_from_that_of_an_earlier_hook_to_the_same_bits() {
        for (name, compute) in [
            ("tiny-pythia", Compute::F32),
            ("tiny-gpt2", Compute::F32),
            ("tiny-gpt2", Compute::Bf16),
        ] {
            let model = Model::load_with(name, Processing::Raw).unwrap().computing(compute); // no other test's
            let whole = Lookup::unigram(&model, HookPoint::resid_pre(3)).unwrap().table().to_vec();
            let early = Lookup::unigram(&model, HookPoint::resid_pre(1)).unwrap();
            let post = HookPoint { layer: 1, site: Site::ResidPost };
            let mut made = Unigrams::of(&model, post).unwrap();
            assert!(
                made.is_nearer(HookPoint::resid_pre(1))
                    && made.is_nearer(HookPoint::resid_pre(2))
                    && !made.is_nearer(HookPoint::resid_pre(3))
            );
            made.make(&mut |_| Ok(())).unwrap();
            assert!(!made.is_nearer(HookPoint::resid_pre(1)), "it began with what is in memory");
            let middle = made.lookup().unwrap();
            assert_eq!(
                Lookup::unigram(&model, HookPoint::resid_pre(3)).unwrap().table(),
                whole,
                "{name} {compute}"
            );
            let values = middle.table().to_vec();
            drop((early, middle));
            // And from a file.
            let dir = tempfile::tempdir().unwrap();
            let kept = CachedTable::new(&model, post, dir.path(), Bits::Processor);
            kept.write(&values).unwrap();
            assert_eq!(
                Lookup::unigram_in(&model, HookPoint::resid_pre(3), dir.path()).unwrap().table(),
                whole,
                "{name} {compute}"
            );
        }
    }

    #[test]
    fn a_table_that_a_card_has_begun_in_bf16_is_not_continued_by_a_processor() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-pythia").unwrap().computing(Compute::Bf16);
        let [cpu, card] = [Bits::Processor, Bits::Card]
            .map(|bits| CachedTable::new(&model, HOOK, dir.path(), bits));
        let want = Lookup::unigram(&model, HOOK).unwrap().table().to_vec();
        let mut of_card: Vec<f32> = want.iter().map(|x| x + 1.0).collect();
        card.write(&of_card[..500 * card.d_model]).unwrap();
        assert_eq!(Lookup::unigram_in(&model, HOOK, dir.path()).unwrap().table(), want);
        // Nor is one of an earlier hook gone on from.
        let early = CachedTable::new(&model, HookPoint::resid_pre(1), dir.path(), Bits::Card);
        early.write(&of_card).unwrap();
        let later = HookPoint::resid_pre(2);
        let table = Lookup::unigram_in(&model, later, dir.path()).unwrap().table().to_vec();
        assert_eq!(table, Lookup::unigram(&model, later).unwrap().table());
        // One that is whole is used.
        std::fs::remove_file(&cpu.path).unwrap();
        of_card[0] = 7.0;
        card.write(&of_card).unwrap();
        assert_eq!(Lookup::unigram_in(&model, HOOK, dir.path()).unwrap().table(), of_card);
        assert!(!cpu.path.exists());
    }

    #[test]
    fn damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-pythia").unwrap();
        let mut kept = CachedTable::new(&model, HOOK, dir.path(), Bits::Processor);
        let told = || Lookup::unigram_in(&model, HOOK, dir.path()).unwrap_err();
        kept.about.hook = "another".to_owned();
        kept.write(&[0.5; 128]).unwrap();
        assert!(told().to_string().contains("another model, hook"), "{}", told());
        let mut bytes = std::fs::read(&kept.path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&kept.path, bytes).unwrap();
        assert!(matches!(told(), Error::Checksum { .. }), "{}", told());
    }
}
