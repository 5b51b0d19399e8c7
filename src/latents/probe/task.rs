//! What can be asked of a position, and its answer by the tokens alone.

use serde::{Deserialize, Serialize};

use crate::display::{Show, Shown, shows};
use crate::model::Model;
use crate::model::tokens::Tokens;

/// A question about a position of a text, which tokens answer exactly.
///
/// All are asked where the token is a word: its text is one space and ASCII letters, at least one.
/// [`FirstLetter`](Task::FirstLetter) is decided by the token; the others are not, and their probes
/// see every token equally often with both answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The first letter of the token, in lower case.
    FirstLetter,
    /// The first letter of the token before, which must be a word, too.
    PreviousLetter,
    /// Whether the token before, which must be a word, too, is "the", "a" or "an", in any case.
    AfterDeterminer,
    /// Whether it stands within double quotation marks.
    ///
    /// “ opens and ” closes, a straight one does what is due, and a blank line closes. Before the
    /// first “, ” or blank line of a sequence it is not known, and not asked.
    InQuotes,
}

impl Task {
    /// All of them.
    pub const ALL: [Task; 4] =
        [Task::FirstLetter, Task::PreviousLetter, Task::AfterDeterminer, Task::InQuotes];

    /// What it is called: "first letter".
    pub fn name(self) -> &'static str {
        self.said().0
    }

    /// Its definition.
    pub fn definition(self) -> &'static str {
        self.said().1
    }

    /// Whether the token alone does not decide it.
    pub fn is_contextual(self) -> bool {
        self != Task::FirstLetter
    }

    fn said(self) -> (&'static str, &'static str) {
        match self {
            Task::FirstLetter => {
                ("first letter", "which letter the token, a space and letters, begins with")
            }
            Task::PreviousLetter => (
                "letter before",
                "which letter the token before begins with; both are a space and letters",
            ),
            Task::AfterDeterminer => (
                "after the, a, an",
                "whether the token before is one of these; both are a space and letters",
            ),
            Task::InQuotes => (
                "in quotation marks",
                "whether the last double mark before it opened and none has closed; a blank line closes",
            ),
        }
    }

    /// The class of an answer in words: a letter, or "yes".
    pub(super) fn class(self, class: u8) -> String {
        match self {
            Task::FirstLetter | Task::PreviousLetter => char::from(class).to_string(),
            Task::AfterDeterminer | Task::InQuotes => "yes".to_owned(),
        }
    }

    /// The classes that are told from the rest: every letter, or yes.
    pub(super) fn classes(self) -> &'static [u8] {
        match self {
            Task::FirstLetter | Task::PreviousLetter => b"abcdefghijklmnopqrstuvwxyz",
            Task::AfterDeterminer | Task::InQuotes => &[YES],
        }
    }
}

impl Show for Task {
    fn shown(&self) -> Shown {
        Shown::sentence(self.name(), self.definition())
    }
}

shows!(Task);

const NO: u8 = 0;
const YES: u8 = 1;

/// What the text of each token says, by id.
pub(in crate::latents) struct Vocabulary {
    tokens: Vec<Option<Word>>, // [d_vocab], of those that occur
}

struct Word {
    text: String,
    letter: Option<u8>,
}

impl Vocabulary {
    /// Of the tokens that occur in `text`, which must be the model's.
    pub fn of(model: &Model, text: &Tokens) -> Vocabulary {
        let mut tokens: Vec<Option<Word>> = Vec::new();
        tokens.resize_with(model.config().d_vocab, || None);
        for &id in text.ids() {
            tokens[id as usize].get_or_insert_with(|| Word::new(model.token_str(id)));
        }
        Vocabulary { tokens }
    }

    /// The first letter of a token that is a space and letters.
    pub fn letter(&self, id: u32) -> Option<u8> {
        self.tokens[id as usize].as_ref()?.letter
    }

    fn text(&self, id: u32) -> &str {
        self.tokens[id as usize].as_ref().map_or("", |word| &word.text)
    }

