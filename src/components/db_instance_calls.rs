//! What is done with database instances: making, changing, restarting and deleting them.

use std::{future::Future, time::Duration};

use aws_sdk_rds::{
    operation::modify_db_instance::builders::ModifyDBInstanceFluentBuilder,
    types::{CloudwatchLogsExportConfiguration, DbInstance as Described, Tag},
};

use super::{
    ARN, ENDPOINT, Effect, Env, Failure, Field, Observation, Outputs, Primitive as _, RESOURCE_ID,
    SECRET_TAG, STATUS, Wanted,
    db_instance::{
        DbInstance, FINAL_SNAPSHOT, GP3_THROUGHPUT, LOGS, NOT_EXTENDED, Origin, baseline, group_of,
        look,
    },
    db_instance_waits::{
        describe, if_there, is_modifiable, is_ready, ready_source, status, until, until_gone,
    },
    db_subnet_group::{rds_tags, retag_rds},
    secret::master_password,
};
use crate::aws::{ApiError, Progress};

fn outputs(instance: &Described) -> Outputs {
    let mut all = Outputs::new();
    let arn = instance.db_instance_arn().unwrap_or_default();
    all.insert(ARN, arn.to_owned());
    all.insert(STATUS, status(instance).to_owned());
    all.insert(RESOURCE_ID, instance.dbi_resource_id().unwrap_or_default().to_owned());
    if let Some(address) = instance.endpoint().and_then(|one| one.address()) {
        all.insert(ENDPOINT, address.to_owned());
    }
    all
}

