//! The certificates of a running node, which are read again: at SIGHUP, or when their files have changed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

use formation_host::tls::Credentials;

use crate::settings::Settings;

/// Uses the certificates of the files for new connections. Invalid files change nothing. They are read on a thread of its own, because
/// a disk may not answer, and not while `reading` goes on.
pub(crate) fn reload(
    settings: &Settings,
    credentials: Option<&Credentials>,
    reading: Option<JoinHandle<()>>,
) -> Option<JoinHandle<()>> {
    let credentials = credentials?.clone();
    if reading.as_ref().is_some_and(|reading| !reading.is_finished()) {
        eprintln!("the certificates are being read already; try again later");
        return reading;
    }
    let settings = settings.clone();
    thread::Builder::new()
        .spawn(move || read(&settings, &credentials).unwrap_or_else(|problem| report(&problem)))
        .inspect_err(|error| eprintln!("the certificates stay as they were: {error}"))
        .ok()
}

/// Looks at the files that often, and uses them whenever they have changed. The thread for it ends with the process.
pub(crate) fn follow(settings: &Settings, credentials: Credentials, every: Duration) -> io::Result<()> {
    let settings = settings.clone();
    let follow = move || {
        // Before the node has read them, they may have changed already. So they are read once more.
        let (mut known, mut reported) = (None, None);
        loop {
            sleep(every);
            // One may change while another one is read: the next look shows it.
            let now = Some(settings.tls_files().map(|path| path.and_then(version)));
            if now == known {
                continue;
            }
            // What fails is tried again: a file may be readable a moment later, and look as before.
            match read(&settings, &credentials) {
                Ok(()) => (known, reported) = (now, None),
                Err(problem) if reported.as_ref() == Some(&problem) => {}
                Err(problem) => {
                    report(&problem);
                    reported = Some(problem);
                }
            }
        }
    };
    thread::Builder::new().spawn(follow).map(drop)
}

/// Something that is different once a file has changed or was replaced. `None`: it is not there.
fn version(path: &Path) -> Option<[i64; 6]> {
    let file = fs::metadata(path).ok()?;
    let [ino, size] = [file.ino(), file.size()].map(u64::cast_signed);
    Some([ino, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()])
}

/// Uses the files, if they are in order.
fn read(settings: &Settings, credentials: &Credentials) -> Result<(), String> {
    if let Some(tls) = settings.tls().map_err(|error| error.to_string())? {
        credentials.replace(tls);
    }
    Ok(())
}

fn report(problem: &str) {
    eprintln!("the certificates stay as they were: {problem}");
}
