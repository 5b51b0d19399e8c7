//! One field of a JSON object, without forming the rest of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::corpus::few;

/// What an object has in a field.
#[derive(Debug, PartialEq)]
pub enum Field {
    Text(String),
    Null,
    /// Something else: "a number".
    Other(&'static str),
    /// There is no such field.
    Missing,
}

/// Why there is no text, as a sentence's end.
pub enum Wrong {
    /// It is no object.
    NoJson(String),
    /// The field is not there, or holds something else.
    NoText(String),
}

/// The text in the field `name` of an object; `None` if that is null.
///
/// # Errors
/// What it is instead, and what to do.
pub fn text_of(object: &[u8], name: &str) -> Result<Option<String>, Wrong> {
    let why = match of_line(object, name).map_err(Wrong::NoJson)? {
        Field::Text(text) => return Ok(Some(text)),
        Field::Null => return Ok(None),
        Field::Other(what) => {
            format!("has {what} where its text should be, in the field \"{name}\"")
        }
        Field::Missing => format!("has no field \"{name}\""),
    };
    Err(Wrong::NoText(format!("{why}; {}", others(object))))
}

/// The text that an element of an array is or has; `None` if that is null.
///
/// # Errors
/// As [`text_of`].
pub fn of_element(element: &[u8], name: &str) -> Result<Option<String>, String> {
    let element = element.trim_ascii();
    match element.first() {
        Some(b'{') => text_of(element, name).map_err(|wrong| match wrong {
            Wrong::NoText(why) => why,
            Wrong::NoJson(why) => format!("is not a JSON object: {why}"),
        }),
        // As the only field of an object, so that half a surrogate pair is read alike.
        Some(b'"') => match of_line(&[b"{\"\":", element, b"}"].concat(), "") {
            Ok(Field::Text(text)) => Ok(Some(text)),
            Ok(_) => Err("is not a JSON text".to_owned()),
            Err(why) => Err(format!("is not a JSON text: {why}")),
        },
        Some(b'n') if element == b"null" => Ok(None),
        None => Err("is empty: there is a comma too many".to_owned()),
        Some(_) => Err("is neither a text nor an object that has one".to_owned()),
    }
}

/// The field `name` of the object that `line` is; the last if there are two of that name. Half a
/// surrogate pair, which JSON can spell and text cannot, becomes U+FFFD; numbers that JSON cannot
/// spell and Python's `json` writes for all that, `NaN` and `Infinity`, are numbers.
///
/// # Errors
/// What is wrong with the JSON, as a sentence's end.
pub fn of_line(line: &[u8], name: &str) -> Result<Field, String> {
    let read = |line: &[u8]| {
        parse(line, name, false).or_else(|e| parse(line, name, true).map_err(|_| e.to_string()))
    };
    read(line).or_else(|e| only_numbers(line).map_or(Err(e), |line| read(&line)))
}

/// The same with 0 where Python writes a number that JSON has not, if it does.
fn only_numbers(line: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut found) = (line.to_vec(), false);
    let (mut in_string, mut at) = (false, 0);
    while at < out.len() {
        match out[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' if !in_string => {
                let word =
                    [&b"NaN"[..], b"Infinity"].into_iter().find(|w| out[at..].starts_with(w));
                let word = word?;
                out[at..at + word.len()].fill(b' ');
                out[at] = b'0';
                found = true;
            }
            _ => {}
        }
        at += 1;
    }
    found.then_some(out)
}

/// The fields that an object has, and which of them would do.
fn others(object: &[u8]) -> String {
    let fields = only_numbers(object).unwrap_or_else(|| object.to_vec());
    let fields: BTreeMap<String, Value> = serde_json::from_slice(&fields).unwrap_or_default();
    let texts: Vec<&String> =
        fields.iter().filter(|(_, value)| value.is_string()).map(|(name, _)| name).collect();
    let quoted = |names: &[&String]| few(names.iter().map(|name| format!("\"{name}\"")), 20);
    let is_chat = |value: &Value| {
        let said = |turn: &Value| turn.get("content").or(turn.get("value")).is_some();
        value.as_array().is_some_and(|turns| turns.first().is_some_and(said))
    };
    if let Some((chat, _)) = fields.iter().find(|(_, value)| is_chat(value)) {
        return format!(
            "\"{chat}\" holds a chat: make one text of each first, as by \
             tokenizer.apply_chat_template(messages, tokenize=False) in Python, and write that to a field"
        );
    }
    if let [only] = texts[..] {
        return format!("it has a text in another: choose that with column({only:?})");
    }
    if !texts.is_empty() {
        let texts = quoted(&texts);
        return format!("it has texts in {texts}: choose one with column(\"…\")");
    }
    if let Some((list, _)) = fields.iter().find(|(_, value)| value.is_array()) {
        return format!(
            "\"{list}\" holds a list: jq -c '.{list}[]' makes a line of each of its elements"
        );
    }
    match fields.is_empty() {
        true => "it has no fields".to_owned(),
        false => {
            let all: Vec<&String> = fields.keys().collect();
            format!("none of its fields, {}, is a text: write it to one", quoted(&all))
        }
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

    fn told(object: &str) -> String {
        match text_of(object.as_bytes(), "text") {
            Err(Wrong::NoText(why) | Wrong::NoJson(why)) => why,
            Ok(text) => panic!("{text:?}"),
        }
    }

    #[test]
    fn a_field_that_would_do_is_named_and_one_that_would_not_is_not() {
        let one = told(r#"{"body": "a", "n": NaN}"#);
        assert!(one.contains("no field \"text\"") && one.contains("column(\"body\")"), "{one}");
        let two = told(r#"{"body": "a", "title": "b", "n": 1}"#);
        assert!(two.contains("\"body\", \"title\"") && !two.contains("\"n\""), "{two}");
        let none = told(r#"{"n": 1, "m": {"a": "b"}}"#);
        assert!(none.contains("\"m\", \"n\"") && !none.contains("column("), "{none}");
        let list = told(r#"{"data": [{"text": "a"}]}"#);
        assert!(list.contains("jq -c '.data[]'"), "{list}");
        for chat in ["messages", "text"] {
            let turns = r#"[{"role": "user", "content": "Hi"}]"#;
            let chat = told(&format!(r#"{{"{chat}": {turns}, "source": "web"}}"#));
            assert!(chat.contains("apply_chat_template") && !chat.contains("column("), "{chat}");
        }
        let many = (0..30).map(|i| format!("\"{i:02}\": \"\"")).collect::<Vec<_>>().join(",");
        assert!(told(&format!("{{{many}}}")).contains("\"19\" and 10 more"));
    }

    #[test]
    fn numbers_that_only_python_writes_are_read() {
        let some = |text: &str| Ok(Field::Text(text.to_owned()));
        let line = r#"{"a": [NaN, -Infinity, {"b": Infinity}], "text": "NaN \" Infinity"}"#;
        assert_eq!(text(line), some("NaN \" Infinity"));
        assert_eq!(text(r#"{"text": NaN}"#), Ok(Field::Other("a number")));
        for wrong in [r#"{"text": "a", "b": Nan}"#, r#"{"text": "a", "b": -NaNs}"#] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
