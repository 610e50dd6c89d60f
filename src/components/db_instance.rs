//! The two database instances: one that writes, one that replicates from it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_rds::types::{DbInstance as Described, PendingModifiedValues};

use super::{
    ARN, Address, ENDPOINT, Effect, Env, Failure, Field, Observation, Output, Outputs, Primitive,
    RESOURCE_ID, Readiness, SECRET_TAG, SOURCE, STATUS, Text, Wanted,
    db_instance_calls::{await_pending_restart, converge, create_replica, create_writer, delete},
    db_instance_waits::{describe, described},
    db_parameter_group::{parameters_text, values},
    db_subnet_group::from_rds,
};
use crate::aws::ApiError;

/// The snapshot that an instance leaves when it is deleted; absent where it leaves none.
pub const FINAL_SNAPSHOT: Output = "final_snapshot";

/// How an instance comes into being. What it is later, AWS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Empty, to be written to.
    Writer {
        /// The database that is made in it.
        db_name: String,
        /// The master user.
        username: String,
        /// The ARN of the secret with the master password.
        secret: Text,
    },
    /// From another instance, which it follows from then on.
    Replica {
        /// The other instance's ARN.
        source: Text,
    },
}

/// The arguments that an instance's settings come from: they differ between the sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Of the class.
    pub class: &'static str,
    /// Of whether it has a standby in another zone.
    pub multi_az: &'static str,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbInstance {
    /// How it comes into being.
    pub origin: Origin,
    /// Where the settings come from.
    pub arguments: Arguments,
    /// AWS's name of the class.
    pub class: String,
    /// `15` or a full version.
    pub engine_version: String,
    /// GiB.
    pub allocated_storage: u32,
    /// How far RDS may grow it, in GiB.
    pub max_allocated_storage: Option<u32>,
    /// `gp3`, `io1` or `io2`.
    pub storage_type: String,
    /// Provisioned I/O operations per second.
    pub iops: Option<u32>,
    /// Whether it has a standby in another zone.
    pub multi_az: bool,
    /// The port.
    pub port: u16,
    /// The key's ARN.
    pub key: Text,
    /// The subnet group's name.
    pub subnet_group: String,
    /// The security group's id.
    pub security_group: Text,
    /// The parameter group's name.
    pub parameter_group: String,
    /// The values of parameters that take effect at a restart only.
    pub static_parameters: BTreeMap<String, String>,
    /// The names of all parameters known to take effect at a restart only.
    pub static_names: BTreeSet<String>,
    /// Days.
    pub retention_days: u32,
    /// `hh:mm-hh:mm`, UTC.
    pub backup_window: String,
    /// `ddd:hh:mm-ddd:hh:mm`, UTC.
    pub maintenance_window: String,
    /// Seconds between samples of enhanced monitoring; 0 is off.
    pub monitoring_interval: u32,
    /// The ARN of the role that it runs as.
    pub monitoring_role: Text,
    /// Whether Performance Insights is on.
    pub performance_insights: bool,
    /// Whether AWS refuses to delete it.
    pub deletion_protection: bool,
    /// The snapshot that it leaves.
    pub final_snapshot: Option<String>,
    /// The authority that signs its certificate.
    pub ca_certificate: String,
    /// Whether changes that interrupt are made now, or in the maintenance window.
    pub apply_immediately: bool,
}

/// The logs that RDS exports.
pub(super) const LOGS: [&str; 2] = ["postgresql", "upgrade"];
/// What EngineLifecycleSupport must be called so that nobody pays for support of an outdated version.
pub const NOT_EXTENDED: &str = "open-source-rds-extended-support-disabled";

const NEVER_MOVED: Effect = Effect::Refuse(
    "AWS cannot change it on an instance that holds data; restore from a snapshot into a new cluster",
);
const NEVER_DEMOTED: Effect = Effect::Refuse(
    "an instance is never demoted or promoted by a plan: it may hold the only copy of the data",
);

impl DbInstance {
    /// The kind's name.
    pub const KIND: &str = "db-instance";

    /// The address of a region's instance.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }

    /// Whether it is made to follow another instance.
    pub fn is_replica(&self) -> bool {
        matches!(self.origin, Origin::Replica { .. })
    }
}

fn on(flag: bool) -> &'static str {
    if flag { "on" } else { "off" }
}

