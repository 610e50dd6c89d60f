//! The peering of the two VPCs, as its requester: the connection itself.

use aws_sdk_ec2::types::{
    Filter, ResourceType, Tag, TagSpecification, VpcPeeringConnection,
    VpcPeeringConnectionStateReasonCode,
};

use super::{
    ARN, Address, Env, Failure, Field, ID, Observation, Outputs, Owner, Primitive, Tags, Wanted,
    retag,
};
use crate::aws::{ApiError, Progress};

/// A connection that is asked for from one VPC to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcPeering {
    /// The VPC that asks.
    pub vpc: String,
    /// The VPC that is asked.
    pub peer_vpc: String,
    /// Its region.
    pub peer_region: String,
}

impl VpcPeering {
    /// The kind's name.
    pub const KIND: &str = "vpc-peering";

    /// The address of the connection.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

/// Tags in EC2's form.
pub(super) fn ec2_tags(all: &Tags) -> Vec<Tag> {
    all.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags from EC2's form.
pub fn from_ec2(all: &[Tag]) -> Tags {
    let pair =
        |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    all.iter().filter_map(pair).collect()
}

/// The tags of something that is being made.
pub(super) fn specification(of: ResourceType, tags: &Tags) -> TagSpecification {
    TagSpecification::builder().resource_type(of).set_tags(Some(ec2_tags(tags))).build()
}

/// Makes the tags of something in EC2 those that are wanted.
pub(super) async fn retag_ec2(
    env: &Env,
    region: &str,
    id: &str,
    current: &Tags,
    wanted: &Tags,
) -> Result<(), ApiError> {
    let regional = env.region(region);
    let (set, gone) = retag(current, wanted);
    if !set.is_empty() {
        let api = regional.api("ec2", "CreateTags");
        let set = ec2_tags(&set);
        let call = || regional.ec2.create_tags().resources(id).set_tags(Some(set.clone())).send();
        env.session.call(api, call).await?;
    }
    if !gone.is_empty() {
        let api = regional.api("ec2", "DeleteTags");
        let gone: Vec<_> = gone.iter().map(|key| Tag::builder().key(key).build()).collect();
        let call = || regional.ec2.delete_tags().resources(id).set_tags(Some(gone.clone())).send();
        env.session.call(api, call).await?;
    }
    Ok(())
}

const LIVING: [&str; 4] = ["initiating-request", "pending-acceptance", "provisioning", "active"];

/// The living peerings of a region, in one call that all kinds of peerings share.
pub(super) async fn peerings(
    env: &Env,
    region: &str,
) -> Result<Vec<VpcPeeringConnection>, ApiError> {
    env.shared(format!("peerings {region}"), || find_peerings(env, region)).await
}

async fn find_peerings(env: &Env, region: &str) -> Result<Vec<VpcPeeringConnection>, ApiError> {
    let regional = env.region(region);
    let living = LIVING.map(str::to_owned).to_vec();
    let living = Filter::builder().name("status-code").set_values(Some(living)).build();
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("ec2", "DescribeVpcPeeringConnections");
        let call = || {
            let call = regional.ec2.describe_vpc_peering_connections().filters(living.clone());
            call.set_next_token(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        page = answer.next_token().map(str::to_owned);
        found.extend(answer.vpc_peering_connections.unwrap_or_default());
        if page.is_none() {
            return Ok(found);
        }
    }
}

/// Whether a connection joins these VPCs, whoever asked.
pub fn joins(one: &VpcPeeringConnection, vpc: &str, peer: &str) -> bool {
    let sides = [one.requester_vpc_info(), one.accepter_vpc_info()];
    let ids = sides.map(|side| side.and_then(|side| side.vpc_id()).unwrap_or_default());
    ids == [vpc, peer] || ids == [peer, vpc]
}

/// The status of a connection; absent where AWS knows none.
pub(super) fn code(one: &VpcPeeringConnection) -> Option<VpcPeeringConnectionStateReasonCode> {
    one.status().and_then(|status| status.code()).cloned()
}

/// Whether a connection carries traffic.
pub fn is_active(one: &VpcPeeringConnection) -> bool {
    code(one) == Some(VpcPeeringConnectionStateReasonCode::Active)
}

/// A connection by its id, now; `None` if it is gone.
///
/// # Errors
/// The call failed.
pub async fn describe(
    env: &Env,
    region: &str,
    id: &str,
) -> Result<Option<VpcPeeringConnection>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("ec2", "DescribeVpcPeeringConnections");
    let call =
        || regional.ec2.describe_vpc_peering_connections().vpc_peering_connection_ids(id).send();
    let found = env.session.find(api, call).await?;
    Ok(found.and_then(|answer| answer.vpc_peering_connections.unwrap_or_default().pop()))
}

impl Primitive for VpcPeering {
    const KIND: &'static str = VpcPeering::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("vpc", &*self.vpc).from("primary.vpc_id"),
            Field::new("peer_vpc", &*self.peer_vpc).from("dr.vpc_id"),
            Field::new("peer_region", &*self.peer_region).from("dr.region"),
        ]
    }

