//! The `let`s of a cell, found among its tokens.
//!
//! Not by a parser of Rust: what is wrong with a cell is for its compiler to say, and a parser's
//! stack ends where a text is nested deep enough. That of the tokens has none.

use std::ops::Range;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// `let NAME: TYPE = VALUE;`, or without a type, at the outermost level of a cell.
#[derive(Debug, PartialEq)]
pub(super) struct Declaration {
    pub name: String,
    /// Its type as written, with single spaces.
    pub ty: Option<String>,
    /// Where its value stands in the code.
    pub value: Range<usize>,
}

/// A cell's code, which is the cell without the commands at its head, and the `let`s in it; or what
/// is wrong, to follow "the cell".
pub(super) fn declarations(cell: &str) -> Result<(String, Vec<Declaration>), String> {
    let code = without_commands(cell);
    // The texts of all tokens that there ever were are kept, for their places, until this.
    proc_macro2::extra::invalidate_current_thread_spans();
    let tokens = tokens(&code)?;
    let mut found = Vec::new();
    let mut rest = &tokens[..];
    while !rest.is_empty() {
        let is_let = rest[attributes(rest)..].first().is_some_and(|token| is_name(token, "let"));
        // A block needs no semicolon, unless its value is what a `let` is about.
        let is_last =
            |token: &TokenTree| is_mark(token, ';') || !is_let && is_group(token, Delimiter::Brace);
        let n = rest.iter().position(is_last).map_or(rest.len(), |last| last + 1);
        found.extend(declaration(&code, &rest[..n]));
        rest = &rest[n..];
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

/// The tokens of a text, a bracket with all that is in it being one; or what is wrong with them.
pub(super) fn tokens(text: &str) -> Result<Vec<TokenTree>, String> {
    TokenStream::from_str(text).map(|tokens| tokens.into_iter().collect()).map_err(|error| {
        let rest = &text[error.span().byte_range().start..];
        let unclosed = |c| format!("lacks a `{c}`: a bracket is not closed");
        match rest.chars().next() {
            Some('(') => unclosed(')'),
            Some('[') => unclosed(']'),
            Some('{') => unclosed('}'),
            Some(c @ (')' | ']' | '}')) => format!("has a `{c}` that closes nothing"),
            Some('/') => "has a comment that is not closed".to_owned(),
            _ if rest.trim_start_matches(['b', 'c', 'r', '#']).starts_with('"') => {
                "has a string that is not closed, or with something in it that Rust does not know"
                    .to_owned()
            }
            _ => format!("has something that is not Rust: {:?}", rest.lines().next().unwrap_or("")),
        }
    })
}

/// Where a token stands.
pub(super) fn at(token: &TokenTree) -> Range<usize> {
    token.span().byte_range()
}

pub(super) fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

fn is_name(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

/// How many of the tokens are attributes: `#[allow(unused)]`.
fn attributes(tokens: &[TokenTree]) -> usize {
    let is_one = |pair: &&[TokenTree]| {
        pair.len() == 2 && is_mark(&pair[0], '#') && is_group(&pair[1], Delimiter::Bracket)
    };
    2 * tokens.chunks(2).take_while(is_one).count()
}

fn declaration(code: &str, statement: &[TokenTree]) -> Option<Declaration> {
    let rest = &statement[attributes(statement)..];
    let rest = rest.split_first().filter(|(token, _)| is_name(token, "let"))?.1;
    let rest = if is_name(rest.first()?, "mut") { &rest[1..] } else { rest };
    let (TokenTree::Ident(name), rest) = rest.split_first()? else { return None };
    let (mark, rest) = rest.split_first()?;
    let (ty, value) = if is_mark(mark, ':') {
        let n = ty(rest)?;
        let written = &code[at(&rest[0]).start..at(&rest[n - 1]).end];
        (Some(written.split_whitespace().collect::<Vec<_>>().join(" ")), &rest[n + 1..])
    } else if is_mark(mark, '=') {
        (None, rest)
    } else {
        return None;
    };
    let (end, value) = value.split_last()?;
    let value = at(value.first()?).start..at(value.last()?).end;
    (is_mark(end, ';') && name != "_").then(|| Declaration { name: name.to_string(), ty, value })
}

/// How many tokens a type takes, up to the `=` after it; `None` if it is not a type.
fn ty(tokens: &[TokenTree]) -> Option<usize> {
    let (mut depth, mut after_dash) = (0, false);
    for (i, token) in tokens.iter().enumerate() {
        if is_mark(token, '=') && depth == 0 {
            return (i > 0).then_some(i);
        }
        // `let A::B = …` is a pattern; but `::std::string::String` is a type, behind one more
        // colon.
        if i == 0 && is_mark(token, ':') && !tokens.get(1).is_some_and(|next| is_mark(next, ':')) {
            return None;
        }
        depth += i32::from(is_mark(token, '<'));
        depth -= i32::from(is_mark(token, '>') && !after_dash);
        after_dash = is_mark(token, '-');
    }
    None
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
            ("let s: &str = \"a;", "string"),
            ("let s: &str = r#\"a\";", "string"),
            ("/* /* */ let k: u8 = 1;", "comment"),
            ("f(", "`)`"),
            ("f)", "`)`"),
            ("(]", "`]`"),
        ] {
            assert!(declarations(cell).unwrap_err().contains(what), "{cell}");
        }
    }

    #[test]
    fn nesting_has_no_end() {
        let deep = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
        let found = one(&format!("let k: u8 = {}{deep};", "!".repeat(200_000)));
        assert!(found.2.ends_with(&deep));
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
            let raw = format!("r{0}\"{1}\"{0}", "#".repeat(hashes), text.replace(['#', '\r'], ""));
            for value in [format!("{text:?}"), raw, format!("vec![{text:?}; 2]")] {
                let all = found(&format!("let a: String = {value}; let b: u8 = 1;"));
                let row = |name: &str, ty: &str, value: &str| (name.to_owned(), ty.to_owned(), value.to_owned());
                prop_assert_eq!(all, vec![row("a", "String", &value), row("b", "u8", "1")]);
            }
        }
    }
}
