//! How errors, forecasts and shares show themselves.

use super::{Show, Shown, escape, settings, shows};
use crate::base::error::Error;
use crate::base::forecast::Forecast;
use crate::base::format;
use crate::base::share::Share;

shows!(Error);

/// As the sentence that it is.
impl Show for Error {
    fn shown(&self) -> Shown {
        let text = self.to_string();
        let style = "margin:.3em 0;padding-left:.7em;border-left:3px solid rgba(214,69,65,.9);white-space:pre-wrap";
        Shown { html: format!("<p style=\"{style}\">{}</p>", escape(&text)), text }
    }
}

impl Show for Forecast {
    fn shown(&self) -> Shown {
        let mut rows = vec![
            (
                "time",
                format::duration(self.seconds),
                "measured on a small part of it, on this machine under its current load",
            ),
            (
                "memory",
                format::bytes(self.memory),
                "at most, without the model and whatever else is in memory already",
            ),
        ];
        if self.card > 0 {
            rows.push(("card", format::bytes(self.card), "memory of the card that does it"));
        }
        if self.disk > 0 {
            rows.push(("disk", format::bytes(self.disk), "size of the files"));
        }
        settings("Forecast", rows).into()
    }
}

impl Show for Share {
    fn shown(&self) -> Shown {
        let meaning = format!("share {} of {} of the work", self.number(), self.of());
        Shown::sentence(&self.to_string(), &meaning)
    }
}

shows!(Forecast, Share);
