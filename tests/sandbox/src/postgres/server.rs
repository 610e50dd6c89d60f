//! One PostgreSQL: a folder of data, and a process while it runs.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use time::{format_description::BorrowedFormatItem, macros::format_description};
use tokio::process::Command;

use super::programs::Programs;
use crate::scratch::Scratch;

/// RDS's own superuser, which nobody else logs in as.
const ADMIN: &str = "rdsadmin";
/// What replicas log in as.
const REPLICATION: &str = "rdsrepladmin";
/// Whoever is a master user on RDS is in this role; it is no superuser.
const RDS_SUPERUSER: &str = "rds_superuser";
/// Where the master user's first database is made from.
const TEMPLATE: &str = "template1";

/// A moment as PostgreSQL's configuration takes it.
const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00");

/// The first user and the first database.
#[derive(Clone, Debug)]
pub(super) struct First<'a> {
    pub(super) username: &'a str,
    pub(super) password: &'a str,
    /// A database besides `postgres`.
    pub(super) database: Option<&'a str>,
}

/// How a server is spoken to.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    programs: Programs,
    folder: PathBuf,
    /// The port on the loopback interface that only the network's stand-in and replicas connect to.
    pub(super) port: u16,
}

/// A PostgreSQL.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) contact: Contact,
    /// The note that it runs.
    running: Option<PathBuf>,
}

/// What went wrong, as PostgreSQL tells it.
pub(super) type Failed = String;

fn failed(what: &str) -> impl Fn(io::Error) -> Failed + '_ {
    move |error| format!("{what}: {error}")
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Text as SQL quotes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL quotes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Contact {
    async fn run(&self, program: &str, arguments: &[&str]) -> Result<String, Failed> {
        let mut command = Command::from(self.programs.command(program, &self.folder));
        command.args(arguments).kill_on_drop(true);
        let done = command.output().await.map_err(failed(program))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned());
        }
        Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim()))
    }

    /// Runs SQL as the superuser; what it says, without headings.
    pub(super) async fn admin(&self, database: &str, sql: &str) -> Result<String, Failed> {
        let (port, folder) = (self.port.to_string(), self.folder.to_str().unwrap_or_default());
        let arguments = ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", folder, "-p", &port];
        let more = ["-U", ADMIN, "-d", database, "-c", sql];
        self.run("psql", &[&arguments[..], &more].concat()).await
    }

    /// Another password of a role.
    pub(super) async fn set_password(&self, role: &str, password: &str) -> Result<(), Failed> {
        let sql = format!("ALTER ROLE {} PASSWORD {}", quoted(role), literal(password));
        self.admin("postgres", &sql).await.map(|_| ())
    }

    /// Has everything that was written until now archived: the file that will then be in the archive. Without
    /// something that was committed later, a moment that lies after the last commit is none for PostgreSQL.
    pub(super) async fn archive_now(&self) -> Result<String, Failed> {
        self.admin("postgres", "SELECT txid_current()").await?;
        self.admin("postgres", "SELECT pg_walfile_name(pg_switch_wal())").await
    }

    /// A copy of the data, for a snapshot.
    pub(super) async fn back_up(&self, into: &Path) -> Result<(), Failed> {
        let into = into.to_str().unwrap_or_default();
        let there = replication(self.port, "snapshot");
        let arguments = ["-D", into, "-X", "stream", "-c", "fast", "--no-sync", "-d", &there];
        self.run("pg_basebackup", &arguments).await.map(|_| ())
    }
}

/// How a replica finds its source behind a port.
fn replication(port: u16, name: &str) -> String {
    format!(
        "host=127.0.0.1 port={port} user={REPLICATION} password={REPLICATION} sslmode=disable application_name={name}"
    )
}

impl Server {
    /// A folder without data.
    pub(super) fn new(programs: &Programs, scratch: &Scratch, name: &str) -> Result<Self, Failed> {
        let folder = scratch.path().join(name);
        let made = || -> io::Result<u16> {
            std::fs::create_dir(&folder)?;
            programs.own(&folder)?;
            free_port()
        };
        let port = made().map_err(failed(name))?;
        let contact = Contact { programs: programs.clone(), folder, port };
        Ok(Self { contact, running: None })
    }

