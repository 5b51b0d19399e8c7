//! Numbers in files and answers that are JSON, which has no word for those that are not finite.
//!
//! serde_json writes `null` for them, and then cannot read it as a number; here they are the texts
//! `"NaN"`, `"inf"` and `"-inf"`, which Python's `float` reads too. For `#[serde(with = "number")]`.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Writes a number, or the word for one that is not finite.
pub(crate) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    match number.is_finite() {
        true => to.serialize_f64(*number),
        false => to.collect_str(number),
    }
}

/// Reads what [`serialize`] writes, and a `null` of earlier versions as NaN.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    from.deserialize_any(Number)
}

/// The same for a number that may be missing.
pub(crate) mod option {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a number, the word for one that is not finite, or nothing.
    pub(crate) fn serialize<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        match number {
            Some(number) => super::serialize(number, to),
            None => to.serialize_none(),
        }
    }

    /// Reads what [`serialize`] writes.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        #[derive(Deserialize)]
        struct There(#[serde(with = "super")] f64);
        Ok(Option::<There>::deserialize(from)?.map(|There(number)| number))
    }
}

/// The same for a list.
pub(crate) mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct There(#[serde(with = "super")] f64);

    /// Writes each number, or the word for one that is not finite.
    pub(crate) fn serialize<S: Serializer>(numbers: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(numbers.iter().map(|&number| There(number)))
    }

    /// Reads what [`serialize`] writes.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let numbers = Vec::<There>::deserialize(from)?;
        Ok(numbers.into_iter().map(|There(number)| number).collect())
    }
}

struct Number;

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"inf\" or \"-inf\"")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<f64, E> {
        match word {
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<f64, E> {
        Ok(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct One {
        #[serde(with = "super")]
        x: f64,
    }

    #[test]
    fn a_number_that_is_not_finite_is_a_word_and_comes_back() {
        for (x, json) in [
            (1.5, r#"{"x":1.5}"#),
            (-0.0, r#"{"x":-0.0}"#),
            (f64::INFINITY, r#"{"x":"inf"}"#),
            (f64::NEG_INFINITY, r#"{"x":"-inf"}"#),
            (f64::NAN, r#"{"x":"NaN"}"#),
        ] {
            assert_eq!(serde_json::to_string(&One { x }).unwrap(), json);
            let back = serde_json::from_str::<One>(json).unwrap().x;
            assert!(back.to_bits() == x.to_bits() || x.is_nan() && back.is_nan(), "{json}");
        }
        assert!(serde_json::from_str::<One>(r#"{"x":null}"#).unwrap().x.is_nan());
        assert_eq!(serde_json::from_str::<One>(r#"{"x":3}"#).unwrap().x, 3.0);
        let told = serde_json::from_str::<One>(r#"{"x":"much"}"#).err().unwrap().to_string();
        assert!(told.contains("a number"), "{told}");
        assert_eq!(toml::from_str::<One>("x = inf").unwrap().x, f64::INFINITY);
    }

    #[derive(Serialize, Deserialize)]
    struct Perhaps {
        #[serde(default, with = "super::option")]
        x: Option<f64>,
    }

    #[test]
    fn a_number_that_is_missing_stays_so() {
        for (x, json) in [
            (Some(1.5), r#"{"x":1.5}"#),
            (Some(f64::INFINITY), r#"{"x":"inf"}"#),
            (None, r#"{"x":null}"#),
        ] {
            assert_eq!(serde_json::to_string(&Perhaps { x }).unwrap(), json);
            assert_eq!(serde_json::from_str::<Perhaps>(json).unwrap().x, x);
        }
        assert_eq!(serde_json::from_str::<Perhaps>("{}").unwrap().x, None);
        assert_eq!(toml::from_str::<Perhaps>("x = inf").unwrap().x, Some(f64::INFINITY));
    }
}