    /// The answer at every position `[n]`, if it is asked there; never at the first of a sequence.
    pub fn answers(&self, task: Task, text: &Tokens) -> Vec<Option<u8>> {
        let mut answers = Vec::with_capacity(text.len());
        for sequence in (0..text.n_seq()).map(|i| text.row(i)) {
            let mut quotes = Quotes::default();
            for (at, &id) in sequence.iter().enumerate() {
                let before = sequence[..at].last();
                let is_word = before.is_some() && self.letter(id).is_some();
                let answer = before.and_then(|&before| match task {
                    Task::FirstLetter => self.letter(id),
                    Task::PreviousLetter => self.letter(before),
                    Task::AfterDeterminer => self.letter(before).map(|_| self.determiner(before)),
                    Task::InQuotes => quotes.are_open.map(u8::from),
                });
                answers.push(answer.filter(|_| is_word));
                quotes.read(self.text(id));
            }
        }
        answers
    }

    fn determiner(&self, id: u32) -> u8 {
        let word = self.text(id).trim_start();
        match ["the", "a", "an"].iter().any(|it| it.eq_ignore_ascii_case(word)) {
            true => YES,
            false => NO,
        }
    }
}

impl Word {
    fn new(text: String) -> Word {
        let letters = text.strip_prefix(' ').unwrap_or_default();
        let letter = letters.bytes().next().map(|it| it.to_ascii_lowercase());
        let is_word = letters.bytes().all(|it| it.is_ascii_alphabetic());
        Word { letter: letter.filter(|_| is_word), text }
    }
}

/// Whether quotation marks are open, where that is known.
#[derive(Default)]
struct Quotes {
    are_open: Option<bool>,
    /// Whether nothing but white space stands behind the last line break.
    line_is_blank: bool,
}

impl Quotes {
    fn read(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\u{201c}' => self.are_open = Some(true),
                '\u{201d}' => self.are_open = Some(false),
                '"' => self.are_open = self.are_open.map(|it| !it),
                '\n' if self.line_is_blank => self.are_open = Some(false),
                _ => {}
            }
            self.line_is_blank = c == '\n' || self.line_is_blank && c.is_whitespace();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers along a text whose tokens are given.
    fn answers(task: Task, tokens: &[&str]) -> Vec<Option<u8>> {
        let vocabulary = Vocabulary {
            tokens: tokens.iter().map(|it| Some(Word::new((*it).to_owned()))).collect(),
        };
        let text = Tokens::new((0..tokens.len() as u32).collect(), tokens.len()).unwrap();
        vocabulary.answers(task, &text)
    }

    #[test]
    fn words_are_a_space_and_letters() {
        let text = [" At", " Apple", "pie", " b2", " ", " Zoë", " z", ","];
        let letters = [None, Some(b'a'), None, None, None, None, Some(b'z'), None];
        assert_eq!(answers(Task::FirstLetter, &text), letters);
        // The token before a word is one only at the second.
        let before = [None, Some(b'a'), None, None, None, None, None, None];
        assert_eq!(answers(Task::PreviousLetter, &text), before);
    }

    #[test]
    fn determiners_are_whole_words() {
        let text =
            ["<bos>", " The", " cat", " saw", " an", " owl", ",", " then", " a", "the", " x"];
        let (yes, no) = (Some(YES), Some(NO));
        let want = [None, None, yes, no, no, yes, None, None, no, None, None];
        assert_eq!(answers(Task::AfterDeterminer, &text), want);
    }

    #[test]
    fn quotation_marks_open_and_close() {
        let (yes, no) = (Some(YES), Some(NO));
        let curly = ["<bos>", " he", " “", "yes", " said", ".”", " he", " \"", " no", "\"", " so"];
        let want = [None, None, None, None, yes, None, no, None, yes, None, no];
        assert_eq!(answers(Task::InQuotes, &curly), want);
        let blank = ["\"", " a", "\n", " \n", " b", "\"", " c", "\n", " d", "\n\n", " e"];
        let want = [None, None, None, None, no, None, yes, None, yes, None, no];
        assert_eq!(answers(Task::InQuotes, &blank), want);
    }
}
