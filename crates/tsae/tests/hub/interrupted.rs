//! Processes that are killed, stopped, or two at once.

use std::process::{Child, Command, Stdio};

use super::*;

const SIZE: usize = 400_000;

/// `tsae download org/name` into a cache, as a process of its own.
fn download(server: &Server, home: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    for name in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
    ] {
        command.env_remove(name);
    }
    command
        .args(["download", "org/name"])
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", &server.endpoint)
        .env("TSAE_PROGRESS", "lines");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn publish(server: &Server) -> Vec<u8> {
    let content = bytes(SIZE);
    server.publish(
        "models/org/name",
        "main",
        &commit(1),
        &[("config.json", b"{}".to_vec()), ("model.safetensors", content.clone())],
    );
    content
}

/// Waits until a part of the large file is there, and returns how much.
fn wait_for_a_part(home: &Path, content: &[u8]) -> u64 {
    let part = home
        .join("hub/models--org--name/blobs")
        .join(format!("{}.incomplete", Server::sha256(content)));
    for _ in 0..1_000 {
        match part.metadata() {
            Ok(data) if data.len() > 20_000 => return data.len(),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("no part of the file came in ten seconds")
}

fn output(child: Child) -> (bool, String, String) {
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let content = publish(&server);
    server.fault("GET /large", Fault::Slow(Duration::from_millis(20)), 1);
    let mut child = download(&server, home.path());
    let part = wait_for_a_part(home.path(), &content);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    server.asked();

    let (success, folder, said) = output(download(&server, home.path()));
    assert!(success, "{said}");
    let folder = PathBuf::from(folder.trim_end());
    assert_eq!(folder, home.path().join("hub/models--org--name/snapshots").join(commit(1)));
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), content);
    assert!(said.contains("download org/name"), "{said}");
    let gets = gets(&server.asked());
    assert!(gets.len() == 1 && gets[0] >= part && gets[0] < SIZE as u64, "{gets:?} after {part}");
}

#[cfg(unix)]
#[test]
fn a_stopped_download_ends_at_once_and_says_how_to_go_on() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let content = publish(&server);
    for (what, fault) in
        [("GET /large", Fault::Slow(Duration::from_millis(50))), ("GET /api", Fault::Silence)]
    {
        server.fault(what, fault.clone(), 1);
        let child = download(&server, home.path());
        if let Fault::Slow(_) = fault {
            wait_for_a_part(home.path(), &content);
        } else {
            // It waits for an answer that does not come.
            while server.asked().is_empty() {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let stop = std::time::Instant::now();
        assert!(
            Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let (success, folder, said) = output(child);
        assert!(stop.elapsed() < Duration::from_secs(1), "{:?}", stop.elapsed());
        assert!(
            !success && folder.is_empty() && said.contains("the download was stopped by hand"),
            "{said}"
        );
        server.asked();
    }
    assert!(output(download(&server, home.path())).0);
    assert!(gets(&server.asked())[0] > 0);
}

#[test]
fn two_processes_fetch_a_file_once() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let content = publish(&server);
    server.fault("GET /large", Fault::Slow(Duration::from_millis(10)), 2);
    let children = [download(&server, home.path()), download(&server, home.path())];
    for child in children {
        let (success, folder, said) = output(child);
        assert!(success, "{said}");
        assert_eq!(
            fs::read(Path::new(folder.trim_end()).join("model.safetensors")).unwrap(),
            content
        );
    }
    assert_eq!(gets(&server.asked()), [0]);
}