/// Numbers as the SDK takes them. All of ours are far below its limit.
fn small(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// Makes an instance; one of the same name that is still being deleted is waited out first.
async fn make<F>(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    call: impl Fn() -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), ApiError>>,
{
    let Err(error) = call().await else { return Ok(()) };
    if error.has_code("DBInstanceAlreadyExists") {
        let present = describe(env, &wanted.region, &wanted.name).await?;
        if present.as_ref().is_some_and(|one| status(one) == "deleting") {
            until_gone(env, &wanted.region, &wanted.name).await?;
            return Ok(call().await?);
        }
    }
    Err(error.into())
}

/// The role that RDS reports with, where it reports.
fn monitoring_role(env: &Env, settings: &DbInstance) -> Result<Option<String>, Failure> {
    Ok(match settings.monitoring_interval {
        0 => None,
        _ => Some(env.resolve(&settings.monitoring_role)?),
    })
}

pub(super) async fn create_writer(
    env: &Env,
    wanted: &Wanted<DbInstance>,
) -> Result<Outputs, Failure> {
    let settings = &wanted.settings;
    let Origin::Writer { db_name, username, secret } = &settings.origin else {
        return Err(Failure::Obstacle("a replica is not made empty".into()));
    };
    let (region, regional) = (&wanted.region, env.region(&wanted.region));
    let secret = env.resolve(secret)?;
    let password = master_password(env, region, &secret).await?;
    let (key, group) = (env.resolve(&settings.key)?, env.resolve(&settings.security_group)?);
    let role = monitoring_role(env, settings)?;
    let mut tags = rds_tags(&wanted.tags);
    tags.push(Tag::builder().key(SECRET_TAG).value(secret).build());
    let attempt = || {
        regional
            .rds
            .create_db_instance()
            .db_instance_identifier(&wanted.name)
            .db_instance_class(&settings.class)
            .engine("postgres")
            .engine_version(&settings.engine_version)
            .engine_lifecycle_support(NOT_EXTENDED)
            .allocated_storage(small(settings.allocated_storage))
            .set_max_allocated_storage(settings.max_allocated_storage.map(small))
            .storage_type(&settings.storage_type)
            .set_iops(settings.iops.map(small))
            .storage_encrypted(true)
            .kms_key_id(&key)
            .db_name(db_name)
            .master_username(username)
            .master_user_password(&password)
            .port(i32::from(settings.port))
            .multi_az(settings.multi_az)
            .db_subnet_group_name(&settings.subnet_group)
            .vpc_security_group_ids(&group)
            .db_parameter_group_name(&settings.parameter_group)
            .backup_retention_period(small(settings.retention_days))
            .preferred_backup_window(&settings.backup_window)
            .preferred_maintenance_window(&settings.maintenance_window)
            .auto_minor_version_upgrade(false)
            .publicly_accessible(false)
            .copy_tags_to_snapshot(true)
            .monitoring_interval(small(settings.monitoring_interval))
            .set_monitoring_role_arn(role.clone())
            .enable_performance_insights(settings.performance_insights)
            .set_performance_insights_kms_key_id(settings.performance_insights.then(|| key.clone()))
            .set_enable_cloudwatch_logs_exports(Some(LOGS.map(str::to_owned).to_vec()))
            .deletion_protection(settings.deletion_protection)
            .ca_certificate_identifier(&settings.ca_certificate)
            .set_tags(Some(tags.clone()))
            .send()
    };
    make(env, wanted, || async {
        let api = regional.api("rds", "CreateDBInstance");
        env.session.call_once(api, attempt).await.map(|_| ())
    })
    .await?;
    Ok(outputs(&until(env, region, &wanted.name, is_ready).await?))
}

/// Region and name in an instance's ARN.
fn split_arn(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.split(':').skip(3);
    Some((parts.next()?, parts.nth(2)?))
}

/// AWS takes neither a parameter group nor backups nor protection when it makes a replica (aws-facts 0): it
/// is made first and brought to what is wanted afterwards, with a restart for its parameters.
pub(super) async fn create_replica(
    env: &Env,
    wanted: &Wanted<DbInstance>,
) -> Result<Outputs, Failure> {
    let settings = &wanted.settings;
    let Origin::Replica { source } = &settings.origin else {
        return Err(Failure::Obstacle("a writer is not made from another instance".into()));
    };
    let (region, regional) = (&wanted.region, env.region(&wanted.region));
    let source = env.resolve(source)?;
    if let Some((source_region, source_id)) = split_arn(&source) {
        ready_source(env, source_region, source_id).await?;
    }
    let (key, group) = (env.resolve(&settings.key)?, env.resolve(&settings.security_group)?);
    let role = monitoring_role(env, settings)?;
    let attempt = || {
        regional
            .rds
            .create_db_instance_read_replica()
            .db_instance_identifier(&wanted.name)
            .source_db_instance_identifier(&source)
            .db_instance_class(&settings.class)
            .storage_type(&settings.storage_type)
            .set_iops(settings.iops.map(small))
            .set_max_allocated_storage(settings.max_allocated_storage.map(small))
            .kms_key_id(&key)
            .port(i32::from(settings.port))
            .multi_az(settings.multi_az)
            .db_subnet_group_name(&settings.subnet_group)
            .vpc_security_group_ids(&group)
            .auto_minor_version_upgrade(false)
            .publicly_accessible(false)
            .copy_tags_to_snapshot(true)
            .monitoring_interval(small(settings.monitoring_interval))
            .set_monitoring_role_arn(role.clone())
            .enable_performance_insights(settings.performance_insights)
            .set_performance_insights_kms_key_id(settings.performance_insights.then(|| key.clone()))
            .set_enable_cloudwatch_logs_exports(Some(LOGS.map(str::to_owned).to_vec()))
            .ca_certificate_identifier(&settings.ca_certificate)
            .set_tags(Some(rds_tags(&wanted.tags)))
            .send()
    };
    make(env, wanted, || async {
        let api = regional.api("rds", "CreateDBInstanceReadReplica");
        env.session.call_once(api, attempt).await.map(|_| ())
    })
    .await?;
    until(env, region, &wanted.name, is_ready).await?;
    converge(env, wanted, true).await
}

/// How many rounds of changing and restarting bring an instance to what is wanted; each round changes all
/// that it can, and a restart makes one more.
const ROUNDS: usize = 5;

/// Changes an instance until nothing differs. Restarts it for its parameters where `restarts` says so.
pub(super) async fn converge(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    restarts: bool,
) -> Result<Outputs, Failure> {
    let (region, id) = (&wanted.region, &wanted.name);
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        let instance = until(env, region, id, is_modifiable).await?;
        env.look_again();
        let found = look(env, wanted, &instance, restarts).await?;
        left = differing(env, wanted, &found)?;
        let hurt = status(&instance) == "incompatible-parameters";
        if left.is_empty() && !hurt {
            let ready = until(env, region, id, is_ready).await?;
            return Ok(outputs(&ready));
        }
        if left.contains(&"tags") {
            retag_rds(env, region, &found.outputs[ARN], &found.tags, &wanted.tags).await?;
        }
        if let Some(changes) = modification(env, wanted, &instance, &left).await? {
            modify(env, wanted, changes, restarts).await?;
            // The tag that notes the secret is set afterwards, and a restart is not asked for by a modification.
            let is_asked =
                |one: &&str| !matches!(*one, "master_secret" | "static_parameters" | "tags");
            let asked: Vec<_> = left.iter().copied().filter(is_asked).collect();
            reached(env, wanted, restarts, &asked).await?;
            if left.contains(&"master_secret") {
                note_secret(env, wanted, &found).await?;
            }
        } else if hurt || restarts && group_of(&instance).1 == "pending-reboot" {
            restart(env, region, id).await?;
        } else if left.contains(&"static_parameters") {
            // No restart brings what the group does not have, or does not show yet.
            reached(env, wanted, restarts, &["static_parameters"]).await?;
        }
    }
    let left = left.join(", ");
    Err(Failure::Obstacle(format!(
        "{id} took all changes, yet these settings are not reached: {left}"
    )))
}

