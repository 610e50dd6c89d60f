//! The weighted records of the cluster's DNS name: one per site, each with its health check.

use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType, TagResourceType,
};

use super::{
    Address, Effect, Env, Failure, Field, GLOBAL, ID, Observation, Outputs, Owner, Primitive,
    RECORD_TAG, Tags, Text, Wanted,
    health_check::own as own_checks,
    hosted_zone::own as own_zone,
    route53::{ask_tags, in_sync, set_tags},
};
use crate::aws::ApiError;

/// The zone of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The cluster's own, by its name.
    Own(String, Address),
    /// One that somebody named, by its id.
    Given(String),
}

/// A weighted CNAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// The zone that it is in.
    pub zone: Zone,
    /// The DNS name.
    pub dns_name: String,
    /// What it answers.
    pub target: Text,
    /// The name of the instance that is: its endpoint begins with it.
    pub instance: String,
    /// Its share of the answers, 0 to 255; 0 answers only when no other is healthy.
    pub weight: i64,
    /// Seconds that an answer may be kept.
    pub ttl: i64,
    /// The id of its health check.
    pub check: Text,
}

impl DnsRecord {
    /// The kind's name.
    pub const KIND: &str = "dns-record";

    /// The address of a site's record.
    pub fn address(site: &str) -> Address {
        Address::with(GLOBAL, Self::KIND, site)
    }

    async fn zone_id(&self, env: &Env, region: &str) -> Result<Option<String>, ApiError> {
        match &self.zone {
            Zone::Own(name, _) => own_zone(env, region, name).await,
            Zone::Given(id) => Ok(Some(id.clone())),
        }
    }
}

/// The records of a name in a zone; a zone that is gone has none.
async fn records(
    env: &Env,
    region: &str,
    zone: &str,
    name: &str,
) -> Result<Vec<ResourceRecordSet>, ApiError> {
    env.shared(format!("records {zone} {name}"), || async {
        let regional = env.region(region);
        let api = regional.api("route53", "ListResourceRecordSets");
        let call = || {
            let call = regional.route53.list_resource_record_sets().hosted_zone_id(zone);
            call.start_record_name(name).send()
        };
        let answer = env.session.find(api, call).await?;
        let all = answer.map(|answer| answer.resource_record_sets).unwrap_or_default();
        // They come in the order of their names, and a name has few.
        Ok(all.into_iter().filter(|one| one.name().trim_end_matches('.') == name).collect())
    })
    .await
}

impl Primitive for DnsRecord {
    const KIND: &'static str = DnsRecord::KIND;

    fn fields(&self) -> Vec<Field> {
        let zone: Field = match &self.zone {
            Zone::Own(_, address) => Field::new("zone", Text::Ref(address.clone(), ID)),
            Zone::Given(id) => Field::new("zone", &**id),
        };
        vec![
            Field::new("dns_name", &*self.dns_name).from("dns.name").effect(Effect::Replace),
            zone.from("dns.zone_id").effect(Effect::Replace),
            Field::new("target", self.target.clone()),
            Field::new("weight", self.weight.to_string()),
            Field::new("ttl", self.ttl.to_string()).from("dns.ttl"),
            Field::new("health_check", self.check.clone()),
        ]
    }

    /// Records carry no tags. One with our identifier is ours in a zone that is ours, or with a health check
    /// that is ours. Any other of the same name is in the way: AWS does not mix them. One that is ours and is
    /// in another place is from before the place was changed.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let looks = wanted.iter().map(|wanted| look(env, region, wanted));
        Ok(futures::future::try_join_all(looks).await?.into_iter().flatten().collect())
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let zone = match &settings.zone {
            Zone::Own(_, address) => env.resolve(&Text::Ref(address.clone(), ID))?,
            Zone::Given(id) => id.clone(),
        };
        let (value, check) = (env.resolve(&settings.target)?, env.resolve(&settings.check)?);
        // Noted before it is there, so that it is found wherever it will have been.
        let place = [(RECORD_TAG.to_owned(), format!("{zone}/{}", settings.dns_name))].into();
        let kind = TagResourceType::Healthcheck;
        set_tags(env, &wanted.region, kind, &check, &Tags::new(), &place).await?;
        let unfit =
            |error: aws_sdk_route53::error::BuildError| Failure::Obstacle(error.to_string());
        let set = ResourceRecordSet::builder()
            .name(&settings.dns_name)
            .r#type(RrType::Cname)
            .set_identifier(&wanted.name)
            .weight(settings.weight)
            .ttl(settings.ttl)
            .resource_records(ResourceRecord::builder().value(value).build().map_err(unfit)?)
            .health_check_id(check)
            .build()
            .map_err(unfit)?;
        change(env, &wanted.region, &zone, ChangeAction::Upsert, set).await?;
        Ok(Outputs::from([(ID, format!("{zone} {} {}", settings.dns_name, wanted.name))]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.is_empty() { Ok(Outputs::new()) } else { Self::create(env, wanted).await }
    }

    /// A deletion names the whole record as it is.
    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let place = found.outputs.get(ID).cloned().unwrap_or_default();
        let parts: Vec<&str> = place.split(' ').collect();
        let [zone, name, identifier] = parts[..] else {
            return Err(Failure::Obstacle(format!("the record {place} cannot be read")));
        };
        env.look_again();
        let all = records(env, &found.region, zone, name).await?;
        let Some(set) = all.into_iter().find(|one| one.set_identifier() == Some(identifier)) else {
            return Ok(());
        };
        match change(env, &found.region, zone, ChangeAction::Delete, set).await {
            // Somebody else was faster, unless it is still there: its place would be forgotten with the next one.
            Err(Failure::Api(error))
                if error.has_code("InvalidChangeBatch") || error.is_not_found() =>
            {
                env.look_again();
                let all = records(env, &found.region, zone, name).await?;
                if all.iter().any(|one| one.set_identifier() == Some(identifier)) {
                    return Err(Failure::Api(error));
                }
                Ok(())
            }
            other => other,
        }
    }
}

