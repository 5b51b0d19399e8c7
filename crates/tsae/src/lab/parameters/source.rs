//! The `let`s of a cell, found in its text without a Rust parser: enough of Rust's words to know
//! strings, comments and brackets.

use std::ops::Range;

/// `let NAME: TYPE = VALUE;`, or without a type, at the outermost level of a cell.
#[derive(Debug, PartialEq)]
pub(super) struct Declaration {
    pub name: String,
    /// Its type as written, with single spaces.
    pub ty: Option<String>,
    /// Where its value stands in the code.
    pub value: Range<usize>,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Char,
    Lifetime,
    /// One of `= ; : ( [ {` and so on, each by itself.
    Mark(char),
}

/// A word, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub kind: Kind,
    pub at: Range<usize>,
}

/// A cell's code, which is the cell without the commands at its head, and the `let`s in it; or what
/// is wrong, to follow "the cell".
pub(super) fn declarations(cell: &str) -> Result<(String, Vec<Declaration>), String> {
    let code = without_commands(cell);
    let words = words(&code)?;
    let mut found = Vec::new();
    let mut rest = &words[..];
    while !rest.is_empty() {
        let end = statement(&code, rest)?;
        found.extend(declaration(&code, &rest[..end]));
        rest = &rest[end..];
    }
    Ok((code, found))
}

/// As evcxr takes a cell apart: lines for itself and for a shell come before all code, with
/// comments and blank lines among them.
fn without_commands(cell: &str) -> String {
    let is_command =
        |line: &str| line.trim_start_matches(' ').starts_with(':') || line.starts_with('!');
    let mut code = String::new();
    let mut lines = cell.split_inclusive('\n').peekable();
    while let Some(line) =
        lines.next_if(|line| is_command(line) || line.starts_with("//") || line.trim().is_empty())
    {
        if !is_command(line) {
            code.push_str(line);
        }
    }
    code.extend(lines);
    code
}

/// The words of a text; or what is not closed.
pub(super) fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = if c.is_whitespace() {
            (None, c.len_utf8())
        } else if rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (None, comment(rest).ok_or("has a comment that is not closed")?)
        } else if let Some(opening) = text_opening(rest) {
            (Some(Kind::Text), closed_text(rest, opening).ok_or("has a string that is not closed")?)
        } else if c == '\'' || rest.starts_with("b'") {
            let quote = rest.find('\'').unwrap_or(0);
            match character(&rest[quote..]) {
                Some(length) => (Some(Kind::Char), quote + length),
                None => (Some(Kind::Lifetime), 1 + name(&rest[1..])),
            }
        } else if c.is_ascii_digit() {
            (Some(Kind::Number), number(rest))
        } else if rest.starts_with("r#") && name(&rest[2..]) > 0 {
            (Some(Kind::Name), 2 + name(&rest[2..]))
        } else if name(rest) > 0 {
            (Some(Kind::Name), name(rest))
        } else {
            (Some(Kind::Mark(c)), c.len_utf8())
        };
        words.extend(kind.map(|kind| Word { kind, at: at..at + length }));
        at += length;
    }
    Ok(words)
}

/// How many of the words are the first statement.
fn statement(code: &str, words: &[Word]) -> Result<usize, String> {
    let is_let =
        words[attributes(words)..].first().is_some_and(|word| &code[word.at.clone()] == "let");
    let mut open = Vec::new();
    for (i, word) in words.iter().enumerate() {
        match word.kind {
            Kind::Mark('(') => open.push(')'),
            Kind::Mark('[') => open.push(']'),
            Kind::Mark('{') => open.push('}'),
            Kind::Mark(c @ (')' | ']' | '}')) => {
                if open.pop() != Some(c) {
                    return Err(format!("has a `{c}` that closes nothing"));
                }
                // A block needs no semicolon, unless its value is what a `let` is about.
                if c == '}' && open.is_empty() && !is_let {
                    return Ok(i + 1);
                }
            }
            Kind::Mark(';') if open.is_empty() => return Ok(i + 1),
            _ => {}
        }
    }
    match open.last() {
        Some(c) => Err(format!("lacks a `{c}`: a bracket is not closed")),
        None => Ok(words.len()),
    }
}

