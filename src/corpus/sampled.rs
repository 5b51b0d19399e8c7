//! A corpus that the model writes itself, kept in a file as it grows.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Corpus, DEFAULT_N_CTX};
use crate::base::error::{Error, Result};
use crate::base::files::{FolderLock, create_folder, hex, remove_stale_files};
use crate::base::format;
use crate::display::{Progress, interrupt};
use crate::formats::ids;
use crate::model::tokens::Tokens;
use crate::model::{Author, Model};

/// The number of the first held-out sequence that a model writes; training sequences are numbered
/// from 0 and never come here.
const FIRST_HELD_OUT: usize = 1 << 40;
/// Share of the training sequences that are written once more, to be held out.
const HELD_OUT_SHARE: f64 = 0.02;
/// The fewest held-out sequences that still tell anything.
const LEAST_HELD_OUT: usize = 32;
/// How often the file is brought up to date.
const SAVED_EVERY: Duration = Duration::from_secs(10);

impl Corpus {
    /// A corpus that the model writes itself, for when there is no text at hand: at least
    /// `n_tokens` tokens to train on, in sequences of 256 (or what the model reads, if that is
    /// less), and 2 % as many held-out sequences, but at least 32, which are drawn apart from the
    /// others.
    ///
    /// Sequence `i` depends on the seed and on `i` alone, so a larger corpus begins with the
    /// smaller one and holds the same out. Writing takes several times as long as a harvest;
    /// [`Corpus::sampled_in`] does it once. Stopped by hand, this returns the sequences it has.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::sampled(&model, 500_000, 0)?;
    /// println!("{}", model.decode(corpus.train.row(0))?);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if `n_tokens` is 0 or the model has no BOS; [`Error::Interrupted`] if it
    /// is stopped before it has a training sequence.
    pub fn sampled(model: &Model, n_tokens: usize, seed: u64) -> Result<Corpus> {
        let wanted = Wanted::new(model, n_tokens, seed)?;
        let mut written = Written::default();
        let stopped = !written.grow(&wanted, &mut |_| Ok(()))?;
        if stopped && written.train.is_empty() {
            return Err(Error::Interrupted {
                what: "sampling",
                remedy: "nothing is kept; the same call starts again".into(),
            });
        }
        written.corpus(&wanted)
    }

    /// As [`Corpus::sampled`], kept in a file in the folder `dir`: the same call reads it back, and
    /// one for more tokens, or after being killed or stopped, continues where the file ends. The
    /// file's name tells the model and the seed, so a folder may hold several.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::sampled_in(&model, 2_000_000, 0, "cache")?; // minutes the first time
    /// assert_eq!((corpus.train.n_seq(), corpus.valid.n_seq()), (7813, 156));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Corpus::sampled`]; [`Error::Interrupted`] also if it is stopped later, since what it
    /// has is kept; [`Error::Locked`] while another process writes into the folder;
    /// [`Error::Checksum`] or [`Error::Format`] if the file is damaged; [`Error::Io`].
    pub fn sampled_in(
        model: &Model,
        n_tokens: usize,
        seed: u64,
        dir: impl AsRef<Path>,
    ) -> Result<Corpus> {
        let dir = dir.as_ref();
        let wanted = Wanted::new(model, n_tokens, seed)?;
        let path = wanted.path(dir);
        if let Some(written) = wanted.read(&path)?
            && wanted.is_met_by(&written)
        {
            return written.corpus(&wanted);
        }
        create_folder(dir)?;
        let _lock = FolderLock::acquire(dir)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        remove_stale_files(dir, |target| target == name)?;
        // Again under the lock: another process may have continued it.
        let mut written = wanted.read(&path)?.unwrap_or_default();
        let mut saved = Instant::now();
        let finished = written.grow(&wanted, &mut |written| {
            if saved.elapsed() >= SAVED_EVERY {
                wanted.write(written, &path)?;
                saved = Instant::now();
            }
            Ok(())
        })?;
        wanted.write(&written, &path)?;
        if finished {
            return written.corpus(&wanted);
        }
        let n = format::count(written.train.len() as u64);
        Err(Error::Interrupted {
            what: "sampling",
            remedy: format!("{n} tokens are kept, and the same call continues from there"),
        })
    }
}

/// What a model is to write.
struct Wanted<'a> {
    model: &'a Model,
    seed: u64,
    n_ctx: usize,
    n_train: usize,
    n_valid: usize,
}

/// What it has written: the ids of whole sequences.
#[derive(Default)]
struct Written {
    train: Vec<u32>,
    valid: Vec<u32>,
}

/// What stands beside the ids in the file.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct About {
    format: String,
    version: u32,
    model: String,
    n_ctx: usize,
    seed: u64,
    sha256: String,
}

