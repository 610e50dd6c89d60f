//! The private zone that holds the cluster's DNS name, when nobody names another one.

use std::collections::BTreeSet;

use aws_sdk_route53::types::{
    HostedZone as AwsZone, HostedZoneConfig, TagResourceType, Vpc, VpcRegion,
};

use super::{
    ARN, Address, Env, Failure, Field, GLOBAL, ID, Observation, Outputs, Owner, Primitive,
    SUFFIX_TAG, Tags, Wanted,
    route53::{TAG_REGION, bare, in_sync, reference, referred, set_tags, tags_of},
};
use crate::aws::ApiError;

/// What the zone is for, in its reference.
const PURPOSE: &str = "zone";

/// A private hosted zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedZone {
    /// The VPC that it is made with.
    pub vpc: String,
    /// That VPC's region.
    pub vpc_region: String,
    /// What it is for.
    pub comment: String,
}

impl HostedZone {
    /// The kind's name.
    pub const KIND: &str = "hosted-zone";

    /// The address of the cluster's zone.
    pub fn address() -> Address {
        Address::new(GLOBAL, Self::KIND)
    }
}

/// A VPC as Route 53 names it.
pub(super) fn vpc(region: &str, id: &str) -> Vpc {
    Vpc::builder().vpc_region(VpcRegion::from(region)).vpc_id(id).build()
}

/// A zone with the VPCs that see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id, without a path.
    pub id: String,
    /// Its name, without the last dot.
    pub name: String,
    /// Whether only VPCs see it.
    pub is_private: bool,
    /// Region and id of each VPC.
    pub vpcs: Vec<(String, String)>,
    reference: String,
    comment: String,
}

impl Seen {
    /// Whether it was made for a cluster of this suffix.
    pub fn is_own(&self, env: &Env) -> bool {
        let tags = referred(&self.reference).map(|(tags, _)| tags).unwrap_or_default();
        tags.get(SUFFIX_TAG) == Some(&env.scope.suffix)
    }
}

/// A zone by its id.
///
/// # Errors
/// The look failed.
pub async fn zone(env: &Env, region: &str, id: &str) -> Result<Option<Seen>, ApiError> {
    env.shared(format!("hosted zone {id}"), || async {
        let regional = env.region(region);
        let api = regional.api("route53", "GetHostedZone");
        let call = || regional.route53.get_hosted_zone().id(id).send();
        let Some(answer) = env.session.find(api, call).await? else { return Ok(None) };
        let Some(one) = answer.hosted_zone() else { return Ok(None) };
        let vpcs = answer.vpcs().iter().filter_map(|vpc| {
            Some((vpc.vpc_region()?.as_str().to_owned(), vpc.vpc_id()?.to_owned()))
        });
        Ok(Some(Seen {
            id: bare(one.id()).to_owned(),
            name: one.name().trim_end_matches('.').to_owned(),
            is_private: one.config().is_some_and(HostedZoneConfig::private_zone),
            vpcs: vpcs.collect(),
            reference: one.caller_reference().to_owned(),
            comment: one
                .config()
                .and_then(HostedZoneConfig::comment)
                .unwrap_or_default()
                .to_owned(),
        }))
    })
    .await
}

/// The zones of that name.
async fn named(env: &Env, region: &str, name: &str) -> Result<Vec<AwsZone>, ApiError> {
    env.shared(format!("hosted zones {name}"), || async {
        let regional = env.region(region);
        let mut found: Vec<AwsZone> = Vec::new();
        let mut next: Option<(String, Option<String>)> = Some((name.to_owned(), None));
        while let Some((from, id)) = next.take() {
            let api = regional.api("route53", "ListHostedZonesByName");
            let call = || {
                let call = regional.route53.list_hosted_zones_by_name().dns_name(&from);
                call.set_hosted_zone_id(id.clone()).send()
            };
            let answer = env.session.call(api, call).await?;
            let of_name = |one: &AwsZone| one.name().trim_end_matches('.') == name;
            // They come in the order of their names: the first other one ends the search.
            let goes_on = answer.is_truncated() && answer.hosted_zones().iter().all(of_name);
            next = answer
                .next_dns_name()
                .filter(|_| goes_on)
                .map(|name| (name.to_owned(), answer.next_hosted_zone_id().map(str::to_owned)));
            found.extend(answer.hosted_zones.into_iter().filter(of_name));
        }
        Ok(found)
    })
    .await
}

fn owner(env: &Env, reference: &str) -> Owner {
    match referred(reference) {
        Some((tags, PURPOSE)) => env.scope.owner(&tags),
        _ => Owner::Foreign("this provider did not make it".into()),
    }
}

/// The id of the cluster's own zone of that name.
pub(super) async fn own(env: &Env, region: &str, name: &str) -> Result<Option<String>, ApiError> {
    let all = named(env, region, name).await?;
    let ours = all.iter().find(|one| owner(env, one.caller_reference()) == Owner::Ours);
    Ok(ours.map(|one| bare(one.id()).to_owned()))
}

