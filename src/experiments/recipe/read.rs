//! Reading a description, and saying in which line it is wrong.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{FILE, RunRecipe};
use crate::base::error::{Error, Result};
use crate::hub::distance;

/// What a description was read from, if it was: so that a later error can be reported with
/// its line. It is not part of what the description says, and any two are equal.
#[derive(Clone, Default)]
pub struct Written(Option<Arc<Source>>);

struct Source {
    /// The file, or what stands in its place.
    place: String,
    text: String,
}

impl PartialEq for Written {
    fn eq(&self, _: &Written) -> bool {
        true
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("nowhere", |source| &source.place))
    }
}

/// A step on the way to a value: a key, or the place in a list.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Reads TOML.
///
/// # Errors
/// [`Error::Description`] with the line, and for a wrong name the right one that is nearest.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, place: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let message = error.message();
        let span = error.span().unwrap_or(0..text.len());
        let why = format!("{}{}", plain(message), hint(message));
        let is_value = message.starts_with("invalid type") || message.starts_with("invalid value");
        let at = guilty::<T>(text).filter(|_| span.start == 0 && is_value).unwrap_or(span.start);
        let why = match key_at(text, at).filter(|_| is_value) {
            Some(key) => format!("{key}: {why}"),
            None => why,
        };
        Error::Description { file: place.to_owned(), line: line_of(text, at), why }
    })
}

/// What a person who has not written the library would call what is wanted.
pub(crate) fn plain(message: &str) -> String {
    [
        ("expected usize", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list, as [1, 2]"),
        ("struct variant LookupRecipe::NgramMeans", "{ longest = 3, rows = 20_000 }"),
        ("struct variant LookupRecipe::Ngrams", "{ longest = 3, rows = 20_000 }"),
    ]
    .iter()
    .fold(message.to_owned(), |message, (rust, words)| message.replace(rust, words))
}

/// The key whose value stands at a place of the text.
fn key_at(text: &str, at: usize) -> Option<String> {
    fn within(table: &DeTable<'_>, at: usize) -> Option<String> {
        table.iter().find_map(|(key, value)| {
            let inner = match value.get_ref() {
                DeValue::Table(inner) => within(inner, at),
                DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
                    DeValue::Table(inner) => within(inner, at),
                    _ => None,
                }),
                _ => None,
            };
            inner.or_else(|| value.span().contains(&at).then(|| key.get_ref().to_string()))
        })
    }
    within(DeTable::parse(text).ok()?.get_ref(), at)
}

/// Where the value stands that an error of the whole text is about: without it there is none. The
/// place is lost of what is in a flattened part.
fn guilty<T: DeserializeOwned>(text: &str) -> Option<usize> {
    let whole: toml::Table = toml::from_str(text).ok()?;
    let is_guilty = |key: &&String| {
        let mut rest = whole.clone();
        rest.remove(*key);
        rest.try_into::<T>().is_ok()
    };
    let key = whole.keys().find(is_guilty)?;
    Some(span(text, &[Step::Key(key)])?.start)
}

