//! What can go wrong with a request, which of it is worth another attempt, and what a person can do
//! about the rest.

use std::time::{Duration, Instant};

use super::head::{Head, LOOK};
use crate::base::error::Error;
use crate::base::format;
use crate::display::interrupt;
use crate::hub::repo::did_you_mean;
use crate::hub::{Hub, Repo};

/// Why a request came to nothing.
pub(super) enum Failure {
    /// The stop button.
    Interrupted,
    /// It may go well the next time; after so long, if the hub said so.
    Passing { why: String, wait: Option<Duration> },
    /// The host cannot be reached.
    Unreachable(String),
    /// It will not go well: why, and what to do.
    Refused(String),
    /// It is not the hub's fault.
    Local(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Local(error)
    }
}

impl Failure {
    pub fn passing(why: &str) -> Failure {
        Failure::Passing { why: why.to_owned(), wait: None }
    }

    /// As an error that says what to do. `so_far` says what has been downloaded.
    pub fn into_error(self, hub: &Hub, repo: &Repo, so_far: &'static str) -> Error {
        let cache = hub.cache.as_ref().map_or(String::new(), |cache| {
            format!(" The cache, {}, does not have all of it.", cache.display())
        });
        let why = match self {
            Failure::Interrupted => {
                interrupt::clear();
                return Error::Interrupted { what: "the download", remedy: so_far.to_owned() };
            }
            Failure::Local(error) => return error,
            Failure::Refused(why) => why,
            Failure::Passing { why, .. } => format!("{why}, at every attempt; {so_far}"),
            Failure::Unreachable(why) => format!(
                "{why}. Is there a network, are HTTPS_PROXY and HF_ENDPOINT right? Without one, give the path of a folder that holds the files.{cache}"
            ),
        };
        Error::Hub { repo: repo.to_string(), endpoint: hub.endpoint.clone(), why }
    }
}

/// Counts attempts and waits between them.
pub(super) struct Attempts<'a> {
    hub: &'a Hub,
    /// Whether a host that cannot be reached is tried again.
    under_way: bool,
    failed: u32,
}

impl<'a> Attempts<'a> {
    /// `under_way` if the hub has answered before, so that there is a network and it may come back.
    pub fn new(hub: &'a Hub, under_way: bool) -> Attempts<'a> {
        Attempts { hub, under_way, failed: 0 }
    }

    /// What `ask` gives when it does not fail.
    ///
    /// # Errors
    /// As [`again`](Attempts::again).
    pub fn until<T>(mut self, ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.again(failure, |_| {})?,
            }
        }
    }

    /// Bytes have arrived: the count restarts.
    pub fn arrived(&mut self) {
        self.failed = 0;
    }

    /// Waits for the next attempt, with `note` told what for.
    ///
    /// # Errors
    /// `failure` itself if there is none; [`Failure::Interrupted`].
    pub fn again(&mut self, failure: Failure, mut note: impl FnMut(&str)) -> Result<(), Failure> {
        self.failed += 1;
        let usual = self.hub.wait.saturating_mul(1 << (self.failed - 1).min(16));
        let wait = match &failure {
            Failure::Passing { wait, .. } => wait.unwrap_or(usual),
            Failure::Unreachable(_) if self.under_way => usual,
            _ => return Err(failure),
        };
        if self.failed >= self.hub.attempts {
            return Err(failure);
        }
        if wait > self.hub.longest_wait {
            let Failure::Passing { why, .. } = failure else { return Err(failure) };
            return Err(Failure::Refused(format!(
                "{why}, and asks to wait for {}: try again then",
                format::duration(wait.as_secs_f64())
            )));
        }
        let why = match &failure {
            Failure::Passing { why, .. } | Failure::Unreachable(why) => why.as_str(),
            _ => "",
        };
        note(&format!("{why}: trying again in {}", format::duration(wait.as_secs_f64())));
        let end = Instant::now() + wait;
        while let Some(left) =
            end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            std::thread::sleep(left.min(LOOK));
        }
        Ok(())
    }
}

/// For an answer that no hub gives.
pub(super) fn no_hub(why: &str) -> String {
    format!("{why}: is there a hub at that address, and no login page or proxy in front of it?")
}

