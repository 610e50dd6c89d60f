//! The runbooks: documents of SSM Automation (schema 0.3), one set for each region.
//!
//! They run as whoever starts them, or as the role that they are given. None of them promotes, changes or removes
//! an instance of the cluster by itself: the one that fails over asks the monitor, which keeps to its rules, and
//! what is restored is restored beside the cluster.

mod restore;

use serde_json::{Value, json};

use crate::contract::{CLUSTER, ITEM, LEDGER, drill::BEGIN};

/// What a region's runbooks speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The cluster's suffix.
    pub suffix: String,
    /// The region.
    pub region: String,
    /// Its instance.
    pub instance: String,
    /// The instance of the other region, whose backups may be replicated here.
    pub other_instance: String,
    /// Whether they are.
    pub has_replicated_backups: bool,
    /// The function that watches.
    pub monitor: String,
    /// The function that drills, where there is one.
    pub drill: Option<String>,
    /// The table of the ledger.
    pub ledger: String,
    /// The VPC.
    pub vpc: String,
    /// The name of the database's security group in it.
    pub security_group: String,
    /// The database's subnets.
    pub subnet_group: String,
    /// Its parameters.
    pub parameter_group: String,
}

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct Runbook {
    /// What it is for: part of its name and of its address.
    pub purpose: &'static str,
    /// Its content.
    pub content: Value,
}

/// The runbooks of a region.
pub fn all(facts: &Facts) -> Vec<Runbook> {
    let runbook = |purpose, content| Runbook { purpose, content };
    let mut all = vec![
        runbook("failover", failover(facts)),
        runbook("investigate-lag", investigate_lag(facts)),
        runbook("restore-point-in-time", restore::point_in_time(facts)),
        runbook("restore-snapshot", restore::snapshot(facts)),
    ];
    if let Some(function) = &facts.drill {
        all.push(runbook("run-drill", drill(facts, function)));
    }
    all
}

/// A document of these steps. `parameters` come besides the role.
fn document(description: &str, parameters: Value, steps: &[Value], outputs: &[&str]) -> Value {
    let mut all = json!({
        "AutomationAssumeRole": {
            "type": "String", "default": "",
            "description": "The ARN of a role that this runs as. Without one it runs as whoever starts it.",
        },
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), parameters) {
        all.extend(more);
    }
    let mut document = json!({
        "schemaVersion": "0.3", "description": description, "assumeRole": "{{ AutomationAssumeRole }}",
        "parameters": all, "mainSteps": steps,
    });
    if !outputs.is_empty() {
        document["outputs"] = json!(outputs);
    }
    document
}

/// A step that makes one call. `outputs` are names, selectors and types.
fn call(
    name: &str,
    service: &str,
    api: &str,
    inputs: Value,
    outputs: &[(&str, &str, &str)],
) -> Value {
    let mut all = json!({"Service": service, "Api": api});
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), inputs) {
        all.extend(more);
    }
    let mut step =
        json!({"name": name, "action": "aws:executeAwsApi", "onFailure": "Abort", "inputs": all});
    if !outputs.is_empty() {
        let each = outputs.iter();
        step["outputs"] = each
            .map(|(name, selector, kind)| json!({"Name": name, "Selector": selector, "Type": kind}))
            .collect();
    }
    step
}

/// The key of the ledger in its table.
fn ledger(facts: &Facts) -> Value {
    json!({
        "TableName": facts.ledger,
        "Key": {CLUSTER: {"S": facts.suffix}, ITEM: {"S": LEDGER}},
        "ConsistentRead": true,
    })
}

