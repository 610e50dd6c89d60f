//! What everything is called in AWS: one table, from the environment suffix alone.

use std::fmt;

/// The longest suffix, so that every name below fits AWS's limits.
pub const LONGEST_SUFFIX: usize = 20;

/// The suffix that ends every name of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suffix(String);

impl Suffix {
    /// Lower-case letters, digits and single hyphens; begins with a letter, does not end with a hyphen, at
    /// most [`LONGEST_SUFFIX`] characters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
        if text.is_empty() {
            Err("it is empty")
        } else if !text.chars().all(allowed) {
            Err("it may hold lower-case letters, digits and hyphens only")
        } else if !text.starts_with(|one: char| one.is_ascii_lowercase()) {
            Err("it must begin with a letter")
        } else if text.ends_with('-') || text.contains("--") {
            Err("hyphens stand alone and between other characters")
        } else if text.len() > LONGEST_SUFFIX {
            Err("it may have 20 characters at most")
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Everything that has a name.
///
/// Names end with the suffix, and nothing of ours is looked for by a prefix that ends inside of it, so that
/// `prod` and `prod-2` never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The writer at first, in the primary region. AWS allows 63 characters.
    PrimaryInstance,
    /// The replica at first, in the DR region. 63.
    ReplicaInstance,
    /// A subnet group in each region. 255.
    SubnetGroup,
    /// A parameter group in each region. 255.
    ParameterGroup,
    /// The database's security group in each region. 255.
    SecurityGroup,
    /// The key's alias in each region. 256.
    KeyAlias,
    /// Of the peering, as a tag. 256.
    Peering,
    /// What enhanced monitoring runs as. 64.
    MonitoringRole,
    /// The master password. 512.
    MasterSecret,
    /// The topic of a region that everything notable is told to. 256.
    Topic,
    /// What RDS tells of a region's instance. 255.
    EventSubscription,
    /// What a region's monitors remember. 255.
    Ledger,
    /// The lease at the witness. 255.
    Lease,
    /// The function that watches, decides and acts, and its schedule. 64.
    Monitor,
    /// The function that looks at the databases, and the secret with its login. 64.
    Probe,
    /// The function that copies snapshots, and its schedule. 64.
    Copier,
    /// The function that drills failovers, the schedule that begins them, and the instance that they make and
    /// remove. 63.
    Drill,
    /// The schedule that has drills go on. 64.
    DrillSteps,
    /// What drills run as. 64.
    DrillRole,
    /// What the copier runs as. 64.
    CopierRole,
    /// What monitors run as. 64.
    MonitorRole,
    /// What probes run as. 64.
    ProbeRole,
    /// The probe's security group in each region. 255.
    ProbeGroup,
}

impl Name {
    /// The name for a suffix.
    pub fn of(self, suffix: &Suffix) -> String {
        let stem = match self {
            Self::PrimaryInstance => "trading-db-primary",
            Self::ReplicaInstance => "trading-db-replica",
            Self::SubnetGroup => "trading-db-subnet-group",
            Self::ParameterGroup => "trading-db-params",
            Self::SecurityGroup => "trading-db-sg",
            Self::KeyAlias => "alias/trading-db-key",
            Self::Peering => "trading-db-peering",
            Self::MonitoringRole => "trading-db-monitoring-role",
            Self::MasterSecret => "trading-db-master",
            Self::Topic => "trading-db-alerts",
            Self::EventSubscription => "trading-db-events",
            Self::Ledger => "trading-db-ledger",
            Self::Lease => "trading-db-lease",
            Self::Monitor => "trading-db-monitor",
            Self::Probe => "trading-db-probe",
            Self::Copier => "trading-db-copier",
            Self::Drill => "trading-db-drill",
            Self::DrillSteps => "trading-db-drill-steps",
            Self::DrillRole => "trading-db-drill-role",
            Self::CopierRole => "trading-db-copier-role",
            Self::MonitorRole => "trading-db-monitor-role",
            Self::ProbeRole => "trading-db-probe-role",
            Self::ProbeGroup => "trading-db-probe-sg",
        };
        format!("{stem}-{suffix}")
    }
}

/// The final snapshot of a writer, if asked for; 255 characters are allowed. The cluster's id is in it: a
/// snapshot outlives its cluster, and the next one of the same suffix may leave one too.
pub fn final_snapshot(suffix: &Suffix, cluster_id: &str) -> String {
    format!("trading-db-final-{cluster_id}-{suffix}")
}

/// The log group that RDS writes a kind of log of an instance to.
pub fn log_group(instance: &str, log: &str) -> String {
    format!("/aws/rds/instance/{instance}/{log}")
}

/// The log group that Lambda writes a function's log to.
pub fn function_log(function: &str) -> String {
    format!("/aws/lambda/{function}")
}

/// The alarm of that purpose; 255 characters are allowed.
pub fn alarm(what: &str, suffix: &Suffix) -> String {
    format!("trading-db-{what}-{suffix}")
}

/// The runbook of that purpose; 128 characters are allowed.
pub fn runbook(purpose: &str, suffix: &Suffix) -> String {
    format!("trading-db-{purpose}-{suffix}")
}

/// The dashboard of a site; 255 characters are allowed. Dashboards belong to no region: each needs a name of
/// its own.
pub fn dashboard(site: &str, suffix: &Suffix) -> String {
    format!("trading-db-dashboard-{site}-{suffix}")
}

/// The private zone that is made where no other one is named.
pub fn zone(suffix: &Suffix) -> String {
    format!("trading-db-{suffix}.internal")
}

/// What the records of the cluster's DNS name are told apart by; 128 characters are allowed.
pub fn record(site: &str, suffix: &Suffix) -> String {
    format!("trading-db-{site}-{suffix}")
}

/// The folder of parameters in which a cluster keeps its record and its leases.
pub fn parameter_path(suffix: &Suffix) -> String {
    format!("/trading-db/{suffix}")
}

#[cfg(test)]
mod tests {
    use super::{Name, Suffix};

    #[test]
    fn suffixes_are_checked() {
        for good in ["prod", "a", "prod-2", "a1-b2-c3", "abcdefghijklmnopqrst"] {
            assert_eq!(Suffix::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "Prod_1", "1prod", "-a", "a-", "a--b", "prod.eu", "abcdefghijklmnopqrstu", "ü"]
        {
            assert!(Suffix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let suffix = Suffix::parse("abcdefghijklmnopqrst").unwrap();
        assert!(Name::ReplicaInstance.of(&suffix).len() <= 63);
        assert!(Name::MonitoringRole.of(&suffix).len() <= 64);
    }
}
