//! The words of the command line: what is typed for a path, and what an error of the library, which
//! speaks of fields and methods, says of options.

use std::any::TypeId;
use std::path::{Path, PathBuf};

use clap::Command;
use clap::builder::{PathBufValueParser, StringValueParser, TypedValueParser};
use tokenized_sae::Error as Library;
use tsae::Error;

/// Settings of the library that have another name on the command line.
const OTHERWISE: [(&str, &str); 14] = [
    ("architecture", "arch"),
    ("held_out", "held-out-share"),
    ("hooks", "hook"),
    ("ks", "latents"),
    ("l0", "penalty"),
    ("l1", "penalty"),
    ("learned", "frozen"),
    ("learning_rates", "lr"),
    ("max_tokens", "tokens"),
    ("n", "longest"),
    ("n_tokens", "sampled"),
    ("sampling_seed", "seed"),
    ("target_l0", "l0"),
    ("text_seed", "seed"),
];

/// The command with all its verbs, of which every path, model and pattern of files may begin with
/// `~`: as in `--out=~/x`, where a shell leaves it as it is; and every number with `-`.
pub fn at_home(command: Command) -> Command {
    let reads_files = command.get_name() != "predict";
    let command = command.mut_args(|arg| {
        let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let is_option = arg.get_long().is_some() && arg.get_action().takes_values();
        // So that `--penalty -1` is told what is wrong with it, and not taken for an option.
        let arg = if is_option { arg.allow_negative_numbers(true) } else { arg };
        match arg.get_id().as_str() {
            _ if is_path => {
                arg.value_parser(PathBufValueParser::new().map(|path: PathBuf| home(&path)))
            }
            "model" => arg.value_parser(StringValueParser::new().map(home_of_text)),
            "text" if reads_files => arg.value_parser(StringValueParser::new().map(home_of_text)),
            _ => arg,
        }
    });
    command.mut_subcommands(at_home)
}

fn home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn home_of_text(text: String) -> String {
    home(Path::new(&text)).into_os_string().into_string().unwrap_or(text)
}

/// What a cell would do that is no option, and what does it on the command line.
const OF_CELLS: [(&str, &str); 4] = [
    (
        "give the trainer some text with .held_out(&model, &corpus.valid)",
        "train on what tsae harvest has made with a --held-out-share above 0",
    ),
    (": set aux to None", ": leave it out"),
    (": set k to it, and this to None", ": give that as --k, and leave this out"),
    ("set its config.relu to true (--relu)", "give --relu"),
];

/// An error in the words of where it is read: settings are options of the verb that was typed.
pub fn told(error: &Error, verb: &Command) -> String {
    match error {
        // It speaks of a file, in the words of files.
        Error::Library(Library::Description { .. }) => error.to_string(),
        Error::Library(Library::Config { field, why }) => {
            // Where in a description it would stand is of no use where there is none.
            let why = why.strip_prefix("in ").and_then(|rest| rest.split_once(": ")).map_or(
                why.as_str(),
                |(place, rest)| if place.contains(' ') { why.as_str() } else { rest },
            );
            match option(verb, field) {
                Some((option, _)) if why.starts_with("is ") => {
                    translated(&format!("{option} {why}"), verb)
                }
                Some((option, _)) if names(why, field) => {
                    translated(&format!("{option}{}", &why[field.len()..]), verb)
                }
                Some((option, _)) => translated(&format!("{option}: {why}"), verb),
                // What was not typed needs no name, unless the sentence has none without.
                None if !why.starts_with("is ") => translated(why, verb),
                None => translated(&format!("{field} {why}"), verb),
            }
        }
        error => translated(&error.to_string(), verb),
    }
}

/// Whether a sentence begins with the name of a setting and its value.
fn names(why: &str, field: &str) -> bool {
    why.strip_prefix(field).is_some_and(|rest| rest.starts_with([' ', ':']))
}

/// The option of a verb for a setting of the library, if it has one, and whether it takes a value.
fn option(verb: &Command, setting: &str) -> Option<(String, bool)> {
    let otherwise = OTHERWISE.iter().find(|(name, _)| *name == setting).map(|(_, option)| *option);
    let names = otherwise.map(str::to_owned).into_iter().chain([setting.replace('_', "-")]);
    let find = |name: String| {
        let mut arguments = verb.get_arguments();
        let argument = arguments.find(|argument| argument.get_long() == Some(name.as_str()))?;
        Some((format!("--{name}"), argument.get_action().takes_values()))
    };
    names.into_iter().find_map(find)
}

/// A sentence in which settings are options: `column("…")` is `--column …`, `lookup = "unigram"` is
/// `--lookup unigram`, and `max_tokens` is `--tokens`. Paths stay as they are.
fn translated(sentence: &str, verb: &Command) -> String {
    let sentence = OF_CELLS
        .iter()
        .fold(sentence.to_owned(), |sentence, (cell, line)| sentence.replace(cell, line));
    let mut out = String::new();
    let mut rest = sentence.as_str();
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, behind) = rest.split_at(end);
        let before = out.trim_end_matches('.').chars().next_back();
        let is_within = before.is_some_and(|c| c.is_alphanumeric() || "/-\\~".contains(c))
            || behind.starts_with(['/', '-', '\\'])
            || behind.strip_prefix('.').is_some_and(|rest| rest.starts_with(is_word));
        let found =
            if is_within { None } else { option(verb, word).zip(said(word, behind, before)) };
        match found {
            Some(((option, takes_value), (value, after))) => {
                // A method's dot, and the quotes of code.
                out.truncate(out.trim_end_matches(['.', '`']).len());
                out += &option;
                if let Some(value) = value.filter(|_| takes_value) {
                    out += &format!(" {value}");
                }
                rest = after;
            }
            None => {
                out += word;
                rest = behind;
            }
        }
    }
    out
}

