//! A glance at a cluster, by whoever may read little of it: a dozen calls, and a region that does not answer is said
//! and leaves the rest as it is. What there is to know when a region is lost is what somebody asks for then.

use std::{collections::BTreeMap, time::Duration};

use super::{
    connect::Configured,
    data_source::MOMENTS,
    explain,
    flow::{Opened, session},
    read::{self, Place},
    recovery,
    state::{dns_name, endpoint, maybe},
};
use crate::{
    aws::{ApiError, ErrorClass, utc},
    cluster::{
        Blueprint, Inventory, Roles, Site, Spec, Surroundings,
        blueprint::LEDGER,
        failover::Phase,
        names::{Name, Suffix},
        objectives::HEARTBEAT,
        roles,
    },
    components::{
        Alarm, Env, Observation, Owner, SnsTopic, alarm,
        db_instance::{self, DbInstance, SECURITY_GROUP},
        dynamodb_table::DynamodbTable,
        hosted_zone::zone,
        ledger::{self, CLOSED, DRILLS, FAILOVER, PHASE, Said},
        secret,
    },
    contract::{
        DIMENSION, NAMESPACE,
        moments::{DECIDED, FIRST_WRITE},
    },
    plugin::{Context, Diagnostics, Found, Number, Value},
};

/// How long a region is waited for.
const LONGEST: Duration = Duration::from_secs(20);

/// What a region's services say.
#[derive(Default)]
struct Glance {
    instance: Option<Observation>,
    said: Said,
    alarms: Vec<String>,
}

/// What else there is to know.
#[derive(Default)]
struct Known {
    sites: BTreeMap<Site, Glance>,
    lag: Option<f64>,
    age: Option<f64>,
    secret: Option<String>,
    /// Regions that did not answer, with what was found out about why.
    silent: BTreeMap<String, String>,
    /// What else did not answer, and of which region; the same.
    unheard: Vec<(&'static str, String, String)>,
}

/// An answer that is waited for only so long.
type Answer<T> = Result<Result<T, ApiError>, tokio::time::error::Elapsed>;

/// What was answered, or why nothing was.
///
/// # Errors
/// It is not that nobody answered.
fn heard<T>(answer: Answer<T>) -> Result<Result<T, String>, ApiError> {
    match answer {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(error)) => match error.class {
            ErrorClass::Transient | ErrorClass::Throttled => Ok(Err(error.to_string())),
            _ => Err(error),
        },
        Err(_) => Ok(Err(format!("there was no answer within {} s", LONGEST.as_secs()))),
    }
}

impl Known {
    /// What was answered; that nobody did is noted.
    fn take<T: Default>(
        &mut self,
        what: &'static str,
        region: &str,
        answer: Answer<T>,
    ) -> Result<T, ApiError> {
        Ok(heard(answer)?.unwrap_or_else(|why| {
            self.unheard.push((what, region.to_owned(), why));
            T::default()
        }))
    }

    fn said(&self, site: Site) -> Option<&Said> {
        self.sites.get(&site).map(|one| &one.said)
    }
}

/// What was found, and whether everybody answered.
pub(super) struct Seen {
    pub(super) found: Found,
    pub(super) is_whole: bool,
}

/// Waits for what only the DR region tells, and without which there is nothing to show.
///
/// # Errors
/// It does not answer; what the answer itself says is left to the caller.
async fn only<T>(region: &str, asked: impl Future<Output = T>) -> Result<T, Diagnostics> {
    tokio::time::timeout(LONGEST, asked).await.map_err(|_| {
        Diagnostics::from_error(
            format!("{region} does not answer"),
            format!(
                "The cluster's record is there, and without it nothing can be shown. There was no answer within \
                 {} s.",
                LONGEST.as_secs()
            ),
        )
    })
}

