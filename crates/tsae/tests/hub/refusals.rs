//! A hub that says no, says nothing, or is not there: what is tried again, and what is said.

use super::*;

type Headers = Vec<(&'static str, &'static str)>;

fn told(server: &Server, hub: &Hub) -> String {
    server.publish("models/org/name", "main", &commit(1), &[("config.json", b"{}".to_vec())]);
    hub.list(&repo()).unwrap_err().to_string()
}

#[test]
fn a_refusal_says_what_to_do() {
    let with_token = |hub: &Hub| Hub { token: Some("hf_mine".to_owned()), ..hub.clone() };
    let cases: [(u16, Headers, bool, &[&str]); 9] = [
        (
            401,
            vec![("X-Error-Code", "RepoNotFound")],
            false,
            &["no such repository", "private", "set HF_TOKEN"],
        ),
        (401, vec![], false, &["no such repository", "set HF_TOKEN"]),
        (401, vec![], true, &["token from HF_TOKEN is not accepted", "expired"]),
        (
            404,
            vec![("X-Error-Code", "RepoNotFound")],
            true,
            &["no such repository", "token from HF_TOKEN may not see it"],
        ),
        (
            403,
            vec![("X-Error-Code", "GatedRepo")],
            false,
            &["one by one", "ask for it at", "/org/name", "set HF_TOKEN"],
        ),
        (
            401,
            vec![("X-Error-Code", "GatedRepo")],
            true,
            &["one by one", "owner of the token from HF_TOKEN"],
        ),
        (403, vec![], true, &["token from HF_TOKEN", "right to read"]),
        (
            404,
            vec![("X-Error-Code", "RevisionNotFound")],
            false,
            &["no revision \"main\"", "/tree/main"],
        ),
        (418, vec![("X-Error-Message", "a teapot")], false, &["status 418", "a teapot"]),
    ];
    for (status, headers, token, words) in cases {
        let server = Server::start();
        let (mut hub, _dir) = hub(&server);
        if token {
            hub = with_token(&hub);
        }
        server.fault("GET /api", Fault::Status(status, headers), 1);
        let told = told(&server, &hub);
        assert!(
            words.iter().all(|word| told.contains(word)) && !told.contains("hf_mine"),
            "{status}: {told}"
        );
        assert!(told.starts_with("could not get org/name from http://127.0.0.1:"), "{told}");
        assert_eq!(server.asked().len(), 1, "{status} is not asked again");
    }
}

#[test]
fn a_name_that_nearly_is_one_is_suggested() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    for name in ["EleutherAI/pythia-70", "pythia-70b"] {
        let told = Model::load_from(&hub, name, Processing::Raw).unwrap_err().to_string();
        assert!(told.contains("did you mean \"EleutherAI/pythia-70m\"?"), "{told}");
    }
}

#[test]
fn trouble_that_passes_is_waited_for() {
    for (status, headers, least) in [
        (429, vec![("Retry-After", "1")], 1.0),
        (429, vec![("RateLimit", "\"api\";r=0;t=1")], 1.0),
        (500, vec![], 0.0),
        (502, vec![], 0.0),
        (503, vec![("Retry-After", "0")], 0.0),
        (408, vec![], 0.0),
    ] {
        for what in
            ["GET /api/models", "HEAD /org/name/resolve", "GET /org/name/resolve", "GET /large"]
        {
            let server = Server::start();
            let (hub, _dir) = hub(&server);
            server.fault(what, Fault::Status(status, headers.clone()), 1);
            let start = std::time::Instant::now();
            let content = bytes(5_000);
            let snapshot = one_file(&server, &hub, "model.bin", &content).unwrap();
            assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
            let seconds = start.elapsed().as_secs_f64();
            assert!(seconds >= least && seconds < least + 2.0, "{status} {what}: {seconds} s");
            if least > 0.0 {
                break; // once is enough to wait for
            }
        }
    }
}

