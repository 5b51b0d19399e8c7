//! A small hub on loopback: its API, its files with their redirects, a second host that has the
//! large ones, and every fault of a network.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// What a server does wrong, once.
#[derive(Clone)]
pub enum Fault {
    /// It answers with a status and headers of its own.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// It cuts the connection after this many bytes of the body.
    Cut(usize),
    /// It takes no notice of the range.
    NoRange,
    /// It changes a byte of the body.
    Damage,
    /// It sends this many bytes less, and says so.
    Shorter(usize),
    /// It never answers.
    Silence,
    /// It sends the body piece by piece, with such a pause after each 4 KiB.
    Slow(Duration),
    /// It answers with a page for people.
    LoginPage,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub from: u64,
    pub token: Option<String>,
    /// Whether it came to the host that has the large files.
    pub at_cdn: bool,
}

#[derive(Default)]
struct World {
    /// By "models/org/name", then commit, then file.
    repos: HashMap<String, HashMap<String, BTreeMap<String, Vec<u8>>>>,
    /// By "models/org/name@revision".
    revisions: HashMap<String, String>,
    moved: HashMap<String, String>,
    /// Who may see a repository.
    private: HashMap<String, String>,
    faults: Vec<(String, Fault, usize)>,
    asked: Vec<Asked>,
    blobs: HashMap<String, Vec<u8>>,
    cdn: String,
}

#[derive(Clone)]
pub struct Server {
    pub endpoint: String,
    world: Arc<Mutex<World>>,
}

/// Files from this size on are "large": they lie on the other host, under their SHA-256.
pub const LARGE: usize = 2_000;

pub fn commit(n: u8) -> String {
    format!("{n:02x}").repeat(20)
}

impl Server {
    pub fn start() -> Server {
        let world = Arc::new(Mutex::new(World::default()));
        let (hub, cdn) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        world.lock().unwrap().cdn = at(&cdn);
        let endpoint = at(&hub);
        for (listener, at_cdn) in [(hub, false), (cdn, true)] {
            let world = world.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let world = world.clone();
                    // A client that goes away in the middle is part of the game.
                    std::thread::spawn(move || drop(answer(&mut stream.unwrap(), &world, at_cdn)));
                }
            });
        }
        Server { endpoint, world }
    }

    /// Puts a repository at a commit, to which `revision` leads from now on.
    pub fn publish(&self, repo: &str, revision: &str, commit: &str, files: &[(&str, Vec<u8>)]) {
        let mut world = self.world.lock().unwrap();
        for (_, bytes) in files {
            world.blobs.insert(hex(&Sha256::digest(bytes)), bytes.clone());
        }
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        world.repos.entry(repo.to_owned()).or_default().insert(commit.to_owned(), files);
        world.revisions.insert(format!("{repo}@{revision}"), commit.to_owned());
    }

    /// From now on, an old name leads to a new one.
    pub fn moved(&self, from: &str, to: &str) {
        self.world.lock().unwrap().moved.insert(from.to_owned(), to.to_owned());
    }

    /// From now on only this token sees a repository.
    pub fn private(&self, repo: &str, token: &str) {
        self.world.lock().unwrap().private.insert(repo.to_owned(), token.to_owned());
    }

    /// The next `times` requests whose "METHOD path" contains `what` go wrong.
    pub fn fault(&self, what: &str, fault: Fault, times: usize) {
        self.world.lock().unwrap().faults.push((what.to_owned(), fault, times));
    }

    /// What was asked since the last time this was.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.world.lock().unwrap().asked)
    }

    pub fn sha256(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As git names a file's bytes.
pub fn git_sha1(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()))
        .chain_update(bytes)
        .finalize())
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Answer { status, headers, body: body.to_vec() }
    }

    fn none(status: u16, code: &str) -> Answer {
        Answer::new(status, &[("X-Error-Code", code)], b"{\"error\": \"...\"}")
    }
}

fn answer(stream: &mut TcpStream, world: &Mutex<World>, at_cdn: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (method, path) = line
        .split_once(' ')
        .map(|(m, rest)| (m.to_owned(), rest.split(' ').next().unwrap().to_owned()))
        .unwrap();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let from = headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let token = headers
        .get("authorization")
        .and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    let (mut answer, fault) = {
        let mut world = world.lock().unwrap();
        world.asked.push(Asked {
            method: method.clone(),
            path: path.clone(),
            from: from.unwrap_or(0),
            token: token.clone(),
            at_cdn,
        });
        let fault = take_fault(&mut world, &format!("{method} {path}"));
        let answer = if at_cdn { world.large(&path) } else { world.hub(&path, token.as_deref()) };
        (answer, fault)
    };
    let mut cut = None;
    let mut pause = Duration::ZERO;
    let mut ranges = true;
    match fault {
        None => {}
        Some(Fault::Status(status, headers)) => answer = Answer::new(status, &headers, b"trouble"),
        Some(Fault::Cut(n)) => cut = Some(n),
        Some(Fault::NoRange) => ranges = false,
        Some(Fault::Damage) => answer.body[0] ^= 1,
        Some(Fault::Shorter(n)) => answer.body.truncate(answer.body.len() - n),
        Some(Fault::Silence) => {
            std::thread::sleep(Duration::from_secs(3600));
            return Ok(());
        }
        Some(Fault::Slow(p)) => pause = p,
        Some(Fault::LoginPage) => {
            answer =
                Answer::new(200, &[("Content-Type", "text/html")], b"<html>Please log in</html>")
        }
    }
    let mut body = answer.body.as_slice();
    if let Some(from) = from.filter(|_| ranges && answer.status == 200) {
        answer.status = 206;
        answer.headers.push((
            "Content-Range".into(),
            format!("bytes {from}-{}/{}", body.len() - 1, body.len()),
        ));
        body = &body[from as usize..];
    }
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.status,
        body.len()
    );
    answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if method == "HEAD" {
        return Ok(());
    }
    for piece in body[..cut.unwrap_or(body.len()).min(body.len())].chunks(4096) {
        stream.write_all(piece)?;
        std::thread::sleep(pause);
    }
    Ok(())
}

