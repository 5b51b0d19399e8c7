//! One error type whose variants carry facts, and which reads as a sentence wherever it is printed.
//!
//! A notebook prints the error of a failing `?` with `{:?}`, so [`Debug`](std::fmt::Debug) here is
//! the same readable chain as [`Display`](std::fmt::Display), not a dump of fields.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::format;

/// The result of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, what was wanted, and what to do about it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- files ----
    /// The operating system refused a file operation.
    #[error("could not {doing} {}: {source}", .path.display())]
    Io {
        /// The operation, as a verb: "read", "write", "create".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own word.
        source: std::io::Error,
    },
    /// A file is not what it claims to be.
    #[error("{}: {why}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, what was wanted, and what to do.
        why: String,
    },
    /// A file's bytes are not the ones that were written.
    #[error("{}: checksum is {got}, but {want} was written; the file is damaged: {remedy}", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum that was recorded.
        want: String,
        /// The checksum of the bytes on disk.
        got: String,
        /// What to do.
        remedy: String,
    },
    /// Another process, or another call in this one, is writing to the same folder.
    #[error("{} is in use by another process, or by a background training: wait for it, stop it, or choose another folder", .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// What is on disk was made from something other than what is asked for now.
    #[error("{}: {what} was {stored}, and is now {now}: {remedy}", .path.display())]
    Changed {
        /// The folder or file.
        path: PathBuf,
        /// The thing that differs: "model", "corpus", "hook".
        what: &'static str,
        /// Its value on disk.
        stored: String,
        /// Its value now.
        now: String,
        /// What to do.
        remedy: String,
    },

    // ---- memory ----
    /// There is not enough memory; refused before it ran out.
    #[error("{what} needs {} of memory, and {} are free: {remedy}", format::bytes(*.needs), format::bytes(*.free))]
    Memory {
        /// The work.
        what: String,
        /// Bytes that it needs.
        needs: u64,
        /// Bytes that are free.
        free: u64,
        /// The setting that would fit.
        remedy: String,
    },

    /// A device failed at something.
    #[error("{device} could not {doing}: {why}")]
    Device {
        /// The device, such as "cuda:0".
        device: String,
        /// The operation, as a verb.
        doing: &'static str,
        /// The driver's own words.
        why: String,
    },

    // ---- models ----
    /// No model of that name is built in, and there is no such folder and no such repository.
    #[error("no model \"{name}\": {why}")]
    UnknownModel {
        /// The name or path as given.
        name: String,
        /// Where it was looked for, and what exists.
        why: String,
    },
    /// The Hugging Face hub could not be reached, refused, or sent other data than it announced.
    #[error("could not get {repo} from {endpoint}: {why}")]
    Hub {
        /// The repository, with its revision.
        repo: String,
        /// The hub's address.
        endpoint: String,
        /// What happened and what to do.
        why: String,
    },
    /// A checkpoint lacks a tensor.
    #[error("{}: tensor \"{name}\" is missing", .file.display())]
    MissingTensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The checkpoint.
        file: PathBuf,
    },
    /// The model has no such hook.
    #[error("hook \"{hook}\": {why}")]
    UnknownHook {
        /// The hook as given.
        hook: String,
        /// Which hooks there are.
        why: String,
    },
    /// A token id lies outside the vocabulary.
    #[error("token id {id} (at position {position}) is outside the vocabulary of {d_vocab}")]
    TokenId {
        /// The offending id.
        id: u32,
        /// Where it stands.
        position: usize,
        /// The size of the vocabulary.
        d_vocab: usize,
    },
    /// Text was given to a model that has no tokenizer.
    #[error(
        "{model} has no tokenizer.json, so text cannot be turned into tokens: add that file to its folder, or give token ids"
    )]
    NoTokenizer {
        /// The model.
        model: String,
    },
    /// The tokenizer refused.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// There is not enough text to do anything with.
    #[error("the corpus is too small: {why}")]
    EmptyCorpus {
        /// What was found and what is needed.
        why: String,
    },

    // ---- numbers ----
    /// An array has the wrong shape.
    #[error("{what} has shape {got:?}, but {want:?} is needed")]
    Shape {
        /// The array.
        what: String,
        /// The shape that is needed.
        want: Vec<usize>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A number is NaN or infinite.
    #[error("{what} holds a number that is not finite ({value}) at {at}")]
    NotFinite {
        /// The array.
        what: String,
        /// The value: NaN, inf or -inf.
        value: f32,
        /// Where: an index, a row, a step.
        at: String,
    },
    /// A setting cannot be used.
    #[error("{field}: {why}")]
    Config {
        /// The field or option.
        field: &'static str,
        /// What is wrong with it and what is allowed.
        why: String,
    },
    /// A file that describes a run or a sweep says something impossible.
    #[error("{file}:{line}: {why}")]
    Description {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and what is allowed.
        why: String,
    },
    /// There is no run of that name.
    #[error("no run \"{name}\": there are {there:?}")]
    UnknownRun {
        /// The name as given.
        name: String,
        /// The names that exist.
        there: Vec<String>,
    },

    // ---- long calls ----
    /// A long call was stopped by hand before it had anything to return.
    #[error("{what} was stopped by hand before it had anything to return: {remedy}")]
    Interrupted {
        /// The call.
        what: &'static str,
        /// What is left of it, and how to continue.
        remedy: String,
    },

    /// Work that many processes share is not complete.
    #[error("{what} is not complete: {left}; {remedy}")]
    Incomplete {
        /// The work.
        what: String,
        /// What is left of it.
        left: String,
        /// How to go on.
        remedy: String,
    },

    /// One of the ranks that train an SAE together failed.
    #[error("rank {rank}: {why}")]
    Rank {
        /// Its number, from 0.
        rank: usize,
        /// What it failed with.
        why: String,
    },

    /// A training in the background failed, and its own error was given away already, or it was a
    /// panic.
    #[error("the training in {} failed: {why}; what its last checkpoint holds is safe, and the same call continues from there", .dir.display())]
    Training {
        /// The folder it trained in.
        dir: PathBuf,
        /// What it failed with.
        why: String,
    },

    // ---- libraries below ----
    /// candle refused a tensor operation.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
    /// A figure could not be drawn.
    #[error("figure: {0}")]
    Figure(String),
    /// A JSON text could not be written or read.
    #[error("{what}: {source}")]
    Json {
        /// Whose JSON.
        what: String,
        /// serde's word, with line and column.
        source: serde_json::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a panic that was caught said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl Error {
    /// Wraps an i/o error with the operation and the path it was about; for `map_err`.
    pub fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { doing, path, source }
    }

    /// Wraps a JSON error with what was being read or written; for `map_err`.
    pub fn json(what: impl fmt::Display) -> impl FnOnce(serde_json::Error) -> Error {
        let what = what.to_string();
        move |source| Error::Json { what, source }
    }

    /// Says that the file is at fault, if the error does not name one itself: a setting that cannot
    /// be used was read from it.
    pub(crate) fn read_from(self, path: &Path) -> Error {
        let told = self.to_string();
        match self {
            Error::Config { .. }
            | Error::UnknownHook { .. }
            | Error::TokenId { .. }
            | Error::Shape { .. }
            | Error::NotFinite { .. }
                if !told.contains(&path.display().to_string()) =>
            {
                Error::format(path, told)
            }
            other => other,
        }
    }

    /// Checks a number of which there must be one at least.
    pub(crate) fn at_least_1(field: &'static str, value: u64) -> Result<()> {
        match value {
            0 => Err(Error::config(field, format!("{field} = 0; at least 1 is needed"))),
            _ => Ok(()),
        }
    }

    /// Shorthand for [`Error::Format`].
    pub fn format(path: impl AsRef<Path>, why: impl Into<String>) -> Error {
        Error::Format { path: path.as_ref().to_owned(), why: why.into() }
    }

    /// Shorthand for [`Error::Config`].
    pub fn config(field: &'static str, why: impl Into<String>) -> Error {
        Error::Config { field, why: why.into() }
    }
}

/// Gives a type that lists named things the two ways to one of them: `get`, and `it["name"]`.
macro_rules! by_name {
    ($all:ty, $list:ident: $one:ty, $what:literal) => {
        impl $all {
            #[doc = concat!("The ", $what, " of that name.")]
            ///
            /// # Errors
            /// [`Error::UnknownRun`](crate::error::Error::UnknownRun) with the names that exist.
            pub fn get(&self, name: &str) -> $crate::Result<&$one> {
                self.$list.iter().find(|it| it.name == name).ok_or_else(|| {
                    let there = self.$list.iter().map(|it| it.name.clone()).collect();
                    $crate::Error::UnknownRun { name: name.to_owned(), there }
                })
            }
        }

        impl std::ops::Index<&str> for $all {
            type Output = $one;

            /// # Panics
            /// If there is none of that name, as indexing a map does; `get` returns an error
            /// instead.
            fn index(&self, name: &str) -> &$one {
                self.get(name).unwrap_or_else(|error| panic!("{error}"))
            }
        }
    };
}
pub(crate) use by_name;
