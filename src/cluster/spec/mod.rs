//! What the user wants, complete and validated: once a [`Spec`] exists, it is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{
    failover::Mode,
    names::Suffix,
    schedule::Schedule,
    window::{MaintenanceWindow, Window},
};
use crate::components::Tags;

mod mistakes;

/// Where something was born; fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The region that writes at first.
    Primary,
    /// The region that stands by at first.
    Dr,
}

impl Site {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Dr];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Dr,
            Self::Dr => Self::Primary,
        }
    }

    /// The argument that describes it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Dr => "dr",
        }
    }
}

/// One of the two sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSpec {
    /// Its region.
    pub region: String,
    /// Its VPC.
    pub vpc_id: String,
    /// The database's subnets; the VPC's private ones if `None`.
    pub subnet_ids: Option<Vec<String>>,
    /// The tables that get a route to the other site; those of the subnets if `None`.
    pub route_table_ids: Option<Vec<String>>,
    /// Security groups whose members may connect.
    pub allowed_security_group_ids: BTreeSet<String>,
    /// Blocks of addresses that may connect.
    pub allowed_cidr_blocks: BTreeSet<Ipv4Net>,
}

/// A size of machine for a database, medium or larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceClass {
    name: String,
    /// Memory in GiB.
    memory: u32,
}

impl InstanceClass {
    /// From AWS's name, `db.<family>.<size>`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('.').collect();
        let ["db", family, size] = parts[..] else {
            return Err(
                "an instance class is written db.<family>.<size>, as in db.t3.medium".into()
            );
        };
        let general = match size {
            "micro" | "small" => {
                return Err("the smallest class that carries this cluster is db.t3.medium".into());
            }
            "medium" => 4,
            "large" => 8,
            "xlarge" => 16,
            larger => {
                let factor =
                    larger.strip_suffix("xlarge").and_then(|text| text.parse::<u32>().ok());
                let factor = factor.filter(|factor| (2..=64).contains(factor));
                16 * factor.ok_or_else(|| format!("{size} is no size of an instance class"))?
            }
        };
        let per_size = match family.chars().next() {
            Some('r') => 2,
            Some('x') => 4,
            Some('t' | 'm' | 'c') => 1,
            _ => return Err(format!("{family} is no family of classes for PostgreSQL")),
        };
        Ok(Self { name: text.to_owned(), memory: general * per_size })
    }

    /// The smallest that carries a cluster.
    pub fn smallest() -> Self {
        Self { name: "db.t3.medium".into(), memory: 4 }
    }

    /// AWS's name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Memory in GiB, before what RDS keeps for itself.
    pub fn memory_gib(&self) -> u32 {
        self.memory
    }
}

/// The two databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// `15`, or a full version such as `15.14`.
    pub engine_version: String,
    /// Of the primary site's instance.
    pub instance_class: InstanceClass,
    /// Of the DR site's instance.
    pub dr_instance_class: InstanceClass,
    /// GiB.
    pub allocated_storage: u32,
    /// How far RDS may grow the storage by itself, in GiB.
    pub max_allocated_storage: Option<u32>,
    /// `gp3`, `io1` or `io2`.
    pub storage_type: String,
    /// Provisioned I/O operations per second.
    pub iops: Option<u32>,
    /// The database that is made.
    pub db_name: String,
    /// The master user.
    pub username: String,
    /// The port.
    pub port: u16,
    /// Parameters that override ours, by name.
    pub parameters: BTreeMap<String, String>,
    /// Whether Performance Insights is on.
    pub performance_insights: bool,
    /// Seconds between two samples of enhanced monitoring; 0 is off.
    pub monitoring_interval: u32,
    /// Whether the DR site's instance has a standby of its own.
    pub dr_multi_az: bool,
    /// When RDS may do what interrupts.
    pub maintenance_window: MaintenanceWindow,
    /// The authority that signs the server's certificates.
    pub ca_certificate_identifier: String,
    /// Whether changes that interrupt are made now, or in the maintenance window.
    pub apply_immediately: bool,
}

/// Backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSpec {
    /// Days, 7 to 35.
    pub retention_days: u32,
    /// When the primary site's instance is backed up.
    pub window: Window,
    /// Whether its automated backups are sent to the DR region.
    pub cross_region: bool,
    /// How many copies of its snapshots the DR region keeps; none are made if 0.
    pub snapshot_copies: u32,
}

impl BackupSpec {
    /// When the DR site's instance is backed up: four hours later, which is still night on America's
    /// exchanges, so that the two never run at once and a promotion is never refused because of both.
    pub fn dr_window(&self) -> Window {
        self.window.moved(4 * 60)
    }
}

/// The DNS name that follows the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSpec {
    /// A hosted zone that exists and is somebody else's; our own private one is made if `None`.
    pub zone_id: Option<String>,
    /// The name; derived from the zone's if `None`.
    pub name: Option<String>,
    /// Seconds that an answer may be kept.
    pub ttl: u32,
    /// VPCs that see our private zone, besides the two sites'.
    pub additional_vpc_ids: BTreeSet<String>,
}

