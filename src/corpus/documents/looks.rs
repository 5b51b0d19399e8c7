//! What a file looks like that its name does not tell: text of no ending may be anything.
//!
//! The first bytes are looked at, and little is concluded: prose that begins with a brace or has
//! commas in every line, Markdown, source code and logs have to pass for what they are.

use std::path::Path;

use super::field;

/// So much of a file is looked at.
pub const LOOKED_AT: usize = 64 << 10;

/// What a file is that is not plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// An object a line.
    JsonLines,
    /// One array of texts or of objects.
    JsonArray,
    Csv,
    Tsv,
    Html,
    Xml,
    /// Text of two bytes a character without a mark, or of four with one, as iconv calls it.
    Encoded(&'static str),
    /// Packed, or a file of another program, with the ending that it should have.
    Other(&'static str),
}

/// The first bytes of files that are not text, and their usual ending.
const MAGIC: [(&[u8], &str); 9] = [
    (b"\x1F\x8B", ".gz"),
    (b"\x28\xB5\x2F\xFD", ".zst"),
    (b"PAR1", ".parquet"),
    (b"ARROW1", ".arrow"),
    (b"PK\x03\x04", ".zip"),
    (b"%PDF-", ".pdf"),
    (b"BZh", ".bz2"),
    (b"\xFD7zXZ\0", ".xz"),
    (b"{\\rtf", ".rtf"),
];

/// What a file that begins with `head` looks like, if not like plain text. `whole`: that is all of
/// it.
pub fn look(head: &[u8], whole: bool) -> Option<Looks> {
    if let Some((_, ending)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(Looks::Other(ending));
    }
    if let Some(encoding) = encoded(head) {
        return Some(Looks::Encoded(encoding));
    }
    let text = head.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(head);
    json(text, whole).or_else(|| markup(text)).or_else(|| table(text, whole))
}

/// What a file's name says that its beginning need not: a part of a page begins with any tag.
pub fn named(path: &Path) -> Option<Looks> {
    let ending = path.extension()?.to_string_lossy().to_ascii_lowercase();
    ["html", "htm", "xhtml"].contains(&ending.as_str()).then_some(Looks::Html)
}

/// Whether nearly every other byte is zero, as in UTF-16 of a European language, or the mark of
/// UTF-32 is there.
fn encoded(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"\xFF\xFE\0\0") || head.starts_with(b"\0\0\xFE\xFF") {
        return Some("utf-32");
    }
    let zeros = |from: usize| head.iter().skip(from).step_by(2).filter(|&&b| b == 0).count();
    let (first, second, half) = (zeros(0), zeros(1), head.len() / 2);
    let mostly =
        |zeros: usize, others: usize| half >= 4 && zeros * 10 >= half * 7 && others * 10 <= half;
    match () {
        () if mostly(first, second) => Some("utf-16be"),
        () if mostly(second, first) => Some("utf-16le"),
        () => None,
    }
}

fn json(text: &[u8], whole: bool) -> Option<Looks> {
    let text = text.trim_ascii_start();
    if begins_array(text) {
        return Some(Looks::JsonArray);
    }
    if !begins_object(text) {
        return None;
    }
    // Of lines that are there whole, the first few have to be objects, each by itself.
    let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    if !whole && lines.len() > 1 {
        lines.pop();
    }
    let mut lines = lines.into_iter().filter(|line| !line.trim_ascii().is_empty()).take(5);
    // One that goes on beyond what was looked at is judged by its beginning.
    let cut = !whole && !text.contains(&b'\n');
    // Several in a line are no lines, but no text either.
    let are_objects = |line: &[u8]| is_object(line) || line.windows(3).any(|it| it == b"}{\"");
    (cut || lines.all(are_objects)).then_some(Looks::JsonLines)
}

/// Whether JSON is an array: no line of objects begins like one.
pub fn is_array(head: &[u8]) -> bool {
    let text = head.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(head);
    text.trim_ascii_start().starts_with(b"[")
}

/// Whether an array of strings or of objects begins: prose has "[Illustration]", and lists of
/// references "[1]".
fn begins_array(text: &[u8]) -> bool {
    let Some(inner) = text.trim_ascii_start().strip_prefix(b"[") else { return false };
    let inner = inner.trim_ascii_start();
    match inner.first() {
        Some(b'{') => begins_object(inner),
        Some(b'"') => after_string(inner).is_none_or(|rest| {
            rest.trim_ascii_start().first().is_none_or(|next| b",]".contains(next))
        }),
        _ => false,
    }
}

/// Whether `{"name":` stands at the beginning.
fn begins_object(text: &[u8]) -> bool {
    let Some(inner) = text.strip_prefix(b"{") else { return false };
    let inner = inner.trim_ascii_start();
    inner.first() == Some(&b'"')
        && after_string(inner).is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b':'))
}

/// What follows the JSON string at the beginning, if it ends.
fn after_string(text: &[u8]) -> Option<&[u8]> {
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(&text[at + 1..]),
            _ => {}
        }
    }
    None
}

/// Whether a line is a JSON object.
fn is_object(line: &[u8]) -> bool {
    field::of_line(line, "").is_ok()
}

