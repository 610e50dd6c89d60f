//! How long changes usually take on AWS.

/// Kinds of components that take longer than seconds, by what is done to them (nothing: whatever is), in seconds:
/// rough, by what others have measured and AWS's own documents say.
const LONG: [(&str, &str, u64); 14] = [
    ("db-instance", "create", 12 * 60),
    ("db-instance", "update", 10 * 60),
    ("db-instance", "delete", 5 * 60),
    ("db-automated-backup", "", 5 * 60),
    ("drill-instance", "", 5 * 60),
    ("dns-record", "", 30),
    ("hosted-zone", "", 30),
    ("health-check", "", 30),
    ("lambda-function", "create", 15),
    ("dynamodb-table", "create", 15),
    ("iam-role", "create", 15),
    ("db-event-subscription", "create", 15),
    ("vpc-peering", "create", 15),
    ("secret", "create", 15),
];
/// An instance that follows another one; how long that takes depends on the data that there are.
const FOLLOWER: u64 = 20 * 60;
const ANY: u64 = 3;

/// How many seconds a change of a component of a kind usually takes. `follows` is whether it is an instance that is made
/// from another one.
pub fn expected(kind: &str, doing: &str, follows: bool) -> u64 {
    if follows && doing == "create" {
        return FOLLOWER;
    }
    let known =
        LONG.iter().find(|(of, what, _)| *of == kind && (what.is_empty() || *what == doing));
    known.map_or(ANY, |(.., seconds)| *seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_one_that_there_is() {
        let kinds: Vec<&str> = crate::components::kinds().iter().map(|kind| kind.name()).collect();
        for (kind, ..) in LONG {
            assert!(kinds.contains(&kind), "there is no {kind}");
        }
        assert_eq!(expected("db-automated-backup", "delete", false), 300);
        assert_eq!(expected("db-instance", "create", true), 1200);
        assert_eq!(expected("db-instance", "delete", true), 300);
        assert_eq!(expected("kms-key", "create", false), 3);
    }
}
