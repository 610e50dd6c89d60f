//! The policies that the cluster needs, least privilege first.

use serde_json::json;

use super::surroundings::Surroundings;

/// The policy of a region's key: the account's own policies decide who uses it, and CloudWatch Logs may
/// use it for this cluster's log groups alone.
pub(super) fn key(surroundings: &Surroundings, region: &str, log_groups: &[String]) -> String {
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
