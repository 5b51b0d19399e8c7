//! Which positions a probe learns from, and which it is tried on.

use std::collections::HashMap;
use std::mem;

use super::task::{Task, Vocabulary};
use crate::activations::Shuffle;
use crate::base::error::Error;
use crate::model::tokens::Tokens;

/// One class against the rest: positions of the text with their answers, as many of the class as
/// of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::latents) struct Problem {
    pub train: Labelled,
    pub test: Labelled,
}

/// Positions, and whether each is of the class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::latents) struct Labelled {
    pub positions: Vec<usize>,
    pub labels: Vec<bool>,
}

impl Labelled {
    pub fn push(&mut self, position: usize, label: bool) {
        self.positions.push(position);
        self.labels.push(label);
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }
}

/// Of five tokens or sequences one is for tests, as published.
const ONE_OF: usize = 5;

/// Fewer examples of a class than these, to learn from and to try on, say nothing: it is left out.
pub(in crate::latents) const FEWEST: [usize; 2] = [20, 5];

/// The error of a text that has too few examples of everything.
pub(in crate::latents) fn too_few(text: &Tokens) -> Error {
    let why = format!(
        "{} tokens have no class of words (a space and letters) with {} positions to learn from and {} to try on: give more text",
        text.len(),
        FEWEST[0],
        FEWEST[1]
    );
    Error::EmptyCorpus { why }
}

/// The text in a random order, and what is kept for tests.
pub(in crate::latents) struct Sampler<'a> {
    text: &'a Tokens,
    order: Vec<u64>,           // [n]
    test_tokens: Vec<bool>,    // [d_vocab]
    test_sequences: Vec<bool>, // [n_seq]
}

impl Sampler<'_> {
    pub fn new(text: &Tokens, d_vocab: usize, seed: u64) -> Sampler<'_> {
        let fifth = |n: usize, seed| {
            let mut tests = vec![false; n];
            let order = Shuffle::new(n as u64, seed).fill(0, n / ONE_OF);
            order.into_iter().for_each(|i| tests[i as usize] = true);
            tests
        };
        Sampler {
            text,
            order: Shuffle::new(text.len() as u64, seed).fill(0, text.len()),
            test_tokens: fifth(d_vocab, seed),
            test_sequences: fifth(text.n_seq(), seed),
        }
    }

    /// Up to `per_word` positions of every token that has an answer, drawn at random: those to
    /// learn from, and those of other tokens to try on.
    pub fn words(&self, answers: &[Option<u8>], per_word: usize) -> [Vec<usize>; 2] {
        let mut counts = vec![0; self.test_tokens.len()];
        let mut found = [Vec::new(), Vec::new()];
        for position in self.positions().filter(|&it| answers[it].is_some()) {
            let token = self.text.ids()[position] as usize;
            if counts[token] < per_word {
                counts[token] += 1;
                found[usize::from(self.test_tokens[token])].push(position);
            }
        }
        found
    }

    fn positions(&self) -> impl Iterator<Item = usize> {
        self.order.iter().map(|&it| it as usize)
    }

    /// Each class of a task against the rest, `sizes` examples to learn from and to try on at most.
    /// Classes with too few are left out.
    pub fn problems(
        &self,
        task: Task,
        vocabulary: &Vocabulary,
        sizes: [usize; 2],
        per_word: usize,
    ) -> Vec<(u8, Problem)> {
        let answers = vocabulary.answers(task, self.text);
        let words =
            if task.is_contextual() { Default::default() } else { self.words(&answers, per_word) };
        let problem = |&class: &u8| {
            let [train, test] = match task.is_contextual() {
                true => self.matched(&answers, class, sizes),
                false => [0, 1].map(|side| balanced(&words[side], &answers, class, sizes[side])),
            };
            (class, Problem { train, test })
        };
        let is_enough = |(_, it): &(u8, Problem)| {
            it.train.len() >= 2 * FEWEST[0] && it.test.len() >= 2 * FEWEST[1]
        };
        task.classes().iter().map(problem).filter(is_enough).collect()
    }

    /// Pairs of positions with one token, of which one is of the class and one is not; sequences
    /// apart. Of the token alone a probe learns nothing.
    fn matched(&self, answers: &[Option<u8>], class: u8, sizes: [usize; 2]) -> [Labelled; 2] {
        let mut found = [Labelled::default(), Labelled::default()];
        // Positions that have met none of the other kind yet: of one kind for each side and token.
        let mut waiting: HashMap<(bool, u32), (bool, Vec<usize>)> = HashMap::new();
        for position in self.positions() {
            let Some(answer) = answers[position] else { continue };
            let is_test = self.test_sequences[position / self.text.n_ctx()];
            let side = &mut found[usize::from(is_test)];
            if side.len() + 2 > sizes[usize::from(is_test)] {
                continue;
            }
            let label = answer == class;
            let key = (is_test, self.text.ids()[position]);
            let (kind, others) = waiting.entry(key).or_insert((label, Vec::new()));
            match others.pop() {
                Some(other) if *kind != label => {
                    side.push(position, label);
                    side.push(other, !label);
                }
                other => {
                    others.extend(other);
                    *kind = label;
                    others.push(position);
                }
            }
        }
        found
    }
}

