//! What may be written in HCL: the resource `trading_dr_cluster`. Types, defaults, checks, documentation and
//! what a change means are declared here and nowhere else.

use std::time::Duration;

use super::checks;
use crate::plugin::{Attribute, Nesting, OnChange, Presence, Schema, Type, Value};

/// The state's shape. Raised with an upgrade when it changes incompatibly.
pub(super) const VERSION: u32 = 0;

/// An object whose attributes all have defaults, or none.
fn optional_object(
    name: &'static str,
    attributes: Vec<Attribute>,
    description: &'static str,
) -> Attribute {
    let empty = Value::Mapping(std::collections::BTreeMap::new());
    Attribute::nested(name, Nesting::Single, Presence::Default(empty), attributes, description)
}

fn flag(name: &'static str, default: bool, description: &'static str) -> Attribute {
    Attribute::with_default(name, Type::Bool, Value::Bool(default), description)
}

fn number(name: &'static str, default: i64, description: &'static str) -> Attribute {
    Attribute::with_default(name, Type::Number, Value::integer(default), description)
}

fn text(name: &'static str, default: &str, description: &'static str) -> Attribute {
    Attribute::with_default(name, Type::String, Value::string(default), description)
}

/// Timeouts when nothing is said: twice and more what AWS usually takes (aws-facts 1.4).
pub(super) const TIMEOUTS: [(&str, Duration); 4] = [
    ("create", Duration::from_secs(120 * 60)),
    ("read", Duration::from_secs(10 * 60)),
    ("update", Duration::from_secs(120 * 60)),
    ("delete", Duration::from_secs(90 * 60)),
];

const DATA: &str = "AWS cannot change it in a database that holds data. Make a second cluster with another \
                    environment_suffix, move the data, then destroy this one.";

