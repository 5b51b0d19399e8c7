//! Where a model's corpus comes from: text files, or the model itself.

use super::{Corpus, DEFAULT_N_CTX, Encoder, TextCorpus};
use crate::display::{Progress, format, interrupt};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tokens::Tokens;

/// The number of the first held-out sequence that a model writes; training sequences are numbered from 0 and never come here.
const FIRST_HELD_OUT: usize = 1 << 40;
/// Share of the training sequences that are written once more, to be held out.
const HELD_OUT_SHARE: f64 = 0.02;
/// The fewest held-out sequences that still tell anything.
const LEAST_HELD_OUT: usize = 32;
/// Sequences written between two looks at the stop button; the model writes as many at once.
const AT_ONCE: usize = 256;

impl Corpus {
    /// Finds the text files that `pattern` means (a file, a folder with `.txt` and `.md` files at any depth, or a glob such as
    /// `"books/*.txt"`); what [`TextCorpus::split`] returns is the corpus.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::text_files(&model, "books/*.txt")?.context(256).max_tokens(4_000_000).split(0.02)?;
    /// println!("{corpus}");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the model has none, [`Error::EmptyCorpus`] if there is no such file, [`Error::Config`] if `pattern` is not a
    /// pattern, [`Error::Format`] if it names a file of a kind that is not plain text.
    pub fn text_files(model: &Model, pattern: &str) -> Result<TextCorpus> {
        let config = model.config();
        let encoder = Encoder::of_tokenizer(model.name(), model.tokenizer()?, config.bos, config.eos, config.n_ctx, config.d_vocab)?;
        Corpus::text_files_with(encoder, pattern)
    }

    /// A corpus that the model writes itself, for when there is no text at hand: at least `n_tokens` tokens to train on, in sequences of 256 (or
    /// what the model reads, if that is less), and 2 % as many held-out sequences, but at least 32, which are drawn apart from the others.
    ///
    /// Sequence `i` depends on the seed and on `i` alone, so a larger corpus begins with the smaller one and holds the same out. Stopped by hand,
    /// it returns the sequences it has.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::sampled(&model, 2_000_000, 0)?;
    /// assert_eq!((corpus.train.n_seq(), corpus.valid.n_seq()), (7813, 156));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if `n_tokens` is 0 or the model has no BOS; [`Error::Interrupted`] if it is stopped before it has a training sequence.
    pub fn sampled(model: &Model, n_tokens: usize, seed: u64) -> Result<Corpus> {
        if n_tokens == 0 {
            return Err(Error::config("n_tokens", "is 0; a corpus has at least one sequence"));
        }
        let n_ctx = model.config().n_ctx.min(DEFAULT_N_CTX);
        let n_train = n_tokens.div_ceil(n_ctx);
        let n_valid = ((n_train as f64 * HELD_OUT_SHARE).round() as usize).max(LEAST_HELD_OUT);
        interrupt::watch();
        interrupt::clear();
        let mut writer =
            Writer { model, n_ctx, seed, done: 0, progress: Progress::new("sample", ((n_train + n_valid) * n_ctx) as u64, "tokens") };
        let valid = writer.write(FIRST_HELD_OUT, n_valid)?;
        let train = writer.write(0, n_train)?;
        let mut progress = writer.progress;
        let source = match train.n_seq() {
            0 => {
                interrupt::clear();
                return Err(Error::Interrupted { what: "sampling", remedy: "nothing is kept; the same call starts again".into() });
            }
            n if n < n_train => {
                interrupt::clear();
                progress.note("stopped by hand; the corpus is what there was");
                format!("sampled from {}, seed {seed}, stopped at {} tokens", model.name(), format::count(train.len() as u64))
            }
            _ => format!("sampled from {}, seed {seed}", model.name()),
        };
        progress.finish();
        Ok(Corpus { source, ..Corpus::new(train, valid)? })
    }
}

/// A model writing.
struct Writer<'a> {
    model: &'a Model,
    n_ctx: usize,
    seed: u64,
    /// Sequences written so far.
    done: usize,
    progress: Progress,
}

impl Writer<'_> {
    /// The `n` sequences from number `first` on; fewer if it is stopped by hand.
    fn write(&mut self, first: usize, n: usize) -> Result<Tokens> {
        let mut ids = Vec::with_capacity(n * self.n_ctx);
        for from in (first..first + n).step_by(AT_ONCE) {
            if interrupt::requested() {
                break;
            }
            let to = (from + AT_ONCE).min(first + n);
            ids.extend_from_slice(self.model.sample_range(from, to, self.n_ctx, self.seed)?.ids());
            self.done += to - from;
            self.progress.set((self.done * self.n_ctx) as u64);
        }
        Tokens::new(ids, self.n_ctx)
    }
}