async fn look(
    env: &Env,
    region: &str,
    wanted: &Wanted<DnsRecord>,
) -> Result<Option<Observation>, ApiError> {
    let settings = &wanted.settings;
    let (zone, checks) =
        futures::try_join!(settings.zone_id(env, region), own_checks(env, region))?;
    let own = checks.iter().find(|(purpose, _)| purpose == wanted.address.qualifier());
    let here = async {
        match &zone {
            Some(zone) => in_zone(env, region, zone, &settings.dns_name).await,
            None => Ok(Vec::new()),
        }
    };
    let before = async {
        match own {
            Some((_, check)) => remembered(env, region, check).await,
            None => Ok(None),
        }
    };
    let (mut all, before) = futures::try_join!(here, before)?;
    let now = zone.map(|zone| (zone, settings.dns_name.clone()));
    if let Some((zone, name)) = before.filter(|before| Some(before) != now.as_ref()) {
        all.extend(in_zone(env, region, &zone, &name).await?);
    }
    let ours = |one: &ResourceRecordSet| {
        // A check that somebody removed does not make a record that leads to our instance another's.
        let target = one.resource_records().first().map_or("", ResourceRecord::value);
        let leads_to_us = one.set_identifier() == Some(&wanted.name)
            && target.starts_with(&format!("{}.", settings.instance));
        checks.iter().any(|(_, id)| one.health_check_id() == Some(id))
            || leads_to_us
            || matches!(settings.zone, Zone::Own(..))
    };
    let own = all.iter().find(|(_, one)| one.set_identifier() == Some(&wanted.name) && ours(one));
    if let Some((zone, one)) = own {
        return Ok(Some(seen(wanted, region, zone, one)));
    }
    let in_the_way =
        all.iter().find(|(zone, one)| now.as_ref().is_some_and(|now| now.0 == *zone) && !ours(one));
    Ok(in_the_way.map(|(zone, one)| {
        let mut foreign = seen(wanted, region, zone, one);
        foreign.owner = Owner::Foreign(format!(
            "the zone {zone} has a record {} of another kind, or with another health check",
            settings.dns_name
        ));
        foreign
    }))
}

/// The records of a name, each with its zone.
async fn in_zone(
    env: &Env,
    region: &str,
    zone: &str,
    name: &str,
) -> Result<Vec<(String, ResourceRecordSet)>, ApiError> {
    let all = records(env, region, zone, name).await?;
    Ok(all.into_iter().map(|one| (zone.to_owned(), one)).collect())
}

/// The zone and the name that a record was last set at, as its health check remembers.
async fn remembered(
    env: &Env,
    region: &str,
    check: &str,
) -> Result<Option<(String, String)>, ApiError> {
    let tags = ask_tags(env, region, TagResourceType::Healthcheck, check).await?;
    let place = tags.get(RECORD_TAG).and_then(|text| text.split_once('/'));
    Ok(place.map(|(zone, name)| (zone.to_owned(), name.to_owned())))
}

fn seen(
    wanted: &Wanted<DnsRecord>,
    region: &str,
    zone: &str,
    one: &ResourceRecordSet,
) -> Observation {
    let target = one.resource_records().first().map(ResourceRecord::value);
    let number = |value: Option<i64>| value.map_or_else(String::new, |number| number.to_string());
    let (name, identifier) =
        (one.name().trim_end_matches('.'), one.set_identifier().unwrap_or_default());
    Observation::new(wanted.address.clone(), region, identifier)
        .with("dns_name", name)
        .with("zone", zone)
        .with("target", target.unwrap_or_default().trim_end_matches('.'))
        .with("weight", number(one.weight()))
        .with("ttl", number(one.ttl()))
        .with("health_check", one.health_check_id().unwrap_or_default())
        .output(ID, format!("{zone} {name} {identifier}"))
}

async fn change(
    env: &Env,
    region: &str,
    zone: &str,
    action: ChangeAction,
    set: ResourceRecordSet,
) -> Result<(), Failure> {
    let unfit = |error: aws_sdk_route53::error::BuildError| Failure::Obstacle(error.to_string());
    let change =
        Change::builder().action(action).resource_record_set(set).build().map_err(unfit)?;
    let batch = ChangeBatch::builder().changes(change).build().map_err(unfit)?;
    let regional = env.region(region);
    let api = regional.api("route53", "ChangeResourceRecordSets");
    let call = || {
        let call = regional.route53.change_resource_record_sets().hosted_zone_id(zone);
        call.change_batch(batch.clone()).send()
    };
    let answer = env.session.call(api, call).await?;
    in_sync(env, region, answer.change_info()).await
}
