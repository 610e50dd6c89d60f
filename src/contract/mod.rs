//! What the provider installs and the agent goes by: names of tables' keys and of variables, what a function is
//! told, and what a probe is asked. Both sides read it here, so that they cannot differ.

pub mod drill;
pub mod moments;

use serde::{Deserialize, Serialize};

/// The variable that says which of the agent's functions this is: `monitor`, `probe`, `copier` or `drill`.
pub const FUNCTION: &str = "TRADING_DR_FUNCTION";
/// The variable with the [`Assignment`] of a monitor, the [`Copying`] of a copier, or the [`drill::Drilling`] of a
/// drill, in JSON.
pub const ASSIGNMENT: &str = "TRADING_DR_ASSIGNMENT";
/// The variable with the [`Settings`] of a monitor, in JSON.
pub const SETTINGS: &str = "TRADING_DR_SETTINGS";
/// The role that probes log in with.
pub const ROLE: &str = "trading_dr_probe";

/// The tag that says from which secret an instance's master password was set: RDS itself does not tell.
pub const SECRET_TAG: &str = "trading-dr:master-secret";
/// The tag that says which cluster a thing is part of, by its suffix.
pub const SUFFIX_TAG: &str = "trading-dr:environment-suffix";

/// The namespace of the cluster's metrics.
pub const NAMESPACE: &str = "TradingDR";
/// The dimension that tells clusters apart.
pub const DIMENSION: &str = "EnvironmentSuffix";

/// The hash key of a table's items: the cluster's suffix.
pub const CLUSTER: &str = "cluster";
/// The range key of a table's items: what the item is.
pub const ITEM: &str = "item";
/// What the monitors remember.
pub const LEDGER: &str = "ledger";
/// What operators ask of the monitors: [`DESTROYING`], [`HOLD`].
pub const INTENT: &str = "intent";
/// The lease at the witness.
pub const LEASE: &str = "lease";
/// Of [`INTENT`]: true when the cluster is being removed.
pub const DESTROYING: &str = "destroying";
/// Of [`INTENT`]: until when nothing is to be promoted, in milliseconds of Unix time.
pub const HOLD: &str = "hold_until";

/// Of [`INTENT`]: who wants [`HOLD`].
pub const HELD_BY: &str = "held_by";

/// What a session with a database showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// It takes writes: a heartbeat was written and acknowledged, at this moment of the database's clock, in
    /// milliseconds.
    Writer {
        /// The heartbeat's stamp.
        acknowledged: u64,
    },
    /// It is in recovery.
    Standby {
        /// The stamp of the last heartbeat that was replayed, by the writer's clock.
        replayed: u64,
        /// How long ago the receiver heard of the writer, in milliseconds; `None` without a receiver.
        receiver_age: Option<u64>,
        /// When the last transaction that was replayed was committed, by the writer's clock in milliseconds; `None` if
        /// none was since the standby started.
        #[serde(default)]
        committed: Option<u64>,
    },
    /// No connection: refused, or nobody answered in time.
    Closed,
    /// A connection, and nothing that could be used: the text says what went wrong.
    Broken(String),
}

/// What a region's probe showed of both databases, in one invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The database of its own region.
    pub here: Session,
    /// The other one, over the peering.
    pub there: Session,
}

/// What a monitor is told of one of the two regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The region.
    pub region: String,
    /// Its instance's name.
    pub instance: String,
    /// Its instance's DNS name.
    pub endpoint: String,
    /// The id of its database's security group.
    pub group: String,
    /// The id of the group that its probe is in, whose rule stays when the writer is closed.
    pub probe_group: String,
}

/// What a monitor is told of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The cluster's suffix.
    pub suffix: String,
    /// The own region.
    pub here: Region,
    /// The other one.
    pub there: Region,
    /// The witness's.
    pub witness: String,
    /// The ledgers' name, in both regions.
    pub ledger: String,
    /// The lease's table at the witness.
    pub lease: String,
    /// The own region's probe.
    pub probe: String,
    /// The ARN of the own region's topic.
    pub topic: String,
    /// The secret with the probe's login, in the own region.
    pub login: String,
    /// The databases' port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// What a promoted instance keeps backups for, in days, and when it makes them: RDS does not carry them
    /// over (aws-facts 1.2).
    pub retention_days: i32,
    /// The backup window.
    pub backup_window: String,
}

/// What a copier is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copying {
    /// The cluster's suffix.
    pub suffix: String,
    /// The writer's region.
    pub source_region: String,
    /// The writer.
    pub instance: String,
    /// The own region, where copies go.
    pub region: String,
    /// The ARN of the own region's key.
    pub key: String,
    /// How many copies are kept.
    pub keep: usize,
    /// The ledgers' name.
    pub ledger: String,
}

/// The name of a copy of the snapshot of a moment, which is written as in `20260105-0312`; 255 characters are
/// allowed.
pub fn copy_name(stamp: &str, suffix: &str) -> String {
    format!("trading-db-copy-{stamp}-{suffix}")
}

