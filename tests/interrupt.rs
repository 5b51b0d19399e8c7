//! The promise: a press of the stop button sets a flag, a second within three seconds ends the
//! process, and a press that was listened to does not count.
#![cfg(unix)]

use std::process::{Command, ExitStatus};
use std::time::Duration;

use signal_hook::{consts::SIGINT, low_level::raise};
use tokenized_sae::display::interrupt;

/// What the child process does; in the parent these tests do nothing.
fn as_child(name: &str) -> bool {
    std::env::var("TSAE_TEST_CHILD").is_ok_and(|child| child == name)
}

/// Runs the test `name` of this file in a process of its own.
fn child(name: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args(["--exact", name])
        .env("TSAE_TEST_CHILD", name)
        .output()
        .unwrap()
        .status
}

fn press() {
    raise(SIGINT).unwrap();
}

#[test]
fn one_press_is_a_request() {
    if as_child("one_press_is_a_request") {
        interrupt::watch();
        interrupt::watch();
        assert!(!interrupt::requested());
        press();
        assert!(interrupt::requested());
        interrupt::clear();
        assert!(!interrupt::requested());
        // The call listened, so this is a first press again.
        press();
        assert!(interrupt::requested());
        std::process::exit(7);
    } else {
        assert_eq!(child("one_press_is_a_request").code(), Some(7));
    }
}

#[test]
fn two_presses_end_the_process() {
    if as_child("two_presses_end_the_process") {
        interrupt::watch();
        press();
        std::thread::sleep(Duration::from_millis(600));
        press();
        std::process::exit(7);
    } else {
        assert_eq!(child("two_presses_end_the_process").code(), Some(130));
    }
}

#[test]
fn signals_close_together_are_one_press() {
    if as_child("signals_close_together_are_one_press") {
        interrupt::watch();
        (0..3).for_each(|_| press());
        assert!(interrupt::requested());
        std::process::exit(7);
    } else {
        assert_eq!(child("signals_close_together_are_one_press").code(), Some(7));
    }
}

#[test]
fn presses_far_apart_are_two_requests() {
    if as_child("presses_far_apart_are_two_requests") {
        interrupt::watch();
        press();
        std::thread::sleep(Duration::from_millis(3500));
        press();
        assert!(interrupt::requested());
        std::process::exit(7);
    } else {
        assert_eq!(child("presses_far_apart_are_two_requests").code(), Some(7));
    }
}

#[test]
fn without_watch_nothing_is_requested() {
    assert!(!interrupt::requested());
    interrupt::clear();
    assert!(!interrupt::requested());
}
