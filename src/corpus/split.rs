//! Which text trains and which is held out.

use std::ops::Range;

/// Which documents are held out, given their sizes in the order of their hashed names: as near to
/// `share` of all text as whole documents permit, and at least one if there are two or more.
///
/// Sizes are in bytes, which are known before anything is read and are the same for every
/// tokenizer; so a document's side depends on the documents and the share alone, and never on the
/// model or on how many tokens are wanted. At least `wanted` bytes are held out (enough for a
/// sequence), unless that is more than half.
pub fn held_out(bytes: &[u64], share: f64, wanted: u64) -> Vec<bool> {
    let mut held = vec![false; bytes.len()];
    let total: u64 = bytes.iter().sum();
    if share == 0.0 || bytes.len() < 2 {
        return held;
    }
    let target = (share * total as f64).max(wanted.min(total / 2) as f64);
    let mut sum = 0.0;
    for (held, &bytes) in held.iter_mut().zip(bytes) {
        let bytes = bytes as f64;
        // Taken if that brings the sum nearer to the target.
        if bytes > 0.0 && (sum + bytes - target).abs() < (sum - target).abs() {
            *held = true;
            sum += bytes;
        }
    }
    // Every document is larger than twice the target: the smallest that has any text must do.
    if !held.contains(&true)
        && let Some(smallest) = (0..bytes.len()).filter(|&i| bytes[i] > 0).min_by_key(|&i| bytes[i])
    {
        held[smallest] = true;
    }
    // A share near 1 may have taken all: the largest goes back to training.
    if !held.contains(&false)
        && let Some(largest) = (0..bytes.len()).max_by_key(|&i| bytes[i])
    {
        held[largest] = false;
    }
    held
}

/// Where a single document is cut: before it is for training, after it is held out. The paragraph
/// border nearest to `1 - share` of it, or the nearest end of a line or of a word if no paragraph
/// ends thereabouts. At least `wanted` bytes are held out, unless that is more than half.
pub fn cut(text: &str, share: f64, wanted: usize) -> usize {
    if share == 0.0 {
        return text.len();
    }
    let tail = ((share * text.len() as f64) as usize).max(wanted.min(text.len() / 2));
    let target = text.len() - tail.min(text.len());
    // A border further away than half of the smaller side would change its size too much.
    let reach = tail.min(target) / 2;
    let near = floor(text, target - reach)..floor(text, (target + reach).min(text.len()));
    nearest(text, "\n\n", near.clone(), target)
        .or_else(|| nearest(text, "\n", near.clone(), target))
        .or_else(|| nearest(text, " ", near, target))
        .unwrap_or_else(|| floor(text, target))
}

/// The end of the occurrence of `border` that lies nearest to `target`.
fn nearest(text: &str, border: &str, within: Range<usize>, target: usize) -> Option<usize> {
    let ends = text[within.clone()]
        .match_indices(border)
        .map(|(at, border)| within.start + at + border.len());
    ends.min_by_key(|end| end.abs_diff(target))
}

/// The last character border at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_sides_have_a_document(bytes in prop::collection::vec(1u64..1_000_000, 2..40), share in 0.001f64..0.999, wanted in 0u64..10_000) {
            let held = held_out(&bytes, share, wanted);
            prop_assert!(held.contains(&true) && held.contains(&false));
        }

        #[test]
        fn with_many_documents_the_share_is_near_the_one_asked(seed in prop::collection::vec(500u64..1500, 400), share in 0.01f64..0.9) {
            let total: u64 = seed.iter().sum();
            let held: u64 = seed.iter().zip(held_out(&seed, share, 0)).filter(|(_, held)| *held).map(|(bytes, _)| bytes).sum();
            prop_assert!((held as f64 / total as f64 - share).abs() < 1500.0 / total as f64);
        }

        #[test]
        fn a_text_is_cut_between_characters(text in ".{0,200}", share in 0.0f64..1.0, wanted in 0usize..50) {
            let at = cut(&text, share, wanted);
            prop_assert!(text.is_char_boundary(at));
        }
    }

    #[test]
    fn of_two_documents_the_smaller_is_held_out() {
        assert_eq!(held_out(&[100, 90], 0.02, 0), [false, true]);
        assert_eq!(held_out(&[100, 0, 90], 0.02, 0), [false, false, true]);
        assert_eq!(held_out(&[100, 90], 0.0, 0), [false, false]);
    }

    #[test]
    fn enough_is_held_out_for_a_sequence() {
        let held = held_out(&[10; 100], 0.01, 200);
        assert_eq!(held.iter().filter(|held| **held).count(), 20);
    }

    #[test]
    fn a_text_is_cut_at_the_nearest_paragraph() {
        let text = "word word\n\n".repeat(100);
        let at = cut(&text, 0.1, 0);
        assert_eq!(at, 990);
        assert!(text[..at].ends_with("\n\n"));
        assert_eq!(cut(&text, 0.101, 0), 990);
        assert_eq!(cut(&text.replace("\n\n", "\n"), 0.1, 0) % 10, 0);
        assert_eq!(cut(&"word ".repeat(100), 0.1, 0) % 5, 0);
        assert_eq!(cut(&"x".repeat(100), 0.1, 0), 90);
        assert_eq!(cut("", 0.5, 10), 0);
    }
}