/// The moment in a copy's name, if it is one of this cluster.
pub fn copy_stamp<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    let stamp = name.strip_prefix("trading-db-copy-")?.strip_suffix(suffix)?.strip_suffix('-')?;
    let digits = |text: &str| text.bytes().all(|one| one.is_ascii_digit());
    let (day, time) = stamp.split_once('-')?;
    (day.len() == 8 && time.len() == 4 && digits(day) && digits(time)).then_some(stamp)
}

/// What the monitor is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Command {
    /// To watch, for a run: what its schedule asks.
    Watch,
    /// To fail over now: what a human asks, by the runbook.
    Failover {
        /// Even while the writer takes writes. `"true"` is taken as well: automations may send texts.
        #[serde(default, deserialize_with = "force")]
        force: bool,
        /// The epoch of the ledger that whoever asks has seen: refused where a failover has begun since. A text is taken
        /// as well.
        #[serde(default, deserialize_with = "epoch")]
        epoch: Option<u64>,
    },
}

/// A value, or the same as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told<T> {
    Value(T),
    Text(String),
}

fn force<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let wrong = || serde::de::Error::custom("force is neither true nor false");
    match Told::deserialize(from).map_err(|_| wrong())? {
        Told::Value(force) => Ok(force),
        Told::Text(text) => text.parse().map_err(|_| wrong()),
    }
}

/// An empty text is none: so may an automation send what it has not found.
fn epoch<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let wrong = || serde::de::Error::custom("epoch is no number");
    match Told::deserialize(from).map_err(|_| wrong())? {
        Told::Value(epoch) => Ok(Some(epoch)),
        Told::Text(text) if text.is_empty() => Ok(None),
        Told::Text(text) => text.parse().map(Some).map_err(|_| wrong()),
    }
}

/// The settings of a monitor, as its environment holds them. Durations are seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Settings {
    /// Whether it promotes by itself.
    pub automatic: bool,
    /// How long a region must be lost.
    pub region_detection: u64,
    /// How long an instance must be lost whose region answers.
    pub instance_detection: u64,
    /// The most that may be lost without asking.
    pub max_data_loss: u64,
}

/// A database's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its DNS name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A role and its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// Without the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a probe is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Question {
    /// What both databases show.
    Look {
        /// The own region's.
        here: Place,
        /// The other one.
        there: Place,
        /// The database.
        database: String,
        /// Who looks.
        login: Login,
    },
    /// To make, or mend, the role that looks and its schema, as the master user.
    Prepare {
        /// The writer.
        here: Place,
        /// The database.
        database: String,
        /// The master user.
        master: Login,
        /// The role that is to look.
        login: Login,
    },
    /// To end the sessions of applications.
    EndSessions {
        /// The own region's database.
        here: Place,
        /// The database.
        database: String,
        /// Who ends them.
        login: Login,
    },
}

/// What a probe answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was seen.
    Looked(Probed),
    /// It is done.
    Done,
    /// It could not be done.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn questions_hold_no_password_when_they_are_printed() {
        let login = Login { username: "probe".into(), password: "hush".into() };
        let here = Place { host: "db".into(), port: 5432 };
        let question = Question::EndSessions { here, database: "trading".into(), login };
        assert!(!format!("{question:?}").contains("hush"));
        let sent = serde_json::to_string(&question).unwrap();
        assert!(sent.contains(r#""action":"end_sessions""#) && sent.contains("hush"));
        assert_eq!(serde_json::from_str::<Question>(&sent).unwrap(), question);
    }

    #[test]
    fn copies_are_told_from_those_of_other_clusters() {
        let name = copy_name("20260105-0312", "prod");
        assert_eq!(copy_stamp(&name, "prod"), Some("20260105-0312"));
        for (name, suffix) in [
            (&*name, "od"),
            (&*copy_name("20260105-0312", "prod-2"), "2"),
            ("trading-db-copy-20260105-0312", "prod"),
            ("trading-db-final-20260105-0312-prod", "prod"),
        ] {
            assert_eq!(copy_stamp(name, suffix), None, "{name}");
        }
    }

    #[test]
    fn commands_are_read_strictly() {
        let read = |value: Value| serde_json::from_value::<Command>(value).ok();
        assert_eq!(read(json!({"action": "watch"})), Some(Command::Watch));
        let forced = json!({"action": "failover", "force": true});
        let asked = |force, epoch| Some(Command::Failover { force, epoch });
        assert_eq!(read(forced), asked(true, None));
        assert_eq!(read(json!({"action": "failover"})), asked(false, None));
        for epoch in [json!(3), json!("3")] {
            let of_epoch = json!({"action": "failover", "force": false, "epoch": epoch});
            assert_eq!(read(of_epoch), asked(false, Some(3)));
        }
        let of_none = json!({"action": "failover", "epoch": ""});
        assert_eq!(read(of_none), asked(false, None));
        for epoch in [json!("no output"), json!(-1), json!(null)] {
            assert_eq!(read(json!({"action": "failover", "epoch": epoch})), None, "{epoch}");
        }
        let text = json!({"action": "failover", "force": "true"});
        assert_eq!(read(text), asked(true, None));
        assert_eq!(read(json!({"action": "failover", "force": "yes"})), None);
        assert_eq!(read(json!({"action": "promote"})), None);
        assert_eq!(read(json!({})), None);
    }
}