/// HTML or XML, after declarations and comments.
fn markup(text: &[u8]) -> Option<Looks> {
    let head = String::from_utf8_lossy(&text[..text.len().min(4096)]).to_ascii_lowercase();
    let (mut rest, mut xml) = (head.trim_start(), false);
    loop {
        let end = match () {
            () if rest.starts_with("<?xml") => "?>",
            () if rest.starts_with("<!--") => "-->",
            () => break,
        };
        xml |= end == "?>";
        rest = rest.split_once(end).map_or("", |(_, rest)| rest).trim_start();
    }
    match () {
        () if rest.starts_with("<!doctype html") || rest.starts_with("<html") => Some(Looks::Html),
        () if xml => Some(Looks::Xml),
        () => None,
    }
}

fn table(text: &[u8], whole: bool) -> Option<Looks> {
    for (delimiter, looks) in [(b',', Looks::Csv), (b'\t', Looks::Tsv), (b';', Looks::Csv)] {
        if records(text, delimiter, whole).is_some_and(|records| is_table(&records, delimiter)) {
            return Some(looks);
        }
    }
    None
}

/// A field of a table, and whether it stands in quotation marks.
type Cell = (String, bool);

/// The first records of a table; `None` if its quotation marks are not those of one, as where
/// somebody speaks.
fn records(text: &[u8], delimiter: u8, whole: bool) -> Option<Vec<Vec<Cell>>> {
    /// So many tell.
    const MOST: usize = 50;
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < text.len() && records.len() < MOST {
        let quoted = text[at] == b'"';
        let mut cell = Vec::new();
        if quoted {
            at += 1;
            loop {
                match (text.get(at), text.get(at + 1)) {
                    (Some(b'"'), Some(b'"')) => at += 1,
                    (Some(b'"'), _) => break,
                    (Some(_), _) => {}
                    // It goes on beyond what was looked at.
                    (None, _) => return (!whole && records.len() > 1).then_some(records),
                }
                cell.push(text[at]);
                at += 1;
            }
            at += 1;
        }
        let end = text[at..].iter().position(|&b| b == delimiter || b == b'\n');
        let rest = &text[at..end.map_or(text.len(), |end| at + end)];
        let rest = if end.is_none_or(|end| text[at + end] == b'\n') {
            rest.strip_suffix(b"\r").unwrap_or(rest)
        } else {
            rest
        };
        if quoted && !rest.is_empty() {
            return None;
        }
        cell.extend_from_slice(rest);
        record.push((String::from_utf8_lossy(&cell).into_owned(), quoted));
        let ends = match end {
            Some(end) => {
                at += end + 1;
                text[at - 1] == b'\n'
            }
            None => {
                at = text.len();
                whole
            }
        };
        if ends {
            let record = std::mem::take(&mut record);
            // A blank line is none.
            if record.len() > 1 || !record[0].0.trim().is_empty() {
                records.push(record);
            }
        }
    }
    Some(records)
}

/// Whether records are those of a table, by their number of fields, which is nearly always the same
/// in all, and one thing more.
fn is_table(records: &[Vec<Cell>], delimiter: u8) -> bool {
    let Some(header) = records.first().filter(|header| header.len() > 1) else { return false };
    let n = header.len();
    // Names of columns: in prose a comma has a space behind it, and a line is no list of words.
    let is_name = |(name, _): &Cell| {
        name.len() <= 40
            && name.trim() == name
            && name.split_whitespace().count() <= 4
            && name.chars().any(char::is_alphabetic)
            && !name.contains(['.', '!', '?', ';', '(', '{', '<', '='])
    };
    let distinct = |i: usize| header[..i].iter().all(|(name, _)| *name != header[i].0);
    let has_names = header.iter().all(is_name) && (0..n).all(distinct);
    let tight = records.iter().flatten().all(|(cell, _)| !cell.starts_with(' '));
    if records.iter().any(|record| record.len() != n) {
        // Some programs leave out the last fields where they are empty.
        let fits = |record: &Vec<Cell>| (2..=n).contains(&record.len());
        return has_names && n > 3 && records.len() > 2 && tight && records.iter().all(fits);
    }
    // Two columns of words may be a poem of two lines.
    let quoted = records[1..].iter().flatten().any(|(_, quoted)| *quoted);
    if has_names && records.len() >= (if n == 2 && !quoted { 3 } else { 2 }) {
        return true;
    }
    let some = |share: usize, is: &dyn Fn(&Vec<Cell>) -> bool| {
        let rest = &records[1..];
        rest.len() >= 2
            && rest.iter().filter(|record| is(record)).count() * 100 >= share * rest.len()
    };
    if some(80, &|record| record.iter().any(|(_, quoted)| *quoted)) {
        return true;
    }
    // Without names and quotation marks: long enough, no list of sentences and no log.
    let is_time = |(cell, _): &Cell| {
        cell.chars().next().is_some_and(|c| c.is_ascii_digit() || c == '[')
            && cell.contains(['-', ':', '/'])
    };
    let times = records.iter().filter(|record| is_time(&record[0])).count();
    let number = |i: usize| records[1..].iter().all(|record| record[i].0.parse::<f64>().is_ok());
    records.len() >= 10
        && tight
        && 2 * times < records.len()
        && !records.iter().any(|record| record[0].0.is_empty())
        && (delimiter == b'\t' || (n > 2 && (0..n).any(number)))
}