    fn data(&self) -> PathBuf {
        self.contact.folder.join("data")
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failed> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.data().join(name);
        let written = || -> io::Result<()> {
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            self.contact.programs.own(&path)
        };
        written().map_err(failed(name))
    }

    /// Data of its own, with the roles that RDS has.
    pub(super) async fn create(
        &mut self,
        scratch: &Scratch,
        archive: &Path,
        first: &First<'_>,
    ) -> Result<(), Failed> {
        // An attempt that failed may have left something.
        if self.is_running() {
            self.stop("immediate").await?;
        }
        let _ = std::fs::remove_dir_all(self.data());
        let data = self.data();
        let data = data.to_str().unwrap_or_default();
        let arguments = [
            "-D",
            data,
            "-U",
            ADMIN,
            "-E",
            "UTF8",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        ];
        self.contact
            .run("initdb", &[&arguments[..], &["--no-sync", "--no-instructions"]].concat())
            .await?;
        self.configure("", archive)?;
        self.start(scratch).await?;
        let master = quoted(first.username);
        let roles = format!(
            "CREATE ROLE {RDS_SUPERUSER} NOLOGIN;
             GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {RDS_SUPERUSER} WITH ADMIN OPTION;
             CREATE ROLE {REPLICATION} LOGIN REPLICATION PASSWORD '{REPLICATION}';
             CREATE ROLE {master} LOGIN CREATEDB CREATEROLE PASSWORD {};
             GRANT {RDS_SUPERUSER} TO {master};",
            literal(first.password)
        );
        self.contact.admin("postgres", &roles).await?;
        // The database that RDS always makes is the master user's as well.
        let own = format!("ALTER DATABASE postgres OWNER TO {master}");
        self.contact.admin("postgres", &own).await?;
        if let Some(name) = first.database {
            let database =
                format!("CREATE DATABASE {} OWNER {master} TEMPLATE {TEMPLATE}", quoted(name));
            self.contact.admin("postgres", &database).await?;
        }
        self.stop("fast").await
    }

