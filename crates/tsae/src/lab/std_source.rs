//! The source of the standard library, from which the kernel infers the types of variables.
//!
//! evcxr asks rust-analyzer for the type of each `let`, and rust-analyzer reads source, not
//! compiled libraries. Without the source of the standard library not even `let x = f()?;` has a
//! type, and the reader would have to write it. rustup does not install that source by itself, and
//! rust-analyzer would fetch it over the network; but the toolchain's own documentation, which
//! rustup does install, shows every line of it, for the very version that compiles.

use std::path::{Path, PathBuf};

use super::folders::{self, Folders};
use super::project::{self, Project};
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

/// What rust-analyzer needs of the library. The rest (`core_arch` above all) is four times as large
/// and makes every start slower.
const CRATES: [&str; 4] = ["core", "alloc", "std", "proc_macro"];
/// Parts of `core` and `std` that hold thousands of CPU instructions and no type a notebook uses.
const LEFT_OUT: [&str; 3] = ["stdarch", "portable-simd", "backtrace"];

/// Where the source is, and where from.
pub(super) struct StdSource {
    pub path: PathBuf,
    /// `None` if there is none and the folder is empty: then a `let` whose type comes out of the
    /// standard library, as that of every `?` does, needs its type written.
    pub origin: Option<&'static str>,
}

/// The source that is there already.
pub(super) fn find(cache: &Path, project: &Project) -> Option<StdSource> {
    let own = std::env::var_os("RUST_SRC_PATH").map(PathBuf::from);
    if let Some(path) = own.filter(|path| path.join("core").join("src").join("lib.rs").is_file()) {
        return Some(StdSource { path, origin: Some("RUST_SRC_PATH") });
    }
    let made = folder(cache, project);
    made.is_dir().then_some(StdSource { path: made, origin: Some("from the toolchain") })
}

/// The source: found, or made from what the toolchain has.
pub(super) fn find_or_make(folders: &Folders, project: &Project) -> Result<StdSource> {
    if let Some(found) = find(&folders.root, project) {
        return Ok(found);
    }
    let made = folder(&folders.root, project);
    let partial = made.with_extension("part");
    folders::remove(&partial)?;
    files::create_folder(&partial)?;
    let origin = if link_component(&project.sysroot, &partial)? {
        "the toolchain's rust-src"
    } else if read_documentation(&project.sysroot, &partial)? {
        "the toolchain's documentation"
    } else {
        folders::remove(&partial)?;
        // A folder that looks like the source keeps rust-analyzer from asking rustup to download
        // it, which would change the user's toolchain, and wait for a network that may not be
        // there.
        let empty = folders.root.join("std-none");
        files::create_folder(&empty.join("core"))?;
        eprintln!(
            "the toolchain {} has no source of the standard library: a cell's `let` needs its type written where it comes from there, as in \
             `let model: Model = Model::load(…)?;` (`rustup component add rust-src` lifts this)",
            project.sysroot.display()
        );
        return Ok(StdSource { path: empty, origin: None });
    };
    std::fs::rename(&partial, &made).map_err(Error::io("rename", &made))?;
    Ok(StdSource { path: made, origin: Some(origin) })
}

fn folder(cache: &Path, project: &Project) -> PathBuf {
    cache.join(format!(
        "std-{}",
        project::short_hash(&[
            project.rustc_version.as_bytes(),
            project.sysroot.as_os_str().as_encoded_bytes()
        ])
    ))
}

/// Links the crates we want of the `rust-src` component, if it is installed.
fn link_component(sysroot: &Path, target: &Path) -> Result<bool> {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    if !CRATES.iter().all(|name| library.join(name).join("src").join("lib.rs").is_file()) {
        return Ok(false);
    }
    for name in CRATES {
        let (source, link) = (library.join(name).join("src"), target.join(name).join("src"));
        files::create_folder(&target.join(name))?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(&source, &link).map_err(Error::io("link", &link))?;
        #[cfg(not(unix))]
        copy(&source, &link)?;
    }
    Ok(true)
}

#[cfg(not(unix))]
fn copy(source: &Path, target: &Path) -> Result<()> {
    files::create_folder(target)?;
    for entry in source.read_dir().map_err(Error::io("read", source))? {
        let path = entry.map_err(Error::io("read", source))?.path();
        let to = target.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, &to).map_err(Error::io("copy", &path))?;
        }
    }
    Ok(())
}

