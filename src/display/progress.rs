//! How far a long call has come.

mod bar;
mod clock;
mod recent;
mod sink;

use crate::base::format;
use clock::Clock;
pub(crate) use recent::Recent;
use sink::Sink;

/// A call shorter than this shows nothing but its last line.
const QUIET_S: f64 = 0.5;

/// Says something on a line of its own, where progress is shown.
pub(crate) fn remark(text: &str) {
    Sink::choose().remark(text);
}

/// Says how far a long call has come: a bar in a notebook, one redrawn line on a terminal, plain
/// lines elsewhere; and a last line when it has ended, which is all if that took less than half a
/// second.
///
/// ```text
/// harvest  1.2 M of 4.0 M tokens · 41 k tok/s · 1 min left
/// harvest  4.0 M tokens · 41 k tok/s · 1 min 38 s
/// ```
///
/// Plain lines come once a second, and more rarely the longer it takes: 70 of them in four minutes,
/// 200 in a day. In a notebook cell they go to the standard output, elsewhere to the standard
/// error; the bar needs the kernel "Rust (tsae)". `TSAE_PROGRESS=off` in the environment silences
/// it, `TSAE_PROGRESS=lines` asks for plain lines everywhere. Sizes are shown as such if the unit
/// is `"B"`.
///
/// ```
/// use tokenized_sae::display::Progress;
/// let mut progress = Progress::new("harvest", 4_000, "tokens");
/// for done in 0..=4_000 {
///     progress.set(done); // cheap: 25 ns when there is nothing to show
/// }
/// progress.finish();
/// ```
pub struct Progress {
    what: String,
    unit: String,
    total: u64,
    done: u64,
    /// Where this process started: what an earlier one did says nothing of the rate.
    first: u64,
    note: String,
    clock: Clock,
    sink: Sink,
    next_s: f64,
    /// `(seconds, done)` at the lines shown last.
    recent: Recent,
    finished: bool,
}

impl Progress {
    /// Starts the clock. `what` is a verb or a name; `total` is 0 if nobody knows; `unit` is a
    /// plural: "tokens", "steps", or "B".
    pub fn new(what: &str, total: u64, unit: &str) -> Progress {
        Progress::with(what, total, unit, Clock::start(), Sink::choose())
    }

    fn with(what: &str, total: u64, unit: &str, clock: Clock, sink: Sink) -> Progress {
        Progress {
            what: what.to_owned(),
            unit: unit.to_owned(),
            total,
            done: 0,
            first: 0,
            note: String::new(),
            clock,
            sink,
            next_s: QUIET_S,
            recent: Recent::from(0.0, 0),
            finished: false,
        }
    }

    /// Shows no progress in this process from now on, as `TSAE_PROGRESS=off` does; for a command
    /// that must be quiet.
    pub fn silence() {
        sink::silence();
    }

    /// Begins at `done` instead of 0, when an earlier process did that much: the rate counts from
    /// here.
    pub fn resumed_at(mut self, done: u64) -> Progress {
        self.done = done;
        self.first = done;
        self.recent = Recent::from(self.clock.seconds(), done);
        self
    }

    /// Says that `done` of the total are done, and shows it if it is time. Call it as often as you
    /// like.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        let now = self.clock.seconds();
        if now < self.next_s || self.sink.is_off() {
            return;
        }
        self.next_s = now + self.sink.interval_s(now);
        let line = self.running_line(now);
        self.sink.update(&line, self.share());
        self.recent.see(now, done);
    }

    /// Sets what stands at the end of the line from now on: `"NMSE 0.041"`. An empty note takes it
    /// away.
    pub fn note(&mut self, note: &str) {
        note.clone_into(&mut self.note);
    }

    /// Says something that is no progress, on a line of its own.
    pub(crate) fn remark(&mut self, text: &str) {
        self.sink.remark(text);
    }

    /// Shows the last line: how much was done, how fast, in what time; and where it stopped, if
    /// before the total.
    pub fn finish(mut self) {
        let line = self.last_line(self.clock.seconds());
        self.sink.last(&line, self.share());
        self.finished = true;
    }

    /// As [`finish`](Progress::finish), but shows nothing at all of a call of less than half a
    /// second.
    pub fn finish_if_long(mut self) {
        if self.clock.seconds() < QUIET_S {
            self.finished = true;
        } else {
            self.finish();
        }
    }

    fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done as f64 / self.total as f64).min(1.0))
    }

    fn running_line(&self, now: f64) -> String {
        let mut line = format!("{}  {}", self.what, self.amount());
        let (then, before) = self.recent.begin();
        let rate = self.done.saturating_sub(before) as f64 / (now - then);
        if rate.is_finite() && rate > 0.0 {
            line += &format!(" · {}", self.rate(rate));
            if self.total > self.done {
                line += &format!(
                    " · {} left",
                    format::coarse_duration((self.total - self.done) as f64 / rate)
                );
            }
        }
        self.noted(line)
    }

    fn last_line(&self, now: f64) -> String {
        let stopped = if self.done < self.total { "stopped at " } else { "" };
        let amount =
            if self.done < self.total { self.amount() } else { self.shown(self.done, true) };
        let mut line = format!("{}  {stopped}{amount}", self.what);
        let rate = self.done.saturating_sub(self.first) as f64 / now;
        // Over a few milliseconds a rate says nothing.
        if now >= 0.05 && rate > 0.0 {
            line += &format!(" · {}", self.rate(rate));
        }
        line += &format!(" · {}", format::duration(now));
        self.noted(line)
    }

    fn noted(&self, line: String) -> String {
        if self.note.is_empty() { line } else { format!("{line} · {}", self.note) }
    }

    /// "1.2 M of 4.0 M tokens".
    fn amount(&self) -> String {
        if self.total == 0 {
            return self.shown(self.done, true);
        }
        format!("{} of {}", self.shown(self.done, false), self.shown(self.total, true))
    }

    fn shown(&self, n: u64, with_unit: bool) -> String {
        match self.unit.as_str() {
            "B" => format::bytes(n),
            unit if with_unit => format!("{} {unit}", format::count(n)).trim_end().to_owned(),
            _ => format::count(n),
        }
    }

    fn rate(&self, per_second: f64) -> String {
        match self.unit.as_str() {
            "B" => format!("{}/s", format::bytes(per_second as u64)),
            "tokens" => format!("{} tok/s", format::rate(per_second)),
            unit => format!("{} {unit}/s", format::rate(per_second)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Left by an error: what is printed next must not land behind the redrawn line.
        if !self.finished {
            self.sink.abandon(self.share());
        }
    }
}

#[cfg(test)]
mod tests;
