//! A PostgreSQL 15 of the test's own, where its programs are found: a writer and a standby with TLS.

use std::{net::TcpListener, path::PathBuf, process::Command};

use aws_sandbox::Programs;
use tempfile::TempDir;

/// The master user and its password.
pub const MASTER: (&str, &str) = ("boss", "correct-horse");

pub struct Pair {
    home: TempDir,
    programs: Programs,
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
        let programs = Programs::or_skipped()?;
        let home = tempfile::tempdir().unwrap();
        let bundle = home.path().join("bundle.pem");
        let pair = Self { primary: free_port(), standby: free_port(), bundle, home, programs };
        pair.certificate();
        pair.write("password", MASTER.1);
        pair.programs.own(pair.home.path()).unwrap();
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

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.programs.own(&path).unwrap();
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
        let mut command = self.programs.command(program, self.home.path());
        command.args(arguments);
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
        let mut command = self.programs.command("psql", self.home.path());
        let to =
            format!("host=localhost port={port} user={} dbname=postgres sslmode=require", login.0);
        command.env("PGPASSWORD", login.1).args(["-X", "-At", &to, "-c", statement]);
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in ["standby", "primary"] {
            let mut command = self.programs.command("pg_ctl", self.home.path());
            command.args(["stop", "-s", "-m", "immediate", "-D", &self.path(name)]);
            let _ = command.output();
        }
    }
}
