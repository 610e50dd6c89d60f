//! The second database engine: every instance of the account is a PostgreSQL 15 of its own, in real time, behind a
//! stand-in for the network that ends TLS.
//!
//! The account's records say what there is; a keeper per instance makes the server follow them. What PostgreSQL
//! measures in real time is told in the account's (lags, the patience with a silent link); the stamps that it writes
//! are the machine's. At more than ten times its speed the two are too far apart.

mod authority;
mod keeper;
mod network;
mod programs;
mod server;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authority::Authority;
use keeper::Key;
pub use programs::Programs;
use server::Contact;
use tokio::net::TcpListener;

use crate::{Sandbox, Source, scratch::Scratch};

/// Between two looks for new instances, in milliseconds of the account's time.
const LOOK: u64 = 1000;

/// The servers of a sandbox, and the network that leads to them. Dropped, none of them runs on, and no file is left.
pub struct Laboratory {
    sandbox: Sandbox,
    pub(crate) scratch: Scratch,
    programs: Programs,
    authority: Arc<Authority>,
    bundle: PathBuf,
    contacts: Mutex<BTreeMap<(String, String), Contact>>,
    kept: Mutex<BTreeSet<Key>>,
    places: tokio::sync::Mutex<BTreeMap<Source, SocketAddr>>,
    folders: Mutex<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sandbox {
    /// From now on every instance is a PostgreSQL of its own.
    ///
    /// # Errors
    /// There is no folder to be had, or no certificate.
    pub fn run_databases(&self, programs: Programs) -> Result<Arc<Laboratory>, String> {
        let scratch = Scratch::new().map_err(|error| error.to_string())?;
        let authority = Authority::new().map_err(|error| error.to_string())?;
        let bundle = scratch.path().join("bundle.pem");
        std::fs::write(&bundle, &authority.pem).map_err(|error| error.to_string())?;
        let laboratory = Arc::new(Laboratory {
            sandbox: self.clone(),
            scratch,
            programs,
            authority: Arc::new(authority),
            bundle,
            contacts: Mutex::default(),
            kept: Mutex::default(),
            places: tokio::sync::Mutex::default(),
            folders: Mutex::default(),
        });
        let weak = Arc::downgrade(&laboratory);
        let sandbox = self.clone();
        tokio::spawn(async move {
            while let Some(lab) = weak.upgrade() {
                for (region, id, resource) in lab.sandbox.with(|world| world.engine_instances()) {
                    let key = Key { region, id, resource };
                    if locked(&lab.kept).insert(key.clone()) {
                        tokio::spawn(keeper::keep(Arc::downgrade(&lab), key));
                    }
                }
                drop(lab);
                sandbox.pass(LOOK).await;
            }
        });
        Ok(laboratory)
    }
}

impl Laboratory {
    /// The authority that signs the endpoints' certificates, as a file in PEM.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The address at which a place in the network finds all databases, by the name that TLS carries.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn place(self: &Arc<Self>, source: &Source) -> std::io::Result<SocketAddr> {
        let mut places = self.places.lock().await;
        if let Some(known) = places.get(source) {
            return Ok(*known);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(network::serve(Arc::downgrade(self), source.clone(), listener));
        places.insert(source.clone(), address);
        Ok(address)
    }

    /// `psql` at a place, as somebody: by an endpoint's name or the cluster's, over TLS that is verified as `mode`
    /// says.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn psql(
        self: &Arc<Self>,
        from: &Source,
        host: &str,
        database: &str,
        login: (&str, &str),
        mode: &str,
    ) -> std::io::Result<Command> {
        let mut psql = self.client("psql", from, host, login, mode).await?;
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database]);
        Ok(psql)
    }

    /// `pgbench` at a place, as somebody, by an endpoint's name or the cluster's.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn pgbench(
        self: &Arc<Self>,
        from: &Source,
        host: &str,
        database: &str,
        login: (&str, &str),
    ) -> std::io::Result<Command> {
        let mut bench = self.client("pgbench", from, host, login, "verify-ca").await?;
        bench.env("PGDATABASE", database);
        Ok(bench)
    }

    /// One of PostgreSQL's clients, which is told by its environment where to connect.
    async fn client(
        self: &Arc<Self>,
        program: &str,
        from: &Source,
        host: &str,
        login: (&str, &str),
        mode: &str,
    ) -> std::io::Result<Command> {
        let address = self.place(from).await?;
        let mut client = self.programs.command(program, self.scratch.path());
        client.env("PGHOST", host).env("PGHOSTADDR", address.ip().to_string());
        client.env("PGPORT", address.port().to_string()).env("PGUSER", login.0);
        client.env("PGPASSWORD", login.1).env("PGSSLMODE", mode).env("PGSSLROOTCERT", &self.bundle);
        client.env("PGCONNECT_TIMEOUT", "2");
        Ok(client)
    }

    fn contact(&self, instance: &(String, String)) -> Option<Contact> {
        locked(&self.contacts).get(instance).cloned()
    }

    /// Where an instance's log is archived, by RDS's id of it.
    fn archive(&self, resource: &str) -> Result<PathBuf, String> {
        let folder = self.scratch.path().join(format!("archive-{}", resource.to_lowercase()));
        if folder.exists() { Ok(folder) } else { self.folder(folder) }
    }

    fn new_folder(&self) -> Result<PathBuf, String> {
        let mut folders = locked(&self.folders);
        *folders += 1;
        self.folder(self.scratch.path().join(format!("snapshot-{folders}")))
    }

    /// PostgreSQL's own: it refuses data that others may read.
    fn folder(&self, path: PathBuf) -> Result<PathBuf, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.mode(0o700).create(&path).and_then(|()| self.programs.own(&path));
        made.map_err(|error| error.to_string()).map(|()| path)
    }
}