#[test]
fn trouble_that_stays_is_told() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    server.fault("GET /api", Fault::Status(503, vec![]), 3);
    assert!(told(&server, &hub).contains("the hub has trouble (503)"));
    assert_eq!(server.asked().len(), 3);
    server.fault("GET /api", Fault::Status(429, vec![("Retry-After", "3600")]), 1);
    let told = told(&server, &hub);
    assert!(
        told.contains("too many requests (429)")
            && told.contains("asks to wait for 1 h")
            && told.contains("HF_TOKEN"),
        "{told}"
    );
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn silence_is_waited_out_and_asked_again() {
    let server = Server::start();
    let (mut hub, _dir) = hub(&server);
    hub.timeout = Duration::from_millis(200);
    for what in ["GET /api", "HEAD /org", "GET /large"] {
        server.fault(what, Fault::Silence, 1);
    }
    let content = bytes(5_000);
    let snapshot = one_file(&server, &hub, "model.bin", &content).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
    assert_eq!(server.asked().len(), 2 + 2 + 4, "the last of them by way of the hub each time");
}

#[test]
fn without_a_network_it_is_said_at_once() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    // A port that nobody listens at any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = std::time::Instant::now();
    for endpoint in [format!("http://127.0.0.1:{port}"), "http://no-such-host.invalid".to_owned()] {
        let hub = Hub { endpoint: endpoint.clone(), ..hub.clone() };
        let told = hub.list(&repo()).unwrap_err().to_string();
        for word in [
            endpoint.as_str(),
            "Is there a network",
            "HTTPS_PROXY",
            hub.cache.as_ref().unwrap().to_str().unwrap(),
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    let told =
        Hub { endpoint: "ftp://hub".to_owned(), ..hub }.list(&repo()).unwrap_err().to_string();
    assert!(told.contains("not an http address"), "{told}");
}

#[test]
fn what_is_no_hub_is_recognised() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    server.fault("GET /api", Fault::LoginPage, 1);
    assert!(told(&server, &hub).contains("login page"));
    server.fault("HEAD /org/name", Fault::LoginPage, 1);
    let told = hub.download(&hub.list(&repo()).unwrap(), &["config.json"]).unwrap_err().to_string();
    assert!(told.contains("x-repo-commit") && told.contains("login page"), "{told}");
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    server.private("models/org/name", "hf_mine");
    let content = bytes(5_000);
    let told = one_file(&server, &hub, "model.bin", &content).unwrap_err().to_string();
    assert!(told.contains("set HF_TOKEN"), "{told}");
    server.asked();
    let hub = Hub { token: Some("hf_mine".to_owned()), ..hub };
    one_file(&server, &hub, "model.bin", &content).unwrap();
    let asked = server.asked();
    let (cdn, at_home): (Vec<&Asked>, Vec<&Asked>) = asked.iter().partition(|asked| asked.at_cdn);
    assert!(
        at_home.len() == 3 && at_home.iter().all(|asked| asked.token.as_deref() == Some("hf_mine")),
        "{asked:?}"
    );
    assert!(cdn.len() == 1 && cdn.iter().all(|asked| asked.token.is_none()), "{asked:?}");
}

#[test]
fn offline_nothing_is_asked() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let offline = Hub { offline: true, ..hub.clone() };
    let told = offline.list(&repo()).unwrap_err().to_string();
    assert!(told.contains("HF_HUB_OFFLINE"), "{told}");
    let told = Model::load_from(&offline, "org/name", Processing::Raw).unwrap_err().to_string();
    assert!(
        told.contains("HF_HUB_OFFLINE")
            && told.contains(hub.cache.as_ref().unwrap().to_str().unwrap()),
        "{told}"
    );
    one_file(&server, &hub, "config.json", b"{}").unwrap();
    server.asked();
    let told = Model::load_from(&offline, "org/name", Processing::Raw).unwrap_err().to_string();
    assert!(told.contains("only a part of it, without model.safetensors"), "{told}");
    assert!(server.asked().is_empty());
}
