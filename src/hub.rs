//! The Hugging Face hub: what lies in its cache on this machine, and downloads into that cache.
//!
//! The cache is the one that Python's `huggingface_hub` keeps, file for file: what either fetched,
//! the other finds.
//!
//! ```text
//! ~/.cache/huggingface/hub/                       HF_HUB_CACHE, or HF_HOME/hub
//!     models--EleutherAI--pythia-70m/
//!         blobs/<checksum>                        the files, by the SHA-256 of a large one and the git SHA-1 of a small one
//!         blobs/<checksum>.incomplete             what a download that was cut off has so far
//!         refs/main                               the commit that the branch stood at when it was last asked for
//!         snapshots/<commit>/config.json          a link to ../../blobs/<checksum>
//!         .no_exist/<commit>/tokenizer.json       a file that this commit is known not to have
//!     .locks/models--EleutherAI--pythia-70m/<checksum>.lock
//! ```
//!
//! A blob gets its name when its size and its checksum are what the hub said, and a branch its
//! commit when all files are there; so a download that is cut off, killed or interrupted leaves
//! what it has, and the next one asks for the rest. One process at a time fetches a blob. What is
//! in the cache is used as it is: only [`Hub::list`] asks the hub whether a branch has moved on.
//!
//! The environment is obeyed as `huggingface_hub` obeys it: `HF_HOME`, `HF_HUB_CACHE`,
//! `HUGGINGFACE_HUB_CACHE`, `XDG_CACHE_HOME`; `HF_ENDPOINT`; `HF_TOKEN`, `HF_TOKEN_PATH` and the
//! token file, `HF_HUB_DISABLE_IMPLICIT_TOKEN`; `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`;
//! `HF_HUB_DOWNLOAD_TIMEOUT`; for proxies `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; for
//! certificates, in place of Mozilla's list, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` or
//! `SSL_CERT_FILE`. The token goes to the endpoint and to no other host.
//!
//! Downloads are the feature `hub`, which is on by default. Without it the cache is still read.

mod cache;
mod environment;
#[cfg(feature = "hub")]
mod net;
mod repo;
mod show;

use std::path::PathBuf;
use std::time::Duration;

pub use cache::Snapshot;
pub use repo::Repo;
pub(crate) use repo::distance;

/// The hub and its cache on this machine.
///
/// [`Hub::from_env`] is the ordinary one; every field can be set otherwise:
///
/// ```
/// use tokenized_sae::hub::Hub;
/// let hub = Hub { offline: true, ..Hub::from_env() };
/// let error = hub.may_download().unwrap_err();
/// assert!(error.contains("offline"));
/// ```
#[derive(Clone)]
pub struct Hub {
    /// The cache's folder; `None` if the environment names none and there is no home folder either.
    pub cache: Option<PathBuf>,
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The access token: needed for gated and private repositories. It is never shown.
    pub token: Option<String>,
    /// Where the token was found, for messages: `HF_TOKEN`, or the file it was read from.
    pub token_from: String,
    /// Whether only the cache is read, and the hub not asked for anything.
    pub offline: bool,
    /// How often something is tried before it counts as failed; restarted whenever bytes have
    /// arrived. 5, from the environment.
    pub attempts: u32,
    /// The wait before the second attempt, 1 s; before each further one it is twice as long. If the
    /// hub says how long to wait, it is that.
    pub wait: Duration,
    /// The longest wait that the hub may ask for: 5 minutes.
    pub longest_wait: Duration,
    /// How long the hub may be silent: 10 s, or what `HF_HUB_DOWNLOAD_TIMEOUT` says.
    pub timeout: Duration,
}

impl Hub {
    /// The hub as the environment has it: see [the list](crate::hub).
    pub fn from_env() -> Hub {
        environment::read(&|name| std::env::var_os(name), std::env::home_dir())
    }

    /// Whether it may be asked for anything, or why not.
    ///
    /// # Errors
    /// The reason, as a sentence's end.
    pub fn may_download(&self) -> Result<(), String> {
        let why = if self.offline {
            "this is offline by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: unset it to download"
        } else if cfg!(not(feature = "hub")) {
            "this was built without the feature \"hub\", so nothing is downloaded"
        } else if self.cache.is_none() {
            "there is no folder to download to: set HF_HOME to one"
        } else {
            return Ok(());
        };
        Err(why.to_owned())
    }
}
