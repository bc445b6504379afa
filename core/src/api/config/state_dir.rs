//! The path of the directory for the durable state. With the feature `std`, this is the only place of the core that names `std`: for
//! paths, which are no IO.

use alloc::string::String;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::metadata::readable;

#[cfg(feature = "std")]
extern crate std;

/// The path of the directory in which a node stores its votes: [`ConfigBuilder::state_dir`](crate::ConfigBuilder::state_dir). It is made
/// from a text or, with the feature `std` of this package, which the adapters have on, from any path.
///
/// In formats for people, such as JSON, it is a text if it is UTF-8, and a list of bytes otherwise.
///
/// ```
/// use formation_core::{Config, StateDir};
///
/// let config = Config::single("orders", "node-a", "127.0.0.1:7000").state_dir("/var/lib/orders").build()?;
/// assert_eq!(config.state_dir(), Some(&StateDir::from("/var/lib/orders")));
/// # Ok::<(), formation_core::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateDir(#[serde(with = "readable")] Bytes);

impl StateDir {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this system has such a path. On Unix a path is bytes, and elsewhere it is Unicode.
    pub(super) fn is_path(&self) -> bool {
        cfg!(unix) || core::str::from_utf8(&self.0).is_ok()
    }

    /// The path.
    ///
    /// ```
    /// # #[cfg(feature = "std")] {
    /// use std::path::Path;
    ///
    /// use formation_core::StateDir;
    ///
    /// let dir = Path::new("/var/lib/orders");
    /// assert_eq!(StateDir::from(dir).to_path_buf(), dir);
    /// # }
    /// ```
    #[cfg(feature = "std")]
    pub fn to_path_buf(&self) -> std::path::PathBuf {
        #[cfg(unix)]
        let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&self.0);
        // A valid configuration has no other path there.
        #[cfg(not(unix))]
        let path = &*String::from_utf8_lossy(&self.0);
        path.into()
    }
}

/// As a text. Bytes that are no UTF-8 are replaced.
impl fmt::Display for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*String::from_utf8_lossy(&self.0), f)
    }
}

impl From<String> for StateDir {
    fn from(path: String) -> Self {
        Self(path.into())
    }
}

#[cfg(not(feature = "std"))]
impl From<&str> for StateDir {
    fn from(path: &str) -> Self {
        Self(Bytes::copy_from_slice(path.as_bytes()))
    }
}

#[cfg(not(feature = "std"))]
impl From<&String> for StateDir {
    fn from(path: &String) -> Self {
        Self::from(path.as_str())
    }
}

#[cfg(feature = "std")]
impl<T: AsRef<std::ffi::OsStr> + ?Sized> From<&T> for StateDir {
    fn from(path: &T) -> Self {
        Self(Bytes::copy_from_slice(path.as_ref().as_encoded_bytes()))
    }
}

#[cfg(feature = "std")]
impl From<std::path::PathBuf> for StateDir {
    fn from(path: std::path::PathBuf) -> Self {
        Self(path.into_os_string().into_encoded_bytes().into())
    }
}

#[cfg(feature = "std")]
impl From<std::ffi::OsString> for StateDir {
    fn from(path: std::ffi::OsString) -> Self {
        Self(path.into_encoded_bytes().into())
    }
}