fn take_fault(world: &mut World, request: &str) -> Option<Fault> {
    let at = world
        .faults
        .iter()
        .position(|(what, _, times)| *times > 0 && request.contains(what.as_str()))?;
    world.faults[at].2 -= 1;
    Some(world.faults[at].1.clone())
}

impl World {
    fn large(&self, path: &str) -> Answer {
        let name = path.trim_start_matches("/large/").split('?').next().unwrap();
        match self.blobs.get(name) {
            // Its own etag is not the hub's.
            Some(bytes) => Answer::new(200, &[("ETag", "\"of-another-kind\"")], bytes),
            None => Answer::new(404, &[], b""),
        }
    }

    fn hub(&self, path: &str, token: Option<&str>) -> Answer {
        if let Some(rest) = path.strip_prefix("/api/resolve-cache/") {
            let (repo, rest) = two(rest);
            let (commit, file) = rest.split_once('/').unwrap();
            return self.file(&repo, commit, file, token);
        }
        if let Some(rest) = path.strip_prefix("/api/") {
            let (repo, revision) = rest.split_once("/revision/").unwrap();
            return self.moved_or(path, repo, |repo| {
                self.listing(repo, &revision.replace("%2F", "/"), token)
            });
        }
        let (repo, rest) = path.trim_start_matches('/').split_once("/resolve/").unwrap();
        let repo =
            if repo.starts_with("datasets/") { repo.to_owned() } else { format!("models/{repo}") };
        let (commit, file) = rest.split_once('/').unwrap();
        self.moved_or(path, &repo, |repo| {
            match self.repos.get(repo).and_then(|repo| repo.get(commit)?.get(file)) {
                // Small files come by way of a redirect on the same host.
                Some(bytes) if bytes.len() < LARGE && repo.starts_with("models/") => Answer::new(
                    307,
                    &[("Location", &format!("/api/resolve-cache/{repo}/{commit}/{file}"))],
                    b"",
                ),
                _ => self.file(repo, commit, file, token),
            }
        })
    }

    fn moved_or(&self, path: &str, repo: &str, answer: impl FnOnce(&str) -> Answer) -> Answer {
        let (kind, id) = repo.split_once('/').unwrap();
        match self.moved.get(id) {
            Some(new) if kind == "models" => {
                Answer::new(307, &[("Location", &path.replacen(id, new, 1))], b"")
            }
            _ => answer(repo),
        }
    }

    fn refused(&self, repo: &str, token: Option<&str>) -> Option<Answer> {
        match self.private.get(repo) {
            Some(wanted) if token != Some(wanted) => Some(Answer::none(401, "RepoNotFound")),
            _ if !self.repos.contains_key(repo) => {
                Some(Answer::none(if token.is_some() { 404 } else { 401 }, "RepoNotFound"))
            }
            _ => None,
        }
    }

    fn listing(&self, repo: &str, revision: &str, token: Option<&str>) -> Answer {
        if let Some(refused) = self.refused(repo, token) {
            return refused;
        }
        let commit = self
            .revisions
            .get(&format!("{repo}@{revision}"))
            .cloned()
            .unwrap_or_else(|| revision.to_owned());
        let Some(files) = self.repos[repo].get(&commit) else {
            return Answer::none(404, "RevisionNotFound");
        };
        let siblings: Vec<_> =
            files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let text =
            serde_json::json!({"id": repo, "sha": commit, "private": false, "siblings": siblings})
                .to_string();
        Answer::new(200, &[("Content-Type", "application/json")], text.as_bytes())
    }

    fn file(&self, repo: &str, commit: &str, file: &str, token: Option<&str>) -> Answer {
        if let Some(refused) = self.refused(repo, token) {
            return refused;
        }
        let Some(bytes) = self.repos[repo].get(commit).and_then(|files| files.get(file)) else {
            return Answer::none(404, "EntryNotFound");
        };
        if bytes.len() < LARGE {
            return Answer::new(
                200,
                &[("X-Repo-Commit", commit), ("ETag", &format!("\"{}\"", git_sha1(bytes)))],
                bytes,
            );
        }
        let sha256 = Server::sha256(bytes);
        let headers = [
            ("X-Repo-Commit", commit),
            ("X-Linked-Etag", &format!("\"{sha256}\"")),
            ("X-Linked-Size", &bytes.len().to_string()),
            ("ETag", "\"of-the-pointer\""),
            ("Location", &format!("{}/large/{sha256}?signature=a%2Fb", self.cdn)),
        ];
        Answer::new(302, &headers, b"Found. Redirecting")
    }
}

/// "models/org/name" and what follows; or "models/name" for the oldest.
fn two(path: &str) -> (String, &str) {
    let at = path
        .match_indices('/')
        .map(|(at, _)| at)
        .find(|&at| path[at + 1..].split('/').next().is_some_and(|part| part.len() == 40))
        .unwrap();
    (path[..at].to_owned(), &path[at + 1..])
}
