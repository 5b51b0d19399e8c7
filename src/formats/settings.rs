//! The settings of a JSON file, each of which somebody must account for: taken, known to change
//! nothing, or refused by name.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::base::error::{Error, Result};

/// Names that change nothing of what is computed, in groups, each with the reason and a space between
/// any two. One that ends in `*` stands for all that begin so.
pub(crate) type Harmless = &'static [(&'static str, &'static str)];

/// Whether a name is among them.
pub(crate) fn is_harmless(name: &str, harmless: Harmless) -> bool {
    let is = |known: &str| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == known,
    };
    harmless.iter().any(|(_, names)| names.split_whitespace().any(is))
}

/// What a setting may be.
pub(crate) trait Setting: Sized {
    /// In words, to go before "is needed".
    const WANTED: &'static str;

    /// The value, if it is one.
    fn of(value: &Value) -> Option<Self>;
}

impl Setting for usize {
    const WANTED: &'static str = "a whole number";

    fn of(value: &Value) -> Option<usize> {
        // Python writes some counts with a point, as 2.0.
        let whole = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n));
        value.as_u64().or(whole.map(|n| n as u64)).and_then(|n| n.try_into().ok())
    }
}

impl Setting for f64 {
    const WANTED: &'static str = "a number";

    fn of(value: &Value) -> Option<f64> {
        value.as_f64()
    }
}

impl Setting for bool {
    const WANTED: &'static str = "true or false";

    fn of(value: &Value) -> Option<bool> {
        value.as_bool()
    }
}

impl Setting for String {
    const WANTED: &'static str = "a text";

    fn of(value: &Value) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

impl Setting for Value {
    const WANTED: &'static str = "a value";

    fn of(value: &Value) -> Option<Value> {
        Some(value.clone())
    }
}

impl Setting for Map<String, Value> {
    const WANTED: &'static str = "an object, {…},";

    fn of(value: &Value) -> Option<Self> {
        value.as_object().cloned()
    }
}

/// Settings that nobody has taken yet.
pub(crate) struct Settings {
    path: PathBuf,
    /// The keys above, each with a dot behind it.
    above: String,
    left: Map<String, Value>,
}

impl Settings {
    /// Of a text that lies at `path`.
    ///
    /// # Errors
    /// [`Error::Json`], or [`Error::Format`] if it is no object.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Settings> {
        let value: Value = serde_json::from_slice(text).map_err(Error::json(path.display()))?;
        match value {
            Value::Object(left) => {
                Ok(Settings { path: path.to_owned(), above: String::new(), left })
            }
            _ => Err(Error::format(path, "is not an object of settings, {\"…\": …}")),
        }
    }

    /// Of a file.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`parse`](Settings::parse).
    pub(crate) fn read(path: &Path) -> Result<Settings> {
        Settings::parse(&std::fs::read(path).map_err(Error::io("read", path))?, path)
    }

    /// None: of what has no such file, and lies at `path`.
    pub(crate) fn none(path: &Path) -> Settings {
        Settings { path: path.to_owned(), above: String::new(), left: Map::new() }
    }

