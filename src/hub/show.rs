//! How the hub's parts show themselves.

use super::{Hub, Kind, Patience, Repo, Snapshot, Token};
use crate::base::format;
use crate::display::{Show, Shown, settings, shows};

shows!(Hub, Kind, Patience, Repo, Snapshot, Token);

impl Show for Hub {
    fn shown(&self) -> Shown {
        let cache =
            self.cache.as_ref().map_or("none".to_owned(), |cache| cache.display().to_string());
        let token = self.token.as_ref().map_or("none".to_owned(), |token| format!("{token:?}"));
        let rows = vec![
            ("endpoint", self.endpoint.clone(), "the hub's address"),
            ("cache", cache, "where downloads are kept"),
            ("token", token, "sent for gated and private repositories"),
            (
                "downloads",
                self.may_download().err().unwrap_or_else(|| "yes".to_owned()),
                "whether what the cache lacks is downloaded",
            ),
        ];
        settings("Hugging Face hub", rows).into()
    }
}

impl Show for Patience {
    fn shown(&self) -> Shown {
        let seconds = |duration: std::time::Duration| format::duration(duration.as_secs_f64());
        let rows = vec![
            (
                "attempts",
                self.attempts.to_string(),
                "how often something is tried before it counts as failed",
            ),
            (
                "wait",
                seconds(self.wait),
                "before the second attempt; before each further one it is twice as long",
            ),
            (
                "longest_wait",
                seconds(self.longest_wait),
                "the longest wait that the hub may ask for",
            ),
            ("timeout", seconds(self.timeout), "how long the hub may be silent"),
        ];
        settings("Patience", rows).into()
    }
}

impl Show for Token {
    fn shown(&self) -> Shown {
        Shown::line(&format!("{self:?}"))
    }
}

impl Show for Kind {
    fn shown(&self) -> Shown {
        Shown::sentence(self.plural(), "what a repository holds")
    }
}

impl Show for Repo {
    fn shown(&self) -> Shown {
        Shown::sentence(&self.to_string(), "a repository on the Hugging Face hub")
    }
}

impl Show for Snapshot {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("commit", self.commit.clone(), "at which the files are"),
            ("folder", self.folder.display().to_string(), "where they lie"),
        ];
        settings(&self.repo.to_string(), rows).into()
    }
}

#[cfg(feature = "hub")]
shows!(super::Listing);

#[cfg(feature = "hub")]
impl Show for super::Listing {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("commit", self.commit.clone(), "at which the repository stands"),
            ("files", format!("{}: {}", self.files.len(), self.files.join(", ")), "their names"),
        ];
        settings(&self.repo.to_string(), rows).into()
    }
}