    /// AWS allows one connection between two VPCs: one that somebody else made is in the way.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let all = peerings(env, region).await?;
        let mut found = Vec::new();
        for one in &all {
            let tags = from_ec2(one.tags());
            let side = |info: Option<&aws_sdk_ec2::types::VpcPeeringConnectionVpcInfo>| {
                let vpc = info.and_then(|info| info.vpc_id()).unwrap_or_default().to_owned();
                (vpc, info.and_then(|info| info.region()).unwrap_or_default().to_owned())
            };
            let (vpc, here) = side(one.requester_vpc_info());
            let (peer_vpc, peer_region) = side(one.accepter_vpc_info());
            let id = one.vpc_peering_connection_id().unwrap_or_default();
            let wanted = wanted
                .iter()
                .find(|wanted| joins(one, &wanted.settings.vpc, &wanted.settings.peer_vpc));
            let owner = env.scope.owner_by_id(&tags);
            let address = match wanted {
                Some(wanted) => wanted.address.clone(),
                None if here == region && owner == Owner::Ours => {
                    Address::with(region, Self::KIND, id)
                }
                None => continue,
            };
            let arn = format!(
                "arn:{}:ec2:{region}:{}:vpc-peering-connection/{id}",
                env.scope.partition, env.scope.account
            );
            let mut seen = Observation::new(address, region, id)
                .with("vpc", vpc)
                .with("peer_vpc", peer_vpc)
                .with("peer_region", peer_region)
                .output(ID, id)
                .output(ARN, arn)
                .tagged(tags, env);
            seen.owner = owner;
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let settings = &wanted.settings;
        let tags = specification(ResourceType::VpcPeeringConnection, &wanted.tags);
        let call = || {
            let call = regional.ec2.create_vpc_peering_connection().vpc_id(&settings.vpc);
            let call = call.peer_vpc_id(&settings.peer_vpc).peer_region(&settings.peer_region);
            call.tag_specifications(tags.clone()).send()
        };
        let api = regional.api("ec2", "CreateVpcPeeringConnection");
        let answer = env.session.call_once(api, call).await?;
        let made = answer.vpc_peering_connection();
        let id = made.and_then(|one| one.vpc_peering_connection_id()).unwrap_or_default();
        settle(env, wanted, id).await
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
        settle(env, wanted, &found.id).await
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let id = &found.id;
        let api = regional.api("ec2", "DeleteVpcPeeringConnection");
        let call =
            || regional.ec2.delete_vpc_peering_connection().vpc_peering_connection_id(id).send();
        match env.session.call(api, call).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            // It is on its way out already (aws-facts 1.5).
            Err(error) if error.has_code("InvalidStateTransition") => {}
            Err(error) => return Err(error.into()),
        }
        let gone = env.session.wait(|| async {
            Ok(match describe(env, &found.region, id).await?.as_ref().and_then(code) {
                Some(VpcPeeringConnectionStateReasonCode::Deleting) => {
                    Progress::Pending("deleting".into())
                }
                Some(state) if LIVING.contains(&state.as_str()) => {
                    Progress::Pending(state.as_str().to_owned())
                }
                _ => Progress::Done(()),
            })
        });
        Ok(gone.await?)
    }
}

/// Waits until the other side can accept. What AWS refuses shows only here, as a status.
async fn settle(env: &Env, wanted: &Wanted<VpcPeering>, id: &str) -> Result<Outputs, Failure> {
    use VpcPeeringConnectionStateReasonCode as Code;
    let ready = env.session.wait(|| async {
        let Some(one) = describe(env, &wanted.region, id).await? else {
            return Ok(Progress::Pending("not visible yet".into()));
        };
        let message =
            one.status().and_then(|status| status.message()).unwrap_or_default().to_owned();
        Ok(match code(&one) {
            Some(Code::PendingAcceptance | Code::Provisioning | Code::Active) => Progress::Done(()),
            Some(state @ (Code::Failed | Code::Rejected | Code::Expired | Code::Deleted)) => {
                Progress::Failed(format!(
                    "AWS says that the peering is {}: {message}",
                    state.as_str()
                ))
            }
            state => {
                Progress::Pending(state.map_or_else(String::new, |one| one.as_str().to_owned()))
            }
        })
    });
    ready.await?;
    let (partition, account) = (&env.scope.partition, &env.scope.account);
    let arn =
        format!("arn:{partition}:ec2:{}:{account}:vpc-peering-connection/{id}", wanted.region);
    Ok(Outputs::from([(ID, id.to_owned()), (ARN, arn)]))
}
