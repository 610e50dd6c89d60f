//! Whether names of the other VPC's machines resolve to private addresses: an option of each side, which
//! takes only on an active peering.

use aws_sdk_ec2::types::{
    PeeringConnectionOptionsRequest, VpcPeeringConnectionStateReasonCode as Code,
};

use super::{
    Address, Env, Failure, Field, Observation, Outputs, Primitive, Text, Wanted,
    vpc_peering::{code, from_ec2, joins, peerings},
    vpc_peering_accepter::active,
};
use crate::aws::ApiError;

/// One side's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcPeeringOptions {
    /// The peering's id, once it is accepted.
    pub peering: Text,
    /// Whether this side asked for the peering.
    pub is_requester: bool,
    /// This side's VPC.
    pub vpc: String,
    /// The other side's.
    pub peer_vpc: String,
}

impl VpcPeeringOptions {
    /// The kind's name.
    pub const KIND: &str = "vpc-peering-options";

    /// The address of a region's side.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

impl Primitive for VpcPeeringOptions {
    const KIND: &'static str = VpcPeeringOptions::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("dns_resolution", "true")]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let all = peerings(env, region).await?;
        let mut found = Vec::new();
        for wanted in wanted {
            let settings = &wanted.settings;
            let active = all.iter().find(|one| {
                joins(one, &settings.vpc, &settings.peer_vpc) && code(one) == Some(Code::Active)
            });
            let Some(one) = active else { continue };
            let side = if settings.is_requester {
                one.requester_vpc_info()
            } else {
                one.accepter_vpc_info()
            };
            let on = side
                .and_then(|side| side.peering_options())
                .and_then(|options| options.allow_dns_resolution_from_remote_vpc())
                .unwrap_or(false);
            let id = one.vpc_peering_connection_id().unwrap_or_default();
            let mut seen = Observation::new(wanted.address.clone(), region, id)
                .with("dns_resolution", on.to_string());
            seen.owner = env.scope.owner_by_id(&from_ec2(one.tags()));
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let id = env.resolve(&wanted.settings.peering)?;
        active(env, &wanted.region, &id).await?;
        let regional = env.region(&wanted.region);
        let options = PeeringConnectionOptionsRequest::builder()
            .allow_dns_resolution_from_remote_vpc(true)
            .build();
        let api = regional.api("ec2", "ModifyVpcPeeringConnectionOptions");
        let call = || {
            let call =
                regional.ec2.modify_vpc_peering_connection_options().vpc_peering_connection_id(&id);
            let options = Some(options.clone());
            if wanted.settings.is_requester {
                call.set_requester_peering_connection_options(options).send()
            } else {
                call.set_accepter_peering_connection_options(options).send()
            }
        };
        env.session.call(api, call).await?;
        Ok(Outputs::new())
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.is_empty() { Ok(Outputs::new()) } else { Self::create(env, wanted).await }
    }

    /// Goes with the connection itself.
    async fn delete(_: &Env, _: &Observation) -> Result<(), Failure> {
        Ok(())
    }
}
