//! Ways to spoil a safetensors file: its header as JSON, the header's length, and the numbers.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::json::{self, Json};
use super::mutate;

/// Types of numbers, and bytes of each.
const TYPES: [(&str, usize); 12] = [
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("F64", 8),
    ("I64", 8),
    ("I32", 4),
    ("U8", 1),
    ("BOOL", 1),
    ("U16", 2),
    ("F8_E4M3", 1),
    ("C64", 8),
    ("U64", 8),
];

/// Numbers that no weight should be.
const NUMBERS: [f32; 10] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -0.0,
    1e20,
    16_777_217.0,
];

pub fn spoilt(mut bytes: Vec<u8>, random: &mut ChaCha8Rng) -> Vec<u8> {
    let Some((mut header, mut data)) = taken_apart(&bytes) else {
        mutate::spoil(&mut bytes, &[], random);
        return bytes;
    };
    match random.random_range(0..8) {
        0 => {
            // What the file says of its header's length.
            let said = mutate::border(
                u64::from_le_bytes(*bytes.first_chunk().expect("it has a header")),
                random,
            );
            bytes[..8].copy_from_slice(&said.to_le_bytes());
            return bytes;
        }
        1 => (0..mutate::changes(random)).for_each(|_| mutate::spoil(&mut data, &[], random)),
        2 => {
            for _ in 0..mutate::changes(random) {
                let at = random.random_range(0..data.len().max(1)) / 4 * 4;
                if let Some(number) = data.get_mut(at..at + 4) {
                    number.copy_from_slice(
                        &NUMBERS.choose(random).expect("there are some").to_le_bytes(),
                    );
                }
            }
        }
        3 => retyped(&mut header, random),
        4 => said_within(&mut header, random),
        _ => (0..mutate::changes(random)).for_each(|_| header.spoil(random)),
    }
    put_together(&header.text(), &data)
}

/// The header and the numbers.
fn taken_apart(bytes: &[u8]) -> Option<(Json, Vec<u8>)> {
    let n = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let header = bytes.get(8..n.checked_add(8)?)?;
    Some((json::parse(std::str::from_utf8(header).ok()?)?, bytes[8 + n..].to_vec()))
}

fn put_together(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The same bytes as numbers of another type, in a shape that fits: a file that is whole and means
/// something else.
fn retyped(header: &mut Json, random: &mut ChaCha8Rng) {
    let Json::Map(items) = header else { return };
    let Some((_, tensor)) = (0..8)
        .find_map(|_| items.choose(random).cloned())
        .filter(|(key, _)| key != "\"__metadata__\"")
    else {
        return;
    };
    let Some((_, place)) = items.iter_mut().find(|(_, item)| item.text() == tensor.text()) else {
        return;
    };
    let width =
        |name: &str| TYPES.iter().find(|(known, _)| *known == name).map(|(_, width)| *width);
    let Some(from) = place.get_mut("dtype").and_then(|dtype| width(dtype.text().trim_matches('"')))
    else {
        return;
    };
    let (name, to) = *TYPES.choose(random).expect("there are some");
    if let Some(Json::List(shape)) = place.get_mut("shape")
        && let Some(Json::Plain(last)) = shape.last_mut()
        && let Ok(size) = last.parse::<usize>()
    {
        *last = (size.saturating_mul(from) / to).to_string();
    }
    if let Some(dtype) = place.get_mut("dtype") {
        *dtype = Json::Plain(format!("\"{name}\""));
    }
}

/// A change to JSON that stands as a text in the metadata, as this crate writes it.
fn said_within(header: &mut Json, random: &mut ChaCha8Rng) {
    let Some(Json::Map(metadata)) = header.get_mut("__metadata__") else { return };
    for (_, said) in metadata {
        let text: Option<String> = serde_json::from_str(&said.text()).ok();
        if let Some(mut inner) = text.as_deref().and_then(json::parse) {
            (0..mutate::changes(random)).for_each(|_| inner.spoil(random));
            *said = Json::Plain(serde_json::Value::from(inner.text()).to_string());
        }
    }
}
