//! A VPC that sees the cluster's zone, besides the one that the zone was made with.

use super::{
    Address, Env, Failure, Field, GLOBAL, HostedZone, ID, Observation, Outputs, Primitive, Text,
    Wanted,
    hosted_zone::{associate, own, vpc, zone},
};
use crate::aws::ApiError;

/// An association of a VPC with the cluster's zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedZoneAssociation {
    /// The zone's name.
    pub zone_name: String,
    /// The VPC that the zone was made with, which is no association of its own.
    pub first_vpc: String,
    /// The VPC.
    pub vpc: String,
    /// Its region.
    pub vpc_region: String,
    /// The argument that it comes from.
    pub argument: &'static str,
}

impl HostedZoneAssociation {
    /// The kind's name.
    pub const KIND: &str = "hosted-zone-association";

    /// The address of a VPC's association.
    pub fn address(vpc: &str) -> Address {
        Address::with(GLOBAL, Self::KIND, vpc)
    }
}

impl Primitive for HostedZoneAssociation {
    const KIND: &'static str = HostedZoneAssociation::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("vpc_region", &*self.vpc_region).from(self.argument)]
    }

    /// The zone is ours, so that every VPC that sees it and that nobody names is found as well.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let Some(any) = wanted.first() else { return Ok(Vec::new()) };
        let Some(id) = own(env, region, &any.settings.zone_name).await? else {
            return Ok(Vec::new());
        };
        let Some(seen) = zone(env, region, &id).await? else { return Ok(Vec::new()) };
        let others = seen.vpcs.iter().filter(|(_, vpc)| *vpc != any.settings.first_vpc);
        let found = others.map(|(vpc_region, vpc)| {
            let id = format!("{id} {vpc_region} {vpc}");
            Observation::new(Self::address(vpc), region, &id)
                .with("vpc_region", vpc_region)
                .output(ID, id)
        });
        Ok(found.collect())
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let zone = env.resolve(&Text::Ref(HostedZone::address(), ID))?;
        associate(env, &wanted.region, &zone, &settings.vpc_region, &settings.vpc).await?;
        Ok(Outputs::from([(ID, format!("{zone} {} {}", settings.vpc_region, settings.vpc))]))
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let parts: Vec<&str> = found.id.split(' ').collect();
        let [zone, vpc_region, id] = parts[..] else {
            return Err(Failure::Obstacle(format!("the association {} cannot be read", found.id)));
        };
        let regional = env.region(&found.region);
        let api = regional.api("route53", "DisassociateVPCFromHostedZone");
        let call = || {
            let call = regional.route53.disassociate_vpc_from_hosted_zone().hosted_zone_id(zone);
            call.vpc(vpc(vpc_region, id)).send()
        };
        match env.session.remove(api, call).await {
            // The last one that sees the zone: it goes with it.
            Err(error) if error.has_code("LastVPCAssociation") => Ok(()),
            other => Ok(other?),
        }
    }
}