/// Reads the sources out of the pages `share/doc/rust/html/src/*/**.rs.html`, if the `rust-docs`
/// component is installed.
fn read_documentation(sysroot: &Path, target: &Path) -> Result<bool> {
    let pages = sysroot.join("share/doc/rust/html/src");
    if !pages.is_dir() {
        return Ok(false);
    }
    for name in CRATES {
        read_pages(&pages.join(name), target)?;
    }
    // A page format that we do not know would give no source, or a garbled one.
    let sane = |file: &str, line: &str| {
        std::fs::read_to_string(target.join(file)).is_ok_and(|text| text.lines().any(|l| l == line))
    };
    Ok(sane("core/src/option.rs", "pub enum Option<T> {")
        && sane("core/src/result.rs", "impl<T, E> Result<T, E> {")
        && sane("alloc/src/lib.rs", "pub mod string;")
        && sane("std/src/lib.rs", "pub mod prelude;"))
}

fn read_pages(folder: &Path, target: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in folder.read_dir().map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !LEFT_OUT.contains(&&*name) {
            read_pages(&path, target)?;
        } else if name.ends_with(".rs.html") {
            let page = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            if let Some((file, source)) = source_of_page(&page)
                && CRATES.iter().any(|name| {
                    file.strip_prefix(name).is_some_and(|rest| rest.starts_with("/src/"))
                })
                && !file.contains("..")
            {
                let file = target.join(file);
                files::create_folder(file.parent().unwrap_or(target))?;
                std::fs::write(&file, source).map_err(Error::io("write", &file))?;
            }
        }
    }
    Ok(())
}

/// The file's path below `library/`, and its text: `("core/src/option.rs", …)`.
fn source_of_page(page: &str) -> Option<(&str, String)> {
    let file = page.split_once("Source of the Rust file `library/")?.1.split_once('`')?.0;
    let body = page.split_once("<pre class=\"rust\"><code>")?.1.rsplit_once("</code></pre>")?.0;
    Some((file, text_of(body)))
}

/// The text of marked-up source: without tags, without the line numbers (links with
/// `data-nosnippet`), entities resolved.
fn text_of(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('<') {
            let Some(end) = rest.find('>') else { break };
            let number = rest[..end].ends_with("data-nosnippet");
            rest = &rest[end + 1..];
            if number {
                rest = rest.split_once("</a>").map_or(rest, |(_, after)| after);
            }
        } else {
            let end = rest.find(';').filter(|&end| end <= 10);
            match end.and_then(|end| Some((entity(&rest[1..end])?, end))) {
                Some((character, end)) => {
                    text.push(character);
                    rest = &rest[end + 1..];
                }
                None => {
                    text.push('&');
                    rest = &rest[1..];
                }
            }
        }
    }
    text.push_str(rest);
    text
}

fn entity(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_its_source() {
        // As rustdoc 1.95 writes it: each line starts with its number.
        let page = "<title>a</title><meta content=\"Source of the Rust file `library/core/src/a.rs`.\"><pre class=\"rust\"><code>\
                    <a href=#1 id=1 data-nosnippet>1</a><span class=\"kw\">fn </span>f&lt;T&gt;(x: <span class=\"kw-2\">&amp;</span>T) {}\n\
                    <a href=#2 id=2 data-nosnippet>2</a><span class=\"comment\">// &quot;a&quot; &amp;&amp; &#39;b&#39; &unknown;</span></code></pre></div>";
        let (file, source) = source_of_page(page).unwrap();
        assert_eq!(file, "core/src/a.rs");
        assert_eq!(source, "fn f<T>(x: &T) {}\n// \"a\" && 'b' &unknown;");
    }

    #[test]
    fn a_toolchain_without_source_or_documentation_gives_none() {
        let (sysroot, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(!link_component(sysroot.path(), target.path()).unwrap());
        assert!(!read_documentation(sysroot.path(), target.path()).unwrap());
    }

    #[test]
    fn pages_that_hold_no_source_are_refused() {
        let (sysroot, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pages = sysroot.path().join("share/doc/rust/html/src/core");
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::write(
            pages.join("option.rs.html"),
            "Source of the Rust file `library/core/src/option.rs` in another form",
        )
        .unwrap();
        assert!(!read_documentation(sysroot.path(), target.path()).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn an_installed_component_is_linked_without_its_manifest() {
        let (sysroot, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in CRATES {
            let folder = sysroot.path().join("lib/rustlib/src/rust/library").join(name).join("src");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("lib.rs"), name).unwrap();
        }
        assert!(link_component(sysroot.path(), target.path()).unwrap());
        assert_eq!(
            std::fs::read_to_string(target.path().join("alloc/src/lib.rs")).unwrap(),
            "alloc"
        );
        // With a Cargo.toml beside them rust-analyzer would run cargo on the library, and load its
        // dependencies too.
        assert!(!target.path().join("Cargo.toml").exists());
    }
}
