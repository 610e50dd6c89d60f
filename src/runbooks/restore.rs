//! Runbooks that restore: always into an instance of its own, beside the cluster.

use serde_json::{Value, json};

use super::{Facts, call, document};
use crate::components::db_instance::NOT_EXTENDED;

/// What a restored instance may be called; RDS takes 63 characters.
const NAMES: &str = "^[a-zA-Z](-?[a-zA-Z0-9]){0,62}$";
/// How long a restore may take, in seconds: it grows with the data.
const LONGEST: u32 = 6 * 3600;
/// Values of parameters.
const LATEST: &str = "latest";
const INSTANCE: &str = "instance";
const REPLICATED: &str = "replicated-backups";

/// The name of the restored instance.
fn target(facts: &Facts) -> Value {
    json!({
        "type": "String", "default": format!("trading-db-restored-{}", facts.suffix), "allowedPattern": NAMES,
        "description": "What the restored instance is called. It is not the cluster's: remove it yourself, and before \
                        the cluster is destroyed, whose key and networks it uses.",
    })
}

fn find_group(facts: &Facts) -> Value {
    let filters = json!({
        "Filters": [
            {"Name": "group-name", "Values": [facts.security_group]},
            {"Name": "vpc-id", "Values": [facts.vpc]},
        ],
    });
    let output = ("GroupId", "$.SecurityGroups[0].GroupId", "String");
    call("FindSecurityGroup", "ec2", "DescribeSecurityGroups", filters, &[output])
}

