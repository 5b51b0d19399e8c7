//! How the hub's parts show themselves.

use std::fmt;

use super::{Hub, Repo, Snapshot};
use crate::display::{Show, Shown, settings, shows};

shows!(Hub, Repo, Snapshot);

impl Show for Hub {
    fn shown(&self) -> Shown {
        let cache =
            self.cache.as_ref().map_or("none".to_owned(), |cache| cache.display().to_string());
        let token = match self.token {
            Some(_) => format!("a token from {}", self.token_from),
            None => "none".to_owned(),
        };
        let downloads = self.may_download().err().unwrap_or_else(|| "yes".to_owned());
        let rows = vec![
            ("endpoint", self.endpoint.clone(), "the hub's address"),
            ("cache", cache, "where downloads are kept"),
            ("token", token, "sent for gated and private repositories"),
            ("downloads", downloads, "whether what the cache lacks is downloaded"),
        ];
        settings("Hugging Face hub", rows).into()
    }
}

/// As it shows itself, without the token.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown().text)
    }
}

impl Show for Repo {
    fn shown(&self) -> Shown {
        Shown::sentence(&self.to_string(), "a repository on the Hugging Face hub")
    }
}

impl Show for Snapshot {
    fn shown(&self) -> Shown {
        let mut rows = vec![
            ("commit", self.commit.clone(), "at which the files are"),
            ("folder", self.folder.display().to_string(), "where they lie"),
        ];
        if !self.files.is_empty() {
            let files = format!("{}: {}", self.files.len(), self.files.join(", "));
            rows.push(("files", files, "their names"));
        }
        settings(&self.repo.to_string(), rows).into()
    }
}
