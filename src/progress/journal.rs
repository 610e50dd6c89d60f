//! The file that a run writes.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Event, Line, VERSION};

/// How often a run says that it lives, in real time.
pub(super) const BEAT: Duration = Duration::from_secs(15);
/// The size, in bytes, from which on the file makes room for a new one when a run begins: dozens of runs.
const LARGE: u64 = 4 << 20;

/// The file's name for a suffix.
pub fn file_name(suffix: &str) -> String {
    format!("trading-dr-{suffix}.jsonl")
}

/// What a run writes to, while it lives.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    run: String,
}

impl Journal {
    /// Begins a run's part of the file of a suffix in a folder, which is made if need be. From then on, the run says
    /// now and then that it lives, until this is dropped.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn begin(
        folder: &Path,
        command: &str,
        suffix: &str,
        run: &str,
        scale: f64,
    ) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(file_name(suffix));
        if path.metadata().is_ok_and(|one| one.len() > LARGE) {
            std::fs::rename(&path, older(&path))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        if file.metadata()?.len() > 0 {
            // A run before may have left half a line.
            file.write_all(b"\n")?;
        }
        let journal = Arc::new(Self { file: Mutex::new(file), run: run.to_owned() });
        journal.write(&Event::RunBegun {
            command: command.into(),
            suffix: suffix.into(),
            scale,
        })?;
        let weak = Arc::downgrade(&journal);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let Some(journal) = weak.upgrade() else { return };
                journal.note(&Event::Alive);
            }
        });
        Ok(journal)
    }

    /// Adds an event. A disk that is full must not stop a run.
    pub fn note(&self, event: &Event) {
        if let Err(error) = self.write(event) {
            tracing::debug!("progress is not written: {error}");
        }
    }

    fn write(&self, event: &Event) -> io::Result<()> {
        // First, so that no line is older than the one before it.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let line = Line { version: VERSION, run: self.run.clone(), at, event: event.clone() };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        // In one piece: another run of the same folder may write as well.
        file.write_all(text.as_bytes())
    }
}

/// Where a large file goes; the one that was there before is lost.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Line> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn runs_are_appended_and_a_large_file_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join(file_name("prod"));
        let begin =
            |run: &str| Journal::begin(path.parent().unwrap(), "create", "prod", run, 1.0).unwrap();
        let first = begin("a");
        first.note(&Event::Begun { address: "us-east-1/kms-key".into() });
        tokio::time::sleep(BEAT * 2 + BEAT / 2).await;
        drop(first);
        tokio::time::sleep(BEAT * 3).await;
        drop(begin("b"));
        let found = lines(&path);
        let alive = found.iter().filter(|one| one.event == Event::Alive).count();
        assert_eq!((found.len(), alive), (5, 2), "{found:#?}");
        assert_eq!((&*found[0].run, &*found[4].run), ("a", "b"));

        // Half a line takes nothing with it.
        std::fs::write(&path, b"{\"version\":1,\"ru").unwrap();
        drop(begin("half"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(crate::progress::Run::last(&text).unwrap().id(), "half");

        std::fs::write(&path, vec![b'\n'; 5 << 20]).unwrap();
        drop(begin("c"));
        assert_eq!(lines(&path).len(), 1);
        assert!(older(&path).exists());
    }

    #[test]
    fn what_a_newer_version_writes_is_no_error() {
        let text = r#"{"version":2,"run":"a","at":1,"event":"danced","with":["whom"]}"#;
        assert_eq!(serde_json::from_str::<Line>(text).unwrap().event, Event::Unknown);
    }
}