impl Primitive for DbInstance {
    const KIND: &'static str = DbInstance::KIND;

    fn fields(&self) -> Vec<Field> {
        let most =
            self.max_allocated_storage.map_or_else(|| "off".to_owned(), |gib| gib.to_string());
        // What gp3 has anyway looks like what nobody asked for.
        let size = i32::try_from(self.allocated_storage).unwrap_or(i32::MAX);
        let is_more = |iops: &u32| {
            self.storage_type != "gp3" || i64::from(*iops) != i64::from(baseline(size))
        };
        let iops = self.iops.filter(is_more);
        let iops = iops.map_or_else(|| "baseline".to_owned(), |iops| iops.to_string());
        let role = if self.is_replica() { "replica" } else { "writer" };
        let mut all = vec![
            Field::new("role", role).effect(NEVER_DEMOTED),
            Field::new("class", &*self.class).from(self.arguments.class).effect(Effect::Reboot),
            Field::new("engine_version", &*self.engine_version)
                .from("database.engine_version")
                .effect(Effect::Reboot)
                .version(),
            Field::new("storage_gib", self.allocated_storage.to_string())
                .from("database.allocated_storage")
                .at_least(),
            Field::new("max_storage_gib", most).from("database.max_allocated_storage"),
            Field::new("storage_type", &*self.storage_type).from("database.storage_type"),
            Field::new("iops", iops).from("database.iops"),
            Field::new("multi_az", self.multi_az.to_string()).from(self.arguments.multi_az),
            Field::new("port", self.port.to_string())
                .from("database.port")
                .effect(Effect::RebootNow),
            Field::new("key", self.key.clone()).effect(NEVER_MOVED),
            Field::new("subnet_group", &*self.subnet_group).effect(NEVER_MOVED),
            Field::new("security_group", self.security_group.clone()),
            Field::new("parameter_group", &*self.parameter_group).effect(Effect::Reboot),
            Field::new("static_parameters", parameters_text(&self.static_parameters))
                .from("database.parameters")
                .effect(Effect::Reboot)
                .digest(),
            Field::new("backup_retention_days", self.retention_days.to_string())
                .from("backup.retention_days"),
            Field::new("backup_window", &*self.backup_window).from("backup.window"),
            Field::new("maintenance_window", &*self.maintenance_window)
                .from("database.maintenance_window"),
            Field::new("monitoring_interval", self.monitoring_interval.to_string())
                .from("database.monitoring_interval"),
        ];
        if self.monitoring_interval > 0 {
            all.push(Field::new("monitoring_role", self.monitoring_role.clone()));
        }
        all.extend([
            Field::new("performance_insights", on(self.performance_insights))
                .from("database.performance_insights"),
            Field::new("logs", LOGS.join(",")),
            Field::new("minor_upgrades", "off"),
            Field::new("public", "false"),
            Field::new("copy_tags", "true"),
            Field::new("deletion_protection", on(self.deletion_protection))
                .from("deletion.protection"),
            Field::new("ca_certificate", &*self.ca_certificate)
                .from("database.ca_certificate_identifier")
                .effect(Effect::Reboot),
        ]);
        match &self.origin {
            Origin::Replica { source } => {
                all.push(Field::new("source", source.clone()).effect(NEVER_DEMOTED));
            }
            Origin::Writer { db_name, username, secret } => all.extend([
                Field::new("db_name", &**db_name).from("database.db_name").effect(NEVER_MOVED),
                Field::new("username", &**username).from("database.username").effect(NEVER_MOVED),
                Field::new("master_secret", secret.clone()),
                // A replica takes it over from its source: AWS has no way to say it for one.
                Field::new("extended_support", "off").effect(NEVER_MOVED),
            ]),
        }
        all
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let Some(instance) = described(env, region, &wanted.name).await? else { continue };
            if instance.db_instance_status() != Some("deleting") {
                found.push(look(env, wanted, &instance, wanted.settings.apply_immediately).await?);
            }
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        match &wanted.settings.origin {
            Origin::Writer { .. } => create_writer(env, wanted).await,
            Origin::Replica { .. } => create_replica(env, wanted).await,
        }
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let restarts = wanted.settings.apply_immediately;
        if !differing.contains(&"static_parameters") {
            return converge(env, wanted, restarts).await;
        }
        await_pending_restart(env, wanted).await?;
        converge(env, wanted, restarts).await
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        delete(env, found).await
    }
}

