//! The programs of PostgreSQL 15, and the user that they run as.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where Debian and its kin keep them.
const KNOWN: &str = "/usr/lib/postgresql/15/bin";

/// The programs of PostgreSQL 15.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    user: Option<u32>,
}

impl Programs {
    /// Those of this machine, if there are some.
    ///
    /// # Errors
    /// Why PostgreSQL cannot be run here.
    pub fn find() -> Result<Self, String> {
        let asked = Command::new("pg_config").arg("--bindir").output().ok();
        let asked = asked.and_then(|one| String::from_utf8(one.stdout).ok());
        let places = [Some(PathBuf::from(KNOWN)), asked.map(|text| PathBuf::from(text.trim()))];
        let is_15 = |place: &PathBuf| {
            let version = Command::new(place.join("postgres")).arg("--version").output();
            version.is_ok_and(|one| String::from_utf8_lossy(&one.stdout).contains(" 15."))
        };
        let folder = places.into_iter().flatten().find(is_15);
        let folder = folder.ok_or("there is no PostgreSQL 15 on this machine")?;
        Ok(Self { folder, user: unprivileged()? })
    }

    /// The same for a test, which is left out without them. That is said where the test program keeps nothing back.
    pub fn or_skipped() -> Option<Self> {
        use std::io::Write as _;
        let skipped = |why| writeln!(std::io::stderr(), "SKIPPED: {why}");
        Self::find().map_err(skipped).ok()
    }

    /// A run of one of them, with nothing of this process's environment.
    pub fn command(&self, program: &str, home: &Path) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(self.folder.join(program));
        command.current_dir(home).env_clear().env("HOME", home).env("TZ", "UTC");
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user);
        }
        command
    }

    /// Hands a file or a folder to the user that the programs run as.
    ///
    /// # Errors
    /// This process may not.
    pub fn own(&self, path: &Path) -> std::io::Result<()> {
        match self.user {
            Some(user) => std::os::unix::fs::chown(path, Some(user), None),
            None => Ok(()),
        }
    }
}

/// PostgreSQL refuses to run as root: another user's id, if this is root.
fn unprivileged() -> Result<Option<u32>, String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = |name: &str| {
        let line = accounts.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse().ok()
    };
    let found = id("postgres").or_else(|| id("nobody"));
    found
        .map(Some)
        .ok_or_else(|| "PostgreSQL refuses to run as root, and there is no other user".into())
}
