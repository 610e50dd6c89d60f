//! Read-only discovery of what the cluster is placed into.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Filter, RouteTable, Subnet, VpcCidrBlockStateCode};
use ipnet::Ipv4Net;

use super::{
    blueprint::instance_name,
    concurrency::{self, Concurrency},
    defaults,
    mistake::Mistake,
    spec::{Site, SiteSpec, Spec},
};
use crate::{
    aws::{ApiError, Regional},
    components::{Env, db_instance::subnets_of, hosted_zone::zone, route::tables_of},
};

/// The one zone in which Lambda puts no function into a subnet, as far as is known: in us-east-1, by the name that is the
/// same in all accounts.
const WITHOUT_LAMBDA: &str = "use1-az3";

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnetwork {
    /// Its id.
    pub id: String,
    /// Its availability zone.
    pub zone: String,
    /// Lambda puts functions into it.
    pub has_lambda: bool,
    /// It was found and not named, leads to an internet gateway, and stays because the instance may be in it.
    pub is_exposed: bool,
}

/// The network of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The VPC's blocks of addresses.
    pub cidrs: Vec<Ipv4Net>,
    /// Where the database goes.
    pub subnets: Vec<Subnetwork>,
    /// The tables that get a route to the other site.
    pub route_tables: BTreeSet<String>,
}

/// What the cluster is placed into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The AWS account.
    pub account: String,
    /// The partition in ARNs.
    pub partition: String,
    /// The networks.
    pub networks: BTreeMap<Site, Network>,
    /// The name of the zone that `dns.zone_id` names; empty where it is not known.
    pub zone_name: Option<String>,
    /// The hash of the agent's archive, as Lambda tells it; empty where none is at hand.
    pub agent: String,
    /// The regions of the VPCs that `dns.additional_vpc_ids` names.
    pub additional_vpcs: BTreeMap<String, String>,
    /// What Lambda's quotas have for the functions that watch; nothing where nothing is to be reserved for them.
    pub concurrency: BTreeMap<Site, Concurrency>,
    /// The names of parameters that take effect at a restart only, beside those that are known here.
    pub statics: BTreeSet<String>,
}

impl Surroundings {
    /// Where nothing could be looked at: enough to name what there is, for a read or a destroy after the
    /// VPCs are gone.
    pub fn unknown(account: &str, partition: &str) -> Self {
        let networks = Site::ALL.map(|site| (site, Network::default())).into();
        Self {
            account: account.to_owned(),
            partition: partition.to_owned(),
            networks,
            zone_name: None,
            agent: String::new(),
            additional_vpcs: BTreeMap::new(),
            concurrency: BTreeMap::new(),
            statics: BTreeSet::new(),
        }
    }

    /// The network of a site.
    pub fn network(&self, site: Site) -> &Network {
        &self.networks[&site]
    }

    /// What somebody should know of public subnets that nobody named: of each site a summary and a detail.
    pub fn warnings(&self, spec: &Spec) -> Vec<(&'static str, String)> {
        let of = |site: &Site| {
            let all = &self.network(*site).subnets;
            let ids = |some: &dyn Fn(&&Subnetwork) -> bool| {
                all.iter().filter(some).map(|one| one.id.as_str()).collect::<Vec<_>>().join(", ")
            };
            let exposed = ids(&|one| one.is_exposed);
            (!exposed.is_empty()).then(|| {
                let detail = format!(
                    "In {}, {exposed} lead to an internet gateway. The instance may be there, so that the subnet group \
                     keeps them: RDS takes none out that is used. The instance has no public address. Give the \
                     subnets a route table without such a route; or, if they are meant to be public, set {}.subnet_ids \
                     to all subnets of the group: {}.",
                    spec.site(*site).region,
                    site.argument(),
                    ids(&|_| true)
                );
                ("Subnets of a database are public", detail)
            })
        };
        Site::ALL.iter().filter_map(of).collect()
    }
}

/// Why the surroundings are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Looking failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What was found does not carry a cluster.
    #[error("the surroundings do not fit")]
    Mistakes(Vec<Mistake>),
}

