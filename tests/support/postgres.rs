//! A PostgreSQL 15 of the test's own, where its programs are found: a writer and a standby with TLS.

use std::{
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The master user and its password.
pub const MASTER: (&str, &str) = ("boss", "correct-horse");

/// Where the programs of PostgreSQL 15 are; `None`, loudly, without them.
fn programs() -> Option<PathBuf> {
    let known = Path::new("/usr/lib/postgresql/15/bin");
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.and_then(|one| String::from_utf8(one.stdout).ok());
    let places = [Some(known.to_owned()), asked.map(|text| PathBuf::from(text.trim()))];
    let is_15 = |place: &PathBuf| {
        let version = Command::new(place.join("postgres")).arg("--version").output();
        version.is_ok_and(|one| String::from_utf8_lossy(&one.stdout).contains(" 15."))
    };
    let found = places.into_iter().flatten().find(is_15);
    if found.is_none() {
        eprintln!("SKIPPED: there is no PostgreSQL 15 on this machine");
    }
    found
}

/// PostgreSQL refuses to run as root: another user's id, if this is root.
fn user() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = |name: &str| {
        let line = accounts.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse().ok()
    };
    is_root.then(|| id("postgres").or_else(|| id("nobody")).expect("a user besides root"))
}

pub struct Pair {
    home: TempDir,
    programs: PathBuf,
    user: Option<u32>,
    pub primary: u16,
    pub standby: u16,
    /// The authority that signed the servers' certificate, as a file in PEM.
    pub bundle: PathBuf,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Pair {
    /// Both, up; `None` without PostgreSQL.
    pub fn start() -> Option<Self> {
        let programs = programs()?;
        let home = tempfile::tempdir().unwrap();
        let bundle = home.path().join("bundle.pem");
        let pair = Self {
            user: user(),
            primary: free_port(),
            standby: free_port(),
            bundle,
            home,
            programs,
        };
        pair.certificate();
        pair.write("password", MASTER.1);
        pair.own(pair.home.path());
        let (data, password) = (pair.path("primary"), pair.path("password"));
        pair.run(
            "initdb",
            &["-D", &data, "-U", MASTER.0, "--auth=scram-sha-256", "--pwfile", &password],
        );
        let rules = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n";
        pair.write("primary/pg_hba.conf", rules);
        pair.serve("primary", pair.primary);
        let from = format!(
            "host=127.0.0.1 port={} user={} password={} sslmode=require",
            pair.primary, MASTER.0, MASTER.1
        );
        pair.run(
            "pg_basebackup",
            &["-D", &pair.path("standby"), "-R", "-X", "stream", "-d", &from],
        );
        pair.serve("standby", pair.standby);
        Some(pair)
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn own(&self, path: &Path) {
        if let Some(user) = self.user {
            chown(path, Some(user), None).unwrap();
        }
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.own(&path);
    }

    fn certificate(&self) {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let server = params.signed_by(&key, &issuer).unwrap();
        let pem = |kind: &str, der: &[u8]| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let body = STANDARD.encode(der);
            let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
        };
        std::fs::write(&self.bundle, pem("CERTIFICATE", authority.der())).unwrap();
        self.write("server.pem", &pem("CERTIFICATE", server.der()));
        self.write("server.key", &pem("PRIVATE KEY", &key.serialize_der()));
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(self.home.path()).env("HOME", self.home.path());
        if let Some(user) = self.user {
            command.uid(user);
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn serve(&self, name: &str, port: u16) {
        let home = self.home.path().display();
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nssl = on\n\
             ssl_cert_file = '{home}/server.pem'\nssl_key_file = '{home}/server.key'\n\
             wal_receiver_status_interval = 1\n"
        );
        let file = format!("{name}/postgresql.auto.conf");
        let present = std::fs::read_to_string(self.path(&file)).unwrap_or_default();
        self.write(&file, &format!("{present}{settings}"));
        let (data, log) = (self.path(name), self.path(&format!("{name}.log")));
        self.run("pg_ctl", &["start", "-w", "-s", "-D", &data, "-l", &log]);
    }

    /// The writer is gone from one moment to the next.
    pub fn lose_primary(&self) {
        self.run("pg_ctl", &["stop", "-s", "-m", "immediate", "-D", &self.path("primary")]);
    }

    pub fn promote(&self) {
        self.run("pg_ctl", &["promote", "-w", "-s", "-D", &self.path("standby")]);
    }

    /// A session of somebody with a server, running until it is ended.
    pub fn psql(&self, port: u16, login: (&str, &str), statement: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        let to =
            format!("host=localhost port={port} user={} dbname=postgres sslmode=require", login.0);
        command.env("PGPASSWORD", login.1).args(["-X", "-At", &to, "-c", statement]);
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in ["standby", "primary"] {
            let mut command = Command::new(self.programs.join("pg_ctl"));
            command.args(["stop", "-s", "-m", "immediate", "-D", &self.path(name)]);
            if let Some(user) = self.user {
                command.uid(user);
            }
            let _ = command.output();
        }
    }
}