/// What every restored instance has, besides what it is restored from.
fn placed(facts: &Facts, more: Value) -> Value {
    let mut all = json!({
        "DBSubnetGroupName": facts.subnet_group,
        "VpcSecurityGroupIds": ["{{ FindSecurityGroup.GroupId }}"],
        "DBParameterGroupName": facts.parameter_group,
        "MultiAZ": false, "PubliclyAccessible": false, "AutoMinorVersionUpgrade": false,
        // RDS does not take it over from what is restored.
        "EngineLifecycleSupport": NOT_EXTENDED,
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

/// Waiting for the restored instance, and where it answers.
fn finish() -> [Value; 2] {
    let name = json!({"DBInstanceIdentifier": "{{ TargetDBInstanceIdentifier }}"});
    let wait = json!({
        "name": "WaitForTheInstance", "action": "aws:waitForAwsResourceProperty", "onFailure": "Abort",
        "timeoutSeconds": LONGEST,
        "inputs": {
            "Service": "rds", "Api": "DescribeDBInstances",
            "DBInstanceIdentifier": "{{ TargetDBInstanceIdentifier }}",
            "PropertySelector": "$.DBInstances[0].DBInstanceStatus", "DesiredValues": ["available"],
        },
    });
    let output = ("Endpoint", "$.DBInstances[0].Endpoint.Address", "String");
    let mut describe = call("Describe", "rds", "DescribeDBInstances", name, &[output]);
    describe["isEnd"] = true.into();
    [wait, describe]
}

pub(super) fn snapshot(facts: &Facts) -> Value {
    let description = format!(
        "Restores a snapshot that is in {1} into an instance beside the cluster {0}: one of the copies \
         `trading-db-copy-*-{0}`, a final one, or one of RDS's own. The output is the address of the restored \
         instance; who may connect to the cluster in this region may connect to it.",
        facts.suffix, facts.region
    );
    let parameters = json!({
        "DBSnapshotIdentifier": {
            "type": "String", "description": "The snapshot's name, or its ARN.",
            "allowedPattern": "^[a-zA-Z0-9:-]{1,255}$",
        },
        "TargetDBInstanceIdentifier": target(facts),
    });
    let inputs = placed(
        facts,
        json!({
            "DBSnapshotIdentifier": "{{ DBSnapshotIdentifier }}",
            "DBInstanceIdentifier": "{{ TargetDBInstanceIdentifier }}",
        }),
    );
    let restore = call("Restore", "rds", "RestoreDBInstanceFromDBSnapshot", inputs, &[]);
    let steps: Vec<_> = [find_group(facts), restore].into_iter().chain(finish()).collect();
    document(&description, parameters, &steps, &["Describe.Endpoint"])
}

pub(super) fn point_in_time(facts: &Facts) -> Value {
    let description = format!(
        "Restores the data of the cluster {0} as they were at a moment, into an instance beside it in {1}: from the \
         backups of the instance here, if it is a writer, or from those that the other region has replicated here. \
         AWS restores nothing to a moment from a replica. The output is the address of the restored instance; who \
         may connect to the cluster in this region may connect to it.",
        facts.suffix, facts.region
    );
    let from = if facts.has_replicated_backups { REPLICATED } else { INSTANCE };
    let parameters = json!({
        "RestoreTime": {
            "type": "String", "default": LATEST,
            "allowedPattern": format!("^({LATEST}|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}Z)$"),
            "description": "The moment in UTC, as 2026-01-31T08:30:00Z, or `latest`.",
        },
        "From": {
            "type": "String", "default": from,
            "allowedPattern": format!("^({INSTANCE}|{REPLICATED}|arn:[^:]+:rds:[^:]+:[0-9]+:auto-backup:.+)$"),
            "description": "Whose backups: those of the instance in this region (`instance`), those that the other \
                            region replicates here (`replicated-backups`), or any others here, by their ARN. \
                            Backups that are retained from an instance that is gone are only taken by their ARN.",
        },
        "TargetDBInstanceIdentifier": target(facts),
    });
    let backups = json!({"DBInstanceIdentifier": facts.other_instance});
    let find = call(
        "FindReplicatedBackups",
        "rds",
        "DescribeDBInstanceAutomatedBackups",
        backups,
        &[("Arn", "$.DBInstanceAutomatedBackups[0].DBInstanceAutomatedBackupsArn", "String")],
    );
    // The list may hold what is retained from an earlier instance of that name. RDS is not of one mind about
    // upper case (aws-facts 1.2).
    let check = json!({
        "name": "CheckThatTheyAreReplicated", "action": "aws:assertAwsResourceProperty", "onFailure": "Abort",
        "inputs": {
            "Service": "rds", "Api": "DescribeDBInstanceAutomatedBackups",
            "DBInstanceIdentifier": facts.other_instance,
            "PropertySelector": "$.DBInstanceAutomatedBackups[0].Status",
            "DesiredValues": ["replicating", "Replicating", "active"],
        },
    });
    let whose = branch(
        "WhoseBackups",
        "{{ From }}",
        &[(INSTANCE, "WhenOfInstance"), (REPLICATED, "CheckThatTheyAreReplicated")],
        "WhenOfNamed",
    );
    let (by_id, by_arn) = ("SourceDBInstanceIdentifier", "SourceDBInstanceAutomatedBackupsArn");
    let mut steps = vec![find_group(facts), whose];
    steps.extend(restores(facts, "Instance", by_id, &facts.instance));
    steps.extend(restores(facts, "Named", by_arn, "{{ From }}"));
    steps.extend([check, find]);
    steps.extend(restores(facts, "Replicated", by_arn, "{{ FindReplicatedBackups.Arn }}"));
    steps.extend(finish());
    document(&description, parameters, &steps, &["Describe.Endpoint"])
}

/// Steps that restore from one kind of backups: the latest, or the moment that was asked for.
fn restores(facts: &Facts, of: &str, member: &str, source: &str) -> [Value; 3] {
    let (latest, moment) = (format!("LatestOf{of}"), format!("MomentOf{of}"));
    let restore = |name: &str, when: (&str, Value)| {
        let target = "{{ TargetDBInstanceIdentifier }}";
        let mut inputs = placed(facts, json!({"TargetDBInstanceIdentifier": target}));
        inputs[member] = source.into();
        inputs[when.0] = when.1;
        let mut step = call(name, "rds", "RestoreDBInstanceToPointInTime", inputs, &[]);
        step["nextStep"] = "WaitForTheInstance".into();
        step
    };
    [
        branch(&format!("WhenOf{of}"), "{{ RestoreTime }}", &[(LATEST, &latest)], &moment),
        restore(&latest, ("UseLatestRestorableTime", true.into())),
        restore(&moment, ("RestoreTime", "{{ RestoreTime }}".into())),
    ]
}

/// Goes where the value of a variable leads to, and another way for all other values.
fn branch(name: &str, variable: &str, ways: &[(&str, &str)], otherwise: &str) -> Value {
    let choice = |(value, next): &(&str, &str)| json!({"Variable": variable, "StringEquals": value, "NextStep": next});
    let choices: Vec<Value> = ways.iter().map(choice).collect();
    json!({
        "name": name, "action": "aws:branch", "inputs": {"Choices": choices, "Default": otherwise},
    })
}
