//! JSON as a text that is to be spoiled: numbers stay as they are written, keys may come twice, and
//! nothing has to make sense.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// A value, with the texts of its numbers and strings.
#[derive(Clone, Debug)]
pub enum Json {
    /// A number, a word, or a string with its quotes.
    Plain(String),
    List(Vec<Json>),
    /// Keys have their quotes.
    Map(Vec<(String, Json)>),
}

/// What stands where something else was wanted.
const STRANGE: [&str; 40] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "-0.0",
    "0.5",
    "1.5",
    "1e308",
    "1e999",
    "-1e400",
    "1e-400",
    "3.0",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "1073741824",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "NaN",
    "null",
    "true",
    "false",
    "\"\"",
    "\"x\"",
    "\"é\u{202e}😀\"",
    "\"aaaaaaaaaaaaaaaé\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"../../../../tmp\"",
    "\"/etc/passwd\"",
    "[]",
    "{}",
    "[[[]]]",
];

/// Reads a text that is JSON; `None` if it is not.
pub fn parse(text: &str) -> Option<Json> {
    let mut rest = text.trim_start();
    let value = value(&mut rest, 0)?;
    rest.trim().is_empty().then_some(value)
}

fn value(rest: &mut &str, depth: usize) -> Option<Json> {
    /// A text that was made deep before is not taken apart again.
    const DEEPEST: usize = 500;
    if depth > DEEPEST {
        return None;
    }
    *rest = rest.trim_start();
    match rest.as_bytes().first()? {
        b'[' => {
            let mut items = Vec::new();
            let mut next = opened(rest, ']');
            while next {
                items.push(value(rest, depth + 1)?);
                next = goes_on(rest, ']')?;
            }
            Some(Json::List(items))
        }
        b'{' => {
            let mut items = Vec::new();
            let mut next = opened(rest, '}');
            while next {
                *rest = rest.trim_start();
                let key = string(rest)?;
                *rest = rest.trim_start().strip_prefix(':')?;
                items.push((key, value(rest, depth + 1)?));
                next = goes_on(rest, '}')?;
            }
            Some(Json::Map(items))
        }
        b'"' => string(rest).map(Json::Plain),
        _ => {
            let end =
                rest.find(|c: char| ",]}".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            *rest = after;
            (!word.is_empty()).then(|| Json::Plain(word.to_owned()))
        }
    }
}

/// Takes the opening bracket; whether something stands before the closing one.
fn opened(rest: &mut &str, close: char) -> bool {
    *rest = rest[1..].trim_start();
    match rest.strip_prefix(close) {
        Some(after) => {
            *rest = after;
            false
        }
        None => true,
    }
}

fn goes_on(rest: &mut &str, close: char) -> Option<bool> {
    *rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix(',') {
        *rest = after;
        return Some(true);
    }
    *rest = rest.strip_prefix(close)?;
    Some(false)
}

fn string(rest: &mut &str) -> Option<String> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while bytes.first() == Some(&b'"') {
        match bytes.get(at)? {
            b'"' => {
                let (text, after) = rest.split_at(at + 1);
                *rest = after;
                return Some(text.to_owned());
            }
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

impl Json {
    /// The text, without a space.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Plain(text) => out.push_str(text),
            Json::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Map(items) => {
                out.push('{');
                for (i, (key, item)) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    out.push_str(key);
                    out.push(':');
                    item.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The value of a key of a map.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        let Json::Map(items) = self else { return None };
        items.iter_mut().find(|(name, _)| name.trim_matches('"') == key).map(|(_, value)| value)
    }

    fn count(&self) -> usize {
        1 + match self {
            Json::Plain(_) => 0,
            Json::List(items) => items.iter().map(Json::count).sum(),
            Json::Map(items) => items.iter().map(|(_, item)| item.count()).sum(),
        }
    }

    /// The value of this number, counted from the top.
    fn nth(&mut self, n: &mut usize) -> Option<&mut Json> {
        if *n == 0 {
            return Some(self);
        }
        *n -= 1;
        match self {
            Json::Plain(_) => None,
            Json::List(items) => items.iter_mut().find_map(|item| item.nth(n)),
            Json::Map(items) => items.iter_mut().find_map(|(_, item)| item.nth(n)),
        }
    }

    fn pick(&mut self, random: &mut ChaCha8Rng) -> &mut Json {
        let mut n = random.random_range(0..self.count());
        self.nth(&mut n).expect("there are as many")
    }

    /// Changes one thing.
    pub fn spoil(&mut self, random: &mut ChaCha8Rng) {
        if random.random_range(0..12) == 0 {
            // Something from elsewhere in the text.
            let other = self.pick(random).clone();
            if other.count() < 200 {
                *self.pick(random) = other;
            }
            return;
        }
        match self.pick(random) {
            Json::Plain(text) => *text = strange(text, random),
            Json::List(items) => spoil_items(items, random),
            Json::Map(items) if !items.is_empty() && random.random_range(0..3) == 0 => {
                let (from, to) =
                    (random.random_range(0..items.len()), random.random_range(0..items.len()));
                items[to].0 = items[from].0.clone();
            }
            Json::Map(items) => spoil_items(items, random),
        }
        if random.random_range(0..40) == 0 {
            let deep = *[3, 100, 130, 2_000, 100_000].choose(random).expect("there are some");
            let brackets = if random.random() { ("[", "]") } else { ("{\"a\":", "}") };
            let picked = self.pick(random);
            *picked = Json::Plain(format!(
                "{}{}{}",
                brackets.0.repeat(deep),
                picked.text(),
                brackets.1.repeat(deep)
            ));
        }
    }
}

fn spoil_items<T: Clone>(items: &mut Vec<T>, random: &mut ChaCha8Rng) {
    if items.is_empty() {
        return;
    }
    let at = random.random_range(0..items.len());
    match random.random_range(0..4) {
        0 => drop(items.remove(at)),
        1 => items.insert(random.random_range(0..=items.len()), items[at].clone()),
        2 => {
            let with = random.random_range(0..items.len());
            items.swap(at, with);
        }
        _ => {
            let item = items[at].clone();
            items.extend(std::iter::repeat_n(
                item,
                *[1, 3, 64].choose(random).expect("there are some"),
            ));
        }
    }
}

/// Another text for a number, a word or a string.
fn strange(text: &str, random: &mut ChaCha8Rng) -> String {
    let inner = text.trim_matches('"');
    let number: Option<i64> = text.parse().ok();
    match (random.random_range(0..8), number) {
        (0, _) if text.starts_with('"') => inner.to_owned(),
        (0, _) => format!("\"{inner}\""),
        (1 | 2, Some(number)) => number.wrapping_add(random.random_range(-3..=3)).to_string(),
        (3, Some(number)) => number
            .wrapping_mul(*[2, 4, 1000, -1, i64::MAX].choose(random).expect("there are some"))
            .to_string(),
        (1, None) if text.starts_with('"') => {
            // A letter more or less within the quotes.
            let mut letters: Vec<char> = inner.chars().collect();
            let at = random.random_range(0..=letters.len());
            if at < letters.len() && random.random() {
                letters.remove(at);
            } else {
                letters.insert(
                    at,
                    *['0', '9', 'a', '.', '-', '/', 'é', ' ']
                        .choose(random)
                        .expect("there are some"),
                );
            }
            format!("\"{}\"", letters.into_iter().collect::<String>())
        }
        (2, None) if text.starts_with('"') && inner.len() < 100 => {
            format!("\"{}\"", inner.repeat(*[2, 50, 3000].choose(random).expect("there are some")))
        }
        _ => (*STRANGE.choose(random).expect("there are some")).to_owned(),
    }
}