/// Looks; `elsewhere` says how to ask for a cluster in other regions.
///
/// # Errors
/// There is no such cluster, or a call was refused.
pub(super) async fn read(
    configured: &Configured,
    cluster: &crate::plugin::Schema,
    context: &Context,
    config: Value,
    elsewhere: fn(&Suffix, &str, &str) -> String,
) -> Result<Seen, Diagnostics> {
    let text = |name: &str| config.get(name).as_str().unwrap_or_default().to_owned();
    let (primary, dr) = (text("primary_region"), text("dr_region"));
    let suffix = Suffix::parse(&text("environment_suffix")).map_err(|why| {
        Diagnostics::from_error("The environment suffix cannot be a cluster's", why)
    })?;
    let limit = super::cluster_schema::TIMEOUTS[1].1;
    let session = session(configured, context.cancel.clone(), limit);
    let doing = "looking at the cluster";
    let trouble = |error: ApiError| explain::trouble(&error.into(), doing);
    let asked = configured.scope(&session, suffix.as_str(), [&dr, &primary]);
    let scope = only(&dr, asked).await?.map_err(trouble)?;
    let env = configured.env(session, scope);
    let place = Place { suffix: &suffix, primary: &primary, dr: &dr, elsewhere };
    let (claim, state) = only(&dr, read::find(&env, cluster, &place)).await??;
    let spec = read::spec_of(configured, cluster, &state)?;
    let env = env.for_cluster(Some(claim.cluster_id.clone()));
    let mut surroundings = Surroundings::unknown(&env.scope.account, &env.scope.partition);
    let mut blueprint = Blueprint::new(&spec, &surroundings, &env.scope);
    let known = look(&env, &spec, &blueprint).await.map_err(trouble)?;
    if let (Some(id), None) = (&spec.dns.zone_id, &spec.dns.name) {
        surroundings.zone_name = zone_name(&env, &spec, id).await.map_err(trouble)?;
        blueprint = Blueprint::new(&spec, &surroundings, &env.scope);
    }
    let inventory = inventory(&spec, &known);
    let roles = Roles::observed(&spec, &inventory);
    let claim = Some(claim);
    let opened = Opened { env, spec, claim, surroundings, blueprint, inventory, roles };
    let mut diagnostics = read::warnings(&opened);
    for (region, why) in &known.silent {
        diagnostics.warning(
            format!("{region} does not answer"),
            format!("What only it knows of the cluster {suffix} is null: {why}."),
        );
    }
    for (what, region, why) in &known.unheard {
        if !known.silent.contains_key(region) {
            diagnostics.warning(
                format!("{what} in {region} could not be looked at"),
                format!("What only they tell of the cluster {suffix} is null or missing: {why}."),
            );
        }
    }
    let is_whole = known.silent.is_empty() && known.unheard.is_empty();
    let found = Found { state: Some(shown(config, &opened, &known)), diagnostics };
    Ok(Seen { found, is_whole })
}

/// Asks both regions at once.
async fn look(env: &Env, spec: &Spec, blueprint: &Blueprint) -> Result<Known, ApiError> {
    let glance = |site: Site| {
        let region = spec.site(site).region.as_str();
        let name = match site {
            Site::Primary => Name::PrimaryInstance,
            Site::Dr => Name::ReplicaInstance,
        };
        let alarms = blueprint.all().filter(|one| one.address.kind() == Alarm::KIND);
        let alarms = alarms.filter(|one| one.region() == region);
        let names: Vec<String> = alarms.map(|one| one.name.clone()).collect();
        async move {
            let (instance, table) = (name.of(&spec.suffix), Name::Ledger.of(&spec.suffix));
            let own = async {
                futures::try_join!(
                    db_instance::glance(env, region, &instance),
                    ledger::read(env, region, &table),
                )
            };
            let own = tokio::time::timeout(LONGEST, own);
            let alarms = tokio::time::timeout(LONGEST, alarm::in_alarm(env, region, &names));
            futures::join!(own, alarms)
        }
    };
    let (primary, dr) = (&spec.primary.region, &spec.dr.region);
    let replica = Name::ReplicaInstance.of(&spec.suffix);
    let metrics = [
        ("AWS/RDS", "ReplicaLag", ("DBInstanceIdentifier", replica.as_str())),
        (NAMESPACE, "HeartbeatAge", (DIMENSION, spec.suffix.as_str())),
    ];
    let secret = Name::MasterSecret.of(&spec.suffix);
    let (first, second, newest, secret) = futures::join!(
        glance(Site::Primary),
        glance(Site::Dr),
        tokio::time::timeout(LONGEST, alarm::newest(env, dr, &metrics)),
        tokio::time::timeout(LONGEST, secret::arn_of(env, primary, &secret)),
    );
    let mut known = Known::default();
    for (site, region, (own, alarms)) in [(Site::Primary, primary, first), (Site::Dr, dr, second)] {
        let (instance, said) = heard(own)?.unwrap_or_else(|why| {
            known.silent.insert(region.clone(), why);
            Default::default()
        });
        let instance = instance.filter(|one| one.owner == Owner::Ours);
        let alarms = known.take("Alarms", region, alarms)?;
        known.sites.insert(site, Glance { instance, said, alarms });
    }
    let newest = known.take("Metrics", dr, newest)?;
    known.secret = known.take("Secrets", primary, secret)?;
    let value = |index: usize| newest.get(index).copied().flatten();
    (known.lag, known.age) = (value(0), value(1));
    Ok(known)
}

/// The name of a zone that is somebody else's; `None` where nobody says it.
async fn zone_name(env: &Env, spec: &Spec, id: &str) -> Result<Option<String>, ApiError> {
    let asked = tokio::time::timeout(LONGEST, zone(env, &spec.primary.region, id)).await;
    Ok(heard(asked)?.ok().flatten().map(|zone| zone.name))
}

