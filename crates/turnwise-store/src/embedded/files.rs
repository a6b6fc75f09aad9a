//! The folder and the file in it: private to the user, and on disk by name
//! before anything is in them.

use redb::StorageBackend;
use redb::backends::FileBackend;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use turnwise_core::{Result, StoreError};

/// The file inside the folder. Never rename it.
const FILE_NAME: &str = "turnwise.redb";

/// Makes folder and file if they are not there; answers the file's path.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf> {
    let file = folder.join(FILE_NAME);
    make(folder, &file).map_err(|error| {
        StoreError::Unavailable(format!("the folder {} cannot be used: {error}", folder.display()))
    })?;
    Ok(file)
}

fn make(folder: &Path, file: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    File::open(folder)?.sync_all()
}

/// The file, ready for redb.
pub(super) fn backend(file: &Path) -> Result<Box<dyn StorageBackend>> {
    let refuse = |error: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!("the file {} cannot be opened: {error}", file.display()))
    };
    let open = OpenOptions::new().read(true).write(true).open(file).map_err(|error| refuse(&error))?;
    let backend = FileBackend::new(open).map_err(|error| refuse(&error))?;
    Ok(Box::new(backend))
}
