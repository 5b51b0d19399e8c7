//! What set-ups that were killed left in the cache folder.

use std::path::Path;

use super::folders::{self, Folders};
use super::project::Project;
use super::{cold, evcxr, template};
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

/// Removes half-made files that nobody will continue, at the end of a set-up that is
/// complete. The cache folder must be locked.
///
/// What another copy of the sources has compiled so far stays for its next set-up, as long as there
/// is such a copy.
pub(super) fn remove(folders: &Folders, project: &Project) -> Result<()> {
    folders::remove(&folders.root.join(evcxr::BUILD))?;
    cold::remove_left(&folders.root)?;
    files::remove_stale_files(&folders.root, |_| true)?;
    for path in template::list(&folders.root)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unfinished = (name.starts_with("python-") || name.starts_with("conda-"))
            && !path.join(".ready").is_file();
        if unfinished || (name.starts_with("std-") && name.ends_with(".part")) {
            folders::remove(&path)?;
        } else if template::is_kernel_folder(&path) {
            remove_in_kernel_folder(&path, project)?;
        }
    }
    Ok(())
}

fn remove_in_kernel_folder(kernel: &Path, project: &Project) -> Result<()> {
    let projects = kernel.join("projects");
    let goes_on = |id: &str| {
        let file = projects.join(id).with_extension(template::WARMING);
        template::project_folder(&file)
            .is_some_and(|folder| folder != project.root && folder.is_dir())
    };
    files::remove_stale_files(kernel, |_| true)?;
    for path in template::list(kernel)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let building = name.strip_prefix(template::BUILDING);
        if name.starts_with(template::COPYING) || building.is_some_and(|id| !goes_on(id)) {
            folders::remove(&path)?;
        }
    }
    if !projects.is_dir() {
        return Ok(());
    }
    files::remove_stale_files(&projects, |_| true)?;
    for path in template::list(&projects)? {
        let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == template::WARMING) && !goes_on(&id) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