impl RunRecipe {
    /// Reads a description: a TOML file, or a folder that a run has left its own in.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Description`] with the line if it says something impossible.
    pub fn load(path: impl AsRef<Path>) -> Result<RunRecipe> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        RunRecipe::read(text, path.display().to_string())
    }

    /// Reads a description from a text in TOML.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// use tokenized_sae::experiments::recipe::RunRecipe;
    /// let spec = RunRecipe::parse("model = 'tiny-gpt2'\n[train]\ntokens = 1_000_000\n[[sae]]\nk = 16")?;
    /// assert_eq!((spec.train.tokens, spec.sae[0].k), (1_000_000, 16));
    /// let wrong = RunRecipe::parse("model = 'tiny-gpt2'\n[train]\ntokns = 1_000_000").unwrap_err();
    /// assert!(wrong.to_string().ends_with("did you mean \"tokens\"?"));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`load`](RunRecipe::load).
    pub fn parse(text: &str) -> Result<RunRecipe> {
        RunRecipe::read(text.to_owned(), "the description".to_owned())
    }

    fn read(text: String, place: String) -> Result<RunRecipe> {
        let spec: RunRecipe = parse(&text, &place)?;
        let spec = RunRecipe { written: Written(Some(Arc::new(Source { place, text }))), ..spec };
        spec.check()?;
        Ok(spec)
    }

    /// Says of a setting that cannot be used where it stands: what is called `field` in the table
    /// that `within` leads to.
    pub(super) fn located(&self, within: &[Step<'_>], error: Error) -> Error {
        let Error::Config { field, why } = error else { return error };
        // Most say themselves what is wrong with which value.
        let why = if why.contains(field) { why } else { format!("{field}: {why}") };
        let path: String = within
            .iter()
            .map(|step| match step {
                Step::Key(key) => (*key).to_owned(),
                Step::Item(i) => format!("[{i}]"),
            })
            .collect();
        let why = if path.is_empty() { why } else { format!("in {path}: {why}") };
        // What was changed since it was read is not what the file says.
        let unchanged = |written: &&Arc<Source>| {
            let read = toml::from_str::<RunRecipe>(&written.text);
            read.is_ok_and(|read| read.to_toml().ok() == self.to_toml().ok()) // NaN is not NaN
        };
        match self.written.0.as_ref().filter(unchanged) {
            Some(written) => {
                let steps: Vec<Step<'_>> =
                    within.iter().copied().chain([Step::Key(field)]).collect();
                let at = span(&written.text, &steps).map_or(0, |span| span.start);
                Error::Description {
                    file: written.place.clone(),
                    line: line_of(&written.text, at),
                    why,
                }
            }
            None => Error::config(field, why),
        }
    }
}

/// The line in which a byte lies, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count()
}

/// Where a value stands, or, if it is not there, the last of those that lead to it.
fn span(text: &str, steps: &[Step<'_>]) -> Option<Range<usize>> {
    let whole = DeTable::parse(text).ok()?;
    let [Step::Key(first), rest @ ..] = steps else { return None };
    let mut value: &Spanned<DeValue<'_>> = whole.get_ref().get(*first)?;
    for step in rest {
        let next = match (value.get_ref(), step) {
            (DeValue::Table(table), Step::Key(key)) => {
                table.get(*key).or_else(|| within(table, key))
            }
            (DeValue::Array(items), Step::Item(i)) => items.get(*i),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    Some(value.span())
}

/// A value one table further in, as the `l1` of `architecture = { relu = { l1 = 1.0 } }`.
fn within<'a>(table: &'a DeTable<'_>, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    table.values().find_map(|value| match value.get_ref() {
        DeValue::Table(inner) => inner.get(key).or_else(|| within(inner, key)),
        _ => None,
    })
}

/// `; did you mean "tokens"?`, if an unknown name in the message is nearly one of those that it
/// names.
fn hint(message: &str) -> String {
    let Some((name, names)) = unknown(message) else { return String::new() };
    let simple = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let nearest =
        names.into_iter().map(|known| (distance(&simple(known), &simple(name)), known)).min();
    match nearest {
        Some((far, known)) if far <= 1 + simple(name).chars().count() / 3 => {
            format!("; did you mean \"{known}\"?")
        }
        _ => String::new(),
    }
}

/// The unknown name in a message, and the known names, as serde and toml report them.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    if let Some((name, known)) = message
        .strip_prefix("unexpected keys in table: ")
        .and_then(|rest| rest.split_once(", available keys: "))
    {
        return Some((name, known.split(", ").collect()));
    }
    let rest = ["unknown field `", "unknown variant `"]
        .iter()
        .find_map(|begin| message.split(begin).nth(1))?;
    let (name, expected) = rest.split_once('`')?;
    Some((name, expected.split('`').skip(1).step_by(2).collect()))
}
