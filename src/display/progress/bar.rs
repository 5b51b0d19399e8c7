//! A bar as HTML.

use crate::display::escape;

/// How the call stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum State {
    Running,
    Done,
    Stopped,
}

impl State {
    /// Colours with a contrast of at least 3 to both a white and a black page.
    fn colour(self) -> &'static str {
        match self {
            State::Running => "#3b82c4",
            State::Done => "#3d9a5b",
            State::Stopped => "#b7822a",
        }
    }
}

/// The bar, filled to `share` of it if that is known, and the line behind it.
pub(super) fn html(line: &str, share: Option<f64>, state: State) -> String {
    let bar = share.map(|share| {
        let percent = 100.0 * share;
        format!(
            "<div role=\"progressbar\" aria-valuemin=\"0\" aria-valuemax=\"100\" aria-valuenow=\"{percent:.0}\" \
             style=\"flex:none;width:14em;height:.6em;border-radius:.3em;overflow:hidden;background:rgba(128,128,128,.3)\">\
             <div style=\"width:{percent:.1}%;height:100%;background:{}\"></div></div>",
            state.colour()
        )
    });
    format!(
        "<div style=\"display:flex;align-items:center;gap:.8em;line-height:1.6;font-variant-numeric:tabular-nums\">{}<span>{}</span></div>",
        bar.unwrap_or_default(),
        escape(line)
    )
}