    /// The file is at fault.
    pub(crate) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::format(&self.path, why)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes a setting, if it is there and not null.
    ///
    /// # Errors
    /// [`Error::Format`] if it is of another kind.
    pub(crate) fn get<T: Setting>(&mut self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.left.remove(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        T::of(&value).map(Some).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(60).collect();
            self.wrong(format!("\"{}{key}\" is {shown}; {} is needed", self.above, T::WANTED))
        })
    }

    /// Takes the first of some keys that is there; all of them are accounted for.
    ///
    /// # Errors
    /// Those of [`get`](Settings::get).
    pub(crate) fn first<T: Setting>(&mut self, keys: &[&str]) -> Result<Option<T>> {
        keys.iter().try_fold(None, |found, key| Ok(found.or(self.get(key)?)))
    }

    /// Takes a setting that cannot be missing.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing or of another kind.
    pub(crate) fn need<T: Setting>(&mut self, keys: &[&str]) -> Result<T> {
        self.first(keys)?.ok_or_else(|| {
            self.wrong(format!("lacks \"{}{}\", {}", self.above, keys[0], T::WANTED))
        })
    }

    /// Takes a setting that is an object of settings; none if it is missing.
    ///
    /// # Errors
    /// Those of [`get`](Settings::get).
    pub(crate) fn within(&mut self, key: &str) -> Result<Settings> {
        let left = self.get(key)?.unwrap_or_default();
        Ok(Settings { path: self.path.clone(), above: format!("{}{key}.", self.above), left })
    }

    /// Takes a setting of a type of ours.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub(crate) fn ours<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        let value = self.left.remove(key).filter(|value| !value.is_null());
        let what = format!("\"{}{key}\" in {}", self.above, self.path.display());
        value.map(|value| serde_json::from_value(value).map_err(Error::json(what))).transpose()
    }

    /// Adds what other places say, where this one says nothing.
    pub(crate) fn add(&mut self, more: impl Iterator<Item = (String, Value)>) {
        for (key, value) in more {
            self.left.entry(key).or_insert(value);
        }
    }

    /// Refuses what nobody has taken and is not known to be harmless.
    ///
    /// # Errors
    /// [`Error::Format`] naming it.
    pub(crate) fn finish(&self, harmless: Harmless) -> Result<()> {
        let unknown =
            self.left.iter().find(|(key, value)| !value.is_null() && !is_harmless(key, harmless));
        match unknown {
            None => Ok(()),
            Some((key, value)) => {
                let shown: String = value.to_string().chars().take(60).collect();
                Err(self.wrong(format!(
                    "has a setting that is not known here, \"{}{key}\": {shown}; what it changes would be lost: remove it if it changes nothing",
                    self.above
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARMLESS: Harmless = &[("of training", "lr wandb_*")];

    fn settings(text: &str) -> Settings {
        Settings::parse(text.as_bytes(), Path::new("cfg.json")).unwrap()
    }

    #[test]
    fn what_is_taken_or_harmless_is_accounted_for_and_the_rest_is_named() {
        let mut it = settings(
            r#"{"d": 4, "deep": {"k": 2.0}, "lr": 1, "wandb_id": "x", "null": null, "twist": 3}"#,
        );
        assert_eq!(it.need::<usize>(&["d_in", "d"]).unwrap(), 4);
        let mut deep = it.within("deep").unwrap();
        assert_eq!(
            (deep.get::<usize>("k").unwrap(), deep.get::<usize>("k").unwrap()),
            (Some(2), None)
        );
        assert!(deep.finish(&[]).is_ok());
        let told = it.finish(HARMLESS).unwrap_err().to_string();
        assert!(told.contains("\"twist\": 3") && told.contains("cfg.json"), "{told}");
        assert_eq!(it.get::<f64>("twist").unwrap(), Some(3.0));
        assert!(it.finish(HARMLESS).is_ok());
    }

    #[test]
    fn what_is_of_another_kind_is_told_with_what_is_needed() {
        let told = |error: Error| error.to_string();
        let mut it = settings(r#"{"k": -1, "deep": {"flag": "yes"}, "name": 3}"#);
        let k = told(it.get::<usize>("k").unwrap_err());
        assert!(k.contains("\"k\" is -1; a whole number is needed"), "{k}");
        let flag = told(it.within("deep").unwrap().get::<bool>("flag").unwrap_err());
        assert!(flag.contains("\"deep.flag\" is \"yes\"; true or false is needed"), "{flag}");
        assert!(
            told(it.need::<String>(&["title"]).unwrap_err()).contains("lacks \"title\", a text")
        );
        assert!(told(it.within("name").err().unwrap()).contains("an object"));
        assert!(Settings::parse(b"[]", Path::new("x")).is_err());
    }
}
