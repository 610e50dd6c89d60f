//! Routes to the other VPC, one per route table and block of addresses.

use aws_sdk_ec2::types::{Filter, Route as Ec2Route, RouteState, RouteTable, VpcPeeringConnection};

use super::{
    Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Text, Wanted,
    vpc_peering::{from_ec2, peerings},
    vpc_peering_accepter::active,
};
use crate::aws::ApiError;

/// A way from a table to the other VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The VPC that the table belongs to.
    pub vpc: String,
    /// The table.
    pub table: String,
    /// The other VPC's block.
    pub cidr: String,
    /// The peering's id.
    pub peering: Text,
}

impl Route {
    /// The kind's name.
    pub const KIND: &str = "route";

    /// The address of a table's route to a block.
    pub fn address(region: &str, table: &str, cidr: &str) -> Address {
        Address::with(region, Self::KIND, &format!("{table}/{cidr}"))
    }
}

/// The route tables of a VPC, in one call that discovery and observation share.
///
/// # Errors
/// The call failed.
pub async fn tables_of(env: &Env, region: &str, vpc: &str) -> Result<Vec<RouteTable>, ApiError> {
    let filter = Filter::builder().name("vpc-id").values(vpc).build();
    env.shared(format!("tables {region} {vpc}"), || find_tables(env, region, filter)).await
}

async fn find_tables(env: &Env, region: &str, filter: Filter) -> Result<Vec<RouteTable>, ApiError> {
    let regional = env.region(region);
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("ec2", "DescribeRouteTables");
        let call = || {
            let call = regional.ec2.describe_route_tables().filters(filter.clone());
            call.set_next_token(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        page = answer.next_token().map(str::to_owned);
        found.extend(answer.route_tables.unwrap_or_default());
        if page.is_none() {
            return Ok(found);
        }
    }
}

fn target(route: &Ec2Route) -> String {
    let all = [
        route.vpc_peering_connection_id(),
        route.gateway_id(),
        route.nat_gateway_id(),
        route.transit_gateway_id(),
        route.network_interface_id(),
        route.instance_id(),
    ];
    all.into_iter().flatten().next().unwrap_or("something unknown").to_owned()
}

/// A route carries no tags. It is ours when it leads over our peering; one that leads over a peering that
/// is no more carries nobody's traffic and may be taken over.
fn owner(route: &Ec2Route, ours: &[String]) -> Owner {
    let over = target(route);
    let lost = route.state() == Some(&RouteState::Blackhole) && over.starts_with("pcx-");
    if ours.contains(&over) || lost {
        Owner::Ours
    } else {
        Owner::Foreign(format!("the route leads over {over}"))
    }
}

impl Primitive for Route {
    const KIND: &'static str = Route::KIND;
    const NAMELESS: bool = true;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("peering", self.peering.clone())]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let all = peerings(env, region).await?;
        let is_ours = |one: &&VpcPeeringConnection| {
            env.scope.owner_by_id(&from_ec2(one.tags())) == Owner::Ours
        };
        let ours = all.iter().filter(is_ours);
        let ours: Vec<String> =
            ours.filter_map(|one| one.vpc_peering_connection_id().map(str::to_owned)).collect();
        let tables = match wanted.first() {
            Some(one) => tables_of(env, region, &one.settings.vpc).await?,
            None if ours.is_empty() => Vec::new(),
            None => {
                let name = "route.vpc-peering-connection-id";
                let filter = Filter::builder().name(name).set_values(Some(ours.clone())).build();
                find_tables(env, region, filter).await?
            }
        };
        let mut found = Vec::new();
        for table in &tables {
            let id = table.route_table_id().unwrap_or_default();
            for route in table.routes() {
                let Some(cidr) = route.destination_cidr_block() else { continue };
                let over = target(route);
                let address = Self::address(region, id, cidr);
                let is_wanted = wanted.iter().any(|one| one.address == address);
                if !is_wanted && !ours.contains(&over) {
                    continue;
                }
                let mut seen =
                    Observation::new(address, region, format!("{id} {cidr}")).with("peering", over);
                seen.owner = owner(route, &ours);
                found.push(seen);
            }
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let (settings, peering) = (&wanted.settings, env.resolve(&wanted.settings.peering)?);
        active(env, &wanted.region, &peering).await?;
        let api = regional.api("ec2", "CreateRoute");
        let call = || {
            let call = regional.ec2.create_route().route_table_id(&settings.table);
            call.destination_cidr_block(&settings.cidr).vpc_peering_connection_id(&peering).send()
        };
        env.session.call_once(api, call).await?;
        Ok(Outputs::new())
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.is_empty() {
            return Ok(Outputs::new());
        }
        let regional = env.region(&wanted.region);
        let (settings, peering) = (&wanted.settings, env.resolve(&wanted.settings.peering)?);
        let api = regional.api("ec2", "ReplaceRoute");
        let call = || {
            let call = regional.ec2.replace_route().route_table_id(&settings.table);
            call.destination_cidr_block(&settings.cidr).vpc_peering_connection_id(&peering).send()
        };
        env.session.call(api, call).await?;
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let (table, cidr) = found.id.split_once(' ').unwrap_or_default();
        let api = regional.api("ec2", "DeleteRoute");
        let call = || {
            regional.ec2.delete_route().route_table_id(table).destination_cidr_block(cidr).send()
        };
        Ok(env.session.remove(api, call).await?)
    }
}