/// Looks at both sites' networks. Where the cluster that is there `stays`, its instances stay where they are.
///
/// # Errors
/// Looking failed, or what was found does not carry a cluster.
pub async fn discover(env: &Env, spec: &Spec, stays: bool) -> Result<Surroundings, DiscoveryError> {
    let (primary, dr, names, others, concurrency, statics) = futures::join!(
        network(env, spec, Site::Primary, stays),
        network(env, spec, Site::Dr, stays),
        given_zone(env, spec),
        additional_vpcs(env, spec),
        concurrency::find(env, spec),
        defaults::statics(env, spec),
    );
    let (concurrency, statics) = (concurrency?, statics?);
    let mut mistakes = Vec::new();
    let zone_name = collect(names, &mut mistakes)?.flatten();
    let additional_vpcs = collect(others, &mut mistakes)?.unwrap_or_default();
    let mut networks = BTreeMap::new();
    for (site, found) in [(Site::Primary, primary), (Site::Dr, dr)] {
        match found {
            Ok(network) => {
                networks.insert(site, network);
            }
            Err(DiscoveryError::Mistakes(found)) => mistakes.extend(found),
            Err(error) => return Err(error),
        }
    }
    if let (Some(one), Some(other)) = (networks.get(&Site::Primary), networks.get(&Site::Dr)) {
        mistakes.extend(overlap(spec, one, other));
    }
    if !mistakes.is_empty() {
        return Err(DiscoveryError::Mistakes(mistakes));
    }
    let (account, partition) = (env.scope.account.clone(), env.scope.partition.clone());
    let agent = env.archive.as_ref().map(|one| one.sha256.clone()).unwrap_or_default();
    Ok(Surroundings {
        account,
        partition,
        networks,
        zone_name,
        agent,
        additional_vpcs,
        concurrency,
        statics,
    })
}

/// Sets mistakes aside, so that all of them are told at once.
fn collect<T>(
    found: Result<T, DiscoveryError>,
    mistakes: &mut Vec<Mistake>,
) -> Result<Option<T>, ApiError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(DiscoveryError::Mistakes(more)) => {
            mistakes.extend(more);
            Ok(None)
        }
        Err(DiscoveryError::Api(error)) => Err(error),
    }
}

/// The zone of `dns.zone_id`: it exists, the name lies in it, and where it is private, both VPCs see it.
async fn given_zone(env: &Env, spec: &Spec) -> Result<Option<String>, DiscoveryError> {
    let Some(id) = &spec.dns.zone_id else { return Ok(None) };
    let wrong = |argument: &str, summary: String, detail: String| {
        Err(DiscoveryError::Mistakes(vec![Mistake::new(argument, summary, detail)]))
    };
    let Some(zone) = zone(env, &spec.primary.region, id).await? else {
        return wrong(
            "dns.zone_id",
            format!("There is no hosted zone {id}"),
            "Name a zone of this account, or leave it out: the cluster then makes a private one."
                .into(),
        );
    };
    if zone.is_own(env) {
        return wrong(
            "dns.zone_id",
            format!("{id} is the cluster's own zone"),
            "Leave the argument out: named here, it would be taken for somebody else's.".into(),
        );
    }
    if let Some(name) = &spec.dns.name
        && !name.ends_with(&format!(".{}", zone.name))
    {
        return wrong(
            "dns.name",
            format!("{name} does not lie in the zone {}", zone.name),
            format!("Names in the zone {id} end with .{}.", zone.name),
        );
    }
    if zone.is_private {
        let sees = |site: &Site| {
            let own = spec.site(*site);
            zone.vpcs.contains(&(own.region.clone(), own.vpc_id.clone()))
        };
        let blind = Site::ALL
            .iter()
            .filter(|site| !sees(site))
            .map(|site| format!("{} in {}", spec.site(*site).vpc_id, spec.site(*site).region));
        let blind: Vec<_> = blind.collect();
        if !blind.is_empty() {
            return wrong(
                "dns.zone_id",
                format!("{} cannot see the zone {id}", blind.join(" and ")),
                format!(
                    "The zone {} is private. Associate the VPC with it, or applications there would not \
                     find the database by its name.",
                    zone.name
                ),
            );
        }
    }
    Ok(Some(zone.name))
}

/// In which of the two regions the VPCs of `dns.additional_vpc_ids` are.
async fn additional_vpcs(
    env: &Env,
    spec: &Spec,
) -> Result<BTreeMap<String, String>, DiscoveryError> {
    let mut found = BTreeMap::new();
    if spec.dns.additional_vpc_ids.is_empty() {
        return Ok(found);
    }
    for site in Site::ALL {
        let regional = env.region(&spec.site(site).region);
        let api = regional.api("ec2", "DescribeVpcs");
        let ids: Vec<String> = spec.dns.additional_vpc_ids.iter().cloned().collect();
        // By a filter, those that are elsewhere are no error.
        let filter = Filter::builder().name("vpc-id").set_values(Some(ids)).build();
        let call = || regional.ec2.describe_vpcs().filters(filter.clone()).send();
        let answer = env.session.call(api, call).await?;
        let ids = answer.vpcs().iter().filter_map(|vpc| vpc.vpc_id());
        found.extend(ids.map(|id| (id.to_owned(), spec.site(site).region.clone())));
    }
    let missing: Vec<_> =
        spec.dns.additional_vpc_ids.iter().filter(|id| !found.contains_key(*id)).collect();
    if let Some(id) = missing.first() {
        return Err(DiscoveryError::Mistakes(vec![Mistake::new(
            "dns.additional_vpc_ids",
            format!("There is no VPC {id} in {} or {}", spec.primary.region, spec.dr.region),
            "Name VPCs of this account in one of the two regions.",
        )]));
    }
    Ok(found)
}

