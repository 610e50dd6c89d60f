//! What a function does with what it is given: the same for the real runtime and for a test's.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Monitor, Tick,
    aws::{Assignment, AwsSurface},
    monitor::{ASKED, LIFE},
};
pub use crate::contract::{Command, Settings};
use crate::{
    aws::{Aws, Session},
    cluster::failover::{Mode, Policy},
};

fn policy(settings: &Settings) -> Policy {
    Policy {
        mode: if settings.automatic { Mode::Automatic } else { Mode::Manual },
        region_detection: Duration::from_secs(settings.region_detection),
        instance_detection: Duration::from_secs(settings.instance_detection),
        max_data_loss: Duration::from_secs(settings.max_data_loss),
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
        policy: policy(settings),
    };
    let surface = AwsSurface::new(aws, session, assignment);
    let mut monitor = Monitor::new(surface, config, run);
    let life = match command {
        Command::Watch => LIFE,
        Command::Failover { force, epoch } => {
            monitor.fail_over(force, epoch).await?;
            ASKED
        }
    };
    let mut looks = 0;
    let mut last = Tick::Blind("no look".into());
    let seen = |tick: &Tick| {
        tracing::info!(target: "trading::agent", "{tick:?}");
        looks += 1;
        last = tick.clone();
    };
    monitor.run(life, seen).await;
    Ok(json!({"looks": looks, "last": format!("{last:?}"), "phase": monitor.ledger().phase}))
}