/// The resource's schema.
pub(super) fn cluster() -> Schema {
    Schema {
        version: VERSION,
        description: "A PostgreSQL 15 disaster-recovery cluster: a Multi-AZ instance in one region, an \
                      encrypted replica in another, and everything around them.",
        attributes: vec![
            Attribute::required(
                "environment_suffix",
                Type::String,
                "What every name ends with: lower-case letters, digits and single hyphens, beginning with a \
                 letter, at most 20 characters. One cluster per suffix and account.",
            )
            .validate(checks::suffix)
            .on_change(OnChange::Replace),
            site("primary", "us-east-1", "The site that writes at first."),
            site("dr", "us-west-2", "The site that stands by at first."),
            Attribute::optional(
                "peering_connection_id",
                Type::String,
                "An active peering of the two VPCs that exists already, with routes over it: AWS allows one \
                 between two VPCs. Default: the cluster makes its own, with routes in the tables of its \
                 subnets.",
            )
            .validate(checks::peering_id),
            optional_object("database", database(), "The two database instances."),
            optional_object(
                "backup",
                vec![
                    number("retention_days", 7, "Days that backups are kept on both sides, 7 to 35.")
                        .validate(checks::retention),
                    text(
                        "window",
                        "03:00-04:00",
                        "When the primary is backed up, `hh:mm-hh:mm` in UTC, from 30 minutes to less than \
                         4 hours. The replica's window begins 4 hours later.",
                    )
                    .validate(checks::window),
                    number(
                        "snapshot_copies",
                        7,
                        "How many copies of the primary's daily snapshots the DR region keeps, encrypted with its \
                         own key, 0 to 90. 0 makes none; those that exist then stay until a destroy.",
                    )
                    .validate(checks::copies),
                    flag(
                        "cross_region",
                        true,
                        "Whether the primary's automated backups are sent to the DR region. Without, nothing \
                         can be restored to a point in time there until the replica is promoted.",
                    ),
                ],
                "Automated backups. Those of the primary are sent to the DR region too: AWS restores to a \
                 point in time from them, not from a replica.",
            ),
            optional_object("dns", dns(), "The DNS name that leads to whichever site writes."),
            optional_object("failover", failover(), "When and how it fails over."),
            optional_object(
                "drill",
                drill(),
                "Failover drills, on a throw-away replica of the standby. What they measure is in `recovery`.",
            ),
            optional_object(
                "monitoring",
                monitoring(),
                "When alarms go off. They tell the topic of their region, as RDS's events do.",
            ),
            optional_object(
                "notifications",
                notifications(),
                "Who hears what the topics of both regions are told. Other subscriptions of these kinds are \
                 removed from the topics; those of other kinds, such as functions, are left alone.",
            ),
            optional_object(
                "deletion",
                vec![
                    flag(
                        "protection",
                        false,
                        "Whether AWS, and a destroy, refuse to delete the instances.",
                    ),
                    flag(
                        "final_snapshot",
                        false,
                        "Whether the writer leaves the snapshot `trading-db-final-{cluster id}-{suffix}` when it is \
                         destroyed. Its key is then needed for as long as the snapshot is.",
                    ),
                ],
                "What a destroy asks for and leaves.",
            ),
            Attribute::optional(
                "tags",
                Type::string_map(),
                "Tags of everything that can be tagged, over the provider's `default_tags`.",
            )
            .validate(checks::tags),
            optional_object(
                "timeouts",
                vec![
                    text("create", "2h", "For a create.").validate(checks::duration),
                    text("read", "10m", "For looking, also at plan.").validate(checks::duration),
                    text("update", "2h", "For an update.").validate(checks::duration),
                    text("delete", "1h30m", "For a destroy.").validate(checks::duration),
                ],
                "How long operations may take, as in `90m` or `1h30m`. What AWS does goes on after that; the \
                 next apply continues.",
            ),
            Attribute::computed("id", Type::String, "The environment suffix."),
            Attribute::computed(
                "components",
                Type::string_map(),
                "What the cluster consists of: one line per AWS primitive, by address. Read from AWS, so \
                 that drift shows.",
            ),
            Attribute::computed(
                "arns",
                Type::string_map(),
                "The ARN of each component, or AWS's id where it has no ARN; by the same addresses.",
            ),
            Attribute::computed(
                "tags_all",
                Type::string_map(),
                "The tags with the provider's default ones.",
            ),
            Attribute::computed(
                "endpoint",
                Type::String,
                "The DNS name that leads to the site that serves. The servers' certificates do not carry it: \
                 connect with `sslmode=verify-ca`, or to the other two endpoints with `verify-full`.",
            ),
            Attribute::computed(
                "primary_endpoint",
                Type::String,
                "The DNS name of the primary site's instance.",
            ),
            Attribute::computed(
                "replica_endpoint",
                Type::String,
                "The DNS name of the DR site's instance.",
            ),
            Attribute::computed(
                "writer_region",
                Type::String,
                "The region whose instance takes writes, as observed.",
            ),
            Attribute::computed(
                "status",
                Type::String,
                "`available`, `modifying`, `incomplete`, `degraded`, `failed_over`, or `diverged` \
                 where two instances take writes.",
            ),
            Attribute::computed(
                "pending_changes",
                Type::strings(),
                "What RDS will change in its maintenance window, or at the next restart.",
            ),
            Attribute::computed(
                "master_secret_arn",
                Type::String,
                "The ARN of the secret in Secrets Manager that holds the master password, which is kept \
                 nowhere else.",
            ),
            Attribute::computed(
                "recovery",
                Type::string_map(),
                "What the settings come to, in seconds with their parts: `rto_lost_region`, \
                 `rto_lost_instance`, `rto_lost_instance_after_zone_failover`, `rpo`; a plan that exceeds the \
                 limits of 300 and 60 seconds is refused. And what drills and failovers have measured: \
                 `last_failover`, `last_drill`, `promotion_allowed_for`, `measured_rto_lost_region`, \
                 `measured_rto_lost_instance`, `at_risk`; where that exceeds the limits, plans warn.",
            ),
        ],
    }
}

fn site(name: &'static str, region: &str, description: &'static str) -> Attribute {
    Attribute::nested(
        name,
        Nesting::Single,
        Presence::Required,
        vec![
            Attribute::required(
                "vpc_id",
                Type::String,
                "The existing VPC that the database goes into.",
            )
            .validate(checks::vpc_id)
            .on_change(OnChange::Replace),
            text("region", region, "Its region.")
                .validate(checks::region)
                .on_change(OnChange::Replace),
            Attribute::optional(
                "subnet_ids",
                Type::string_set(),
                "Subnets in at least two availability zones. Default: the VPC's private ones, those \
                 without a route to an internet gateway; those that an instance may be in stay \
                 when they become public, and a plan warns of them.",
            ),
            Attribute::optional(
                "route_table_ids",
                Type::string_set(),
                "Tables that get a route to the other site. Default: those of the subnets.",
            ),
            Attribute::optional(
                "allowed_security_group_ids",
                Type::string_set(),
                "Security groups of this region whose members may connect.",
            )
            .validate(checks::group_ids),
            Attribute::optional(
                "allowed_cidr_blocks",
                Type::string_set(),
                "IPv4 blocks that may connect. The other site's VPC may anyway, over the peering.",
            )
            .validate(checks::cidr_blocks),
        ],
        description,
    )
}

