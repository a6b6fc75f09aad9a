//! The folder and the file in it: private to the user, and on disk by name
//! before anything is in them.

use super::pages::{PAGE_BYTES, Pages};
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use turnwise_core::{Result, StoreError};

/// The file inside the folder. Never rename it.
const FILE_NAME: &str = "turnwise.redb";
/// Beside it while nobody uses it: what its pages were when it was closed.
const SEAL_NAME: &str = "turnwise.seal";
/// Written first, then renamed.
const NEW_SEAL_NAME: &str = "turnwise.seal.new";

/// Makes folder and file if they are not there; answers the file's path.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf> {
    let file = folder.join(FILE_NAME);
    make(folder, &file).map_err(|error| {
        StoreError::Unavailable(format!("the folder {} cannot be used: {error}", folder.display()))
    })?;
    Ok(file)
}

fn make(folder: &Path, file: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !is_there(folder)).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    missing.into_iter().try_for_each(sync_folder)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // Also when it is there: whoever made it may have been killed before this.
    sync_folder(file)
}

/// Whether a folder is there; the one that has no name is.
fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.is_dir()
}

/// Takes the seal off the file. The pages as they were when the file was
/// closed, if it is still that file.
pub(super) fn break_seal(file: &Path) -> Option<Pages> {
    let seal_path = file.with_file_name(SEAL_NAME);
    let seal = std::fs::read(&seal_path).ok()?;
    let taken_off = std::fs::remove_file(&seal_path).and_then(|()| sync_folder(file));
    if let Err(error) = taken_off {
        // It would be no seal if it could still be there after a crash.
        tracing::warn!(%error, "the store's seal cannot be taken off; the whole file is checked");
        return None;
    }
    let (bytes, first_page) = outline(file).ok()?;
    Pages::sealed(&seal, bytes, &first_page)
}

/// Puts a seal on a file that was closed in order.
pub(super) fn put_seal(file: &Path, pages: &Pages) -> io::Result<()> {
    let (bytes, first_page) = outline(file)?;
    let new = file.with_file_name(NEW_SEAL_NAME);
    let mut options = OpenOptions::new();
    let mut seal = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    seal.write_all(&pages.seal(bytes, &first_page))?;
    seal.sync_all()?;
    std::fs::rename(&new, file.with_file_name(SEAL_NAME))?;
    sync_folder(file)
}

/// Puts the name of a file or folder on disk.
fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The file's length and its first page.
fn outline(file: &Path) -> io::Result<(u64, Vec<u8>)> {
    let file = File::open(file)?;
    let bytes = file.metadata()?.len();
    let mut first_page = Vec::new();
    file.take(PAGE_BYTES as u64).read_to_end(&mut first_page)?;
    Ok((bytes, first_page))
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
