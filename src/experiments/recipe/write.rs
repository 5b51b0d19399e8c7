//! Writing a description: the one form of it that files and notebooks show.

use std::path::Path;

use toml::{Table, Value};

use super::{FILE, RunRecipe};
use crate::base::error::{Error, Result};
use crate::base::files;

impl RunRecipe {
    /// The description as TOML, which [`parse`](RunRecipe::parse) reads back.
    ///
    /// # Errors
    /// [`Error::Config`] for what TOML cannot hold: a whole number of 2⁶³ or more, or a path that
    /// is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        self.toml_without(&[])
    }

    /// The part of it that decides activations.
    pub(super) fn harvest_toml(&self) -> Result<String> {
        self.toml_without(&["hook", "evaluated_on", "store", "train", "sae"])
    }

    fn toml_without(&self, left_out: &[&str]) -> Result<String> {
        let mut out = String::new();
        let (mut tables, mut lists) = (Vec::new(), Vec::new());
        for (key, value) in
            table(self)?.into_iter().filter(|(key, _)| !left_out.contains(&key.as_str()))
        {
            match value {
                Value::Table(table) => tables.push((key, table)),
                Value::Array(items) if key == "sae" => lists.push((key, items)),
                value => out += &line(&key, &value),
            }
        }
        for (key, table) in tables {
            out += &format!("\n[{key}]\n{}", lines(&table));
        }
        for (key, items) in lists {
            let tables = items.iter().filter_map(Value::as_table);
            tables.for_each(|item| out += &format!("\n[[{key}]]\n{}", lines(item)));
        }
        Ok(out)
    }

    /// Writes the description to a file, or as `run.toml` into a folder.
    ///
    /// # Errors
    /// As [`to_toml`](RunRecipe::to_toml), and [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = self.to_toml()?;
        files::write_atomic(&path, |out| out.write_all(text.as_bytes()))
    }
}

fn table(value: &RunRecipe) -> Result<Table> {
    Table::try_from(value).map_err(|error| {
        Error::config("the description", format!("cannot be written as TOML: {error}"))
    })
}

fn lines(table: &Table) -> String {
    table.iter().map(|(key, value)| line(key, value)).collect()
}

fn line(key: &str, value: &Value) -> String {
    format!("{key} = {}\n", inline(value))
}

/// A value on one line: whole numbers in groups of three digits, small and large ones with an
/// exponent.
fn inline(value: &Value) -> String {
    match value {
        Value::Integer(n) => grouped(*n),
        Value::Float(x) if *x != 0.0 && x.is_finite() && !(1e-2..1e6).contains(&x.abs()) => {
            format!("{x:e}")
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => {
            let parts: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
        }
        other => other.to_string(),
    }
}

/// `4_000_000`.
fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = if n < 0 { "-".to_owned() } else { String::new() };
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digits.len() > 4 {
            out.push('_');
        }
        out.push(digit);
    }
    out
}
