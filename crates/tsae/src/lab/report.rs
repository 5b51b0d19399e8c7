//! What is there and what is missing, for `tsae lab --check`.

use std::fmt;

use serde::Serialize;

use super::template::{self, State};
use super::{Options, evcxr, folders, install, open, project, python, std_source};
use crate::error::Result;

/// One thing that a notebook needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name.
    pub what: String,
    /// Whether it is there, as it should be.
    pub there: bool,
    /// Where it is, or what the set-up would do.
    pub detail: String,
}

/// What a set-up would find.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All that a notebook needs, in the order in which it is made.
    pub items: Vec<Item>,
}

impl Report {
    /// Whether nothing is missing.
    pub fn complete(&self) -> bool {
        self.items.iter().all(|item| item.there)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            writeln!(
                f,
                "{:8} {:22} {}",
                if item.there { "ok" } else { "missing" },
                item.what,
                item.detail
            )?;
        }
        let last = if self.complete() {
            "nothing is missing: a notebook starts in seconds"
        } else {
            "`tsae lab` makes what is missing"
        };
        write!(f, "{last}")
    }
}

/// Looks at what is there, and makes and changes nothing.
///
/// # Errors
/// [`Error::Setup`](crate::Error::Setup) if there is no Rust, or there are no sources of this crate
/// to compile cells against.
pub fn check(options: &Options) -> Result<Report> {
    let cache = folders::location(options)?;
    let project = project::Project::find(options)?;
    let mut items = Vec::new();
    let mut item = |what: &str, there: Option<String>, otherwise: &str| {
        let detail = there.clone().unwrap_or_else(|| otherwise.to_owned());
        items.push(Item { what: what.to_owned(), there: there.is_some(), detail });
    };
    let rustc = project.rustc_version.lines().next().unwrap_or_default();
    item("Rust", Some(format!("{rustc}, {}", project.sysroot.display())), "");
    item("sources", Some(project.root.display().to_string()), "");
    let python = python::find(&cache, options.python);
    let found = python.as_ref().map(|p| {
        format!("{} with JupyterLab {} ({})", p.interpreter.display(), p.jupyterlab, p.origin)
    });
    item("Jupyter", found, "would be installed from PyPI (1 min, 250 MB)");
    let kernel = evcxr::find(&cache).map(|path| path.display().to_string());
    item(
        &format!("evcxr_jupyter {}", evcxr::VERSION),
        kernel,
        "would be compiled (5 min on two cores)",
    );
    let source = std_source::find(&cache, &project)
        .and_then(|s| Some(format!("{} ({})", s.path.display(), s.origin?)));
    item("standard library", source, "its source would be taken from the toolchain");
    let jupyter = install::jupyter(&cache);
    let spec = install::kernelspec(&jupyter);
    item("kernelspec", spec.is_file().then(|| spec.display().to_string()), "would be written");
    let (there, otherwise) = match template::state(&template::kernel_folder(&cache), &project)? {
        State::Ready(path) => (Some(path.display().to_string()), ""),
        State::Stale => {
            (None, "is from older sources, and would be compiled again (1 min on two cores)")
        }
        State::Missing => (None, "would be compiled (1 to 6 min on two cores)"),
    };
    item("compiled library", there, otherwise);
    if let Some(user) = open::user_data_folder() {
        let spec = install::kernelspec(&user);
        let detail = if spec.is_file() {
            spec.display().to_string()
        } else {
            "not for other programs: `tsae lab` adds it".to_owned()
        };
        items.push(Item { what: "kernel in your Jupyter".to_owned(), there: true, detail });
    }
    Ok(Report { items })
}