    /// The data of another one that runs, and follows it from then on over `link`, a port of the loopback
    /// interface; with a slot of its own there.
    pub(super) async fn follow(
        &mut self,
        source: &Contact,
        link: u16,
        slot: &str,
    ) -> Result<(), Failed> {
        let data = self.data();
        let data = data.to_str().unwrap_or_default();
        // An attempt that failed may have left one.
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
        );
        source.admin("postgres", &drop).await?;
        let _ = std::fs::remove_dir_all(self.data());
        let arguments = ["-D", data, "-X", "stream", "-C", "-S", slot, "-c", "fast", "--no-sync"];
        let from = replication(source.port, slot);
        self.contact.run("pg_basebackup", &[&arguments[..], &["-d", &from]].concat()).await?;
        self.write("standby.signal", "")?;
        let conninfo = replication(link, slot);
        let settings = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = '{slot}'\n");
        self.write("postgresql.auto.conf", &settings)
    }

    /// The data that a folder holds; as they are, or with what an archive holds until a moment of the machine's.
    pub(super) async fn restore(
        &mut self,
        from: &Path,
        until: Option<(&Path, SystemTime)>,
    ) -> Result<(), Failed> {
        let _ = std::fs::remove_dir_all(self.data());
        let (from, data) = (from.to_owned(), self.data());
        let done = Command::new("cp")
            .arg("-a")
            .args([&from, &data])
            .output()
            .await
            .map_err(failed("cp"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        // What was saved from a standby followed somebody.
        let _ = std::fs::remove_file(data.join("standby.signal"));
        let Some((archive, moment)) = until else { return self.write("postgresql.auto.conf", "") };
        let moment = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let moment = time::OffsetDateTime::UNIX_EPOCH + moment;
        let moment = moment.format(MOMENT).unwrap_or_default();
        self.write("recovery.signal", "")?;
        let settings = format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_time = '{moment}'\n\
             recovery_target_action = 'promote'\n",
            archive.display()
        );
        self.write("postgresql.auto.conf", &settings)
    }

    /// Settings for the next start, line by line; what a writer wrote is kept in `archive`, for restores to a
    /// moment.
    pub(super) fn configure(&self, settings: &str, archive: &Path) -> Result<(), Failed> {
        let (folder, port) = (self.contact.folder.display(), self.contact.port);
        let archive = archive.display();
        let own = format!(
            "{settings}\n# The sandbox's own.\nlisten_addresses = '127.0.0.1'\nport = {port}\n\
             unix_socket_directories = '{folder}'\nfsync = off\nssl = off\nhot_standby = on\n\
             logging_collector = off\nrestart_after_crash = on\narchive_mode = on\n\
             archive_command = 'cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f'\n",
        );
        self.write("postgresql.conf", &own)?;
        // Over the loopback interface comes who the network let through, and replicas.
        let rules = "local all all trust\nhost replication all 127.0.0.1/32 scram-sha-256\n\
                     host all all 127.0.0.1/32 scram-sha-256\n";
        self.write("pg_hba.conf", rules)
    }

    /// Starts it, and waits until it takes connections.
    pub(super) async fn start(&mut self, scratch: &Scratch) -> Result<(), Failed> {
        let (data, log) = (self.data(), self.contact.folder.join("log"));
        let paths = [data.to_str().unwrap_or_default(), log.to_str().unwrap_or_default()];
        let arguments = ["start", "-w", "-s", "-t", "60", "-D", paths[0], "-l", paths[1]];
        if let Err(error) = self.contact.run("pg_ctl", &arguments).await {
            // It may be starting still, and nobody has noted it.
            let _ = self.stop("immediate").await;
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            return Err(format!("{error}\n{}", last.join("\n")));
        }
        let file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let process = file.lines().next().and_then(|line| line.trim().parse().ok());
        let process = process.ok_or("it started, and its process is not known")?;
        // pg_ctl makes it the leader of a group of its own.
        // Kept until it is known to have stopped: whoever keeps it may end with the test, and before the caretaker looks.
        self.running = Some(scratch.note(process).map_err(failed("a note"))?.for_good());
        Ok(())
    }

    /// Stops it: `fast`, or `immediate` for what has no time to do it well.
    pub(super) async fn stop(&mut self, mode: &str) -> Result<(), Failed> {
        let data = self.data();
        let data = data.to_str().unwrap_or_default();
        let stopped =
            self.contact.run("pg_ctl", &["stop", "-w", "-s", "-m", mode, "-D", data]).await;
        let is_gone = match &stopped {
            Ok(_) => true,
            // Perhaps because it had ended by itself.
            Err(_) => self.contact.run("pg_ctl", &["status", "-D", data]).await.is_err(),
        };
        if is_gone && let Some(note) = self.running.take() {
            let _ = std::fs::remove_file(note);
        }
        if is_gone { Ok(()) } else { stopped.map(|_| ()) }
    }

    /// Whether it was started, and not stopped.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it follows another one.
    pub(super) fn is_standby(&self) -> bool {
        self.data().join("standby.signal").exists()
    }

    /// Makes a standby a writer.
    pub(super) async fn promote(&self) -> Result<(), Failed> {
        let data = self.data();
        let data = data.to_str().unwrap_or_default();
        self.contact.run("pg_ctl", &["promote", "-w", "-s", "-D", data]).await.map(|_| ())
    }

    /// Takes what can change while it runs; whether something waits for a restart.
    pub(super) async fn reload(&self) -> Result<bool, Failed> {
        let data = self.data();
        let data = data.to_str().unwrap_or_default();
        self.contact.run("pg_ctl", &["reload", "-s", "-D", data]).await?;
        // The view reads the files itself, however far the server is.
        let waiting = "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL";
        Ok(self.contact.admin("postgres", waiting).await? != "0")
    }

    /// Removes it with its data.
    pub(super) async fn remove(mut self) {
        if self.is_running() {
            let _ = self.stop("immediate").await;
        }
        let _ = std::fs::remove_dir_all(&self.contact.folder);
    }
}