/// The positions of a class and as many of the rest, in equal parts of each other class as far as
/// they go.
fn balanced(positions: &[usize], answers: &[Option<u8>], class: u8, size: usize) -> Labelled {
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); 1 << 8];
    for &position in positions.iter().rev() {
        if let Some(answer) = answers[position] {
            by_class[usize::from(answer)].push(position);
        }
    }
    let mut own = mem::take(&mut by_class[usize::from(class)]);
    let mut found = Labelled::default();
    while found.len() + 2 <= size {
        let before = found.len();
        for others in &mut by_class {
            if found.len() + 2 > size || own.is_empty() {
                break;
            }
            let Some(other) = others.pop() else { continue };
            own.pop().into_iter().for_each(|it| found.push(it, true));
            found.push(other, false);
        }
        if found.len() == before {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Tokens {
        // Twelve tokens in no order, in 200 sequences of 16.
        let ids = Shuffle::new(3200, 7).fill(0, 3200).iter().map(|it| (it % 12) as u32).collect();
        Tokens::new(ids, 16).unwrap()
    }

    #[test]
    fn pairs_have_one_token_and_two_answers_and_no_sequence_is_on_both_sides() {
        let text = text();
        let sampler = Sampler::new(&text, 12, 3);
        // Asked everywhere; token 0 is always of the class.
        let answers: Vec<Option<u8>> = (0..text.len())
            .map(|i| Some(u8::from(text.ids()[i] == 0 || (i / 3).is_multiple_of(4))))
            .collect();
        let [train, test] = sampler.matched(&answers, 1, [600, 150]);
        assert_eq!((train.len(), test.len()), (600, 150));
        for side in [&train, &test] {
            for pair in 0..side.len() / 2 {
                let [a, b] = [2 * pair, 2 * pair + 1].map(|i| side.positions[i]);
                assert_eq!(text.ids()[a], text.ids()[b]);
                assert!(side.labels[2 * pair] != side.labels[2 * pair + 1] && text.ids()[a] != 0);
                assert!(
                    [a, b]
                        .iter()
                        .zip(&side.labels[2 * pair..])
                        .all(|(&i, &l)| answers[i] == Some(u8::from(l)))
                );
            }
            let mut positions = side.positions.clone();
            positions.sort_unstable();
            positions.dedup();
            assert_eq!(positions.len(), side.len(), "no position twice");
        }
        let sequences = |side: &Labelled| {
            side.positions.iter().map(|i| i / 16).collect::<std::collections::HashSet<_>>()
        };
        assert!(sequences(&train).is_disjoint(&sequences(&test)));
    }

    #[test]
    fn a_class_meets_equally_many_of_each_other_and_no_token_is_on_both_sides() {
        let text = text();
        let sampler = Sampler::new(&text, 12, 3);
        // Four classes of three tokens; of the last token nothing is asked.
        let answers: Vec<Option<u8>> =
            text.ids().iter().map(|&id| (id < 11).then_some(id as u8 % 4)).collect();
        let [train, test] = sampler.words(&answers, 9);
        let tokens = |side: &[usize]| {
            side.iter().map(|&i| text.ids()[i]).collect::<std::collections::HashSet<_>>()
        };
        assert!(tokens(&train).is_disjoint(&tokens(&test)) && !tokens(&test).is_empty());
        assert_eq!(train.len() + test.len(), 11 * 9);
        let found = balanced(&train, &answers, 2, 24);
        let of = |class| found.positions.iter().filter(|&&i| answers[i] == Some(class)).count();
        assert_eq!([of(2), of(0), of(1), of(3)], [12, 4, 4, 4]);
        assert!(
            found.positions.iter().zip(&found.labels).all(|(&i, &l)| l == (answers[i] == Some(2)))
        );
    }
}
