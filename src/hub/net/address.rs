//! Addresses on the web: putting together, following, comparing.

/// `text` as a part of an address, percent-encoded; `/` stays if `keep_slash`.
pub(super) fn quoted(text: &str, keep_slash: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b'/' if keep_slash => out.push('/'),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// The scheme, host and port of an address, each spelled in one way; `None` if it is not an http
/// address.
pub(super) fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let authority = rest
        .split(['/', '?', '#'])
        .next()
        .filter(|authority| !authority.is_empty())?
        .to_ascii_lowercase();
    // A name and password before the host would make two addresses of one host look like two hosts,
    // or the reverse.
    if authority.contains(['@', '\\']) {
        return None;
    }
    Some(format!("{scheme}://{}", authority.strip_suffix(default_port).unwrap_or(&authority)))
}

/// Where a `Location` header leads from `base`.
pub(super) fn followed(base: &str, location: &str) -> Option<String> {
    if origin(location).is_some() {
        return Some(location.to_owned());
    }
    let (scheme, rest) = base.split_once("://")?;
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(host_end);
    let path = path.split(['?', '#']).next().unwrap_or("");
    let whole = match location {
        l if l.starts_with("//") => format!("{scheme}:{l}"),
        l if l.starts_with('/') => format!("{scheme}://{host}{l}"),
        l if l.is_empty() || l.contains("://") => return None,
        l => format!(
            "{scheme}://{host}{}/{l}",
            path.rsplit_once('/').map_or("", |(folder, _)| folder)
        ),
    };
    origin(&whole).map(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_addresses_are_quoted() {
        assert_eq!(quoted("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(quoted("data/träin set+1.txt", true), "data/tr%C3%A4in%20set%2B1.txt");
    }

    #[test]
    fn a_host_is_the_same_however_it_is_spelled_and_no_other_is() {
        assert_eq!(origin("https://HuggingFace.co:443/x?y"), origin("https://huggingface.co"));
        assert_eq!(origin("http://127.0.0.1:80/"), Some("http://127.0.0.1".to_owned()));
        let all = [
            "https://huggingface.co",
            "http://huggingface.co",
            "https://huggingface.co:444",
            "https://huggingface.co.evil.example",
            "https://cdn-lfs.huggingface.co",
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8001",
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| origin(a) != origin(b)), "{a}");
        }
        for none in
            ["ftp://host/x", "host/x", "https://", "https://huggingface.co@evil.example/", "/x"]
        {
            assert_eq!(origin(none), None, "{none}");
        }
    }

    #[test]
    fn redirects_are_followed_as_browsers_do() {
        let base = "https://hub.example:8443/gpt2/resolve/main/config.json?x=/y";
        for (location, want) in [
            (
                "/openai-community/gpt2/resolve/main/config.json",
                "https://hub.example:8443/openai-community/gpt2/resolve/main/config.json",
            ),
            ("https://cdn.example/blob?sig=a%2Fb", "https://cdn.example/blob?sig=a%2Fb"),
            ("//cdn.example/blob", "https://cdn.example/blob"),
            ("other.json", "https://hub.example:8443/gpt2/resolve/main/other.json"),
        ] {
            assert_eq!(followed(base, location).as_deref(), Some(want));
        }
        assert_eq!(followed("https://hub.example", "x").as_deref(), Some("https://hub.example/x"));
        for nowhere in ["", "file:///etc/passwd", "ftp://x/y"] {
            assert_eq!(followed(base, nowhere), None, "{nowhere}");
        }
    }
}