/// As far as it was looked at.
fn inventory(spec: &Spec, known: &Known) -> Inventory {
    let mut all: Vec<Observation> = Vec::new();
    for (site, glance) in &known.sites {
        let region = &spec.site(*site).region;
        let table = DynamodbTable::address(region, LEDGER);
        all.extend(glance.instance.clone());
        all.push(
            Observation::new(table, region, Name::Ledger.of(&spec.suffix))
                .output(DRILLS, glance.said.drills.clone())
                .output(FAILOVER, glance.said.failover())
                .output(PHASE, glance.said.phase.clone())
                .output(CLOSED, glance.said.is_closed.to_string()),
        );
    }
    Inventory::of(all)
}

fn status(opened: &Opened, known: &Known) -> &'static str {
    let is_removed =
        Site::ALL.iter().any(|site| known.said(*site).is_some_and(|one| one.is_removed));
    let is_complete = opened.claim.as_ref().is_some_and(|claim| claim.is_complete);
    if is_removed {
        "destroying"
    } else if !known.silent.is_empty() && !opened.roles.failed_over() {
        "unknown"
    } else {
        let missing = Site::ALL.iter().filter(|site| !has_instance(opened, **site)).count();
        roles::status(opened.roles, &opened.inventory, missing + usize::from(!is_complete))
    }
}

fn has_instance(opened: &Opened, site: Site) -> bool {
    opened.inventory.get(&DbInstance::address(&opened.spec.site(site).region)).is_some()
}

fn shown(config: Value, opened: &Opened, known: &Known) -> Value {
    let spec = &opened.spec;
    let region = |site: Site| spec.site(site).region.clone();
    let groups = Site::ALL.iter().filter_map(|site| {
        let found = opened.inventory.get(&DbInstance::address(&region(*site)))?;
        Some((region(*site), found.outputs.get(SECURITY_GROUP)?.clone()))
    });
    let topics = opened.blueprint.all().filter(|one| one.address.kind() == SnsTopic::KIND);
    let topics = topics.map(|one| {
        let (partition, account) = (&opened.env.scope.partition, &opened.env.scope.account);
        let region = one.region();
        (region.to_owned(), format!("arn:{partition}:sns:{region}:{account}:{}", one.name))
    });
    let alarms = Site::ALL.iter().flat_map(|site| {
        let found = known.sites.get(site).into_iter().flat_map(|one| &one.alarms);
        found.map(|name| format!("{}/{name}", region(*site)))
    });
    let phase = known.said(Site::Dr).map(|one| one.phase.clone()).filter(|text| !text.is_empty());
    let follows = !opened.roles.failed_over();
    let measured = |value: Option<f64>| {
        let number = value.filter(|_| follows).and_then(|value| Number::from_f64(value).ok());
        number.map_or(Value::Null, Value::Number)
    };
    config
        .with("id", Value::string(spec.suffix.as_str()))
        .with("witness_region", Value::string(spec.failover.witness_region.as_str()))
        .with("endpoint", dns_name(opened))
        .with("port", Value::integer(i64::from(spec.database.port)))
        .with("db_name", Value::string(spec.database.db_name.as_str()))
        .with("primary_endpoint", maybe(endpoint(opened, Site::Primary)))
        .with("replica_endpoint", maybe(endpoint(opened, Site::Dr)))
        .with("security_group_ids", Value::string_map(groups))
        .with("master_secret_arn", maybe(known.secret.clone()))
        .with("topic_arns", Value::string_map(topics))
        .with("writer_region", maybe(opened.roles.writer().map(region)))
        .with("status", Value::string(status(opened, known)))
        .with("phase", maybe(phase))
        .with("replica_lag_seconds", measured(known.lag))
        .with("heartbeat_age_seconds", measured(known.age))
        .with("alarms", Value::strings(alarms))
        .with("recovery", recovery::observed(opened))
        .with("last_drill", recovery::last_drill(opened))
        .with("last_failover", last_failover(known.said(Site::Dr)))
}

/// One that was decided, and not called off.
fn last_failover(said: Option<&Said>) -> Value {
    let Some(said) = said else { return Value::Null };
    let at = |name: &str| said.at(name);
    let goes_on = Phase::parse(&said.phase).is_some_and(|phase| phase != Phase::Normal);
    if at(DECIDED).is_none() || !(goes_on || at(FIRST_WRITE).is_some()) {
        return Value::Null;
    }
    let moment = |name: &str| maybe(at(name).and_then(utc));
    let whole = |seconds: Option<u64>| {
        seconds.and_then(|one| i64::try_from(one).ok()).map_or(Value::Null, Value::integer)
    };
    let took = said.measured().map(|one| one.seconds);
    let empty = Value::Mapping(BTreeMap::new());
    let moments = MOMENTS.iter().fold(empty, |value, (name, _)| value.with(name, moment(name)));
    // The heartbeat itself may be that much older.
    let loss = said.data_loss.map(|seconds| seconds + u64::from(HEARTBEAT));
    moments.with("seconds", whole(took)).with("data_loss_seconds", whole(loss))
}