/// When and how it fails over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverSpec {
    /// Who promotes.
    pub mode: Mode,
    /// The third region, which decides between the two.
    pub witness_region: String,
    /// Seconds that a region must be lost.
    pub region_detection: u32,
    /// Seconds that an instance must be lost whose region answers.
    pub instance_detection: u32,
    /// Seconds that a promotion may take.
    pub promotion_allowance: u32,
    /// Seconds of writes that may be lost without asking.
    pub max_data_loss: u32,
    /// Whether the lease may be where it cannot tell the two regions apart.
    pub accept_split_brain_risk: bool,
    /// Whether Lambda reserves concurrency for monitors and probes; where its quotas have room for that, if `None`.
    pub reserve_concurrency: Option<bool>,
}

impl Default for FailoverSpec {
    fn default() -> Self {
        Self {
            mode: Mode::Automatic,
            witness_region: "us-east-2".into(),
            region_detection: 60,
            instance_detection: 105,
            promotion_allowance: 150,
            max_data_loss: 50,
            accept_split_brain_risk: false,
            reserve_concurrency: None,
        }
    }
}

/// When failovers are drilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillSpec {
    /// Whether they are, by a schedule.
    pub enabled: bool,
    /// When; derived from the backup windows if `None`.
    pub schedule: Option<Schedule>,
}

/// When alarms go off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitoringSpec {
    /// Seconds that the replica may lag behind; half of it warns.
    pub replica_lag_seconds: u32,
    /// Share of the processors that may be busy.
    pub cpu_percent: u32,
    /// GiB that must be free; a tenth of the storage if `None`.
    pub free_storage_gib: Option<u32>,
    /// Share of `max_connections` that may be in use.
    pub connections_percent: u32,
}

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotificationsSpec {
    /// Mail addresses.
    pub emails: BTreeSet<String>,
    /// Where messages are posted to.
    pub https_urls: BTreeSet<String>,
    /// ARNs of queues.
    pub sqs_queue_arns: BTreeSet<String>,
}

/// What a deletion keeps and asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletionSpec {
    /// Whether AWS refuses to delete the instances until this is off.
    pub protection: bool,
    /// Whether the writer leaves a snapshot.
    pub final_snapshot: bool,
}

/// How long operations may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A create.
    pub create: Duration,
    /// A read, and the looking that a plan does.
    pub read: Duration,
    /// An update.
    pub update: Duration,
    /// A delete.
    pub delete: Duration,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What tells it apart from others.
    pub suffix: Suffix,
    /// Where it writes at first.
    pub primary: SiteSpec,
    /// Where it stands by at first.
    pub dr: SiteSpec,
    /// A peering of the two VPCs that exists and is somebody else's; our own is made if `None`.
    pub peering_connection_id: Option<String>,
    /// The databases.
    pub database: DatabaseSpec,
    /// Their backups.
    pub backup: BackupSpec,
    /// The name that follows the writer.
    pub dns: DnsSpec,
    /// When and how it fails over.
    pub failover: FailoverSpec,
    /// When failovers are drilled.
    pub drill: DrillSpec,
    /// When alarms go off.
    pub monitoring: MonitoringSpec,
    /// Who is told.
    pub notifications: NotificationsSpec,
    /// What becomes of it in the end.
    pub deletion: DeletionSpec,
    /// Tags of everything, the provider's default ones included.
    pub tags: Tags,
    /// How long operations may take.
    pub timeouts: Timeouts,
    /// Arguments whose values are not known yet; the values here stand in for them.
    pub unknown: BTreeSet<String>,
}

/// Tag keys that AWS or this provider gives a meaning of its own.
const RESERVED_TAGS: &[&str] = &["aws:", "trading-dr:"];

/// Whether a tag is nobody's to choose. IAM takes keys that differ in case only for one.
pub fn is_reserved_tag(key: &str) -> bool {
    let key = key.to_lowercase();
    RESERVED_TAGS.iter().any(|prefix| key.starts_with(prefix)) || key == "name"
}

impl Spec {
    /// A site.
    pub fn site(&self, site: Site) -> &SiteSpec {
        match site {
            Site::Primary => &self.primary,
            Site::Dr => &self.dr,
        }
    }

    /// When drills begin: an hour after the window of the DR site's backups, so that there is little to save
    /// while the standby cannot be promoted.
    pub fn drill_schedule(&self) -> Schedule {
        let standard = || Schedule::on_saturdays(self.backup.dr_window().end() + 60);
        self.drill.schedule.clone().unwrap_or_else(standard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_a_size() {
        let memory = |text| InstanceClass::parse(text).map(|class| class.memory_gib());
        assert_eq!(memory("db.t3.medium"), Ok(4));
        assert_eq!(memory("db.r6g.4xlarge"), Ok(128));
        for bad in [
            "db.t3.micro",
            "db.t3.small",
            "t3.medium",
            "db.t3",
            "db.t3.huge",
            "db.q1.large",
            "db.m5.1xlarge",
        ] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
