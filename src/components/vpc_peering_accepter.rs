//! The peering of the two VPCs, as its accepter: only there, in its own region, can it be accepted.

use aws_sdk_ec2::types::VpcPeeringConnectionStateReasonCode as Code;

use super::{
    Address, Env, Failure, Field, ID, Observation, Outputs, Primitive, Text, Wanted,
    vpc_peering::{code, describe, from_ec2, joins, peerings, retag_ec2},
};
use crate::aws::{ApiError, Progress};

/// The acceptance of a peering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcPeeringAccepter {
    /// The peering's id.
    pub peering: Text,
    /// The VPC that is asked.
    pub vpc: String,
    /// The VPC that asks.
    pub peer_vpc: String,
}

impl VpcPeeringAccepter {
    /// The kind's name.
    pub const KIND: &str = "vpc-peering-accepter";

    /// The address of the acceptance.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

impl Primitive for VpcPeeringAccepter {
    const KIND: &'static str = VpcPeeringAccepter::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("peering", self.peering.clone())]
    }

    /// Tags of a peering are per side. This side's are set before it is accepted, so that an accepted one of
    /// ours always carries them.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let all = peerings(env, region).await?;
        let mut found = Vec::new();
        for wanted in wanted {
            let accepted = all.iter().find(|one| {
                joins(one, &wanted.settings.vpc, &wanted.settings.peer_vpc)
                    && matches!(code(one), Some(Code::Active | Code::Provisioning))
            });
            let Some(one) = accepted else { continue };
            let id = one.vpc_peering_connection_id().unwrap_or_default();
            let tags = from_ec2(one.tags());
            let owner = env.scope.owner_by_id(&tags);
            let mut seen = Observation::new(wanted.address.clone(), region, id)
                .with("peering", id)
                .output(ID, id)
                .tagged(tags, env);
            seen.owner = owner;
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let id = env.resolve(&wanted.settings.peering)?;
        let region = &wanted.region;
        let visible = env.session.wait(|| async {
            Ok(match describe(env, region, &id).await?.as_ref().and_then(code) {
                Some(Code::PendingAcceptance | Code::Provisioning | Code::Active) => {
                    Progress::Done(())
                }
                Some(state @ (Code::Failed | Code::Rejected | Code::Expired | Code::Deleted)) => {
                    Progress::Failed(format!("AWS says that the peering is {}", state.as_str()))
                }
                _ => Progress::Pending("not visible in this region yet".into()),
            })
        });
        visible.await?;
        retag_ec2(env, region, &id, &super::Tags::new(), &wanted.tags).await?;
        let regional = env.region(region);
        let api = regional.api("ec2", "AcceptVpcPeeringConnection");
        let call =
            || regional.ec2.accept_vpc_peering_connection().vpc_peering_connection_id(&id).send();
        env.session.call(api, call).await?;
        active(env, region, &id).await
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"tags") {
            retag_ec2(env, &wanted.region, &found.id, &found.tags, &wanted.tags).await?;
        }
        active(env, &wanted.region, &found.id).await
    }

    /// Goes with the connection itself.
    async fn delete(_: &Env, _: &Observation) -> Result<(), Failure> {
        Ok(())
    }
}

/// Waits until a peering is active as one of its two regions sees it: they do not agree at once.
pub(super) async fn active(env: &Env, region: &str, id: &str) -> Result<Outputs, Failure> {
    let active = env.session.wait(|| async {
        Ok(match describe(env, region, id).await?.as_ref().and_then(code) {
            Some(Code::Active) => Progress::Done(()),
            Some(Code::Provisioning | Code::PendingAcceptance) => {
                Progress::Pending("provisioning".into())
            }
            Some(state) => Progress::Failed(format!("the accepted peering is {}", state.as_str())),
            None => Progress::Unseen("the accepted peering is gone".into()),
        })
    });
    active.await?;
    Ok(Outputs::from([(ID, id.to_owned())]))
}
