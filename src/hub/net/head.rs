//! What is said before an answer's body, and what of a file is learned from that.

use std::time::Duration;

use ureq::http::HeaderMap;

/// How often a wait looks at the stop button.
pub(super) const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Method {
    Head,
    Get,
}

/// An answer without its body.
pub(super) struct Head {
    pub status: u16,
    /// Of the last answer, if there were redirects.
    pub headers: HeaderMap,
    /// What the first answer that spoke of it said of the file itself.
    pub linked: Linked,
}

impl Head {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }
}

/// What the hub's own headers say of a file whose bytes lie elsewhere.
#[derive(Default)]
pub(super) struct Linked {
    pub commit: Option<String>,
    pub etag: Option<String>,
    pub size: Option<u64>,
}

impl Linked {
    pub fn add(&mut self, headers: &HeaderMap) {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        self.commit = self.commit.take().or_else(|| text("x-repo-commit"));
        self.etag = self.etag.take().or_else(|| text("x-linked-etag"));
        self.size = self.size.or_else(|| text("x-linked-size")?.parse().ok());
    }

    /// Whether nothing is left to be learned.
    pub fn is_whole(&self) -> bool {
        self.commit.is_some() && self.etag.is_some() && self.size.is_some()
    }
}

/// A file as the hub describes it.
pub(super) struct Remote {
    /// Its name in the repository.
    pub file: String,
    pub url: String,
    /// Its checksum.
    pub etag: String,
    pub size: u64,
}
