//! One field of a JSON object, without forming the rest of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::corpus::few;

/// What a line has in a field.
#[derive(Debug, PartialEq)]
pub enum Field {
    Text(String),
    Null,
    /// Something else: "a number".
    Other(&'static str),
    /// There is no such field.
    Missing,
}

/// The field `name` of the object that `line` is; the last if there are two of that name. Half a
/// surrogate pair, which JSON can spell and text cannot, becomes U+FFFD.
///
/// # Errors
/// What is wrong with the JSON, as a sentence's end.
pub fn of_line(line: &[u8], name: &str) -> Result<Field, String> {
    parse(line, name, false).or_else(|e| parse(line, name, true).map_err(|_| e.to_string()))
}

/// The names of a line's fields, for people.
pub fn names(line: &[u8]) -> String {
    let fields: BTreeMap<String, IgnoredAny> = serde_json::from_slice(line).unwrap_or_default();
    match fields.is_empty() {
        true => "none".to_owned(),
        false => few(fields.keys().map(|name| format!("\"{name}\"")), 20),
    }
}

fn parse(line: &[u8], name: &str, raw: bool) -> serde_json::Result<Field> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let field = Object { name, raw }.deserialize(&mut json)?;
    json.end()?;
    Ok(field)
}

struct Object<'a> {
    name: &'a str,
    /// Whether its text is taken as the bytes that its escapes spell.
    raw: bool,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Field;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Field, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object such as {\"text\": \"…\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        let mut found = Field::Missing;
        while let Some(key) = map.next_key::<Cow<str>>()? {
            if key != self.name {
                map.next_value::<IgnoredAny>()?;
            } else if self.raw {
                found = Field::Text(map.next_value::<Raw>()?.0);
            } else {
                found = match map.next_value()? {
                    Value::String(text) => Field::Text(text),
                    Value::Null => Field::Null,
                    Value::Bool(_) => Field::Other("true or false"),
                    Value::Number(_) => Field::Other("a number"),
                    Value::Array(_) => Field::Other("a list"),
                    Value::Object(_) => Field::Other("an object"),
                };
            }
        }
        Ok(found)
    }
}

/// A string, taken as the bytes that its escapes spell.
struct Raw(String);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Raw, D::Error> {
        json.deserialize_bytes(RawVisitor)
    }
}

struct RawVisitor;

impl Visitor<'_> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
        let mut text = bytes.to_vec();
        // A surrogate as serde_json spells it in UTF-8: ED, A0 to BF, one more.
        for at in 0..text.len().saturating_sub(2) {
            if text[at] == 0xED && text[at + 1] >= 0xA0 {
                text[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
            }
        }
        String::from_utf8(text).map(Raw).map_err(|_| E::custom("is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Result<Field, String> {
        of_line(line.as_bytes(), "text")
    }

    #[test]
    fn one_field_is_taken_whatever_the_others_are() {
        let some = |text: &str| Ok(Field::Text(text.to_owned()));
        assert_eq!(
            text(r#"{"a": [1, {"text": "no"}], "text": "yes\n\u00e9\ud83d\ude00", "b": null}"#),
            some("yes\n\u{e9}\u{1f600}")
        );
        assert_eq!(text(r#"{"text": "first", "text": "last"}"#), some("last"));
        assert_eq!(text(r#"{"te\u0078t": "escaped"}"#), some("escaped"));
        assert_eq!(text(r#"{"text": null}"#), Ok(Field::Null));
        assert_eq!(text(r#"{"texts": ""}"#), Ok(Field::Missing));
        for (value, what) in [
            ("3", "a number"),
            ("-3", "a number"),
            ("1e3", "a number"),
            ("[1]", "a list"),
            ("{}", "an object"),
            ("true", "true or false"),
        ] {
            assert_eq!(text(&format!("{{\"text\": {value}}}")), Ok(Field::Other(what)));
        }
    }

    #[test]
    fn half_a_pair_of_surrogates_is_a_replacement_character() {
        let some = |text: &str| Ok(Field::Text(text.to_owned()));
        assert_eq!(
            text(r#"{"text": "a\ud800b\udc00\ud83d\ude00é"}"#),
            some("a\u{FFFD}b\u{FFFD}\u{1f600}é")
        );
        assert_eq!(text(r#"{"url": "\ud800", "text": "a"}"#), some("a"));
    }

    #[test]
    fn what_is_no_object_says_why() {
        for (line, why) in [
            ("[{\"text\": 1}]", "an object such as"),
            ("\"text\"", "an object such as"),
            ("{\"text\": \"cut", "EOF"),
            ("{\"text\": \"a\"} {", "trailing"),
            ("{'text': 1}", "key must be a string"),
        ] {
            let told = text(line).unwrap_err();
            assert!(told.contains(why), "{line}: {told}");
        }
        assert!(of_line(b"{\"text\": \"caf\xE9\"}", "text").is_err());
        let deep = format!("{{\"text\": {}1", "[".repeat(100_000));
        assert!(text(&deep).is_err());
    }

    #[test]
    fn names_are_listed_and_not_all_of_very_many() {
        assert_eq!(names(br#"{"b": 1, "a": [2]}"#), "\"a\", \"b\"");
        assert_eq!(names(b"{}"), "none");
        let many: Vec<String> = (0..25).map(|i| format!("\"f{i:02}\": 0")).collect();
        assert!(names(format!("{{{}}}", many.join(",")).as_bytes()).ends_with("and 5 more"));
    }
}