/// What an answer other than success means.
pub(super) fn of(head: &Head, hub: &Hub, repo: &Repo) -> Failure {
    let (page, has_token, from) = (repo.page(&hub.endpoint), hub.token.is_some(), &hub.token_from);
    let set_token = "set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)";
    let why = match (head.status, head.text("x-error-code")) {
        (_, Some("GatedRepo")) => {
            let ask = format!("its owners give access one by one: ask for it at {page}");
            match has_token {
                true => format!("{ask} as the owner of the token from {from}"),
                false => format!("{ask}, and {set_token}"),
            }
        }
        (_, Some("RevisionNotFound")) => format!(
            "there is no revision \"{}\": {page}/tree/main lists branches and tags",
            repo.revision
        ),
        (_, Some("EntryNotFound")) => "a file that it listed is not there: try again".to_owned(),
        (401, code) if has_token && code != Some("RepoNotFound") => format!(
            "the token from {from} is not accepted: it may have expired; make another at https://huggingface.co/settings/tokens"
        ),
        (401 | 404, _) => {
            let private = match has_token {
                true => format!("the token from {from} may not see it"),
                false => format!("it is private: then {set_token}"),
            };
            format!("there is no such repository, or {private}{}", did_you_mean(&repo.id))
        }
        (403, _) if has_token => format!(
            "the token from {from} does not allow it (403): it needs the right to read this repository"
        ),
        (403, _) => format!("it refuses (403): {set_token}, or ask your network administrator"),
        (429, _) => {
            let hint = match has_token {
                true => String::new(),
                false => format!("; with a token more are allowed: {set_token}"),
            };
            let why = format!("it says there were too many requests (429){hint}");
            return Failure::Passing { why, wait: wait_of(head) };
        }
        (status @ (408 | 500..=599), _) => {
            let why = format!("the hub has trouble ({status})");
            return Failure::Passing { why, wait: wait_of(head) };
        }
        (status, _) => {
            let message =
                head.text("x-error-message").map_or(String::new(), |told| format!(" ({told})"));
            format!("it answers with status {status}{message}")
        }
    };
    Failure::Refused(why)
}

/// How long the hub asks to wait: `Retry-After` in seconds, or the `t` of `RateLimit:
/// "api";r=0;t=55`.
fn wait_of(head: &Head) -> Option<Duration> {
    let limit = || {
        head.text("ratelimit")?
            .split(';')
            .find_map(|part| part.trim().strip_prefix("t="))?
            .trim()
            .parse()
            .ok()
    };
    head.number("retry-after").or_else(limit).map(Duration::from_secs)
}

/// What a failure below HTTP means.
pub(super) fn of_transport(error: &ureq::Error, url: &str) -> Failure {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, NetworkUnreachable};
    let host = super::address::origin(url).unwrap_or_default();
    let unknown = format!("{host} is not known to the name server");
    match error {
        ureq::Error::HostNotFound => Failure::Unreachable(unknown),
        ureq::Error::Io(e) if is_lookup(e) => Failure::Unreachable(format!("{unknown} ({e})")),
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_) => {
            Failure::Unreachable(format!("{host} could not be reached ({error})"))
        }
        ureq::Error::Io(e)
            if [ConnectionRefused, HostUnreachable, NetworkUnreachable].contains(&e.kind()) =>
        {
            Failure::Unreachable(format!("{host} could not be reached ({e})"))
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
            not_trusted(&host, error)
        }
        ureq::Error::Io(e) if e.kind() == InvalidData => not_trusted(&host, error),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Failure::Refused(format!("{host} cannot be asked ({error})"))
        }
        _ => Failure::passing(&format!("{host} broke off ({error})")),
    }
}

/// Whether a name could not be looked up, for which there is no kind of error.
fn is_lookup(error: &std::io::Error) -> bool {
    const WSAHOST_NOT_FOUND: i32 = 11001;
    error.to_string().contains("failed to lookup address")
        || error.raw_os_error() == Some(WSAHOST_NOT_FOUND)
}

fn not_trusted(host: &str, error: &ureq::Error) -> Failure {
    Failure::Refused(format!(
        "no safe connection to {host} could be made ({error}): if a proxy signs with a certificate of its own, name its file in SSL_CERT_FILE"
    ))
}
