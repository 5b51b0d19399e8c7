use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::bar::State;
use super::sink::Out;
use super::*;

/// A progress whose clock is set by hand and whose lines are kept.
fn watched(
    total: u64,
    unit: &str,
    terminal: bool,
) -> (Progress, Rc<Cell<f64>>, Rc<RefCell<String>>) {
    let (time, text) = (Rc::new(Cell::new(0.0)), Rc::new(RefCell::new(String::new())));
    let out = Out::Memory(text.clone());
    let sink = if terminal { Sink::Terminal(out) } else { Sink::Lines(out) };
    (Progress::with("harvest", total, unit, Clock::ByHand(time.clone()), sink), time, text)
}

#[test]
fn one_line_a_second() {
    let (mut progress, time, text) = watched(4_000_000, "tokens", false);
    for ms in 0..10_000_u64 {
        time.set(ms as f64 / 1000.0);
        progress.set(ms * 41);
    }
    let text = text.borrow();
    // At 0.5, 1.5, … 9.5 s.
    assert_eq!(text.lines().count(), 10, "{text}");
    assert_eq!(
        text.lines().last(),
        Some("harvest  390 k of 4.0 M tokens · 41 k tok/s · 2 min left")
    );
}

#[test]
fn a_quick_call_shows_its_last_line_only() {
    let (mut progress, time, text) = watched(100, "sequences", false);
    for i in 0..=100 {
        time.set(i as f64 * 0.004);
        progress.set(i);
    }
    progress.finish();
    assert_eq!(*text.borrow(), "harvest  100 sequences · 250 sequences/s · 0.40 s\n");
}

#[test]
fn says_where_it_stopped() {
    let (mut progress, time, text) = watched(4_000_000, "tokens", false);
    time.set(0.4);
    progress.set(1_234_567);
    progress.note("interrupted");
    progress.finish();
    assert_eq!(
        *text.borrow(),
        "harvest  stopped at 1.2 M of 4.0 M tokens · 3.1 M tok/s · 0.40 s · interrupted\n"
    );
}

#[test]
fn the_rate_forgets_what_an_earlier_process_did() {
    let (progress, time, text) = watched(4_000_000, "tokens", false);
    let mut progress = progress.resumed_at(3_000_000);
    time.set(2.0);
    progress.set(3_020_000);
    time.set(100.0);
    progress.set(4_000_000);
    progress.finish();
    let text = text.borrow();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "harvest  3.0 M of 4.0 M tokens · 10 k tok/s · 2 min left");
    assert_eq!(lines[2], "harvest  4.0 M tokens · 10 k tok/s · 1 min 40 s");
}

#[test]
fn the_rate_follows_a_change() {
    let (mut progress, time, text) = watched(1_000_000, "steps", false);
    for s in 1..=60_u64 {
        time.set(s as f64);
        progress.set(if s <= 30 { s * 100 } else { 3_000 + (s - 30) * 1000 });
    }
    assert!(
        text.borrow().lines().last().is_some_and(|l| l.contains("· 1000 steps/s · 17 min left")),
        "{}",
        text.borrow()
    );
}

#[test]
fn unknown_totals_sizes_and_stalls() {
    let (mut progress, time, text) = watched(0, "B", false);
    time.set(1.0);
    progress.set(0);
    time.set(2.0);
    progress.set(3_000_000);
    progress.finish();
    assert_eq!(
        *text.borrow(),
        "harvest  0 B\nharvest  3.0 MB · 1.5 MB/s\nharvest  3.0 MB · 1.5 MB/s · 2.0 s\n"
    );
}

#[test]
fn a_terminal_line_is_redrawn_and_taken_away() {
    let (mut progress, time, text) = watched(1000, "steps", true);
    time.set(1.0);
    progress.set(310);
    time.set(1.05);
    progress.set(320); // too soon
    assert_eq!(
        *text.borrow(),
        "\r\x1b[?7l━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌  31 %  harvest  310 of 1000 steps · 310 steps/s · 2 s left\x1b[K\x1b[?7h"
    );
    drop(progress);
    assert!(text.borrow().ends_with("\r\x1b[K"));
}

#[test]
fn the_environment_chooses() {
    assert!(Sink::of("off", true, true).is_off());
    assert!(matches!(Sink::of("", true, false), Sink::Lines(Out::Stdout)));
    assert!(matches!(Sink::of("", true, true), Sink::Lines(Out::Stdout)));
    assert!(matches!(Sink::of("", false, true), Sink::Terminal(Out::Stderr)));
    assert!(matches!(Sink::of("lines", false, true), Sink::Lines(Out::Stderr)));
    assert!(matches!(Sink::of("", false, false), Sink::Lines(Out::Stderr)));
}

#[test]
fn off_means_nothing_at_all() {
    let time = Rc::new(Cell::new(0.0));
    let mut progress = Progress::with("x", 10, "steps", Clock::ByHand(time.clone()), Sink::Off);
    time.set(5.0);
    progress.set(5);
    progress.finish();
}

#[test]
fn a_bar_says_what_the_line_says() {
    let html = bar::html("train  <b> 1.0 M of 4.0 M tokens", Some(0.25), State::Running);
    assert!(
        html.contains("aria-valuenow=\"25\"")
            && html.contains("width:25.0%")
            && html.contains("train  &lt;b&gt; 1.0 M"),
        "{html}"
    );
    assert_eq!(html.matches("<div").count(), html.matches("</div>").count());
    assert!(
        !bar::html("train", None, State::Running).contains("progressbar"),
        "nobody knows how much there is"
    );
    assert_ne!(bar::html("x", Some(1.0), State::Done), bar::html("x", Some(1.0), State::Stopped));
}
