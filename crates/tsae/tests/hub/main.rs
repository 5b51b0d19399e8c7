//! The hub, spoken to by a server of our own on loopback: what arrives, what is asked for again,
//! and what is said when it does not.

mod datasets;
mod downloads;
mod interrupted;
mod models;
mod named;
mod refusals;
mod server;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::{Asked, Fault, Server, commit};
use tempfile::TempDir;
use tokenized_sae::hub::{Hub, Repo, Snapshot};
use tokenized_sae::prelude::*;

/// A hub and an empty cache.
fn hub(server: &Server) -> (Hub, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub {
        cache: Some(dir.path().join("hub")),
        endpoint: server.endpoint.clone(),
        token: None,
        token_from: "HF_TOKEN".to_owned(),
        offline: false,
        attempts: 3,
        wait: Duration::from_millis(10),
        longest_wait: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
    };
    (hub, dir)
}

/// Bytes that no two places of share.
fn bytes(n: usize) -> Vec<u8> {
    let mut state = n as u64 + 1;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn repo() -> Repo {
    Repo::model("org/name").unwrap()
}

/// Publishes one file and fetches it.
fn one_file(server: &Server, hub: &Hub, file: &str, content: &[u8]) -> Result<Snapshot> {
    server.publish("models/org/name", "main", &commit(1), &[(file, content.to_vec())]);
    hub.download(&hub.list(&repo())?, &[file])
}

/// Which bytes were asked of the files themselves: one number a request, where it began.
fn gets(asked: &[Asked]) -> Vec<u64> {
    asked
        .iter()
        .filter(|asked| asked.method == "GET" && asked.at_cdn)
        .map(|asked| asked.from)
        .collect()
}

fn folder(hub: &Hub) -> PathBuf {
    hub.cache.clone().unwrap().join("models--org--name")
}

/// The names in a folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