/// The ids of the subnets that an instance may be in; none where there is no instance. RDS does not tell in which of them
/// it is.
///
/// # Errors
/// The call failed.
pub async fn subnets_of(env: &Env, region: &str, name: &str) -> Result<Vec<String>, ApiError> {
    let found = described(env, region, name).await?;
    let Some(instance) = found.filter(|one| one.db_instance_status() != Some("deleting")) else {
        return Ok(Vec::new());
    };
    let subnets = instance.db_subnet_group().map(|group| group.subnets()).unwrap_or_default();
    Ok(subnets.iter().filter_map(|one| one.subnet_identifier()).map(str::to_owned).collect())
}

/// Of an instance that was only glanced at: the id of its security group.
pub const SECURITY_GROUP: Output = "security_group";

/// What one call tells of a region's instance: who it is, where it is, whether it follows another one, and how it is.
///
/// # Errors
/// The call failed.
pub async fn glance(env: &Env, region: &str, name: &str) -> Result<Option<Observation>, ApiError> {
    let Some(instance) = describe(env, region, name).await? else { return Ok(None) };
    let status = instance.db_instance_status().unwrap_or_default();
    let mut found = Observation::new(DbInstance::address(region), region, name)
        .readiness(readiness(status))
        .tagged(from_rds(instance.tag_list()), env);
    let outputs = [
        (ENDPOINT, instance.endpoint().and_then(|one| one.address())),
        (SOURCE, instance.read_replica_source_db_instance_identifier()),
        (
            SECURITY_GROUP,
            instance.vpc_security_groups().first().and_then(|one| one.vpc_security_group_id()),
        ),
    ];
    for (name, value) in outputs {
        if let Some(value) = value {
            found = found.output(name, value);
        }
    }
    Ok(Some(found))
}

/// What a state means.
pub fn readiness(status: &str) -> Readiness {
    match status {
        // It takes reads and writes while its volumes are still loaded, and while they are rearranged.
        "available" | "storage-initialization" | "storage-optimization" => Readiness::Ready,
        "failed"
        | "inaccessible-encryption-credentials"
        | "incompatible-create"
        | "incompatible-network"
        | "incompatible-option-group"
        | "incompatible-parameters"
        | "incompatible-restore"
        | "insufficient-capacity"
        | "restore-error"
        | "storage-full"
        | "stopped"
        | "inaccessible-encryption-credentials-recoverable" => Readiness::Broken(status.to_owned()),
        _ => Readiness::Busy(status.to_owned()),
    }
}

/// MiB per second that gp3 storage from 400 GiB on has without paying for more (RDS guide, PostgreSQL).
pub(super) const GP3_THROUGHPUT: i32 = 500;

/// The I/O operations that gp3 storage of a size has without paying for more (RDS guide, PostgreSQL).
pub(super) fn baseline(gib: i32) -> i32 {
    if gib < 400 { 3000 } else { 12_000 }
}

/// The attached parameter group and how far its values are in force.
pub(super) fn group_of(instance: &Described) -> (&str, &str) {
    let group = instance.db_parameter_groups().first();
    let name = group.and_then(|one| one.db_parameter_group_name()).unwrap_or_default();
    (name, group.and_then(|one| one.parameter_apply_status()).unwrap_or_default())
}

