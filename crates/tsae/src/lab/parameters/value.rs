//! A parameter's value: from the text of a command line to Rust of the declared type.

use proc_macro2::TokenTree;
use serde_json::Value;

use super::source;

/// A value as Rust and as JSON.
#[derive(Debug, PartialEq)]
pub(super) struct Parameter {
    pub source: String,
    pub json: Value,
}

/// What a text is read as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// From `-min` to `max`.
    Integer {
        min: u128,
        max: u128,
    },
    Float {
        single: bool,
    },
    Bool,
    String,
    Str,
    /// Any other type: the text is Rust.
    Rust,
}

/// The value that `text` is in the declared type; without one, in that of `default`, the value that
/// it stands for. Or why it is not one.
pub(super) fn value(ty: Option<&str>, default: &str, text: &str) -> Result<Parameter, String> {
    let kind = ty.map_or_else(|| of_literal(default), of_type);
    let shown = ty.map_or_else(|| format!("what {default} is"), str::to_owned);
    let bad = |wanted: &str| format!("{text:?} does not fit its type, {shown}: {wanted}");
    let plain = text.trim();
    match kind {
        Kind::Integer { min, max } => {
            let least = if min > 0 { format!("-{min}") } else { "0".to_owned() };
            let wanted = || {
                bad(&format!(
                    "give a whole number from {least} to {max}, such as 16, 2_000_000 or 2e6"
                ))
            };
            let (negative, size) = integer(plain).ok_or_else(wanted)?;
            if size > if negative { min } else { max } {
                return Err(wanted());
            }
            let sign = if negative && size > 0 { "-" } else { "" };
            let source = format!("{sign}{size}");
            Ok(Parameter {
                json: serde_json::from_str(&source).unwrap_or_else(|_| source.clone().into()),
                source,
            })
        }
        Kind::Float { single } => {
            let (source, number) = float(plain, single)
                .ok_or_else(|| bad("give a number such as 0.5, 3e-4, 16 or inf"))?;
            // JSON has no infinity.
            let json = if number.is_finite() { number.into() } else { Value::from(plain) };
            Ok(Parameter { source, json })
        }
        Kind::Bool => match plain {
            "true" | "false" => {
                Ok(Parameter { source: plain.to_owned(), json: (plain == "true").into() })
            }
            _ => Err(bad("give true or false")),
        },
        Kind::String => Ok(Parameter { source: format!("{text:?}.to_owned()"), json: text.into() }),
        Kind::Str => Ok(Parameter { source: format!("{text:?}"), json: text.into() }),
        Kind::Rust if is_expression(plain) => {
            Ok(Parameter { source: plain.to_owned(), json: plain.into() })
        }
        Kind::Rust => Err(bad(
            "give it as Rust, as it would follow the `=`, with no `;` and no comment after it",
        )),
    }
}

fn of_type(ty: &str) -> Kind {
    let ty: String = ty.split_whitespace().collect();
    match &*ty {
        "f32" => Kind::Float { single: true },
        "f64" => Kind::Float { single: false },
        "bool" => Kind::Bool,
        "String" | "std::string::String" | "::std::string::String" => Kind::String,
        "&str" | "&'staticstr" => Kind::Str,
        _ => whole(&ty).unwrap_or(Kind::Rust),
    }
}

/// The integer type of that name.
fn whole(ty: &str) -> Option<Kind> {
    let bits = match ty.get(1..)? {
        "size" => usize::BITS,
        "8" => 8,
        "16" => 16,
        "32" => 32,
        "64" => 64,
        "128" => 128,
        _ => return None,
    };
    match &ty[..1] {
        "u" => Some(Kind::Integer { min: 0, max: u128::MAX >> (128 - bits) }),
        "i" => Some(Kind::Integer { min: 1 << (bits - 1), max: (1 << (bits - 1)) - 1 }),
        _ => None,
    }
}

