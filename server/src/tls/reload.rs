//! Notices that files of certificates changed. Looks every second and does not trust anybody to tell: mounted
//! secrets change by renaming what is above them, which notifications miss.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::side::{Reloaded, Side};

/// Between two looks.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Every so many looks the files are read though they look unchanged: a clock may stand still between two writes.
const READ_ANYWAY: u32 = 30;

/// What a file looks like from outside, behind all links; `None` while there is none.
type Looks = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// Reads the files of `sides` again whenever they change, for ever. `next` waits for the time of the next look.
pub async fn follow(sides: Vec<Arc<Side>>, mut next: impl AsyncFnMut()) {
    let mut watched: Vec<Watched> = sides.into_iter().map(Watched::new).collect();
    loop {
        next().await;
        // The disk may be slow; who is served meanwhile must not notice.
        let looking = tokio::task::spawn_blocking(move || {
            watched.iter_mut().for_each(Watched::look);
            watched
        });
        match looking.await {
            Ok(back) => watched = back,
            // Only when the member stops.
            Err(_) => return,
        }
    }
}

struct Watched {
    side: Arc<Side>,
    looks: HashMap<PathBuf, Looks>,
    /// The last complaint, so that it is made once.
    complaint: Option<String>,
    looked: u32,
}

impl Watched {
    fn new(side: Arc<Side>) -> Self {
        // Nothing is known of how the files looked when they were read: the first look reads them again.
        Self { side, looks: HashMap::new(), complaint: None, looked: 0 }
    }

    fn look(&mut self) {
        let looks: HashMap<PathBuf, Looks> =
            self.side.paths().into_iter().map(|path| (path.to_owned(), looks_of(path))).collect();
        self.looked = (self.looked + 1) % READ_ANYWAY;
        if looks == self.looks && self.complaint.is_none() && self.looked != 0 {
            return;
        }
        self.looks = looks;
        let which = self.side.which.as_str();
        match self.side.reload() {
            Ok(Reloaded::Unchanged) => self.complaint = None,
            Ok(Reloaded::Changed { not_after }) => {
                self.complaint = None;
                tracing::info!(side = which, "certificate-not-after-unix" = not_after, "reloaded TLS files");
            }
            Err(error) => {
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::warn!(
                        side = which,
                        error = text,
                        "TLS files changed and can't be used; going on with those before"
                    );
                }
                self.complaint = Some(text);
            }
        }
    }
}

fn looks_of(path: &std::path::Path) -> Looks {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
}
