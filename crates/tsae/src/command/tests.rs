//! What the help says is so.

use clap::{Command, CommandFactory, Parser};

use super::Cli;

/// Every verb, and every verb of a verb, by what is typed for it.
fn verbs() -> Vec<(String, Command)> {
    fn walk(name: &str, command: &Command, all: &mut Vec<(String, Command)>) {
        all.push((name.to_owned(), command.clone()));
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            walk(&format!("{name} {}", verb.get_name()), verb, all);
        }
    }
    let mut all = Vec::new();
    walk("tsae", &Cli::command(), &mut all);
    all
}

/// The long help of a verb, as a person reads it.
fn help(verb: &Command) -> String {
    verb.clone().render_long_help().to_string()
}

/// The lines below "Examples:" that are commands.
fn examples(help: &str) -> Vec<&str> {
    let below = help.split("Examples:\n").nth(1).unwrap_or_default();
    below
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        .map(str::trim)
        .filter(|line| line.contains("tsae "))
        .collect()
}

/// The words of a command line, as a shell takes them: quotes, `NAME=VALUE` before the command, `#
/// a remark` and `> a file` after it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in line.chars().chain([' ']) {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted && begun => {
                words.push(std::mem::take(&mut word));
                begun = false;
            }
            ' ' if !quoted => {}
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    let begin = words.iter().position(|word| word == "tsae").unwrap_or(0);
    words.drain(..begin);
    let end = words.iter().position(|word| word == "#" || word == ">").unwrap_or(words.len());
    words.truncate(end);
    words
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(
        words("A=b tsae x --text 'a *.txt' ''  # so"),
        ["tsae", "x", "--text", "a *.txt", ""]
    );
    assert_eq!(words("tsae completions bash > ~/it"), ["tsae", "completions", "bash"]);
}

#[test]
fn every_verb_ends_in_examples_that_can_be_typed() {
    for (name, verb) in verbs() {
        let help = help(&verb);
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{name} has no examples");
        for example in examples {
            let words = words(example);
            assert!(words.join(" ").starts_with("tsae "), "{name}: {example}");
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{name}: {example}\n{error}");
            }
        }
    }
}

#[test]
fn help_is_plain_text() {
    for (name, verb) in verbs() {
        let help = help(&verb);
        for markup in ["[`", "`]", "](", "::", "**"] {
            assert!(!help.contains(markup), "{name}: {markup} in\n{help}");
        }
    }
}

#[test]
fn every_verb_and_option_says_what_it_does() {
    for (name, verb) in verbs() {
        assert!(verb.get_about().is_some(), "{name}");
        for argument in verb.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
        }
    }
    Cli::command().debug_assert();
}

#[test]
fn every_verb_that_reports_can_do_so_in_json() {
    for (name, verb) in verbs() {
        let silent = verb.has_subcommands() || name == "tsae completions";
        assert_eq!(
            verb.get_arguments().any(|argument| argument.get_id() == "json"),
            !silent,
            "{name}"
        );
    }
}
