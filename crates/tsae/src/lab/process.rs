//! Programs that the set-up calls, heard line by line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::error::{Error, Result};

/// How many of a program's last lines an error shows.
const TAIL: usize = 40;

/// A line that a program wrote.
pub(super) enum Line {
    /// On its standard output.
    Out(String),
    /// On its standard error.
    Err(String),
}

/// How a program ended.
pub(super) struct Ended {
    pub success: bool,
    /// Its exit status and its last lines.
    pub last_words: String,
}

/// What a program finds on its standard input.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// A line, and no end as long as this process lives: when there is one, the program should end
    /// too.
    Line(&'a str),
    /// The set-up's lock, an empty file. It is held as long as the program lives, so that a set-up
    /// that follows one that was killed does not write where the program still does.
    Lock(&'a File),
}

/// Runs `command`, gives it `input`, and hands each line it writes to `on_line` as it comes.
pub(super) fn run(
    step: &str,
    command: &mut Command,
    input: Input,
    mut on_line: impl FnMut(&Line),
) -> Result<Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let broken =
        |e: std::io::Error| Error::Setup { step: step.to_owned(), why: format!("{program}: {e}") };
    let stdin = match input {
        Input::Line(_) => Stdio::piped(),
        Input::Lock(lock) => Stdio::from(lock.try_clone().map_err(broken)?),
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(broken)?;
    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        listen(out, sender.clone(), Line::Out);
    }
    if let Some(err) = child.stderr.take() {
        listen(err, sender, Line::Err);
    }
    let mut stdin = child.stdin.take();
    if let (Some(stdin), Input::Line(line)) = (&mut stdin, input) {
        // A program that ends without reading is judged by its exit status.
        let _ = stdin.write_all(format!("{line}\n").as_bytes());
    }
    let mut tail = VecDeque::new();
    for line in lines {
        on_line(&line);
        let (Line::Out(text) | Line::Err(text)) = line;
        tail.push_back(text);
        if tail.len() > TAIL {
            tail.pop_front();
        }
    }
    let status = child.wait().map_err(broken)?;
    drop(stdin);
    let last_words = format!("{program}: {status}\n{}", Vec::from(tail).join("\n"));
    Ok(Ended { success: status.success(), last_words })
}

/// As [`run`], for a step of the set-up that must succeed.
///
/// # Errors
/// [`Error::Setup`] with `step`, the program's last lines, and `advice`.
pub(super) fn succeed(
    step: &str,
    command: &mut Command,
    lock: &File,
    advice: &str,
    on_line: impl FnMut(&Line),
) -> Result<()> {
    let ended = run(step, command, Input::Lock(lock), on_line)?;
    if ended.success {
        Ok(())
    } else {
        Err(Error::Setup { step: step.to_owned(), why: format!("{}\n{advice}", ended.last_words) })
    }
}

/// What a program prints, trimmed; `None` if it cannot be run or fails.
pub(super) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Removes what `cargo run`, `cargo test` or the user set for another build than the one that
/// `command` makes.
pub(super) fn without_build_settings(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
    ];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_a_build =
            name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
        if of_a_build
            || ["RUSTC", "RUSTFLAGS", "RUSTDOCFLAGS"].iter().any(|start| name.starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The first of `names` that is a file in a folder of `PATH`.
pub(super) fn on_path(names: &[&str]) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    names
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

/// `PATH` with the folder of `tsae` itself in front, so that a cell that starts `tsae` starts the one
/// that opened the notebook. None if this is another program, with no `tsae` beside it.
pub(super) fn path_to_tsae() -> Option<std::ffi::OsString> {
    let program = std::env::current_exe().ok()?;
    let name = format!("tsae{}", std::env::consts::EXE_SUFFIX);
    // A test lies one folder deeper than the command.
    let folder = program.ancestors().skip(1).take(2).find(|folder| folder.join(&name).is_file())?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path)))
        .ok()
}

fn listen(
    stream: impl Read + Send + 'static,
    sender: mpsc::Sender<Line>,
    kind: fn(String) -> Line,
) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(kind(text)).is_err() {
                return;
            }
        }
    });
}
