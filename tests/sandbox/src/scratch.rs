//! Folders and processes that are gone once this process is, even if it was killed.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Waits for its input to end, which it does with the process that holds the other end; then nothing that was
/// noted runs on, and the folder goes.
const CARETAKER: &str = "\
cat >/dev/null
for one in \"$1\"/running/*; do
    [ -e \"$one\" ] && kill -s KILL -- \"-${one##*/}\"
done
rm -rf -- \"$1\" || { sleep 1; rm -rf -- \"$1\"; }";

/// A folder of this process's own.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    caretaker: Child,
}

impl Scratch {
    /// A new one, under the system's folder for what is temporary. Others may pass through it, not list it: what
    /// runs as another user has its folder in there.
    pub(crate) fn new() -> io::Result<Self> {
        use std::os::unix::{fs::DirBuilderExt as _, process::CommandExt as _};
        let number = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let name = format!("aws-sandbox-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o711).create(&path)?;
        std::fs::create_dir(path.join("running"))?;
        // In a group of its own, so that an interrupt from the terminal does not end it first.
        let caretaker = Command::new("sh")
            .args(["-c", CARETAKER, "caretaker"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { path, caretaker })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes a process that leads a group of its own, for as long as the note is kept.
    pub(crate) fn note(&self, process: u32) -> io::Result<Note> {
        let note = Note(self.path.join("running").join(process.to_string()));
        std::fs::write(&note.0, b"")?;
        Ok(note)
    }
}

/// Waits until everything is gone.
impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.caretaker.stdin.take());
        let _ = self.caretaker.wait();
    }
}

/// That a process runs.
#[derive(Debug)]
pub(crate) struct Note(PathBuf);

impl Drop for Note {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
