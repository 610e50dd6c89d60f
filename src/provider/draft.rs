//! A configuration as it was written: each argument known or not known yet. What is known becomes a
//! [`Spec`]; what is not is named in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{checks::parse_duration, cluster_schema::TIMEOUTS};
use crate::{
    cluster::{
        Mistake, Site, Spec,
        blueprint::AGENT_ARGUMENTS,
        failover::Mode,
        names::Suffix,
        schedule::Schedule,
        spec::{
            BackupSpec, DatabaseSpec, DeletionSpec, DnsSpec, DrillSpec, FailoverSpec,
            InstanceClass, MonitoringSpec, NotificationsSpec, SiteSpec, Timeouts,
        },
        window::{MaintenanceWindow, Window},
    },
    components::Tags,
    plugin::{Diagnostics, Path, Value},
};

/// A decoded configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Draft {
    /// Everything that decides which components there are is known. [`Spec::unknown`] names the rest.
    Decided(Box<Spec>),
    /// An argument that decides which components there are is not known yet.
    Undecided(String),
}

struct Reader<'a> {
    value: &'a Value,
    unknown: BTreeSet<String>,
}

impl Reader<'_> {
    fn at(&self, argument: &str) -> &Value {
        argument.split('.').fold(self.value, |value, name| value.get(name))
    }

    /// The value, or a stand-in for one that is not known, which is noted.
    fn take<T>(&mut self, argument: &str, stand_in: T, read: impl Fn(&Value) -> Option<T>) -> T {
        let value = self.at(argument);
        if value.is_wholly_known() {
            read(value).unwrap_or(stand_in)
        } else {
            self.unknown.insert(argument.to_owned());
            stand_in
        }
    }

    fn text(&mut self, argument: &str) -> String {
        self.take(argument, String::new(), |value| value.as_str().map(str::to_owned))
    }

    fn flag(&mut self, argument: &str) -> bool {
        self.take(argument, false, Value::as_bool)
    }

    fn number(&mut self, argument: &str, stand_in: u32) -> u32 {
        self.take(argument, stand_in, |value| u32::try_from(value.as_i64()?).ok())
    }

    fn maybe_number(&mut self, argument: &str) -> Option<u32> {
        self.take(argument, None, |value| Some(u32::try_from(value.as_i64()?).ok()))
    }

    fn set(&self, argument: &str) -> BTreeSet<String> {
        let items = self.at(argument).items().iter();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    fn map(&mut self, argument: &str) -> BTreeMap<String, String> {
        self.take(argument, BTreeMap::new(), |value| {
            let pairs = value.entries();
            Some(
                pairs
                    .filter_map(|(key, value)| Some((key.to_owned(), value.as_str()?.to_owned())))
                    .collect(),
            )
        })
    }

    fn duration(&mut self, (name, default): (&str, Duration)) -> Duration {
        self.take(&format!("timeouts.{name}"), default, |value| parse_duration(value.as_str()?))
    }
}

/// Arguments that decide which components there are.
const DECIDING: [&str; 23] = [
    "backup.cross_region",
    "backup.snapshot_copies",
    "drill.enabled",
    "peering_connection_id",
    "primary.vpc_id",
    "primary.region",
    "primary.subnet_ids",
    "primary.route_table_ids",
    "primary.allowed_security_group_ids",
    "primary.allowed_cidr_blocks",
    "dr.vpc_id",
    "dr.region",
    "dr.subnet_ids",
    "dr.route_table_ids",
    "dr.allowed_security_group_ids",
    "dr.allowed_cidr_blocks",
    "dns.zone_id",
    "dns.name",
    "dns.additional_vpc_ids",
    "failover.witness_region",
    "notifications.emails",
    "notifications.https_urls",
    "notifications.sqs_queue_arns",
];

/// Arguments that the agent is told.
const AGENT: [&str; 10] = [
    "failover.mode",
    "failover.accept_split_brain_risk",
    "failover.region_detection",
    "failover.instance_detection",
    "failover.promotion_allowance",
    "failover.max_data_loss",
    "backup.retention_days",
    "backup.window",
    "database.port",
    "database.db_name",
];

