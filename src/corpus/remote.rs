//! Files of a data set on the hub that are fetched when they are wanted.

use std::path::Path;

#[cfg(not(feature = "hub"))]
use crate::base::error::Error;
use crate::base::error::Result;
#[cfg(feature = "hub")]
use crate::hub::Hub;
use crate::hub::Snapshot;

/// Where a file is fetched from when it is wanted.
#[derive(Debug)]
pub struct Remote {
    #[cfg(feature = "hub")]
    pub hub: Hub,
    /// The data set at one commit, which tells its files from others of these names.
    pub snapshot: Snapshot,
}

impl Remote {
    /// Fetches the file that `name` is in the data set, and `path` in the cache, if it is not there.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::Error::Hub), [`Error::Io`](crate::Error::Io),
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn fetch(&self, name: &str, path: &Path) -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        #[cfg(feature = "hub")]
        return self.hub.download(&self.snapshot, &[name]).map(|_| ());
        #[cfg(not(feature = "hub"))]
        Err(Error::format(
            path,
            format!(
                "is gone from the cache ({name}), and this was built without the feature \"hub\""
            ),
        ))
    }
}
