//! Runbooks that restore: always into an instance of its own, beside the cluster.

use serde_json::{Value, json};

use super::{Facts, call, document};

/// What a restored instance may be called; RDS takes 63 characters.
const NAMES: &str = "^[a-zA-Z](-?[a-zA-Z0-9]){0,62}$";
/// How long a restore may take, in seconds: it grows with the data.
const LONGEST: u32 = 6 * 3600;

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
    let from = if facts.has_replicated_backups { "replicated-backups" } else { "instance" };
    let parameters = json!({
        "RestoreTime": {
            "type": "String", "default": "latest",
            "allowedPattern": "^(latest|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)$",
            "description": "The moment in UTC, as 2026-01-31T08:30:00Z, or `latest`.",
        },
        "From": {
            "type": "String", "default": from, "allowedValues": ["instance", "replicated-backups"],
            "description": "Whose backups: those of the instance in this region, or those that were replicated here.",
        },
        "TargetDBInstanceIdentifier": target(facts),
    });
    let find_backups = call(
        "FindReplicatedBackups",
        "rds",
        "DescribeDBInstanceAutomatedBackups",
        json!({"DBInstanceIdentifier": facts.other_instance}),
        &[("Arn", "$.DBInstanceAutomatedBackups[0].DBInstanceAutomatedBackupsArn", "String")],
    );
    let restore = |name: &str, source: (&str, &str), is_latest: bool| {
        let mut inputs = placed(
            facts,
            json!({
                "TargetDBInstanceIdentifier": "{{ TargetDBInstanceIdentifier }}",
            }),
        );
        inputs[source.0] = source.1.into();
        if is_latest {
            inputs["UseLatestRestorableTime"] = true.into();
        } else {
            inputs["RestoreTime"] = "{{ RestoreTime }}".into();
        }
        let mut step = call(name, "rds", "RestoreDBInstanceToPointInTime", inputs, &[]);
        step["nextStep"] = "WaitForTheInstance".into();
        step
    };
    let own = ("SourceDBInstanceIdentifier", facts.instance.as_str());
    let other = ("SourceDBInstanceAutomatedBackupsArn", "{{ FindReplicatedBackups.Arn }}");
    let mut steps = vec![
        find_group(facts),
        branch(
            "WhoseBackups",
            "{{ From }}",
            "replicated-backups",
            "FindReplicatedBackups",
            "WhenOfInstance",
        ),
        branch(
            "WhenOfInstance",
            "{{ RestoreTime }}",
            "latest",
            "LatestOfInstance",
            "MomentOfInstance",
        ),
        restore("LatestOfInstance", own, true),
        restore("MomentOfInstance", own, false),
        find_backups,
        branch(
            "WhenOfBackups",
            "{{ RestoreTime }}",
            "latest",
            "LatestOfBackups",
            "MomentOfBackups",
        ),
        restore("LatestOfBackups", other, true),
        restore("MomentOfBackups", other, false),
    ];
    steps.extend(finish());
    document(&description, parameters, &steps, &["Describe.Endpoint"])
}

/// Goes one way where a variable has a value, and the other way everywhere else.
fn branch(name: &str, variable: &str, value: &str, then: &str, otherwise: &str) -> Value {
    json!({
        "name": name, "action": "aws:branch",
        "inputs": {
            "Choices": [{"Variable": variable, "StringEquals": value, "NextStep": then}],
            "Default": otherwise,
        },
    })
}
