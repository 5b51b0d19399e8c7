//! The stop button, and Ctrl-C in a terminal.
//!
//! A long call asks [`requested`] at least every 100 ms, and when the answer is yes it ends early
//! and returns what it has. Without this a stop would end the process that runs the notebook's
//! cells, and every variable with it.
//!
//! ```
//! use tokenized_sae::display::interrupt;
//! interrupt::watch();
//! interrupt::clear();
//! for _step in 0..1000 {
//!     if interrupt::requested() {
//!         break;
//!     }
//! }
//! ```
//!
//! The first press sets the flag. A second press within three seconds (but no sooner than a fifth
//! of one), of a call that does not listen, ends the process with exit status 130. [`clear`]
//! forgets both, so that the press after a call that did listen is a first one again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Signals that come within this time are one press: a front end may tell the process group and the
/// launcher as well, and on a busy machine what the launcher passes on comes late.
#[cfg(unix)]
const SAME_PRESS: std::time::Duration = std::time::Duration::from_millis(200);

#[cfg(unix)]
const SECOND_PRESS: std::time::Duration = std::time::Duration::from_secs(3);

/// What the signal handler writes to.
struct Flags {
    requested: Arc<AtomicBool>,
    /// Whether the next press ends the process.
    armed: Arc<AtomicBool>,
    /// Whether it was ever pressed.
    ever: Arc<AtomicBool>,
}

static FLAGS: OnceLock<Flags> = OnceLock::new();

/// Starts to listen for the stop button; only the first call does anything.
///
/// If the operating system refuses the handler, a press does what it did before: it ends the
/// process.
pub fn watch() {
    FLAGS.get_or_init(|| {
        let flags =
            Flags { requested: Arc::default(), armed: Arc::default(), ever: Arc::default() };
        let handlers = [
            signal_hook::flag::register_conditional_shutdown(
                signal_hook::consts::SIGINT,
                130,
                flags.armed.clone(),
            ),
            signal_hook::flag::register(signal_hook::consts::SIGINT, flags.requested.clone()),
            signal_hook::flag::register(signal_hook::consts::SIGINT, flags.ever.clone()),
        ];
        if handlers.iter().any(Result::is_err)
            || arm_for_a_while(flags.requested.clone(), flags.armed.clone()).is_err()
        {
            handlers.into_iter().flatten().for_each(|id| {
                signal_hook::low_level::unregister(id);
            });
        }
        flags
    });
}

/// Listens as well to what an engine sends before it kills: SIGTERM counts as a press.
///
/// If the operating system refuses the handler, it ends the process, as it did before.
pub fn watch_termination() {
    watch();
    #[cfg(unix)]
    if let Some(flags) = FLAGS.get() {
        for flag in [&flags.ever, &flags.requested] {
            let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, flag.clone());
        }
    }
}

/// Whether the stop button was pressed since the last [`clear`]. One relaxed load: ask as often as
/// you like.
pub fn requested() -> bool {
    FLAGS.get().is_some_and(|flags| flags.requested.load(Ordering::Relaxed))
}

/// Whether the stop button was pressed at any time since [`watch`], whatever became of it: a
/// command that was stopped says so by its exit status.
pub fn was_pressed() -> bool {
    FLAGS.get().is_some_and(|flags| flags.ever.load(Ordering::Relaxed))
}

/// Remembers that it [was pressed](was_pressed) in another process that works on the same.
pub fn pressed_elsewhere() {
    if let Some(flags) = FLAGS.get() {
        flags.ever.store(true, Ordering::Relaxed);
    }
}

/// Forgets a press: at the start of a long call, and when it has ended because of one.
pub fn clear() {
    if let Some(flags) = FLAGS.get() {
        flags.requested.store(false, Ordering::Relaxed);
        flags.armed.store(false, Ordering::Relaxed);
    }
}

/// A thread that sleeps until a press, arms the next one if no call has listened to this one yet,
/// and takes the arms away again when three seconds pass without another.
#[cfg(unix)]
fn arm_for_a_while(requested: Arc<AtomicBool>, armed: Arc<AtomicBool>) -> std::io::Result<()> {
    use std::io::{ErrorKind, Read};
    let (mut presses, handler_end) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, handler_end)?;
    std::thread::Builder::new().name("tsae-interrupt".to_owned()).spawn(move || {
        let mut bytes = [0; 64];
        loop {
            let wait = armed.load(Ordering::Relaxed).then_some(SECOND_PRESS);
            if presses.set_read_timeout(wait).is_err() {
                return;
            }
            match presses.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {
                    std::thread::sleep(SAME_PRESS);
                    armed.store(requested.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    armed.store(false, Ordering::Relaxed)
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })?;
    Ok(())
}

/// Without such a thread no press ends the process.
#[cfg(not(unix))]
fn arm_for_a_while(_requested: Arc<AtomicBool>, _armed: Arc<AtomicBool>) -> std::io::Result<()> {
    Ok(())
}
