//! The hub's answers, and its cache.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenized_sae::hub::{Hub, Repo};
use tokenized_sae::prelude::*;

use super::hammer::{self, Reader, Seed};
use super::mutate::Kind;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Answers to a request for the list of files, to one about a file, and to one for a file: whole,
/// with their headers.
type Answers = Arc<Mutex<HashMap<&'static str, Vec<u8>>>>;

fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away in the middle is part of the game.
            let _ = stream.and_then(|stream| answer(stream, &answers));
        }
    });
    address
}

fn answer(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (mut asked, mut piece) = (Vec::new(), [0; 2048]);
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => asked.extend(&piece[..n]),
        }
    }
    let which = if asked.starts_with(b"HEAD") {
        "head.http"
    } else if asked.starts_with(b"GET /api") {
        "list.http"
    } else {
        "get.http"
    };
    let bytes = answers.lock().unwrap().get(which).cloned().unwrap_or_default();
    stream.write_all(&bytes)
}

fn http(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_spoilt_answer_of_the_hub_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let answers = Answers::default();
    let endpoint = serve(answers.clone());
    let file = "some text of a file\n";
    let list = format!(
        "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"a.txt\"}}, {{\"rfilename\": \"data/b.txt\"}}]}}"
    );
    let about = format!("X-Repo-Commit: {COMMIT}\r\nETag: W/\"abc-2\"\r\n");
    // The length that a HEAD is answered with is that of the file, of which nothing is sent.
    let head = String::from_utf8(http(&about, file)).unwrap().replace(file, "").into_bytes();
    let (plain, get) = (http("", &list), http("", file));
    let moved = |status: &str, to: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"abc-1\"\r\nX-Linked-Size: 20\r\nLocation: {to}\r\n\r\n").into_bytes()
    };
    let part = b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 20\r\nContent-Range: bytes 0-19/20\r\n\r\nsome text of a file\n".to_vec();
    let chunked =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{list}\r\n0\r\n\r\n", list.len())
            .into_bytes();
    let seed = |list: &[u8], head: &[u8], get: &[u8]| {
        let files = [("list.http", list), ("head.http", head), ("get.http", get)];
        let targets = files.iter().map(|(name, _)| ((*name).to_owned(), Kind::Bytes)).collect();
        Seed {
            files: files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into(),
            targets,
            sign: None,
        }
    };
    let seeds = [
        seed(&plain, &head, &get),
        seed(&chunked, &moved("302 Found", "/cdn"), &part),
        seed(&plain, &moved("307 Temporary Redirect", &format!("{endpoint}/x")), &get),
    ];
    let repo = Repo::model("org/name").unwrap();
    // Pieces of a file wait for whoever writes them, up to 4 MB.
    let reader =
        Reader { name: "answers", share: 1, times: 16, beside: 16 << 20, also: &["org/name"] };
    reader.hammer(&seeds, |folder| {
        let read = ["list.http", "head.http", "get.http"]
            .map(|name| (name, std::fs::read(folder.join(name)).unwrap_or_default()));
        *answers.lock().unwrap() = read.into();
        let hub = Hub {
            cache: Some(folder.join("hub")),
            endpoint: endpoint.clone(),
            token: None,
            offline: false,
            attempts: 1,
            timeout: Duration::from_millis(500),
            ..Hub::from_env()
        };
        let listing = hub.list(&repo)?;
        let files = listing.files.clone();
        let snapshot = hub.download(&listing, &files)?;
        assert!(
            snapshot.folder.starts_with(folder) && !format!("{snapshot:?}{listing:?}").is_empty()
        );
        // Nothing is written beside the cache.
        assert!(std::fs::read_dir(folder).unwrap().all(|entry| {
            ["list.http", "head.http", "get.http", "hub"]
                .contains(&entry.unwrap().file_name().to_str().unwrap())
        }));
        Ok(())
    });
}

#[test]
fn a_spoilt_cache_of_the_hub_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let golden = |file: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2").join(file))
            .unwrap()
    };
    let at = |place: &str| format!("hub/models--org--name/{place}");
    let snapshot = |file: &str| at(&format!("snapshots/{COMMIT}/{file}"));
    let files = [
        (at("refs/main"), COMMIT.as_bytes().to_vec()),
        (snapshot("config.json"), golden("config.json")),
        (snapshot("model.safetensors"), golden("model.safetensors")),
    ];
    let seed =
        Seed { files: files.into(), targets: vec![(at("refs/main"), Kind::Bytes)], sign: None };
    let reader =
        Reader { name: "caches", share: 1, times: 16, beside: 4 << 20, also: &["org/name"] };
    reader.hammer(&[seed], |folder| {
        let hub = Hub { cache: Some(folder.join("hub")), offline: true, ..Hub::from_env() };
        if let Some(found) = hub.cached(&Repo::model("org/name").unwrap()) {
            assert!(found.folder.parent().unwrap().ends_with("models--org--name/snapshots"));
        }
        Model::load_from(&hub, "org/name", Processing::Raw).map(|_| ())
    });
}
