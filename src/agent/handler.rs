//! What a function does with what it is given: the same for the real runtime and for a test's.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Monitor, Tick,
    aws::{Assignment, AwsSurface},
};
use crate::{
    aws::{Aws, Session},
    cluster::failover::{Mode, Policy},
};

/// What the monitor is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Command {
    /// To watch, for a run: what its schedule asks.
    Watch,
    /// To fail over now: what a human asks, by the runbook.
    Failover {
        /// Even while the writer takes writes.
        #[serde(default)]
        force: bool,
    },
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

impl Settings {
    fn policy(&self) -> Policy {
        Policy {
            mode: if self.automatic { Mode::Automatic } else { Mode::Manual },
            region_detection: Duration::from_secs(self.region_detection),
            instance_detection: Duration::from_secs(self.instance_detection),
            max_data_loss: Duration::from_secs(self.max_data_loss),
        }
    }
}

/// One invocation of a monitor. `run` is greater than that of every earlier one.
///
/// # Errors
/// What was asked cannot be understood, or a failover that a human asked for was not begun.
pub async fn monitor(
    aws: Arc<Aws>,
    assignment: Assignment,
    settings: &Settings,
    run: String,
    payload: Value,
) -> Result<Value, String> {
    let command: Command = serde_json::from_value(payload)
        .map_err(|error| format!("this is nothing that a monitor can be asked: {error}"))?;
    let session = Session::new(aws.clock().clone(), CancellationToken::new(), None);
    let config = Config {
        here: assignment.here.region.clone(),
        there: assignment.there.region.clone(),
        policy: settings.policy(),
    };
    let surface = AwsSurface::new(aws, session, assignment);
    let mut monitor = Monitor::new(surface, config, run);
    if let Command::Failover { force } = command {
        monitor.fail_over(force).await?;
    }
    let mut looks = 0;
    let mut last = Tick::Blind("no look".into());
    let seen = |tick: &Tick| {
        tracing::info!(target: "trading::agent", "{tick:?}");
        looks += 1;
        last = tick.clone();
    };
    monitor.run(seen).await;
    Ok(json!({"looks": looks, "last": format!("{last:?}"), "phase": monitor.ledger().phase}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_strictly() {
        let read = |value: Value| serde_json::from_value::<Command>(value).ok();
        assert_eq!(read(json!({"action": "watch"})), Some(Command::Watch));
        let forced = json!({"action": "failover", "force": true});
        assert_eq!(read(forced), Some(Command::Failover { force: true }));
        assert_eq!(read(json!({"action": "failover"})), Some(Command::Failover { force: false }));
        assert_eq!(read(json!({"action": "promote"})), None);
        assert_eq!(read(json!({})), None);
    }
}