fn failover(facts: &Facts) -> Value {
    let description = format!(
        "Fails the cluster {} over to {}: start it in the region that is to write from now on. The monitor there is \
         asked, and keeps to its rules: it refuses where this region writes already, where the standby cannot be \
         used, where another failover has begun since this was started, and while the writer takes writes. `Force` \
         goes on while it does: the writer is closed first, and what it has not sent yet is lost. It also does \
         without a witness that is silent and, after a minute, without closing a writer that cannot be closed, and it \
         takes over a failover that waits for one of these.",
        facts.suffix, facts.region
    );
    let parameters = json!({
        "Force": {
            "type": "Boolean", "default": false,
            "description": "Whether to fail over although the writer takes writes or cannot be closed, or the witness is silent.",
        },
    });
    let mut wait = json!({
        "Service": "dynamodb", "Api": "GetItem", "PropertySelector": "$.Item.phase.S",
        "DesiredValues": ["promoted"],
    });
    if let (Some(wait), Value::Object(key)) = (wait.as_object_mut(), ledger(facts)) {
        wait.extend(key);
    }
    let asks = |name: &str, payload: Value| {
        json!({
            "name": name, "action": "aws:invokeLambdaFunction", "onFailure": "Abort",
            "maxAttempts": 1, "timeoutSeconds": 120, "nextStep": "KeepWatching",
            "inputs": {
                "FunctionName": facts.monitor, "InvocationType": "RequestResponse", "InputPayload": payload,
            },
        })
    };
    // A failover that begins between this and the question is not what was asked for. Where there is none to be had, the
    // question goes without: a ledger that no monitor has written yet, or only one of an earlier version, has no epoch.
    let number = [("Number", "$.Item.epoch.N", "String")];
    let mut epoch = call("Epoch", "dynamodb", "GetItem", ledger(facts), &number);
    epoch["onFailure"] = "step:AskWithoutEpoch".into();
    epoch["isCritical"] = false.into();
    epoch["nextStep"] = "AskTheMonitor".into();
    let by_epoch =
        json!({"action": "failover", "force": "{{ Force }}", "epoch": "{{ Epoch.Number }}"});
    let steps = vec![
        epoch,
        asks("AskTheMonitor", by_epoch),
        asks("AskWithoutEpoch", json!({"action": "failover", "force": "{{ Force }}"})),
        // The run that was asked answers after half a minute, and has ended the one that the schedule had begun: what it
        // has not finished by then must not wait for the schedule.
        json!({
            "name": "KeepWatching", "action": "aws:invokeLambdaFunction", "onFailure": "Continue",
            "isCritical": false, "timeoutSeconds": 30,
            "inputs": {
                "FunctionName": facts.monitor, "InvocationType": "Event", "InputPayload": {"action": "watch"},
            },
        }),
        json!({
            "name": "WaitUntilItWrites", "action": "aws:waitForAwsResourceProperty", "onFailure": "Abort",
            "timeoutSeconds": 900, "isEnd": true, "inputs": wait,
        }),
    ];
    document(
        &description,
        parameters,
        &steps,
        &["AskTheMonitor.Payload", "AskWithoutEpoch.Payload"],
    )
}

fn drill(facts: &Facts, function: &str) -> Value {
    let description = format!(
        "Begins a failover drill of the cluster {}: a throw-away replica of the standby is promoted, measured and \
         removed, which takes about half an hour. For some minutes of it the standby itself cannot be promoted. The \
         result is in the output `recovery` of the cluster, in the metrics TradingDR/Drill*, and, where it failed, \
         in a message to the topic.",
        facts.suffix
    );
    let steps = vec![json!({
        "name": "AskForADrill", "action": "aws:invokeLambdaFunction", "onFailure": "Abort", "maxAttempts": 1,
        "timeoutSeconds": 60, "isEnd": true,
        "inputs": {
            "FunctionName": function, "InvocationType": "Event", "InputPayload": {"action": BEGIN},
        },
    })];
    document(&description, json!({}), &steps, &[])
}

fn investigate_lag(facts: &Facts) -> Value {
    let description = format!(
        "Gathers what explains a lag of the cluster {0}, and changes nothing. Start it in both regions.\n\n\
         - `Instance.Description`: the instance in {1}. On the standby, StatusInfos says `replicating`, or why not; a \
         parameter group that is not `in-sync` may pause its recovery.\n\
         - `Events.Events`: what RDS did in the last three hours: backups, failovers, storage that is full.\n\
         - `Alarms.InAlarm`: slot-lag or wal-disk on the writer mean that the standby takes nothing; cpu or \
         connections there, that it is the load; on the standby, that it cannot keep up.\n\
         - `Ledger.Body`: what the monitor saw: `ack` is the last write that the writer acknowledged, `replayed` the \
         last heartbeat that the standby has, both in milliseconds of the writer's clock. With a fresh heartbeat, a \
         high ReplicaLag is that of an idle writer.",
        facts.suffix, facts.region
    );
    let instance = json!({"DBInstanceIdentifier": facts.instance});
    let events = json!({
        "SourceIdentifier": facts.instance, "SourceType": "db-instance", "Duration": 180,
    });
    let alarms = json!({"AlarmNamePrefix": "trading-db-", "StateValue": "ALARM"});
    let mut steps = vec![
        call(
            "Instance",
            "rds",
            "DescribeDBInstances",
            instance,
            &[("Description", "$.DBInstances[0]", "StringMap")],
        ),
        call("Events", "rds", "DescribeEvents", events, &[("Events", "$.Events", "MapList")]),
        call(
            "Alarms",
            "cloudwatch",
            "DescribeAlarms",
            alarms,
            &[("InAlarm", "$.MetricAlarms", "MapList")],
        ),
        call(
            "Ledger",
            "dynamodb",
            "GetItem",
            ledger(facts),
            &[("Body", "$.Item.body.S", "String")],
        ),
    ];
    // What one service does not tell hides nothing that the others do.
    for step in &mut steps {
        step["onFailure"] = "Continue".into();
    }
    let outputs = ["Instance.Description", "Events.Events", "Alarms.InAlarm", "Ledger.Body"];
    document(&description, json!({}), &steps, &outputs)
}