/// How many of the words are attributes: `#[allow(unused)]`.
fn attributes(words: &[Word]) -> usize {
    let mut from = 0;
    while let [Word { kind: Kind::Mark('#'), .. }, Word { kind: Kind::Mark('['), .. }, ..] =
        words[from..]
    {
        let mut depth = 0;
        let end = words[from..].iter().position(|word| {
            match word.kind {
                Kind::Mark('[') => depth += 1,
                Kind::Mark(']') => depth -= 1,
                _ => return false,
            }
            depth == 0
        });
        match end {
            Some(end) => from += end + 1,
            None => return words.len(),
        }
    }
    from
}

fn declaration(code: &str, statement: &[Word]) -> Option<Declaration> {
    let is =
        |word: &Word, wanted: &str| word.kind == Kind::Name && &code[word.at.clone()] == wanted;
    let rest = &statement[attributes(statement)..];
    let rest = rest.split_first().filter(|(word, _)| is(word, "let"))?.1;
    let rest = if is(rest.first()?, "mut") { &rest[1..] } else { rest };
    let (named, rest) =
        rest.split_first().filter(|(word, _)| word.kind == Kind::Name && !is(word, "_"))?;
    let (mark, rest) = rest.split_first()?;
    let (ty, value) = match mark.kind {
        Kind::Mark(':') => {
            let length = ty(rest)?;
            let (first, last) = (rest[..length].first()?, rest[..length].last()?);
            let written = &code[first.at.start..last.at.end];
            (Some(written.split_whitespace().collect::<Vec<_>>().join(" ")), &rest[length + 1..])
        }
        Kind::Mark('=') => (None, rest),
        _ => return None,
    };
    let (end, value) = value.split_last()?;
    let value = value.first()?.at.start..value.last()?.at.end;
    (end.kind == Kind::Mark(';')).then(|| Declaration {
        name: code[named.at.clone()].to_owned(),
        ty,
        value,
    })
}

/// How many words a type takes, up to the `=` after it; `None` if it is not a type.
fn ty(words: &[Word]) -> Option<usize> {
    let mut depth = 0;
    for (i, word) in words.iter().enumerate() {
        let arrow =
            i > 0 && words[i - 1].kind == Kind::Mark('-') && words[i - 1].at.end == word.at.start;
        match word.kind {
            Kind::Mark('(' | '[' | '{' | '<') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth -= 1,
            Kind::Mark('>') if !arrow => depth -= 1,
            Kind::Mark('=') if depth == 0 => return (i > 0).then_some(i),
            // `let A::B = …` is a pattern; but `::std::string::String` is a type, behind one more
            // colon.
            Kind::Mark(':')
                if i == 0 && words.get(1).is_none_or(|next| next.kind != Kind::Mark(':')) =>
            {
                return None;
            }
            _ => {}
        }
    }
    None
}

/// The length of a comment that may hold others; `None` if it is not closed.
fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next()?.len_utf8();
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// How a text begins: the length up to its quote and with it, and what closes it if it has no
/// escapes.
type Opening = (usize, Option<String>);

/// `"`, `b"`, `c"`, `r"`, `r#"`, `br##"` and the like.
fn text_opening(text: &str) -> Option<Opening> {
    let letters = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let raw = match &text[..letters] {
        "" | "b" | "c" => false,
        "r" | "br" | "cr" => true,
        _ => return None,
    };
    let hashes =
        if raw { text[letters..].len() - text[letters..].trim_start_matches('#').len() } else { 0 };
    let opening = letters + hashes + 1;
    text[letters + hashes..]
        .starts_with('"')
        .then(|| (opening, raw.then(|| format!("\"{}", "#".repeat(hashes)))))
}

fn closed_text(text: &str, (opening, raw): Opening) -> Option<usize> {
    match raw {
        Some(closing) => Some(opening + text[opening..].find(&closing)? + closing.len()),
        None => Some(opening + unescaped(&text[opening..], '"')? + 1),
    }
}