/// An instance as AWS describes it. Where `restarts` is false, a change that waits for the maintenance
/// window, and a restart that parameters wait for, count as made; they are noted as pending.
pub(super) async fn look(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    instance: &Described,
    restarts: bool,
) -> Result<Observation, ApiError> {
    let region = &wanted.region;
    let mut waiting = Vec::new();
    // What waits while nothing is under way, and is to be made now, was not asked for yet.
    let counts = !restarts || instance.db_instance_status() != Some("available");
    let mut settings = live(instance, &mut waiting, counts);
    if !counts {
        unwanted(env, wanted, &waiting, &mut settings);
    }
    let mut pending: Vec<String> = waiting.iter().map(Waiting::text).collect();
    let (group, in_force) = group_of(instance);
    let static_parameters = if group != wanted.settings.parameter_group {
        format!("of {group}")
    } else if in_force == "pending-reboot" && restarts {
        "pending-reboot".to_owned()
    } else {
        let statics = &wanted.settings.static_names;
        let values = values(env, region, group, &wanted.settings.static_parameters).await?;
        // Of those that the group has, RDS says it.
        let fixed =
            values.into_iter().filter(|(name, one)| one.is_static || statics.contains(name));
        parameters_text(&fixed.map(|(name, one)| (name, one.text)).collect())
    };
    if in_force == "pending-reboot" && !restarts {
        pending.push("parameters: take effect at the next restart".to_owned());
    }
    let status = instance.db_instance_status().unwrap_or_default();
    let source = instance.read_replica_source_db_instance_identifier().unwrap_or_default();
    let tags = from_rds(instance.tag_list());
    let mut seen = Observation::new(wanted.address.clone(), region, &wanted.name)
        .with("static_parameters", static_parameters)
        .with("master_secret", tags.get(SECRET_TAG).cloned().unwrap_or_default())
        .output(ARN, instance.db_instance_arn().unwrap_or_default())
        .output(RESOURCE_ID, instance.dbi_resource_id().unwrap_or_default())
        .output(STATUS, status)
        .readiness(readiness(status));
    seen.settings.extend(settings);
    if let Some(address) = instance.endpoint().and_then(|one| one.address()) {
        seen = seen.output(ENDPOINT, address);
    }
    if !source.is_empty() {
        seen = seen.output(SOURCE, source);
    }
    // An instance goes on saying `available` when it has lost its source for good.
    let broken = instance.status_infos().iter().find(|one| {
        one.status_type() == Some("read replication")
            && matches!(one.status(), Some("error" | "stopped" | "terminated"))
    });
    if let (Some(one), Readiness::Ready) = (broken, &seen.readiness) {
        let why = one.message().unwrap_or_default();
        let state = one.status().unwrap_or_default();
        seen = seen.readiness(Readiness::Broken(format!("no longer replicating ({state}: {why})")));
    }
    if let Some(snapshot) = &wanted.settings.final_snapshot {
        seen = seen.output(FINAL_SNAPSHOT, snapshot);
    }
    seen.pending = pending;
    Ok(seen.tagged(tags, env))
}

/// A change that waits at RDS.
struct Waiting {
    name: &'static str,
    now: String,
    then: String,
}

impl Waiting {
    fn text(&self) -> String {
        format!("{}: {} → {}", self.name, self.now, self.then)
    }
}

/// What waits at RDS and nobody wants goes with the next change that is made at once, unless it is taken back: it counts as
/// a difference of what is right by now.
fn unwanted(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    waiting: &[Waiting],
    settings: &mut BTreeMap<&'static str, String>,
) {
    let fields = wanted.settings.fields();
    for one in waiting {
        let Some(field) = fields.iter().find(|field| field.name == one.name) else { continue };
        let Ok(value) = env.resolve(&field.value) else { continue };
        if field.is_reached(&value, &one.now) && !field.is_reached(&value, &one.then) {
            settings.insert(one.name, format!("{SOON}{}, now {}", one.then, one.now));
        }
    }
}

/// What a text begins with that says what waits and nobody wants; no value that is wanted does.
const SOON: &str = "soon ";

/// Whether what was found is as it is wanted, but for what waits to be made of it.
pub fn is_taken_back(found: &str) -> bool {
    found.starts_with(SOON)
}

/// The operations per second of the storage, and its throughput where that is another one than it would have anyway: now,
/// or with what is `later`.
fn operations(instance: &Described, later: Option<&PendingModifiedValues>) -> String {
    let gib = later.and_then(|one| one.allocated_storage()).or(instance.allocated_storage());
    let gib = gib.unwrap_or_default();
    let kind = later.and_then(|one| one.storage_type()).or(instance.storage_type());
    let is_gp3 = kind == Some("gp3");
    let iops = later.and_then(|one| one.iops()).or(instance.iops());
    let iops = match iops {
        Some(iops) if is_gp3 && iops == baseline(gib) => "baseline".to_owned(),
        Some(iops) => iops.to_string(),
        None => "baseline".to_owned(),
    };
    // Below 400 GiB, there is no other one; and what AWS does not tell is as it was made.
    let throughput = later.and_then(|one| one.storage_throughput());
    let throughput = throughput.or(instance.storage_throughput());
    match throughput.filter(|mib| is_gp3 && gib >= 400 && *mib != GP3_THROUGHPUT) {
        Some(mib) => format!("{iops}, {mib} MiB/s"),
        None => iops,
    }
}