fn overlap(spec: &Spec, one: &Network, other: &Network) -> Option<Mistake> {
    let pair = one.cidrs.iter().find_map(|mine| {
        let theirs =
            other.cidrs.iter().find(|theirs| mine.contains(*theirs) || theirs.contains(mine));
        theirs.map(|theirs| (mine, theirs))
    })?;
    Some(Mistake::new(
        "dr.vpc_id",
        "The two VPCs' address blocks overlap",
        format!(
            "{} in {} has {}, {} in {} has {}: AWS cannot peer them. Choose VPCs whose blocks do not overlap.",
            spec.primary.vpc_id,
            spec.primary.region,
            pair.0,
            spec.dr.vpc_id,
            spec.dr.region,
            pair.1
        ),
    ))
}

fn by_vpc(vpc: &str) -> Filter {
    Filter::builder().name("vpc-id").values(vpc).build()
}

async fn network(
    env: &Env,
    spec: &Spec,
    site: Site,
    stays: bool,
) -> Result<Network, DiscoveryError> {
    let wanted = spec.site(site);
    let regional = env.region(&wanted.region);
    let vpcs = async {
        let api = regional.api("ec2", "DescribeVpcs");
        env.session.call(api, || regional.ec2.describe_vpcs().vpc_ids(&wanted.vpc_id).send()).await
    };
    let subnets = subnets(env, &regional, &wanted.vpc_id);
    let tables = tables_of(env, &wanted.region, &wanted.vpc_id);
    let used = async {
        match wanted.subnet_ids {
            None if stays => subnets_of(env, &wanted.region, &instance_name(spec, site)).await,
            _ => Ok(Vec::new()),
        }
    };
    let (vpcs, subnets, tables, used) = futures::join!(vpcs, subnets, tables, used);
    let vpcs = match vpcs {
        Ok(answer) => answer,
        Err(error) if error.is_not_found() => {
            return Err(DiscoveryError::Mistakes(vec![missing_vpc(env, spec, site).await]));
        }
        Err(error) => return Err(error.into()),
    };
    let blocks = vpcs.vpcs().iter().flat_map(|vpc| vpc.cidr_block_association_set());
    // EC2 lists for a while what was taken away, or could not be had.
    let blocks = blocks.filter(|block| {
        let state = block.cidr_block_state().and_then(|state| state.state());
        state.is_none_or(|state| *state == VpcCidrBlockStateCode::Associated)
    });
    let cidrs: Vec<Ipv4Net> =
        blocks.filter_map(|block| block.cidr_block().and_then(|text| text.parse().ok())).collect();
    let (subnets, tables, used) = (subnets?, tables?, used?);
    let chosen = choose_subnets(wanted, site, &subnets, &tables, &used)
        .map_err(|one| DiscoveryError::Mistakes(vec![one]))?;
    let route_tables = choose_tables(wanted, site, &chosen, &tables)
        .map_err(|one| DiscoveryError::Mistakes(vec![one]))?;
    Ok(Network { cidrs, subnets: chosen, route_tables })
}

/// Tells a VPC of the other region from one that does not exist.
async fn missing_vpc(env: &Env, spec: &Spec, site: Site) -> Mistake {
    let wanted = spec.site(site);
    let other = spec.site(site.other());
    let regional = env.region(&other.region);
    let api = regional.api("ec2", "DescribeVpcs");
    let elsewhere =
        env.session.call(api, || regional.ec2.describe_vpcs().vpc_ids(&wanted.vpc_id).send());
    let detail = if elsewhere.await.is_ok() {
        format!(
            "It is in {}. The VPCs of primary and dr may be swapped, or {}.region is wrong.",
            other.region,
            site.argument()
        )
    } else {
        format!(
            "Neither {} nor {} has it in account {}. Check the id and the credentials' account.",
            wanted.region, other.region, env.scope.account
        )
    };
    Mistake::new(
        &format!("{}.vpc_id", site.argument()),
        format!("There is no VPC {} in {}", wanted.vpc_id, wanted.region),
        detail,
    )
}

