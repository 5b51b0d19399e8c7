//! What the environment says of the hub, in the order in which Python's `huggingface_hub` asks it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Hub;

/// The hub by the variables that `variable` gives, for a user whose home folder is `home`.
pub(super) fn read(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Hub {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
    let path = |name: &str| set(name).map(|value| at_home(PathBuf::from(value), home.as_deref()));
    let is_true = |name: &str| {
        text(name).is_some_and(|value| {
            ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
        })
    };

    let cache_home =
        path("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|home| home.join(".cache")));
    let hf_home = path("HF_HOME").or_else(|| cache_home.map(|cache| cache.join("huggingface")));
    let cache = path("HF_HUB_CACHE")
        .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| hf_home.as_ref().map(|home| home.join("hub")));
    let clean = |text: String| {
        Some(text.replace(['\r', '\n'], "").trim().to_owned()).filter(|text| !text.is_empty())
    };
    let of_variable = |name: &&str| Some((clean(text(name)?)?, (*name).to_owned()));
    let of_file = || {
        let file =
            path("HF_TOKEN_PATH").or_else(|| hf_home.as_ref().map(|home| home.join("token")))?;
        Some((clean(std::fs::read_to_string(&file).ok()?)?, file.display().to_string()))
    };
    let token = match is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        true => None,
        false => {
            ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(of_variable).or_else(of_file)
        }
    };
    let (token, token_from) = token.unzip();
    let timeout = text("HF_HUB_DOWNLOAD_TIMEOUT")
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| *seconds > 0);
    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    Hub {
        cache,
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        token,
        token_from: token_from.unwrap_or_else(|| "HF_TOKEN".to_owned()),
        offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
        attempts: 5,
        wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(300),
        timeout: Duration::from_secs(timeout.unwrap_or(10)),
    }
}

/// `~/x` as a shell has it.
fn at_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        read(
            &|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()),
            Some("/home/me".into()),
        )
    }

    #[test]
    fn the_cache_lies_where_huggingface_hub_has_it() {
        let cache =
            |variables: &[(&str, &str)]| hub(variables).cache.unwrap().display().to_string();
        assert_eq!(cache(&[]), "/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c")]), "/c/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")]), "/h/hub");
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        assert_eq!(
            cache(&[("HF_HUB_CACHE", "~/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]),
            "/home/me/new"
        );
        assert_eq!(
            cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "")]),
            "/home/me/.cache/huggingface/hub"
        );
        assert_eq!(read(&|_| None, None).cache, None);
    }

    #[test]
    fn offline_and_the_endpoint_are_obeyed() {
        for yes in ["1", "true", "YES", "on", "True"] {
            assert!(
                hub(&[("HF_HUB_OFFLINE", yes)]).offline
                    && hub(&[("TRANSFORMERS_OFFLINE", yes)]).offline,
                "{yes}"
            );
        }
        for no in ["", "0", "false", "no", "off"] {
            assert!(!hub(&[("HF_HUB_OFFLINE", no)]).offline, "{no}");
        }
        assert_eq!(hub(&[]).endpoint, "https://huggingface.co");
        assert_eq!(
            hub(&[("HF_ENDPOINT", "https://mirror.example/")]).endpoint,
            "https://mirror.example"
        );
        assert_eq!(hub(&[("HF_HUB_DOWNLOAD_TIMEOUT", "60")]).timeout, Duration::from_secs(60));
        assert_eq!(hub(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).timeout, Duration::from_secs(10));
    }

    #[test]
    fn a_token_is_taken_from_its_variable_or_its_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).display().to_string()
        };
        let (home, other) = (dir.path().display().to_string(), at("other", "hf_other\r\n"));
        at("token", " hf_file\n");
        let token = |variables: &[(&str, &str)]| hub(variables).token;
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
        assert_eq!(token(&[("HF_HOME", &home)]).unwrap(), "hf_file");
        assert_eq!(token(&[("HF_HOME", &home), ("HF_TOKEN_PATH", &other)]).unwrap(), "hf_other");
        assert_eq!(token(&[("HF_HOME", &home), ("HF_TOKEN", "hf_env\n")]).unwrap(), "hf_env");
        assert_eq!(token(&[("HF_HOME", &home), ("HF_TOKEN", " ")]).unwrap(), "hf_file");
        assert_eq!(token(&[("HF_TOKEN", "hf_env"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let shown = format!("{:?}", hub(&[("HF_TOKEN", "hf_secret")]));
        assert!(shown.contains("from HF_TOKEN") && !shown.contains("hf_secret"), "{shown}");
    }
}