/// The value that a word is given as a setting, if it stands for one, and what is behind.
fn said<'a>(
    word: &str,
    behind: &'a str,
    before: Option<char>,
) -> Option<(Option<String>, &'a str)> {
    let value =
        |text: &str| Some(text.trim_matches('"').to_owned()).filter(|text| !text.is_empty());
    if let Some((arguments, after)) = behind.strip_prefix('(').and_then(|it| it.split_once(')')) {
        let is_name =
            after.strip_prefix('.').is_some_and(|it| it.starts_with(char::is_alphanumeric));
        return (!is_name).then_some((value(arguments), after));
    }
    if let Some((quoted, after)) = behind.strip_prefix(" = \"").and_then(|it| it.split_once('"')) {
        return Some((value(quoted), after));
    }
    if before == Some('`') {
        return Some((None, behind.strip_prefix('`')?));
    }
    let is_setting = word.contains('_') || behind.starts_with(" = ");
    (is_setting && before.is_none_or(|c| c == ' ' || c == '(')).then_some((None, behind))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn verb(name: &str) -> Command {
        super::super::Cli::command().find_subcommand(name).unwrap().clone()
    }

    fn config(field: &'static str, why: &str) -> Error {
        Error::config(field, why)
    }

    #[test]
    fn an_error_speaks_of_the_options_of_the_verb_that_was_typed() {
        for (name, error, words) in [
            (
                "train",
                config("lr", "in train: lr = 0; it must be above 0"),
                "--lr = 0; it must be above 0",
            ),
            (
                "train",
                config("k", "in sae[0]: k = 0; at least 1 is needed"),
                "--k = 0; at least 1 is needed",
            ),
            ("harvest", config("max_tokens", "max_tokens is for text"), "--tokens is for text"),
            ("tokenness", config("tokens", "is 0; at least one"), "--tokens is 0; at least one"),
            (
                "probe",
                config("ks", "ks = 0; at least 1 is needed"),
                "--latents = 0; at least 1 is needed",
            ),
            (
                "train",
                config("balance", "there is no table: give one, as lookup = \"unigram\""),
                "--balance: there is no table: give one, as --lookup unigram",
            ),
            ("compare", config("learning_rates", "the list is empty"), "--lr: the list is empty"),
            (
                "eval",
                config("model", "it does not say: give `model`"),
                "--model: it does not say: give --model",
            ),
            (
                "harvest",
                Error::format("books/max_tokens/a.jsonl", "choose one with column(\"…\")"),
                "books/max_tokens/a.jsonl: choose one with --column …",
            ),
            (
                "harvest",
                Error::format("held_out.safetensors", "call max_tokens(…) before stream(…)"),
                "held_out.safetensors: call --tokens … before --stream",
            ),
            // A setting that the verb has no option for keeps its name.
            ("plot", config("k", "k = 0; at least 1"), "k = 0; at least 1"),
        ] {
            assert_eq!(told(&error, &verb(name)), words, "{name}");
        }
    }

    #[test]
    fn every_path_may_begin_at_home() {
        fn paths(command: &Command, all: &mut Vec<(String, clap::Arg)>) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let is_path = argument.get_value_parser().type_id() == TypeId::of::<PathBuf>();
                if is_path || id == "model" || id == "text" && command.get_name() != "predict" {
                    all.push((format!("{} {id}", command.get_name()), argument.clone()));
                }
            }
            command.get_subcommands().for_each(|verb| paths(verb, all));
        }
        let mut all = Vec::new();
        paths(&at_home(super::super::Cli::command()), &mut all);
        assert!(all.len() > 25, "{}", all.len());
        let home = std::env::home_dir().unwrap();
        for (name, argument) in all {
            let plain = argument.required(false).num_args(1).exclusive(false);
            let plain =
                clap::Arg::new("it").long("it").value_parser(plain.get_value_parser().clone());
            let matches = Command::new("x").arg(plain).get_matches_from(["x", "--it=~/a/b"]);
            let path = matches.try_get_one::<PathBuf>("it").ok().flatten().cloned();
            let text = matches.try_get_one::<String>("it").ok().flatten().map(PathBuf::from);
            assert_eq!(path.or(text), Some(home.join("a/b")), "{name}");
        }
        let predict = at_home(super::super::Cli::command());
        let matches = predict.get_matches_from(["tsae", "predict", "tiny-gpt2", "--text=~/a"]);
        let text = matches.subcommand().unwrap().1.get_one::<String>("text").unwrap();
        assert_eq!(text, "~/a", "a text that is read as it is");
    }
}
