//! Requests: each on a thread of its own, so that the one that waits for it can be stopped;
//! redirects, and who sees the token.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};

use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::address;
use super::failure::{self, Attempts, Failure};
use super::head::{Head, LOOK, Linked, Method, Remote};
use crate::base::error::Error;
use crate::display::interrupt;
use crate::hub::{Hub, Repo};

const MOST_REDIRECTS: usize = 10;
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for the disk.
const CHUNKS: usize = 16;

/// Someone who asks the hub about one repository.
pub(super) struct Client<'a> {
    pub hub: &'a Hub,
    pub repo: &'a Repo,
    agent: Agent,
}

/// An answer whose body is still arriving.
pub(super) struct Reply {
    pub head: Head,
    chunks: Receiver<Result<Vec<u8>, Failure>>,
}

impl Reply {
    /// The next bytes, or `None` at the end.
    pub fn next(&self) -> Result<Option<Vec<u8>>, Failure> {
        wait(&self.chunks)?.transpose()
    }

    /// All bytes, at most this many.
    pub fn text(&self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next()? {
            all.extend(chunk);
            if all.len() as u64 > limit {
                return Err(Failure::Refused(failure::no_hub("its answer is far too long")));
            }
        }
        Ok(all)
    }
}

/// What comes next through a channel, or `None` if nothing will; looks at the stop button while it
/// waits.
fn wait<T>(channel: &Receiver<T>) -> Result<Option<T>, Failure> {
    loop {
        match channel.recv_timeout(LOOK) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if interrupt::requested() => {
                return Err(Failure::Interrupted);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

impl<'a> Client<'a> {
    pub fn new(hub: &'a Hub, repo: &'a Repo) -> Result<Client<'a>, Failure> {
        let Some(origin) = address::origin(&hub.endpoint) else {
            let why = format!("HF_ENDPOINT is \"{}\", which is not an http address", hub.endpoint);
            return Err(Failure::Refused(why));
        };
        let timeout = Some(hub.timeout);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tokenized-sae/", env!("CARGO_PKG_VERSION")))
            // A file's size and checksum are those of its own bytes.
            .accept_encoding("identity")
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .tls_config(TlsConfig::builder().root_certs(root_certs()?).build());
        let host = origin.split("://").nth(1).unwrap_or_default();
        if ["127.", "localhost", "[::1]"].iter().any(|near| host.starts_with(near)) {
            config = config.proxy(None);
        }
        Ok(Client { hub, repo, agent: config.build().new_agent() })
    }

    /// Asks for `url`, from byte `from` on, and gives the answer if it is a good one.
    pub fn ask(&self, method: Method, url: &str, from: u64) -> Result<Reply, Failure> {
        let (head_to, head) = sync_channel(1);
        let (chunks_to, chunks) = sync_channel(CHUNKS);
        let (agent, hub) = (self.agent.clone(), self.hub.clone());
        let job = Job { agent, hub, method, url: url.to_owned(), from };
        let spawned = std::thread::Builder::new()
            .name("tsae-hub".to_owned())
            .spawn(move || job.run(&head_to, &chunks_to));
        spawned.map_err(|e| Failure::Refused(format!("no thread could be started: {e}")))?;
        let head: Head =
            wait(&head)?.unwrap_or_else(|| Err(Failure::passing("the connection broke")))?;
        match head.status {
            200 | 206 => Ok(Reply { head, chunks }),
            _ => Err(failure::of(&head, self.hub, self.repo)),
        }
    }

    /// Where a file of a commit lies, how large it is, and what its checksum is.
    pub fn find(&self, file: &str, commit: &str) -> Result<Remote, Failure> {
        let url = format!(
            "{}/resolve/{commit}/{}",
            self.repo.page(&self.hub.endpoint),
            address::quoted(file, true)
        );
        let head = Attempts::new(self.hub, true).until(|| self.ask(Method::Head, &url, 0))?.head;
        let missing = |what: &str| {
            Failure::Refused(failure::no_hub(&format!("its answer for {file} has no {what}")))
        };
        let said = head.linked.commit.as_deref().ok_or_else(|| missing("x-repo-commit"))?;
        if said != commit {
            let why = format!("gave {file} of commit {said} when asked for {commit}: try again");
            return Err(Failure::Refused(why));
        }
        let etag = head.linked.etag.as_deref().or_else(|| head.text("etag"));
        let etag = etag.ok_or_else(|| missing("etag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        // It becomes the name of a file.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=128).contains(&etag.len()) || !etag.bytes().all(is_plain) {
            return Err(missing("etag that could name a file"));
        }
        let size = head.linked.size.or_else(|| head.number("content-length"));
        let size = size.ok_or_else(|| missing("size"))?;
        Ok(Remote { file: file.to_owned(), url, etag: etag.to_owned(), size })
    }
}

/// The certificates to trust: those of the environment, which are a company's own, or Mozilla's
/// list.
fn root_certs() -> Result<RootCerts, Failure> {
    let names = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"];
    let set = |name| Some((name, std::env::var_os(name).filter(|path| !path.is_empty())?));
    let Some((name, path)) = names.into_iter().find_map(set) else {
        return Ok(RootCerts::WebPki);
    };
    let text = std::fs::read(&path).map_err(|e| Failure::Local(Error::io("read", &path)(e)))?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = parse_pem(&text).filter_map(certificate).collect();
    if certificates.is_empty() {
        let why = format!("holds no certificate, but {name} names it as the file that does");
        return Err(Error::format(path, why).into());
    }
    Ok(RootCerts::from(certificates))
}

/// A request on its way.
struct Job {
    agent: Agent,
    hub: Hub,
    method: Method,
    url: String,
    from: u64,
}

impl Job {
    /// Sends the answer's head and then its body. A receiver that has gone away ends it.
    fn run(
        self,
        head_to: &SyncSender<Result<Head, Failure>>,
        chunks_to: &SyncSender<Result<Vec<u8>, Failure>>,
    ) {
        let (head, body) = match self.send() {
            Ok(answer) => answer,
            Err(failure) => return drop(head_to.send(Err(failure))),
        };
        if head_to.send(Ok(head)).is_err() || self.method == Method::Head {
            return;
        }
        let mut body = body.into_reader();
        loop {
            let mut chunk = vec![0; CHUNK];
            let sent = match body.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    chunks_to.send(Ok(chunk))
                }
                Err(e) => {
                    let broke = Failure::passing(&format!("the connection broke ({e})"));
                    return drop(chunks_to.send(Err(broke)));
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// The answer at the end of all redirects.
    fn send(&self) -> Result<(Head, ureq::Body), Failure> {
        let home = address::origin(&self.hub.endpoint);
        let mut url = self.url.clone();
        let mut linked = Linked::default();
        for _ in 0..=MOST_REDIRECTS {
            let at_home = address::origin(&url) == home;
            let mut request = Request::builder()
                .method(if self.method == Method::Head { "HEAD" } else { "GET" })
                .uri(&url);
            if self.from > 0 {
                request = request.header("Range", format!("bytes={}-", self.from));
            }
            if let Some(token) = self.hub.token.as_ref().filter(|_| at_home) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|e| match &self.hub.token {
                // The message must not hold the token.
                Some(_) => format!("the token from {} cannot be sent: {e}", self.hub.token_from),
                None => format!("{url} cannot be requested: {e}"),
            });
            let request = request.map_err(Failure::Refused)?;
            let answer = self.agent.run(request).map_err(|e| failure::of_transport(&e, &url))?;
            let (parts, body) = answer.into_parts();
            let (status, headers) = (parts.status.as_u16(), parts.headers);
            linked.add(&headers);
            let location = headers
                .get("location")
                .and_then(|location| location.to_str().ok())
                .filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308));
            let Some(location) = location else {
                return Ok((Head { status, headers, linked }, body));
            };
            let next = address::followed(&url, location)
                .filter(|next| !(url.starts_with("https:") && next.starts_with("http:")))
                .ok_or_else(|| {
                    Failure::Refused(format!("redirects to \"{location}\", which is not followed"))
                })?;
            // The hub has said all that is needed, and the host that has the bytes need not be
            // asked.
            if self.method == Method::Head && linked.is_whole() {
                return Ok((Head { status: 200, headers, linked }, body));
            }
            url = next;
        }
        Err(Failure::Refused(format!("redirects more than {MOST_REDIRECTS} times")))
    }
}
