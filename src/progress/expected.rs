//! How long changes usually take on AWS.

/// In seconds, by a component's kind and by what is done to it: rough, by what others have measured and AWS's own
/// documents say. `follows` is whether an instance follows another one; how long that takes depends on its data.
pub fn expected(kind: &str, doing: &str, follows: bool) -> u64 {
    match (kind, doing) {
        ("db-instance", "create") if follows => 20 * 60,
        ("db-instance", "create") => 12 * 60,
        ("db-instance", "update") => 10 * 60,
        ("db-instance" | "db-backup", "delete") => 5 * 60,
        ("db-backup", _) => 5 * 60,
        ("drill-instance", _) => 5 * 60,
        ("dns-record" | "hosted-zone" | "hosted-zone-association" | "health-check", _) => 30,
        ("lambda-function" | "dynamodb-table" | "iam-role", "create") => 15,
        ("db-event-subscription" | "vpc-peering" | "secret", "create") => 15,
        _ => 3,
    }
}