impl<'a> Wanted<'a> {
    fn new(model: &'a Model, n_tokens: usize, seed: u64) -> Result<Wanted<'a>> {
        if n_tokens == 0 {
            return Err(Error::config("n_tokens", "is 0; a corpus has at least one sequence"));
        }
        let n_ctx = model.config().n_ctx.min(DEFAULT_N_CTX);
        let n_train = n_tokens.div_ceil(n_ctx);
        let n_valid = ((n_train as f64 * HELD_OUT_SHARE).round() as usize).max(LEAST_HELD_OUT);
        Ok(Wanted { model, seed, n_ctx, n_train, n_valid })
    }

    fn is_met_by(&self, written: &Written) -> bool {
        written.train.len() >= self.n_train * self.n_ctx
            && written.valid.len() >= self.n_valid * self.n_ctx
    }

    fn path(&self, dir: &Path) -> PathBuf {
        let model = self.model.fingerprint().get(..12).unwrap_or_default();
        dir.join(format!("sampled-{model}-seed{}.safetensors", self.seed))
    }

    fn about(&self, sha256: String) -> About {
        About {
            format: "tokenized-sae sampled tokens".into(),
            version: 1,
            model: self.model.fingerprint().to_owned(),
            n_ctx: self.n_ctx,
            seed: self.seed,
            sha256,
        }
    }

    /// What an earlier call wrote, if any did.
    fn read(&self, path: &Path) -> Result<Option<Written>> {
        let remedy = "delete it, and the same call writes it again";
        let damaged = |why: String| {
            Error::format(path, format!("does not hold sampled tokens ({why}): {remedy}"))
        };
        let names = ["train", "valid"];
        let Some((about, [train, valid])) =
            ids::read::<About, 2>(path, names, self.n_ctx, &damaged)?
        else {
            return Ok(None);
        };
        let written = Written { train, valid };
        let got = written.sha256();
        if got != about.sha256 {
            let (path, want, remedy) = (path.to_owned(), about.sha256, remedy.to_owned());
            return Err(Error::Checksum { path, want, got, remedy });
        }
        if about != self.about(got) {
            return Err(damaged("it is from another model, seed, context or version".into()));
        }
        Ok(Some(written))
    }

    fn write(&self, written: &Written, path: &Path) -> Result<()> {
        let ids = [("train", &written.train[..]), ("valid", &written.valid[..])];
        ids::write(path, &self.about(written.sha256()), &ids, self.n_ctx)
    }
}

impl Written {
    /// Has the model go on until there is what is wanted, telling `each` of every few sequences.
    /// `false` if it was stopped by hand.
    fn grow(
        &mut self,
        wanted: &Wanted<'_>,
        each: &mut dyn FnMut(&Written) -> Result<()>,
    ) -> Result<bool> {
        interrupt::watch();
        interrupt::clear();
        let done = |written: &Written| (written.train.len() + written.valid.len()) as u64;
        let all = (wanted.n_train + wanted.n_valid) * wanted.n_ctx;
        let left = |n: usize, ids: &[u32]| n.saturating_sub(ids.len() / wanted.n_ctx);
        let left = left(wanted.n_train, &self.train) + left(wanted.n_valid, &self.valid);
        let author = Author::new(wanted.model, left, wanted.n_ctx, wanted.seed)?;
        let mut progress = Progress::new("sample", all as u64, "tokens").resumed_at(done(self));
        loop {
            // Held-out sequences first, so that even a corpus stopped early has both sides.
            let (ids, numbered_from, n) = match self.valid.len() < wanted.n_valid * wanted.n_ctx {
                true => (&mut self.valid, FIRST_HELD_OUT, wanted.n_valid),
                false => (&mut self.train, 0, wanted.n_train),
            };
            let have = ids.len() / wanted.n_ctx;
            if have >= n {
                progress.finish();
                return Ok(true);
            }
            if interrupt::requested() {
                interrupt::clear();
                progress.note("stopped by hand");
                progress.finish();
                return Ok(false);
            }
            let (from, to) =
                (numbered_from + have, numbered_from + (have + author.at_once()).min(n));
            ids.extend_from_slice(author.write(from..to)?.ids());
            progress.set(done(self));
            each(self)?;
        }
    }

    /// No more of it than is wanted.
    fn corpus(mut self, wanted: &Wanted<'_>) -> Result<Corpus> {
        let stopped = if wanted.is_met_by(&self) { "" } else { ", stopped by hand" };
        self.train.truncate(wanted.n_train * wanted.n_ctx);
        self.valid.truncate(wanted.n_valid * wanted.n_ctx);
        let source = format!("sampled from {}, seed {}{stopped}", wanted.model.name(), wanted.seed);
        let tokens = |ids| Tokens::new(ids, wanted.n_ctx);
        Ok(Corpus { source, ..Corpus::new(tokens(self.train)?, tokens(self.valid)?)? })
    }

    fn sha256(&self) -> String {
        let bytes = |ids| bytemuck::cast_slice::<u32, u8>(ids);
        let hash = Sha256::new().chain_update(bytes(&self.train));
        hex(hash.chain_update(bytes(&self.valid)).finalize())
    }
}
