//! The database's security group in each region. Nothing goes out of it: a database answers, it never calls.

use aws_sdk_ec2::types::{Filter, IpPermission, IpRange, ResourceType, SecurityGroup as Ec2Group};

use super::{
    ARN, Address, Env, Failure, Field, ID, Observation, Outputs, Primitive, Wanted,
    vpc_peering::{from_ec2, retag_ec2, specification},
};
use crate::aws::ApiError;

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its VPC.
    pub vpc: String,
    /// What it is for.
    pub description: String,
}

impl SecurityGroup {
    /// The kind's name.
    pub const KIND: &str = "security-group";

    /// The address of a region's group.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

/// The groups of a name in a region, in one call that the kinds of groups and of rules share.
pub(super) async fn groups(env: &Env, region: &str, name: &str) -> Result<Vec<Ec2Group>, ApiError> {
    env.shared(format!("groups {region} {name}"), || async {
        let regional = env.region(region);
        let filter = Filter::builder().name("group-name").values(name).build();
        let api = regional.api("ec2", "DescribeSecurityGroups");
        let call = || regional.ec2.describe_security_groups().filters(filter.clone()).send();
        Ok(env.session.call(api, call).await?.security_groups.unwrap_or_default())
    })
    .await
}

impl Primitive for SecurityGroup {
    const KIND: &'static str = SecurityGroup::KIND;

    fn fields(&self) -> Vec<Field> {
        let moving = super::Effect::Refuse("a security group cannot move to another VPC");
        vec![Field::new("vpc", &*self.vpc).effect(moving), Field::new("egress", "none")]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let all = groups(env, region, &wanted.name).await?;
            // Names are unique within a VPC only: the same name in another VPC is nobody's business here.
            let own = all.iter().find(|one| one.vpc_id() == Some(&wanted.settings.vpc));
            let Some(one) = own else { continue };
            let id = one.group_id().unwrap_or_default();
            let (partition, account) = (&env.scope.partition, &env.scope.account);
            let arn = format!("arn:{partition}:ec2:{region}:{account}:security-group/{id}");
            let egress = if one.ip_permissions_egress().is_empty() { "none" } else { "open" };
            found.push(
                Observation::new(wanted.address.clone(), region, id)
                    .with("vpc", one.vpc_id().unwrap_or_default())
                    .with("egress", egress)
                    .output(ID, id)
                    .output(ARN, arn)
                    .tagged(from_ec2(one.tags()), &env.scope),
            );
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let tags = specification(ResourceType::SecurityGroup, &wanted.tags);
        let api = regional.api("ec2", "CreateSecurityGroup");
        let call = || {
            let call = regional.ec2.create_security_group().group_name(&wanted.name);
            let call = call.description(&wanted.settings.description).vpc_id(&wanted.settings.vpc);
            call.tag_specifications(tags.clone()).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let id = answer.group_id().unwrap_or_default().to_owned();
        let everything = IpPermission::builder()
            .ip_protocol("-1")
            .ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build())
            .build();
        revoke_egress(env, &wanted.region, &id, vec![everything]).await?;
        let (partition, account) = (&env.scope.partition, &env.scope.account);
        let arn = format!("arn:{partition}:ec2:{}:{account}:security-group/{id}", wanted.region);
        Ok(Outputs::from([(ID, id), (ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"egress") {
            close_egress(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            retag_ec2(env, &wanted.region, &found.id, &found.tags, &wanted.tags).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("ec2", "DeleteSecurityGroup");
        let call = || regional.ec2.delete_security_group().group_id(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}

/// Takes away every rule that lets something out.
async fn close_egress(env: &Env, wanted: &Wanted<SecurityGroup>) -> Result<(), Failure> {
    env.look_again();
    let all = groups(env, &wanted.region, &wanted.name).await?;
    let own = all.iter().find(|one| one.vpc_id() == Some(&wanted.settings.vpc));
    let Some(own) = own.filter(|one| !one.ip_permissions_egress().is_empty()) else {
        return Ok(());
    };
    let id = own.group_id().unwrap_or_default();
    revoke_egress(env, &wanted.region, id, own.ip_permissions_egress().to_vec()).await
}

async fn revoke_egress(
    env: &Env,
    region: &str,
    group: &str,
    permissions: Vec<IpPermission>,
) -> Result<(), Failure> {
    let regional = env.region(region);
    let api = regional.api("ec2", "RevokeSecurityGroupEgress");
    let call = || {
        let call = regional.ec2.revoke_security_group_egress().group_id(group);
        call.set_ip_permissions(Some(permissions.clone())).send()
    };
    match env.session.call_on_new(api, call).await {
        Err(error) if !error.has_code("InvalidPermission.NotFound") => Err(error.into()),
        _ => Ok(()),
    }
}
