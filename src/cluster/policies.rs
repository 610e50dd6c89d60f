//! The policies that the cluster needs, least privilege first.

use serde_json::json;

use super::surroundings::Surroundings;

/// The policy of a region's key: the account's own policies decide who uses it, CloudWatch Logs may use it
/// for this cluster's log groups alone, and what tells the topic of alarms and events may encrypt for it. RDS
/// sends no condition key with the latter that could be relied on (aws-facts 7).
pub(super) fn key(surroundings: &Surroundings, region: &str, log_groups: &[String]) -> String {
    if log_groups.is_empty() {
        return key_of_account(surroundings);
    }
    let (partition, account) = (&surroundings.partition, &surroundings.account);
    let groups: Vec<_> = log_groups
        .iter()
        .map(|name| format!("arn:{partition}:logs:{region}:{account}:log-group:{name}"))
        .collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AccountDecides",
                "Effect": "Allow",
                "Principal": {"AWS": format!("arn:{partition}:iam::{account}:root")},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "LogsOfThisCluster",
                "Effect": "Allow",
                "Principal": {"Service": format!("logs.{region}.amazonaws.com")},
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
                "Resource": "*",
                "Condition": {"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": groups}},
            },
            {
                "Sid": "AlarmsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": account}},
            },
            {
                "Sid": "EventsOfDatabases",
                "Effect": "Allow",
                "Principal": {"Service": "events.rds.amazonaws.com"},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*",
            },
        ],
    })
    .to_string()
}

/// The policy of a key that nothing but the account's own principals uses.
fn key_of_account(surroundings: &Surroundings) -> String {
    let (partition, account) = (&surroundings.partition, &surroundings.account);
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "AccountDecides",
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:{partition}:iam::{account}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
    .to_string()
}

/// Who may tell a region's topic: alarms of this cluster, and RDS's events. RDS's guide names the instance as
/// their source, its API the subscription: either may be meant.
pub(super) fn topic(
    surroundings: &Surroundings,
    region: &str,
    topic: &str,
    alarms: &str,
    subscription: &str,
    instance: &str,
) -> String {
    let (partition, account) = (&surroundings.partition, &surroundings.account);
    let topic = format!("arn:{partition}:sns:{region}:{account}:{topic}");
    let allow = |sid: &str, service: &str, sources: Vec<String>| {
        json!({
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sns:Publish",
            "Resource": topic,
            "Condition": {
                "StringEquals": {"aws:SourceAccount": account},
                "ArnLike": {"aws:SourceArn": sources},
            },
        })
    };
    let of = |service: &str, name: String| {
        format!("arn:{partition}:{service}:{region}:{account}:{name}")
    };
    let events = vec![of("rds", format!("db:{instance}")), of("rds", format!("es:{subscription}"))];
    json!({
        "Version": "2012-10-17",
        "Statement": [
            allow("Alarms", "cloudwatch.amazonaws.com", vec![of("cloudwatch", format!("alarm:{alarms}"))]),
            allow("Events", "events.rds.amazonaws.com", events),
        ],
    })
    .to_string()
}

/// Who may become the monitoring role: RDS's monitoring, for instances of this cluster.
pub(super) fn monitoring_trust(surroundings: &Surroundings, instances: &[String]) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": "monitoring.rds.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": surroundings.account},
                "ArnLike": {"aws:SourceArn": instances},
            },
        }],
    })
    .to_string()
}