/// The settings that the description itself tells, with what is pending laid over them where it counts.
fn live(
    instance: &Described,
    waiting: &mut Vec<Waiting>,
    counts: bool,
) -> BTreeMap<&'static str, String> {
    let later = instance.pending_modified_values();
    let mut over = |name: &'static str, now: String, then: Option<String>| {
        let then = then.filter(|then| *then != now);
        if let Some(then) = &then {
            waiting.push(Waiting { name, now: now.clone(), then: then.clone() });
        }
        (name, then.filter(|_| counts).unwrap_or(now))
    };
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let number = |value: Option<i32>| value.map(|value| value.to_string());
    let soon = later.filter(|_| counts);
    let gib = soon.and_then(|one| one.allocated_storage()).or(instance.allocated_storage());
    let (iops, waits) = (operations(instance, None), operations(instance, later));
    let port = instance.endpoint().and_then(|one| one.port()).or(instance.db_instance_port());
    let source = text(instance.read_replica_source_db_instance_identifier());
    let groups = instance.vpc_security_groups().iter();
    let groups: Vec<_> = groups.filter_map(|one| one.vpc_security_group_id()).collect();
    let mut logs = instance.enabled_cloudwatch_logs_exports().to_vec();
    logs.sort();
    let lifecycle = instance.engine_lifecycle_support();
    BTreeMap::from([
        ("role", if source.is_empty() { "writer" } else { "replica" }.to_owned()),
        ("source", source),
        over(
            "class",
            text(instance.db_instance_class()),
            later.and_then(|one| one.db_instance_class().map(str::to_owned)),
        ),
        over(
            "engine_version",
            text(instance.engine_version()),
            later.and_then(|one| one.engine_version().map(str::to_owned)),
        ),
        over(
            "storage_gib",
            number(instance.allocated_storage()).unwrap_or_default(),
            number(later.and_then(|one| one.allocated_storage())),
        ),
        // A limit at what is allocated is AWS's way of saying that nothing grows by itself.
        (
            "max_storage_gib",
            number(instance.max_allocated_storage().filter(|most| Some(*most) > gib))
                .unwrap_or_else(|| "off".into()),
        ),
        over(
            "storage_type",
            text(instance.storage_type()),
            later.and_then(|one| one.storage_type().map(str::to_owned)),
        ),
        over("iops", iops, Some(waits)),
        over(
            "multi_az",
            instance.multi_az().unwrap_or(false).to_string(),
            later.and_then(|one| one.multi_az()).map(|one| one.to_string()),
        ),
        ("port", number(port).unwrap_or_default()),
        ("key", text(instance.kms_key_id())),
        (
            "subnet_group",
            text(instance.db_subnet_group().and_then(|one| one.db_subnet_group_name())),
        ),
        ("security_group", groups.join(",")),
        ("parameter_group", group_of(instance).0.to_owned()),
        over(
            "backup_retention_days",
            number(instance.backup_retention_period()).unwrap_or_default(),
            number(later.and_then(|one| one.backup_retention_period())),
        ),
        ("backup_window", text(instance.preferred_backup_window())),
        ("maintenance_window", text(instance.preferred_maintenance_window())),
        (
            "monitoring_interval",
            number(instance.monitoring_interval()).unwrap_or_else(|| "0".into()),
        ),
        ("monitoring_role", text(instance.monitoring_role_arn())),
        (
            "performance_insights",
            on(instance.performance_insights_enabled().unwrap_or(false)).into(),
        ),
        ("logs", logs.join(",")),
        ("minor_upgrades", on(instance.auto_minor_version_upgrade().unwrap_or(false)).into()),
        ("public", instance.publicly_accessible().unwrap_or(false).to_string()),
        ("copy_tags", instance.copy_tags_to_snapshot().unwrap_or(false).to_string()),
        ("deletion_protection", on(instance.deletion_protection().unwrap_or(false)).into()),
        over(
            "ca_certificate",
            text(instance.ca_certificate_identifier()),
            later.and_then(|one| one.ca_certificate_identifier().map(str::to_owned)),
        ),
        ("extended_support", if lifecycle == Some(NOT_EXTENDED) { "off" } else { "on" }.into()),
        ("db_name", text(instance.db_name())),
        ("username", text(instance.master_username())),
    ])
}