fn dns() -> Vec<Attribute> {
    vec![
        Attribute::optional(
            "zone_id",
            Type::String,
            "A hosted zone that exists already; a private one must be seen by both VPCs. Default: the \
             cluster makes a private zone, which both VPCs see.",
        )
        .validate(checks::zone_id),
        Attribute::optional(
            "name",
            Type::String,
            "The name. Default: `trading-db-{suffix}` in the zone of `zone_id`, otherwise \
             `db.trading-db-{suffix}.internal`. Without `zone_id`, the zone that is made is everything behind \
             the first dot.",
        )
        .validate(checks::dns_name),
        number("ttl", 30, "Seconds that clients may keep an answer, 1 to 300: part of the recovery time.")
            .validate(checks::ttl),
        Attribute::optional(
            "additional_vpc_ids",
            Type::string_set(),
            "VPCs of this account in one of the two regions that see the cluster's own zone too.",
        )
        .validate(checks::vpc_ids),
    ]
}

/// Why the lease stays where it is.
const WITNESS: &str = "The monitors of both regions decide by the one lease that is there, and it cannot be in two \
                       places while it moves. Make a second cluster with another environment_suffix, move the \
                       data, then destroy this one.";

fn failover() -> Vec<Attribute> {
    vec![
        text(
            "mode",
            "automatic",
            "`automatic`: the monitor in the DR region promotes the standby when the writer is lost. `manual`: it \
             tells, and promotes only when it is asked.",
        )
        .validate(checks::mode),
        text(
            "witness_region",
            "us-east-2",
            "A third region, whose lease decides between the two: only two of three promote.",
        )
        .validate(checks::region)
        .on_change(OnChange::Refuse(WITNESS)),
        flag(
            "accept_split_brain_risk",
            false,
            "Whether the lease may be in the DR region, where it cannot tell a lost region from a cut link.",
        ),
        number(
            "region_detection",
            60,
            "Seconds that the writer's whole region must be lost before the standby is promoted, 60 or more: \
             part of the recovery time.",
        )
        .validate(checks::region_detection),
        number(
            "instance_detection",
            105,
            "The same for a writer whose region answers, 105 or more: its standby in another zone gets its \
             chance first.",
        )
        .validate(checks::instance_detection),
        number(
            "promotion_allowance",
            150,
            "Seconds that a promotion may take, 150 or more: what the recovery time is computed with.",
        )
        .validate(checks::promotion_allowance),
        number(
            "max_data_loss",
            50,
            "Seconds of writes that may be lost without asking. Where it would be more, or is unknown, the \
             monitor tells, and promotes only when it is asked.",
        )
        .validate(checks::max_data_loss),
        Attribute::optional(
            "reserve_concurrency",
            Type::Bool,
            "Whether Lambda reserves a concurrency of ten for each monitor and each probe, of what the account may run \
             in their region: no other function can keep them from running then, and no more of them run. Default: \
             it does where the region's quota has room for that, and a plan warns where it has not.",
        ),
    ]
}

fn drill() -> Vec<Attribute> {
    vec![
        flag(
            "enabled",
            true,
            "Whether failovers are drilled by a schedule. A drill that is under way goes on, and somebody may still \
             ask for one.",
        ),
        Attribute::optional(
            "schedule",
            Type::String,
            "When drills begin, as EventBridge writes it, in UTC: `rate(7 days)` or `cron(0 9 ? * SAT *)`. Choose \
             quiet hours: for some minutes of each drill the standby cannot be promoted. Default: Saturdays, an \
             hour after the DR region's backup window.",
        )
        .validate(checks::schedule),
    ]
}