async fn subnets(env: &Env, regional: &Regional, vpc: &str) -> Result<Vec<Subnet>, ApiError> {
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("ec2", "DescribeSubnets");
        let answer = env
            .session
            .call(api, || {
                regional
                    .ec2
                    .describe_subnets()
                    .filters(by_vpc(vpc))
                    .set_next_token(page.clone())
                    .send()
            })
            .await?;
        page = answer.next_token().map(str::to_owned);
        found.extend(answer.subnets.unwrap_or_default());
        if page.is_none() {
            return Ok(found);
        }
    }
}

/// The table that a subnet is routed by: its own, or the VPC's main one.
fn table_of<'a>(subnet: &str, tables: &'a [RouteTable]) -> Option<&'a RouteTable> {
    let own = tables
        .iter()
        .find(|table| table.associations().iter().any(|one| one.subnet_id() == Some(subnet)));
    own.or_else(|| {
        tables.iter().find(|table| table.associations().iter().any(|one| one.main() == Some(true)))
    })
}

fn is_public(subnet: &str, tables: &[RouteTable]) -> bool {
    table_of(subnet, tables).is_some_and(|table| {
        let gateways = table.routes().iter().filter_map(|route| route.gateway_id());
        gateways.into_iter().any(|gateway| gateway.starts_with("igw-"))
    })
}

/// The subnets that are named, or the private ones and those that are `used`: RDS takes no subnet out of a group while an
/// instance is in it, and does not tell which ones those are.
fn choose_subnets(
    wanted: &SiteSpec,
    site: Site,
    subnets: &[Subnet],
    tables: &[RouteTable],
    used: &[String],
) -> Result<Vec<Subnetwork>, Mistake> {
    let argument = format!("{}.subnet_ids", site.argument());
    let chosen: Vec<&Subnet> = match &wanted.subnet_ids {
        Some(ids) => {
            let missing: Vec<_> = ids
                .iter()
                .filter(|id| !subnets.iter().any(|one| one.subnet_id() == Some(id)))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() {
                return Err(Mistake::new(
                    &argument,
                    format!("{} has no subnet {}", wanted.vpc_id, missing.join(", ")),
                    format!("The VPC's subnets are {}.", listed(subnets)),
                ));
            }
            subnets.iter().filter(|one| ids.iter().any(|id| one.subnet_id() == Some(id))).collect()
        }
        None => {
            let stays = |id: &str| !is_public(id, tables) || used.iter().any(|one| one == id);
            subnets.iter().filter(|one| stays(one.subnet_id().unwrap_or_default())).collect()
        }
    };
    let zones: BTreeSet<_> = chosen.iter().filter_map(|one| one.availability_zone()).collect();
    if zones.len() < 2 {
        let found = if chosen.is_empty() { "none".to_owned() } else { listed(chosen) };
        let how = if wanted.subnet_ids.is_some() {
            "Named were"
        } else {
            "Private subnets (without a route to an internet gateway) that were found"
        };
        return Err(Mistake::new(
            &argument,
            format!("The database in {} needs subnets in two availability zones", wanted.region),
            format!("{how}: {found}. All of the VPC's subnets: {}.", listed(subnets)),
        ));
    }
    let mut chosen: Vec<_> = chosen
        .into_iter()
        .map(|one| Subnetwork {
            id: one.subnet_id().unwrap_or_default().to_owned(),
            zone: one.availability_zone().unwrap_or_default().to_owned(),
            has_lambda: one.availability_zone_id() != Some(WITHOUT_LAMBDA),
            is_exposed: wanted.subnet_ids.is_none()
                && is_public(one.subnet_id().unwrap_or_default(), tables),
        })
        .collect();
    chosen.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(chosen)
}

fn listed<'a>(subnets: impl IntoIterator<Item = &'a Subnet>) -> String {
    let each = subnets.into_iter().map(|one| {
        format!("{} ({})", one.subnet_id().unwrap_or("?"), one.availability_zone().unwrap_or("?"))
    });
    each.collect::<Vec<_>>().join(", ")
}

fn choose_tables(
    wanted: &SiteSpec,
    site: Site,
    chosen: &[Subnetwork],
    tables: &[RouteTable],
) -> Result<BTreeSet<String>, Mistake> {
    let Some(ids) = &wanted.route_table_ids else {
        let of = chosen.iter().filter_map(|one| table_of(&one.id, tables)?.route_table_id());
        return Ok(of.map(str::to_owned).collect());
    };
    let missing = ids.iter().find(|id| !tables.iter().any(|one| one.route_table_id() == Some(id)));
    match missing {
        None => Ok(ids.iter().cloned().collect()),
        Some(missing) => Err(Mistake::new(
            &format!("{}.route_table_ids", site.argument()),
            format!("{} has no route table {missing}", wanted.vpc_id),
            "Name tables of the same VPC, or leave the argument out to take those of the subnets.",
        )),
    }
}