/// The names of the fields that are not reached.
///
/// # Errors
/// One of them cannot be changed.
fn differing(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    found: &Observation,
) -> Result<Vec<&'static str>, Failure> {
    let mut all = Vec::new();
    for field in wanted.settings.fields() {
        let observed = found.settings.get(field.name).map(String::as_str).unwrap_or_default();
        if field.is_reached(&env.resolve(&field.value)?, observed) {
            continue;
        }
        if let Effect::Refuse(why) = field.effect {
            let (name, shown) = (&wanted.name, field.value.shown());
            let text = format!("{name} has {} {observed}, not {shown}: {why}", field.name);
            return Err(Failure::Obstacle(text));
        }
        all.push(field.name);
    }
    if super::canonical_tags(&found.tags) != super::canonical_tags(&wanted.tags) {
        all.push("tags");
    }
    Ok(all)
}

/// The size that an instance has or shall have, in GiB: it may have grown by itself, and AWS shrinks none.
fn size(settings: &DbInstance, instance: &Described) -> i32 {
    small(settings.allocated_storage).max(instance.allocated_storage().unwrap_or_default())
}

/// Size, type and operations of the storage in one call, as AWS wants them: operations with the size where
/// they are provisioned, also at gp3's baseline from 400 GiB on, and never below.
fn storage(
    call: ModifyDBInstanceFluentBuilder,
    settings: &DbInstance,
    instance: &Described,
) -> ModifyDBInstanceFluentBuilder {
    let gib = size(settings, instance);
    let is_large_gp3 = settings.storage_type == "gp3" && gib >= 400;
    let iops = settings.iops.map(small).or_else(|| is_large_gp3.then(|| baseline(gib)));
    let throughput = is_large_gp3.then_some(GP3_THROUGHPUT);
    let call = call.storage_type(&settings.storage_type).allocated_storage(gib);
    call.set_iops(iops).set_storage_throughput(throughput)
}