impl Draft {
    /// Decodes a configuration whose defaults are filled in and whose single arguments were checked.
    ///
    /// # Errors
    /// Arguments that contradict each other.
    pub(super) fn decode(config: &Value, default_tags: &Tags) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader { value: config, unknown: BTreeSet::new() };
        let suffix =
            reader.at("environment_suffix").as_str().and_then(|text| Suffix::parse(text).ok());
        let Some(suffix) = suffix else { return Ok(Self::Undecided("environment_suffix".into())) };
        let undecided = DECIDING.iter().find(|one| !reader.at(one).is_wholly_known());
        if let Some(argument) = undecided {
            return Ok(Self::Undecided((*argument).to_owned()));
        }
        let primary = site(&reader, Site::Primary);
        let dr = site(&reader, Site::Dr);
        let database = database(&mut reader);
        let window =
            reader.take("backup.window", None, |value| Some(Window::parse(value.as_str()?).ok()));
        let backup = BackupSpec {
            retention_days: reader.number("backup.retention_days", 7),
            window: window.unwrap_or_default(),
            cross_region: config.get("backup").get("cross_region").as_bool().unwrap_or(true),
            snapshot_copies: reader.number("backup.snapshot_copies", 7),
        };
        let dns = DnsSpec {
            zone_id: reader.at("dns.zone_id").as_str().map(str::to_owned),
            name: reader.at("dns.name").as_str().map(str::to_owned),
            ttl: reader.number("dns.ttl", 30),
            additional_vpc_ids: reader.set("dns.additional_vpc_ids"),
        };
        let failover = failover(&mut reader);
        let schedule = |value: &Value| Some(Schedule::parse(value.as_str()?).ok());
        let drill = DrillSpec {
            enabled: reader.flag("drill.enabled"),
            schedule: reader.take("drill.schedule", None, schedule),
        };
        let monitoring = MonitoringSpec {
            replica_lag_seconds: reader.number("monitoring.replica_lag_seconds", 60),
            cpu_percent: reader.number("monitoring.cpu_percent", 80),
            free_storage_gib: reader.maybe_number("monitoring.free_storage_gib"),
            connections_percent: reader.number("monitoring.connections_percent", 80),
        };
        let notifications = NotificationsSpec {
            emails: reader.set("notifications.emails"),
            https_urls: reader.set("notifications.https_urls"),
            sqs_queue_arns: reader.set("notifications.sqs_queue_arns"),
        };
        let deletion = DeletionSpec {
            protection: reader.flag("deletion.protection"),
            final_snapshot: reader.flag("deletion.final_snapshot"),
        };
        let mut tags = default_tags.clone();
        tags.extend(reader.map("tags"));
        let [create, read, update, delete] = TIMEOUTS.map(|one| reader.duration(one));
        let timeouts = Timeouts { create, read, update, delete };
        let mut unknown = reader.unknown;
        if unknown.contains("database.instance_class")
            && config.get("database").get("dr_instance_class").is_null()
        {
            unknown.insert("database.dr_instance_class".into());
        }
        // When drills begin follows from the backups, unless it is said.
        if unknown.contains("backup.window") && config.get("drill").get("schedule").is_null() {
            unknown.insert("drill.schedule".into());
        }
        // How much WAL a slot may hold back is a share of the storage.
        if unknown.contains("database.allocated_storage") {
            unknown.insert("database.parameters".into());
            unknown.insert("monitoring.free_storage_gib".into());
        }
        // The agent is told all of these in one text.
        if AGENT.iter().any(|one| unknown.contains(*one)) {
            unknown.insert(AGENT_ARGUMENTS.into());
        }
        // How many connections there are is computed from the class and the parameters.
        if ["database.instance_class", "database.dr_instance_class", "database.parameters"]
            .iter()
            .any(|one| unknown.contains(*one))
        {
            unknown.insert("monitoring.connections_percent".into());
        }
        let peering_connection_id = config.get("peering_connection_id").as_str().map(str::to_owned);
        let spec = Spec {
            suffix,
            primary,
            dr,
            peering_connection_id,
            database,
            backup,
            dns,
            failover,
            drill,
            monitoring,
            notifications,
            deletion,
            tags,
            timeouts,
            unknown,
        };
        let mistakes = spec.mistakes();
        if mistakes.is_empty() { Ok(Self::Decided(Box::new(spec))) } else { Err(mistakes) }
    }
}