fn monitoring() -> Vec<Attribute> {
    vec![
        number(
            "replica_lag_seconds",
            60,
            "Seconds that the replica may lag behind for four minutes, 2 to 3600. Half of it for five minutes warns.",
        )
        .validate(checks::lag),
        number("cpu_percent", 80, "Share of the processors that may be busy for five minutes, 1 to 100.")
            .validate(checks::percent),
        Attribute::optional(
            "free_storage_gib",
            Type::Number,
            "GiB that must be free. Default: a tenth of `database.allocated_storage`.",
        )
        .validate(checks::gib),
        number(
            "connections_percent",
            80,
            "Share of `max_connections` that may be in use, 1 to 100. RDS computes the latter from memory \
             and keeps some of it to itself, so that the alarm is late rather than early by a few percent.",
        )
        .validate(checks::percent),
    ]
}

fn notifications() -> Vec<Attribute> {
    vec![
        Attribute::optional(
            "emails",
            Type::string_set(),
            "Mail addresses. Their owners get a mail of AWS for each region, and have to follow its link.",
        )
        .validate(checks::emails),
        Attribute::optional(
            "https_urls",
            Type::string_set(),
            "URLs that messages are posted to; they have to confirm as SNS asks them to.",
        )
        .validate(checks::https_urls),
        Attribute::optional(
            "sqs_queue_arns",
            Type::string_set(),
            "ARNs of queues, whose policies let the topics send.",
        )
        .validate(checks::queue_arns),
    ]
}

fn database() -> Vec<Attribute> {
    vec![
        text(
            "engine_version",
            "15",
            "`15` for the version that RDS prefers at creation, or a full one such as `15.14`.",
        )
        .validate(checks::engine_version)
        .on_change(OnChange::Reboot),
        text("instance_class", "db.t3.medium", "The class of the primary site's instance.")
            .validate(checks::class)
            .on_change(OnChange::Reboot),
        Attribute::optional(
            "dr_instance_class",
            Type::String,
            "The class of the DR site's instance, no smaller. Default: `instance_class`.",
        )
        .validate(checks::class)
        .on_change(OnChange::Reboot),
        number("allocated_storage", 100, "GiB, 20 to 65536. Grows in place; AWS never shrinks it.")
            .validate(checks::storage),
        Attribute::optional(
            "max_allocated_storage",
            Type::Number,
            "GiB up to which RDS grows the storage by itself. Default: it does not.",
        )
        .validate(checks::storage),
        text("storage_type", "gp3", "`gp3`, `io1` or `io2`.").validate(checks::storage_type),
        Attribute::optional(
            "iops",
            Type::Number,
            "Provisioned I/O operations per second: needed for `io1` and `io2` (1,000 to 256,000; for each GiB, half of \
             one at least, and 50 of `io1` or 1,000 of `io2` at most), possible for `gp3` from 400 GiB (12,000 to 64,000).",
        )
        .validate(checks::iops),
        text("db_name", "trading", "The database that is made.")
            .validate(checks::db_name)
            .on_change(OnChange::Refuse(DATA)),
        text("username", "trading_admin", "The master user.")
            .validate(checks::username)
            .on_change(OnChange::Refuse(DATA)),
        number(
            "port",
            5432,
            "The port, 1150 to 65535. Changed at apply, whatever `apply_immediately` says.",
        )
            .validate(checks::port)
            .on_change(OnChange::Reboot),
        Attribute::optional(
            "parameters",
            Type::string_map(),
            "PostgreSQL parameters over ours, for both sites; RDS's formulas are possible, and `default` \
             leaves one of ours to RDS. Those that need a restart get one, in the order that keeps replication alive.",
        )
        .on_change(OnChange::Reboot),
        flag("performance_insights", true, "Whether Performance Insights is on, with our key."),
        number(
            "monitoring_interval",
            60,
            "Seconds between samples of enhanced monitoring: 1, 5, 10, 15, 30 or 60; 0 switches it off.",
        )
        .validate(checks::monitoring_interval),
        flag("dr_multi_az", false, "Whether the DR site's instance has a standby in another zone."),
        text(
            "maintenance_window",
            "sun:05:00-sun:06:00",
            "When RDS may do what interrupts, `ddd:hh:mm-ddd:hh:mm` in UTC.",
        )
        .validate(checks::maintenance_window),
        text(
            "ca_certificate_identifier",
            "rds-ca-rsa2048-g1",
            "The authority that signs the servers' certificates.",
        )
        .on_change(OnChange::Reboot),
        flag(
            "apply_immediately",
            true,
            "Whether changes that interrupt are made at apply. Otherwise they wait for the maintenance \
             window, and parameters for the next restart; `pending_changes` lists them.",
        ),
    ]
}