/// Where `quote` stands without a backslash before it.
fn unescaped(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        found.then_some(at)
    })
}

/// The length of a character such as `'a'`, `'\''` or `'\u{e9}'`; `None` if this is a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        return Some(1 + unescaped(inner, '\'')? + 1);
    }
    inner[first.len_utf8()..].starts_with('\'').then(|| 1 + first.len_utf8() + 1)
}

/// The length of the name that a text begins with, 0 if with none.
fn name(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        letters_and_digits(text)
    } else {
        0
    }
}

fn letters_and_digits(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// The length of a number, its fraction, exponent and type included.
fn number(text: &str) -> usize {
    let mut end = letters_and_digits(text);
    // Not the range `1..2`, and not the method in `1.max(2)`.
    if text[end..].starts_with('.')
        && !text[end + 1..].starts_with(|c: char| c == '.' || c == '_' || c.is_alphabetic())
    {
        end += 1 + letters_and_digits(&text[end + 1..]);
    }
    let exponent = !text.starts_with("0x") && text[..end].ends_with(['e', 'E']);
    if exponent && text[end..].starts_with(['+', '-']) {
        end + 1 + letters_and_digits(&text[end + 1..])
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names, types and values of a cell's `let`s.
    fn found(cell: &str) -> Vec<(String, String, String)> {
        let (code, found) = declarations(cell).unwrap();
        found
            .into_iter()
            .map(|d| (d.name, d.ty.unwrap_or_default(), code[d.value].to_owned()))
            .collect()
    }

    fn one(cell: &str) -> (String, String, String) {
        let mut all = found(cell);
        assert_eq!(all.len(), 1, "{cell}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn every_way_to_write_a_let() {
        let cases = [
            ("let k: usize = 16;", "k", "usize", "16"),
            ("let k:usize=16;", "k", "usize", "16"),
            ("let mut k : usize\n    = 16 ;", "k", "usize", "16"),
            ("let k = 16;", "k", "", "16"),
            ("#[allow(unused, x = \"]\")]\n#[a]\nlet k: u8 = 1; // let z: u8 = 2;", "k", "u8", "1"),
            (
                "/* let a: u8 = 1; /* let b: u8 = 1; */ */ let k: u8 = /* two */ 2 /* three */;",
                "k",
                "u8",
                "2",
            ),
            (
                "let v: Vec<Vec<u32>>= vec![vec![1; 2], vec![]];",
                "v",
                "Vec<Vec<u32>>",
                "vec![vec![1; 2], vec![]]",
            ),
            (
                "let f: fn(u8) -> u8 = |x| { let y: u8 = x; y };",
                "f",
                "fn(u8) -> u8",
                "|x| { let y: u8 = x; y }",
            ),
            ("let b: Box<dyn Iterator<Item = u8>> = x;", "b", "Box<dyn Iterator<Item = u8>>", "x"),
            ("let b: Box<dyn Fn(u8) -> u8> = x;", "b", "Box<dyn Fn(u8) -> u8>", "x"),
            ("let a: [u8; 3] = [1, 2, 3];", "a", "[u8; 3]", "[1, 2, 3]"),
            ("let s: &'static str = \"a;b\\\"c\";", "s", "&'static str", "\"a;b\\\"c\""),
            ("let s: &str = r#\"let x: u8 = \"1\";\"#;", "s", "&str", "r#\"let x: u8 = \"1\";\"#"),
            ("let c: char = ';';", "c", "char", "';'"),
            ("let c: char = '\\'';", "c", "char", "'\\''"),
            ("let c: u8 = b';';", "c", "u8", "b';'"),
            ("let t: ::std::string::String = x;", "t", "::std::string::String", "x"),
            ("let b: bool = 1 == 2;", "b", "bool", "1 == 2"),
            ("let n: u8 = if a { 1 } else { 2 };", "n", "u8", "if a { 1 } else { 2 }"),
            ("let r#type: u8 = 1;", "r#type", "u8", "1"),
            ("let größe: f32 = 1e-3;", "größe", "f32", "1e-3"),
            ("fn f() -> u8 { let a: u8 = 1; a }\nlet k: u8 = f();", "k", "u8", "f()"),
            ("use std::{fmt, io};\nlet k: u8 = 1;\nk", "k", "u8", "1"),
            ("if let Some(a) = b { c } let k: u8 = 1;", "k", "u8", "1"),
            (
                "// first\n\n:dep a = { path = \"..\" }\n:opt 2\n!ls \"\nlet k: u8 = 1;",
                "k",
                "u8",
                "1",
            ),
            ("'a: loop { break 'a; }\nlet k: u8 = 1;", "k", "u8", "1"),
            ("println!(\"{}\", \"let a: u8 = 1;\");\nlet k: u8 = 1;", "k", "u8", "1"),
            ("let r: Range<u8> = 1..2;", "r", "Range<u8>", "1..2"),
        ];
        for (cell, name, ty, value) in cases {
            assert_eq!(one(cell), (name.to_owned(), ty.to_owned(), value.to_owned()), "{cell}");
        }
    }

    #[test]
    fn what_declares_no_single_name_is_passed_by() {
        for cell in [
            "",
            "k",
            "let k: u8;",
            "let (a, b): (u8, u8) = (1, 2);",
            "let _: u8 = 1;",
            "let Some(a) = b else { return };",
            "let A::B = c;",
            "let k: u8 = 1",
            "{ let k: u8 = 1; }",
            "const K: u8 = 1;",
            "let",
            "let mut",
            "let k",
            "let k:",
            "let k: = 1;",
            "let k = ;",
            "let k: u8 == 1;;",
            "#[",
            "#![a]",
        ] {
            // Some of this is not Rust, and may be refused.
            if let Ok((code, found)) = declarations(cell) {
                assert!(found.iter().all(|d| code.get(d.value.clone()).is_some()), "{cell}");
                assert!(found.is_empty() || cell.contains("=="), "{cell}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_not_closed_is_said() {
        for (cell, what) in [
            ("let s: &str = \"a;", "text"),
            ("let s: &str = r#\"a\";", "text"),
            ("/* /* */ let k: u8 = 1;", "comment"),
            ("f(", "`)`"),
            ("f)", "`)`"),
            ("(]", "`]`"),
        ] {
            assert!(declarations(cell).unwrap_err().contains(what), "{cell}");
        }
    }

    /// Pieces that trip a scanner, put together at random.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "let ", "mut ", "k", ": ", "usize", " = ", "1", ";", "\n", "\"", "'", "\\", "r#",
            "r\"", "b'", "//", "/*", "*/", "{", "}", "(", ")", "[", "]", "<", ">", "->", "#[", "é",
            "1.", "1e-", "0x", "..", ":dep", "!", "'a", "_", " ", "",
        ]);
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn nothing_makes_it_panic(random in any::<String>(), pieces in pieces()) {
            for cell in [random, pieces] {
                if let Ok((code, found)) = declarations(&cell) {
                    let mut end = 0;
                    for declaration in found {
                        prop_assert!(code.get(declaration.value.clone()).is_some_and(|value| !value.is_empty()), "{:?}", cell);
                        prop_assert!(declaration.value.start >= end, "{:?}", cell);
                        end = declaration.value.end;
                    }
                }
            }
        }

        #[test]
        fn any_text_as_a_value_is_stepped_over(text in any::<String>(), hashes in 1usize..4) {
            let raw = format!("r{0}\"{1}\"{0}", "#".repeat(hashes), text.replace('#', ""));
            for value in [format!("{text:?}"), raw, format!("vec![{text:?}; 2]")] {
                let all = found(&format!("let a: String = {value}; let b: u8 = 1;"));
                let row = |name: &str, ty: &str, value: &str| (name.to_owned(), ty.to_owned(), value.to_owned());
                prop_assert_eq!(all, vec![row("a", "String", &value), row("b", "u8", "1")]);
            }
        }
    }
}