fn site(reader: &Reader<'_>, site: Site) -> SiteSpec {
    let value = reader.at(site.argument());
    let list = |name: &str| -> Option<Vec<String>> {
        let value = value.get(name);
        let texts =
            || value.items().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
        (!value.is_null()).then(texts)
    };
    let text = |name: &str| value.get(name).as_str().unwrap_or_default().to_owned();
    let blocks = list("allowed_cidr_blocks").unwrap_or_default();
    SiteSpec {
        region: text("region"),
        vpc_id: text("vpc_id"),
        subnet_ids: list("subnet_ids"),
        route_table_ids: list("route_table_ids"),
        allowed_security_group_ids: list("allowed_security_group_ids")
            .unwrap_or_default()
            .into_iter()
            .collect(),
        allowed_cidr_blocks: blocks
            .iter()
            .filter_map(|text| text.parse::<Ipv4Net>().ok())
            .collect(),
    }
}

fn failover(reader: &mut Reader<'_>) -> FailoverSpec {
    let standard = FailoverSpec::default();
    let witness = reader.at("failover.witness_region").as_str().map(str::to_owned);
    let mode = |value: &Value| match value.as_str()? {
        "manual" => Some(Mode::Manual),
        _ => Some(Mode::Automatic),
    };
    FailoverSpec {
        mode: reader.take("failover.mode", standard.mode, mode),
        witness_region: witness.unwrap_or(standard.witness_region),
        region_detection: reader.number("failover.region_detection", standard.region_detection),
        instance_detection: reader
            .number("failover.instance_detection", standard.instance_detection),
        promotion_allowance: reader
            .number("failover.promotion_allowance", standard.promotion_allowance),
        max_data_loss: reader.number("failover.max_data_loss", standard.max_data_loss),
        accept_split_brain_risk: reader.flag("failover.accept_split_brain_risk"),
        reserve_concurrency: reader
            .take("failover.reserve_concurrency", None, |value| Some(value.as_bool())),
    }
}

fn database(reader: &mut Reader<'_>) -> DatabaseSpec {
    let class = |value: &Value| Some(InstanceClass::parse(value.as_str()?).ok());
    let instance_class =
        reader.take("database.instance_class", None, class).unwrap_or_else(InstanceClass::smallest);
    let dr_instance_class = reader.take("database.dr_instance_class", None, class);
    let maintenance = reader.take("database.maintenance_window", None, |value| {
        Some(MaintenanceWindow::parse(value.as_str()?).ok())
    });
    DatabaseSpec {
        engine_version: reader.text("database.engine_version"),
        dr_instance_class: dr_instance_class.unwrap_or_else(|| instance_class.clone()),
        instance_class,
        allocated_storage: reader.number("database.allocated_storage", 100),
        max_allocated_storage: reader.maybe_number("database.max_allocated_storage"),
        storage_type: reader.text("database.storage_type"),
        iops: reader.maybe_number("database.iops"),
        db_name: reader.text("database.db_name"),
        username: reader.text("database.username"),
        port: u16::try_from(reader.number("database.port", 5432)).unwrap_or(5432),
        parameters: reader.map("database.parameters"),
        performance_insights: reader.flag("database.performance_insights"),
        monitoring_interval: reader.number("database.monitoring_interval", 60),
        dr_multi_az: reader.flag("database.dr_multi_az"),
        maintenance_window: maintenance.unwrap_or_default(),
        ca_certificate_identifier: reader.text("database.ca_certificate_identifier"),
        apply_immediately: reader.flag("database.apply_immediately"),
    }
}

/// Mistakes as diagnostics at their arguments; `database.parameters[x]` leads to the map's element.
pub(super) fn diagnose(mistakes: &[Mistake]) -> Diagnostics {
    let mut found = Diagnostics::new();
    for one in mistakes {
        let path = match one.argument.split_once('[') {
            Some((map, key)) => Path::attributes(map).key(key.trim_end_matches(']')),
            None => Path::attributes(&one.argument),
        };
        // Terraform underlines no more than the outermost attribute: the text names the one that is meant.
        let named = one.summary.contains(&path.to_string());
        let summary = if named { one.summary.clone() } else { format!("{path}: {}", one.summary) };
        found.error_at(path, summary, one.detail.clone());
    }
    found
}
