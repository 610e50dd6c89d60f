//! Folders and processes that are gone once this process is, even if it was killed.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Waits for its input to end, which it does with the process that holds the other end; then nothing that was
/// noted runs on, and the folder goes. First it is asked to end: PostgreSQL, which QUIT stops without ado, gives its
/// shared memory back.
const CARETAKER: &str = "\
cat >/dev/null
for one in \"$1\"/running/*; do
    [ -e \"$one\" ] && kill -s QUIT -- \"${one##*/}\"
done
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    left=''
    for one in \"$1\"/running/*; do
        [ -e \"$one\" ] && kill -s 0 -- \"${one##*/}\" && left=yes
    done
    [ -z \"$left\" ] && break
    sleep 0.1
done
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

impl Note {
    /// Keeps the note, whoever forgets of the process, until its file is removed.
    pub(crate) fn for_good(self) -> PathBuf {
        std::mem::ManuallyDrop::new(self).0.clone()
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
    };

    use super::*;

    const HELPER: &str = "scratch::tests::what_is_killed";

    /// The process that the other test kills: it has a folder and a program that runs, and ends by no means itself.
    #[test]
    #[ignore = "is run by another test, and killed by it"]
    fn what_is_killed() {
        let scratch = Scratch::new().unwrap();
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let _note = scratch.note(child.id()).unwrap();
        println!("\nmade {} {}", scratch.path().display(), child.id());
        std::io::stdin().read_line(&mut String::new()).unwrap();
        child.kill().and_then(|()| child.wait()).unwrap();
    }

    /// Runs a test of this program that is there to be killed; the process, and what it says that it has made.
    pub(crate) fn begun(helper: &str) -> (Child, Vec<String>) {
        let mut begun = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", helper, "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(begun.stdout.take().unwrap()).lines();
        let made = lines.map_while(Result::ok).find(|line| line.starts_with("made ")).unwrap();
        (begun, made.split(' ').skip(1).map(str::to_owned).collect())
    }

    #[test]
    fn nothing_is_left_of_a_process_that_was_killed() {
        let (mut killed, made) = begun(HELPER);
        let (folder, process) = (Path::new(&made[0]), Path::new("/proc").join(&made[1]));
        assert!(folder.is_dir() && process.exists(), "{made:?}");
        killed.kill().unwrap();
        killed.wait().unwrap();
        // Whoever adopts the program may take a moment to bury it.
        let runs = || {
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
        };
        while folder.exists() || runs() {
            std::thread::yield_now();
        }
    }
}