/// Waits for a while until what a modification asked for shows, whatever the instance's status says: some of
/// it is never listed as pending. What does not show by then is asked for again.
async fn reached(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    restarts: bool,
    asked: &[&'static str],
) -> Result<(), Failure> {
    let begun = env.session.clock.now();
    let wait = env.session.wait(|| async {
        let Some(instance) = describe(env, &wanted.region, &wanted.name).await? else {
            return Ok(Progress::Unseen("the instance disappeared meanwhile".into()));
        };
        env.look_again();
        let found = look(env, wanted, &instance, restarts).await?;
        let left = match differing(env, wanted, &found) {
            Ok(left) => left,
            Err(why) => return Ok(Progress::Failed(why.to_string())),
        };
        let left: Vec<_> = left.into_iter().filter(|one| asked.contains(one)).collect();
        if left.is_empty() || env.session.clock.since(begun) >= NOTICED {
            return Ok(Progress::Done(()));
        }
        Ok(Progress::Pending(format!("changing {}", left.join(", "))))
    });
    Ok(wait.await?)
}

/// One ModifyDBInstance with all that differs; `None` if nothing of it is changed that way: AWS refuses a
/// modification that modifies nothing.
async fn modification(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    instance: &Described,
    differing: &[&'static str],
) -> Result<Option<ModifyDBInstanceFluentBuilder>, Failure> {
    let settings = &wanted.settings;
    let regional = env.region(&wanted.region);
    let mut call = regional.rds.modify_db_instance().db_instance_identifier(&wanted.name);
    let mut any = false;
    for name in differing {
        any |= !matches!(*name, "tags" | "static_parameters");
        call = match *name {
            "class" => call.db_instance_class(&settings.class),
            "engine_version" => {
                // What waits is taken back by what there is: `15` would be whatever RDS takes for it.
                let wanted = &settings.engine_version;
                let field = Field::new("engine_version", &**wanted).version();
                let now = instance.engine_version().filter(|now| field.is_reached(wanted, now));
                call.engine_version(now.unwrap_or(wanted))
            }
            "storage_gib" | "iops" | "storage_type" => storage(call, settings, instance),
            "max_storage_gib" => {
                // Set to the allocated size, RDS stops growing it.
                let most = settings.max_allocated_storage.map(small);
                call.max_allocated_storage(most.unwrap_or_else(|| size(settings, instance)))
            }
            "multi_az" => call.multi_az(settings.multi_az),
            "port" => call.db_port_number(i32::from(settings.port)),
            "security_group" => call.vpc_security_group_ids(env.resolve(&settings.security_group)?),
            "parameter_group" => call.db_parameter_group_name(&settings.parameter_group),
            "backup_retention_days" => call.backup_retention_period(small(settings.retention_days)),
            "backup_window" => call.preferred_backup_window(&settings.backup_window),
            "maintenance_window" => call.preferred_maintenance_window(&settings.maintenance_window),
            "monitoring_interval" | "monitoring_role" => {
                let call = call.monitoring_interval(small(settings.monitoring_interval));
                call.set_monitoring_role_arn(monitoring_role(env, settings)?)
            }
            "performance_insights" => {
                let call = call.enable_performance_insights(settings.performance_insights);
                match settings.performance_insights {
                    true => call.performance_insights_kms_key_id(env.resolve(&settings.key)?),
                    false => call,
                }
            }
            "logs" => {
                let all = CloudwatchLogsExportConfiguration::builder();
                let all = all.set_enable_log_types(Some(LOGS.map(str::to_owned).to_vec()));
                call.cloudwatch_logs_export_configuration(all.build())
            }
            "minor_upgrades" => call.auto_minor_version_upgrade(false),
            "public" => call.publicly_accessible(false),
            "copy_tags" => call.copy_tags_to_snapshot(true),
            "deletion_protection" => call.deletion_protection(settings.deletion_protection),
            "ca_certificate" => call.ca_certificate_identifier(&settings.ca_certificate),
            "master_secret" => match &settings.origin {
                Origin::Writer { secret, .. } => {
                    let secret = env.resolve(secret)?;
                    let password = master_password(env, &wanted.region, &secret).await?;
                    call.master_user_password(password)
                }
                Origin::Replica { .. } => call,
            },
            _ => call,
        };
    }
    Ok(any.then_some(call))
}

async fn modify(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    changes: ModifyDBInstanceFluentBuilder,
    immediately: bool,
) -> Result<(), Failure> {
    let regional = env.region(&wanted.region);
    let changes = changes.apply_immediately(immediately);
    let api = regional.api("rds", "ModifyDBInstance");
    env.session.call(api, || changes.clone().send()).await?;
    // The status may go on saying `available` for a while: what was asked for is what is waited for.
    until(env, &wanted.region, &wanted.name, |instance| {
        let (_, in_force) = group_of(instance);
        let waits = instance.pending_modified_values().is_some_and(|later| {
            later.db_instance_class().is_some()
                || later.allocated_storage().is_some()
                || later.multi_az().is_some()
                || later.engine_version().is_some()
                || later.iops().is_some()
                || later.storage_type().is_some()
                || later.port().is_some()
                || later.ca_certificate_identifier().is_some()
                || later.backup_retention_period().is_some()
                || later.master_user_password().is_some()
        });
        // A port is changed at once.
        let port = instance.pending_modified_values().is_some_and(|one| one.port().is_some());
        if port || (immediately && waits) {
            Progress::Pending(format!("{}, with changes under way", status(instance)))
        } else if in_force == "applying" {
            Progress::Pending("applying parameters".into())
        } else {
            is_modifiable(instance)
        }
    })
    .await?;
    Ok(())
}

/// Notes on the instance from which secret its password is.
async fn note_secret(
    env: &Env,
    wanted: &Wanted<DbInstance>,
    found: &Observation,
) -> Result<(), Failure> {
    let Origin::Writer { secret, .. } = &wanted.settings.origin else { return Ok(()) };
    let tag = Tag::builder().key(SECRET_TAG).value(env.resolve(secret)?).build();
    let regional = env.region(&wanted.region);
    let api = regional.api("rds", "AddTagsToResource");
    let call = || {
        let call = regional.rds.add_tags_to_resource().resource_name(&found.outputs[ARN]);
        call.tags(tag.clone()).send()
    };
    env.session.call(api, call).await?;
    Ok(())
}

/// How long AWS may take to notice that an instance's parameter group was changed.
const NOTICED: Duration = Duration::from_secs(120);

/// Waits until AWS says that parameters of the instance wait for a restart: for a while after its group was
/// changed, it still says that all are in force. An instance that is not to wait for anything, because it
/// was restarted meanwhile, is noticed by the time that passes.
pub(super) async fn await_pending_restart(
    env: &Env,
    wanted: &Wanted<DbInstance>,
) -> Result<(), Failure> {
    let begun = env.session.clock.now();
    until(env, &wanted.region, &wanted.name, |instance| {
        let (group, in_force) = group_of(instance);
        let late = env.session.clock.since(begun) >= NOTICED;
        if group != wanted.settings.parameter_group || in_force == "pending-reboot" || late {
            Progress::Done(())
        } else {
            Progress::Pending(format!("parameters {in_force}"))
        }
    })
    .await?;
    Ok(())
}

/// Restarts an instance where it stands, and waits until its parameters are in force.
async fn restart(env: &Env, region: &str, id: &str) -> Result<(), Failure> {
    let regional = env.region(region);
    let api = regional.api("rds", "RebootDBInstance");
    let call = || {
        regional.rds.reboot_db_instance().db_instance_identifier(id).force_failover(false).send()
    };
    env.session.call(api, call).await?;
    let begun = env.session.clock.now();
    until(env, region, id, |instance| match group_of(instance).1 {
        // One that was restarted because it could not start says so for a little longer.
        _ if status(instance) == "incompatible-parameters"
            && env.session.clock.since(begun) < NOTICED =>
        {
            Progress::Pending("restarting".into())
        }
        "in-sync" => is_ready(instance),
        in_force if is_ready(instance) == Progress::Done(()) => {
            Progress::Pending(format!("parameters {in_force}"))
        }
        _ => is_ready(instance),
    })
    .await?;
    Ok(())
}

/// Deletes an instance. Whether it leaves a snapshot depends on what it is by now: a replica cannot leave
/// one, the same instance after its promotion can (aws-facts 0.5).
pub(super) async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
    let (region, id) = (&found.region, &found.id);
    let Some(mut instance) = describe(env, region, id).await? else { return Ok(()) };
    let regional = env.region(region);
    if instance.deletion_protection() == Some(true) && status(&instance) != "deleting" {
        if if_there(env, region, id, is_modifiable).await?.is_none() {
            return Ok(());
        }
        let api = regional.api("rds", "ModifyDBInstance");
        let call = || {
            let call = regional.rds.modify_db_instance().db_instance_identifier(id);
            call.deletion_protection(false).apply_immediately(true).send()
        };
        env.session.remove(api, call).await?;
        let is_open = |one: &Described| match one.deletion_protection() {
            Some(true) => Progress::Pending("protected".into()),
            _ => Progress::Done(()),
        };
        let Some(open) = if_there(env, region, id, is_open).await? else { return Ok(()) };
        instance = open;
    }
    let is_replica = instance.read_replica_source_db_instance_identifier().is_some();
    let snapshot = found.outputs.get(FINAL_SNAPSHOT).filter(|_| !is_replica);
    if snapshot.is_some()
        && status(&instance) != "deleting"
        && if_there(env, region, id, is_ready).await?.is_none()
    {
        return Ok(());
    }
    if status(&instance) != "deleting" {
        let api = regional.api("rds", "DeleteDBInstance");
        let call = || {
            let call = regional.rds.delete_db_instance().db_instance_identifier(id);
            call.skip_final_snapshot(snapshot.is_none())
                .set_final_db_snapshot_identifier(snapshot.cloned())
                .delete_automated_backups(true)
                .send()
        };
        match env.session.call(api, call).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.message.contains("already being deleted") => {}
            Err(error) => return Err(error.into()),
        }
    }
    until_gone(env, region, id).await
}