/// The ids of zones that carry the cluster's tags: those of other names are found by nothing else.
async fn tagged(env: &Env) -> Result<Vec<String>, ApiError> {
    let all = env.tagged(TAG_REGION).await?;
    let zones = all.keys().filter_map(|arn| arn.split(":hostedzone/").nth(1));
    Ok(zones.map(str::to_owned).collect())
}

impl Primitive for HostedZone {
    const KIND: &'static str = HostedZone::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("vpc", &*self.vpc).from("primary.vpc_id"),
            Field::new("comment", &*self.comment).digest(),
        ]
    }

    /// Names of zones are not unique: another one of the same name stands in the way only where the same
    /// VPC sees it.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let (named, tagged) =
                futures::try_join!(named(env, region, &wanted.name), tagged(env))?;
            let mut ids: BTreeSet<String> = tagged.into_iter().collect();
            ids.extend(named.iter().map(|one| bare(one.id()).to_owned()));
            let zones = ids.iter().map(|id| zone(env, region, id));
            for seen in futures::future::try_join_all(zones).await?.into_iter().flatten() {
                found.extend(observed(env, region, wanted, &seen).await?);
            }
        }
        // Ours last, so that it counts where there are several.
        found.sort_by_key(|one| one.owner == Owner::Ours);
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let reference = reference(env, PURPOSE)?;
        let regional = env.region(&wanted.region);
        let api = regional.api("route53", "CreateHostedZone");
        let config =
            HostedZoneConfig::builder().comment(&settings.comment).private_zone(true).build();
        let call = || {
            let call = regional.route53.create_hosted_zone().name(&wanted.name);
            let call = call.caller_reference(&reference).hosted_zone_config(config.clone());
            call.vpc(vpc(&settings.vpc_region, &settings.vpc)).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let id = answer.hosted_zone().map(|one| bare(one.id()).to_owned()).unwrap_or_default();
        let kind = TagResourceType::Hostedzone;
        set_tags(env, &wanted.region, kind, &id, &Tags::new(), &wanted.tags).await?;
        in_sync(env, &wanted.region, answer.change_info()).await?;
        let arn = format!("arn:{}:route53:::hostedzone/{id}", env.scope.partition);
        Ok(Outputs::from([(ID, id), (ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"vpc") {
            let settings = &wanted.settings;
            associate(env, &wanted.region, &found.id, &settings.vpc_region, &settings.vpc).await?;
        }
        if differing.contains(&"comment") {
            let regional = env.region(&wanted.region);
            let api = regional.api("route53", "UpdateHostedZoneComment");
            let call = || {
                let call = regional.route53.update_hosted_zone_comment().id(&found.id);
                call.comment(&wanted.settings.comment).send()
            };
            env.session.call(api, call).await?;
        }
        if differing.contains(&"tags") {
            let kind = TagResourceType::Hostedzone;
            set_tags(env, &wanted.region, kind, &found.id, &found.tags, &wanted.tags).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("route53", "DeleteHostedZone");
        let call = || regional.route53.delete_hosted_zone().id(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}

/// Lets a VPC see a zone.
pub(super) async fn associate(
    env: &Env,
    region: &str,
    zone: &str,
    vpc_region: &str,
    id: &str,
) -> Result<(), Failure> {
    let regional = env.region(region);
    let api = regional.api("route53", "AssociateVPCWithHostedZone");
    let call = || {
        let call = regional.route53.associate_vpc_with_hosted_zone().hosted_zone_id(zone);
        call.vpc(vpc(vpc_region, id)).send()
    };
    let answer = env.session.call_once(api, call).await?;
    in_sync(env, region, answer.change_info()).await
}

async fn observed(
    env: &Env,
    region: &str,
    wanted: &Wanted<HostedZone>,
    seen: &Seen,
) -> Result<Option<Observation>, ApiError> {
    let owner = owner(env, &seen.reference);
    let own = (wanted.settings.vpc_region.clone(), wanted.settings.vpc.clone());
    let (sees, is_named) = (seen.vpcs.contains(&own), seen.name == wanted.name);
    if owner != Owner::Ours && !(sees && is_named) {
        return Ok(None);
    }
    let tags = if owner == Owner::Ours {
        tags_of(env, region, TagResourceType::Hostedzone, &seen.id, &wanted.tags).await?
    } else {
        Tags::new()
    };
    // One of another name is from before the name was changed: it goes when its records have gone.
    let address = if is_named {
        wanted.address.clone()
    } else {
        Address::with(GLOBAL, HostedZone::KIND, &seen.id)
    };
    let first = seen.vpcs.first().map(|(_, id)| id.clone()).unwrap_or_default();
    let vpc = if sees { wanted.settings.vpc.clone() } else { first };
    let arn = format!("arn:{}:route53:::hostedzone/{}", env.scope.partition, seen.id);
    let mut one = Observation::new(address, region, &seen.id)
        .with("vpc", vpc)
        .with("comment", &*seen.comment)
        .output(ID, &seen.id)
        .output(ARN, arn)
        .tagged(tags, env);
    one.owner = owner;
    Ok(Some(one))
}