/// What a `let` without a type holds, if it holds a literal.
fn of_literal(default: &str) -> Kind {
    let Ok(tokens) = source::tokens(default) else { return Kind::Rust };
    let number = |text: &str| {
        let suffix = [
            "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64",
            "u128", "usize",
        ];
        match suffix.into_iter().find(|suffix| text.ends_with(suffix) && !text.starts_with("0x")) {
            Some(suffix) => of_type(suffix),
            None if text.contains(['.', 'e', 'E']) && !text.starts_with("0x") => {
                Kind::Float { single: false }
            }
            // Which integer it is, the lines after it decide.
            None => Kind::Integer { min: 1 << 127, max: u128::MAX },
        }
    };
    let literal = match &tokens[..] {
        [TokenTree::Ident(name)] if name == "true" || name == "false" => return Kind::Bool,
        [TokenTree::Literal(literal)] => literal.to_string(),
        [sign, TokenTree::Literal(literal)] if source::is_mark(sign, '-') => literal.to_string(),
        _ => return Kind::Rust,
    };
    match literal.chars().next() {
        Some('0'..='9') => number(&literal),
        Some('"' | 'r') => Kind::Str,
        _ => Kind::Rust,
    }
}

/// Whether it is negative, and its size. Exact: `2e6` and `2.5e3` are whole, `2.5` is not.
fn integer(text: &str) -> Option<(bool, u128)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = text.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let digits =
                Some(digits).filter(|digits| digits.starts_with(|c: char| c.is_digit(radix)))?;
            return Some((negative, u128::from_str_radix(digits, radix).ok()?));
        }
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (&*text, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{before}{after}");
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((negative, 0));
    }
    let zeros_at_end = digits.len() - digits.trim_end_matches('0').len();
    let power = i64::from(exponent) + zeros_at_end as i64 - after.len() as i64;
    let power = 10u128.checked_pow(u32::try_from(power).ok()?)?;
    Some((negative, significant.parse::<u128>().ok()?.checked_mul(power)?))
}

/// A float as Rust, and its value.
fn float(text: &str, single: bool) -> Option<(String, f64)> {
    let starts_or_ends_well = !text.starts_with('_') && !text.ends_with('_');
    let digits = text.replace('_', "");
    let number = digits.parse::<f64>().ok().filter(|_| starts_or_ends_well)?;
    let (name, finite, shown) = if single {
        let single = digits.parse::<f32>().ok()?;
        ("f32", single.is_finite(), format!("{single:?}"))
    } else {
        ("f64", number.is_finite(), format!("{number:?}"))
    };
    if finite {
        return Some((shown, number));
    }
    // Too large does not become infinity: that must be asked for by name.
    if digits.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (sign, constant) =
        (if number < 0.0 { "-" } else { "" }, if number.is_nan() { "NAN" } else { "INFINITY" });
    Some((format!("{sign}{name}::{constant}"), number))
}

