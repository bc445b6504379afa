//! The files of certificates and keys.

use std::{fs, io, path::Path};

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error: io::Error| format!("cannot read {}: {error}", path.display()))
}

/// Reads a file that should be for the user of the node only.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let text = read(path)?;
    if is_open_to_others(path) {
        tracing::warn!(
            target: "formation", path = %path.display(),
            "other users of this machine can read or change this key file; take their permissions away (chmod 600)"
        );
    }
    Ok(text)
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    fs::metadata(path).is_ok_and(|metadata| is_open(metadata.mode(), metadata.uid() == own))
}

/// The node reads a file of another user through its group, and needs that permission. Secrets of Kubernetes are such files.
#[cfg(unix)]
fn is_open(mode: u32, is_own: bool) -> bool {
    mode & if is_own { 0o077 } else { 0o037 } != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_for_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "secret").unwrap();
        for (mode, is_open) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_others(&path), is_open, "{mode:o}");
        }
    }

    #[test]
    fn a_key_file_of_root_is_read_through_its_group() {
        for (mode, is_open_to_others) in [(0o440, false), (0o640, false), (0o444, true), (0o660, true)] {
            assert_eq!(is_open(mode, false), is_open_to_others, "{mode:o}");
        }
    }
}