/// Whether a text can stand behind a `=` without reaching past its own end.
fn is_expression(text: &str) -> bool {
    let Ok(tokens) = source::tokens(text) else { return false };
    // A comment at the end would take the `;` with it; one of documentation is a token.
    let is_whole = tokens.last().is_some_and(|last| {
        let at = source::at(last);
        at.end == text.len() && !text[at].starts_with('/')
    });
    is_whole && !tokens.iter().any(|token| source::is_mark(token, ';'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rust(ty: &str, text: &str) -> Result<String, String> {
        value(Some(ty), "", text).map(|value| value.source)
    }

    #[test]
    fn texts_become_what_is_declared() {
        let long = "9".repeat(60);
        let cases = [
            ("usize", "8", "8"),
            ("usize", " +8 ", "8"),
            ("u64", "2_000_000", "2000000"),
            ("u64", "2e6", "2000000"),
            ("u64", "2.5E+3", "2500"),
            ("u64", "2500e-2", "25"),
            ("u32", "4.0", "4"),
            ("u8", "0xFf", "255"),
            ("u8", "0b_1_01", "5"),
            ("u8", "256", "!"),
            ("u8", "-1", "!"),
            ("u8", "-0", "0"),
            ("i8", "-128", "-128"),
            ("i8", "-129", "!"),
            ("i8", "128", "!"),
            (
                "i128",
                "-170141183460469231731687303715884105728",
                "-170141183460469231731687303715884105728",
            ),
            (
                "u128",
                "340282366920938463463374607431768211455",
                "340282366920938463463374607431768211455",
            ),
            ("u128", "340282366920938463463374607431768211456", "!"),
            ("u128", "1e38", "100000000000000000000000000000000000000"),
            ("u128", "1e99999999999", "!"),
            ("u128", "1e2147483647", "!"),
            ("u128", "0e2147483647", "0"),
            ("u128", &long, "!"),
            ("usize", "2.5", "!"),
            ("usize", "25e-2", "!"),
            ("usize", "", "!"),
            ("usize", "_1", "!"),
            ("usize", "1.-5", "!"),
            ("usize", "many", "!"),
            ("f64", "3e-4", "0.0003"),
            ("f64", "1_000", "1000.0"),
            ("f64", "-.5", "-0.5"),
            ("f64", "inf", "f64::INFINITY"),
            ("f32", "-inf", "-f32::INFINITY"),
            ("f32", "nan", "f32::NAN"),
            ("f32", "1e-7", "1e-7"),
            ("f32", "1e300", "!"),
            ("f64", "1e400", "!"),
            ("f64", "fast", "!"),
            ("f64", "", "!"),
            ("bool", "true", "true"),
            ("bool", "yes", "!"),
            ("String", "a \"b\" \\ {c}\n", "\"a \\\"b\\\" \\\\ {c}\\n\".to_owned()"),
            ("& 'static str", " ä\u{202e}", "\" ä\\u{202e}\""),
            ("&str", "", "\"\""),
            ("Vec<u32>", " vec![1, 2] ", "vec![1, 2]"),
            ("Option<usize>", "Some(3)", "Some(3)"),
            ("HookPoint", "HookPoint::resid_pre(1)", "HookPoint::resid_pre(1)"),
            ("char", "';'", "';'"),
            ("Vec<u32>", "vec![1, 2]; let k = 3", "!"),
            ("Vec<u32>", "vec![1, 2] // so", "!"),
            ("Vec<u32>", "vec![1, 2", "!"),
            ("Vec<u32>", "vec![1, 2)", "!"),
            ("Vec<u32>", "\"", "!"),
            ("Vec<u32>", "", "!"),
            ("Option<&str>", "{ let a = 1; Some(\"b;\") }", "{ let a = 1; Some(\"b;\") }"),
        ];
        for (ty, text, wanted) in cases {
            match rust(ty, text) {
                Ok(source) => assert_eq!(source, wanted, "{text:?} as {ty}"),
                Err(why) => {
                    assert_eq!(wanted, "!", "{text:?} as {ty}: {why}");
                    assert!(why.contains(ty) && why.contains(&format!("{text:?}")), "{why}");
                }
            }
        }
    }

    #[test]
    fn without_a_type_the_default_tells() {
        let of = |default: &str, text: &str| value(None, default, text).map(|value| value.source);
        assert_eq!(of("16", "2e3"), Ok("2000".to_owned()));
        assert_eq!(of("-16_i8", "100"), Ok("100".to_owned()));
        assert!(of("16u8", "300").is_err());
        assert_eq!(of("0x1f", "-3"), Ok("-3".to_owned()));
        assert_eq!(of("3e-4", "1"), Ok("1.0".to_owned()));
        assert_eq!(of("true", "false"), Ok("false".to_owned()));
        assert_eq!(of("\"a\"", "b"), Ok("\"b\"".to_owned()));
        assert_eq!(of("HookPoint::resid_pre(1)", "hook"), Ok("hook".to_owned()));
        assert!(of("16", "many").unwrap_err().contains("what 16 is"));
    }

    #[test]
    fn the_record_keeps_numbers_as_numbers() {
        let json = |ty: &str, text: &str| value(Some(ty), "", text).unwrap().json;
        assert_eq!(json("usize", "2e6"), json!(2_000_000));
        assert_eq!(json("i64", "-3"), json!(-3));
        assert_eq!(json("f64", "0.5"), json!(0.5));
        assert_eq!(json("f64", "inf"), json!("inf"));
        assert_eq!(json("bool", "true"), json!(true));
        assert_eq!(json("String", "7"), json!("7"));
        assert_eq!(json("Vec<u8>", "vec![7]"), json!("vec![7]"));
    }

    /// What a literal without raw parts stands for, by the rules of Rust's own escapes.
    fn unescaped(literal: &str) -> Option<String> {
        let mut inner = literal.strip_prefix('"')?.strip_suffix('"')?.chars();
        let mut text = String::new();
        while let Some(c) = inner.next() {
            text.push(match c {
                '"' => return None,
                '\\' => match inner.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '0' => '\0',
                    c @ ('\\' | '"' | '\'') => c,
                    'u' => {
                        let digits: String =
                            inner.by_ref().skip(1).take_while(|&c| c != '}').collect();
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                    }
                    _ => return None,
                },
                c => c,
            });
        }
        Some(text)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn any_text_survives_its_quotes(text in any::<String>()) {
            let source = rust("&str", &text).unwrap();
            prop_assert_eq!(unescaped(&source), Some(text));
            let tokens = source::tokens(&source).unwrap();
            prop_assert!(matches!(tokens[..], [TokenTree::Literal(_)]) && source::at(&tokens[0]) == (0..source.len()));
            prop_assert!(is_expression(&source));
        }

        #[test]
        fn integers_are_what_they_say(number in any::<i64>(), zeros in 0usize..6) {
            prop_assert_eq!(rust("i64", &number.to_string()), Ok(number.to_string()));
            let zeros = "0".repeat(zeros);
            prop_assert_eq!(rust("i128", &format!("{number}.{zeros}e{}", zeros.len())), Ok(format!("{number}{zeros}").parse::<i128>().unwrap().to_string()));
            prop_assert_eq!(rust("u64", &number.to_string()).is_ok(), number >= 0);
        }

        #[test]
        fn floats_keep_every_bit(number in any::<f64>(), single in any::<f32>()) {
            if number.is_finite() {
                prop_assert_eq!(rust("f64", &number.to_string()).unwrap().parse::<f64>().unwrap().to_bits(), number.to_bits());
            }
            if single.is_finite() {
                prop_assert_eq!(rust("f32", &format!("{single:e}")).unwrap().parse::<f32>().unwrap().to_bits(), single.to_bits());
            }
        }

        #[test]
        fn a_plain_type_takes_a_literal_and_no_code(text in any::<String>(), code in "[-+]?[0-9a-z\"'_.;(){}!:/\\\\ ]{0,16}") {
            for text in [text, code] {
                for ty in ["usize", "i8", "u128", "f32", "f64", "bool", "&str", "String"] {
                    let Ok(source) = rust(ty, &text) else { continue };
                    let literal = source.strip_suffix(".to_owned()").filter(|_| ty == "String").unwrap_or(&source);
                    let literal = literal.strip_prefix('-').unwrap_or(literal);
                    let tokens = source::tokens(literal).unwrap();
                    let known = ["true", "false", "f32::NAN", "f64::NAN", "f32::INFINITY", "f64::INFINITY"].contains(&literal);
                    prop_assert!(known || matches!(tokens[..], [TokenTree::Literal(_)]), "{ty} {text:?}: {source}");
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in any::<String>(), number in "[-+0-9_.eExXbo]{0,12}", ty in "[a-z0-9&' <>]{0,8}", default in any::<String>()) {
            for text in [text, number] {
                for ty in ["usize", "i8", "u128", "f32", "f64", "bool", "Vec<u8>", &*ty] {
                    let _ = value(Some(ty), &default, &text);
                }
                let _ = value(None, &default, &text);
            }
        }
    }
}
