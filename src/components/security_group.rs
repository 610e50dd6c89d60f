//! Security groups of the database and of the probe in each region. Nothing goes out of the database's: it
//! answers, and never calls.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_ec2::types::{
    Filter, IpPermission, IpRange, Ipv6Range, ResourceType, SecurityGroup as Ec2Group,
};

use super::{
    ARN, Address, Env, Failure, Field, ID, Observation, Outputs, Primitive, Wanted, each,
    vpc_peering::{from_ec2, retag_ec2, specification},
};
use crate::aws::{ApiError, CONSISTENCY_LIMIT};

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its VPC.
    pub vpc: String,
    /// What it is for.
    pub description: String,
    /// What may go out of it, if anything may.
    pub egress: Option<Egress>,
}

/// What may go out of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// A port of TCP.
    pub port: u16,
    /// Blocks of addresses.
    pub cidrs: Vec<String>,
}

impl Egress {
    /// As a permission has them: protocol, first and last port.
    fn ports(&self) -> (Option<&str>, Option<i32>, Option<i32>) {
        let port = Some(i32::from(self.port));
        (Some("tcp"), port, port)
    }

    /// The same to the blocks that are not among these, if there is one.
    fn without(&self, blocks: &[String]) -> Option<Self> {
        let cidrs: Vec<_> =
            self.cidrs.iter().filter(|cidr| !blocks.contains(cidr)).cloned().collect();
        (!cidrs.is_empty()).then_some(Self { port: self.port, cidrs })
    }

    fn permission(&self) -> IpPermission {
        let port = i32::from(self.port);
        let range = |cidr: &String| IpRange::builder().cidr_ip(cidr).build();
        let ranges = Some(self.cidrs.iter().map(range).collect());
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
        rule.set_ip_ranges(ranges).build()
    }
}

impl SecurityGroup {
    /// The kind's name.
    pub const KIND: &str = "security-group";

    /// The address of a region's group of the database.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }

    /// The address of a region's group of the probe.
    pub fn probe(region: &str) -> Address {
        Address::with(region, Self::KIND, "probe")
    }

    fn leaving(&self) -> String {
        self.egress.as_ref().map_or_else(|| NONE.into(), |one| told(&[one.permission()]))
    }
}

/// Nothing is let out.
const NONE: &str = "none";
/// When to take away again what a new group does not show yet.
const AGAIN: Duration = Duration::from_secs(2);

/// What permissions let out, in one text.
fn told(permissions: &[IpPermission]) -> String {
    let mut all: Vec<String> = Vec::new();
    for one in permissions {
        let ports = match (one.ip_protocol(), one.from_port(), one.to_port()) {
            (Some("tcp"), Some(from), Some(to)) if from == to => from.to_string(),
            (protocol, from, to) => format!(
                "{}:{}-{}",
                protocol.unwrap_or_default(),
                from.unwrap_or(-1),
                to.unwrap_or(-1)
            ),
        };
        let blocks = one.ip_ranges().iter().filter_map(|range| range.cidr_ip());
        let wide = one.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
        let groups = one.user_id_group_pairs().iter().filter_map(|pair| pair.group_id());
        let lists = one.prefix_list_ids().iter().filter_map(|list| list.prefix_list_id());
        let targets = blocks.chain(wide).chain(groups).chain(lists);
        all.extend(targets.map(|target| format!("{ports} to {target}")));
    }
    if all.is_empty() {
        return NONE.into();
    }
    all.sort();
    all.join(",")
}

/// The groups of some names in a region, in one call that the kinds of groups and of rules share where they look
/// for the same ones.
pub(super) async fn groups(
    env: &Env,
    region: &str,
    names: BTreeSet<String>,
) -> Result<Vec<Ec2Group>, ApiError> {
    env.shared(format!("groups {region} {names:?}"), || async {
        let regional = env.region(region);
        let filter = Filter::builder().name("group-name");
        let filter = filter.set_values(Some(names.into_iter().collect())).build();
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
        let argument = if self.egress.is_some() { "database.port" } else { "" };
        let egress = Field::new("egress", self.leaving()).from(argument);
        vec![Field::new("vpc", &*self.vpc).effect(moving), egress]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let names = wanted.iter().map(|one| one.name.clone()).collect();
        let all = &groups(env, region, names).await?;
        each(wanted, |wanted| async move {
            // Names are unique within a VPC only: the same name in another VPC is nobody's business here.
            let own = all.iter().find(|one| {
                one.group_name() == Some(&wanted.name) && one.vpc_id() == Some(&wanted.settings.vpc)
            });
            let Some(one) = own else { return Ok(None) };
            let id = one.group_id().unwrap_or_default();
            let (partition, account) = (&env.scope.partition, &env.scope.account);
            let arn = format!("arn:{partition}:ec2:{region}:{account}:security-group/{id}");
            Ok(Some(
                Observation::new(wanted.address.clone(), region, id)
                    .with("vpc", one.vpc_id().unwrap_or_default())
                    .with("egress", told(one.ip_permissions_egress()))
                    .output(ID, id)
                    .output(ARN, arn)
                    .tagged(from_ec2(one.tags()), env),
            ))
        })
        .await
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
        close_new(env, &wanted.region, &id).await?;
        if let Some(egress) = &wanted.settings.egress {
            let_out(env, &wanted.region, &id, egress).await?;
        }
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
            let left = close_egress(env, wanted).await?;
            let egress = wanted.settings.egress.as_ref();
            if let Some(missing) = egress.and_then(|one| one.without(&left)) {
                let_out(env, &wanted.region, &found.id, &missing).await?;
            }
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

/// Takes away what EC2 lets out of every new group: everything. Where the rule does not show yet, it would stay for good.
async fn close_new(env: &Env, region: &str, id: &str) -> Result<(), Failure> {
    let everything = IpPermission::builder().ip_protocol("-1");
    let everywhere = IpRange::builder().cidr_ip("0.0.0.0/0").build();
    let all = everything.clone().ip_ranges(everywhere).build();
    let begun = env.session.clock.now();
    while !revoke_egress(env, region, id, vec![all.clone()]).await? {
        // Somebody else's automation may have been faster.
        if env.session.clock.since(begun) >= CONSISTENCY_LIMIT {
            break;
        }
        if let Err(why) = env.session.pause(AGAIN).await {
            let api = env.region(region).api("ec2", "RevokeSecurityGroupEgress");
            return Err(ApiError::stopped(api, why).into());
        }
    }
    // In a VPC that has IPv6, EC2 adds a second rule; where it has none, EC2 may not know what is meant.
    let everywhere = Ipv6Range::builder().cidr_ipv6("::/0").build();
    let all = everything.ipv6_ranges(everywhere).build();
    match revoke_egress(env, region, id, vec![all]).await {
        Err(Failure::Api(error)) if error.has_code("InvalidParameterValue") => Ok(()),
        other => other.map(drop),
    }
}

/// Lets out what may go out; what already may is no error.
async fn let_out(env: &Env, region: &str, id: &str, egress: &Egress) -> Result<(), Failure> {
    let regional = env.region(region);
    let api = regional.api("ec2", "AuthorizeSecurityGroupEgress");
    let call = || {
        let call = regional.ec2.authorize_security_group_egress().group_id(id);
        call.ip_permissions(egress.permission()).send()
    };
    match env.session.call_on_new(api, call).await {
        Err(error) if !error.has_code("InvalidPermission.Duplicate") => Err(error.into()),
        _ => Ok(()),
    }
}

/// Takes away every rule that lets out more than what may go out; to which blocks what may go out can go by then.
async fn close_egress(env: &Env, wanted: &Wanted<SecurityGroup>) -> Result<Vec<String>, Failure> {
    env.look_again();
    let all = groups(env, &wanted.region, BTreeSet::from([wanted.name.clone()])).await?;
    let own = all.iter().find(|one| one.vpc_id() == Some(&wanted.settings.vpc));
    let Some(own) = own else { return Ok(Vec::new()) };
    let (left, excess) = parted(own.ip_permissions_egress(), wanted.settings.egress.as_ref());
    if !excess.is_empty() {
        revoke_egress(env, &wanted.region, own.group_id().unwrap_or_default(), excess).await?;
    }
    Ok(left)
}

/// What is let out: the blocks that may be reached, and the rules for everything else.
fn parted(
    permissions: &[IpPermission],
    wanted: Option<&Egress>,
) -> (Vec<String>, Vec<IpPermission>) {
    let (mut left, mut excess) = (Vec::new(), Vec::new());
    for one in permissions {
        let mut one = one.clone();
        let ports = (one.ip_protocol(), one.from_port(), one.to_port());
        if let Some(wanted) = wanted.filter(|wanted| wanted.ports() == ports) {
            let is_wanted = |range: &IpRange| {
                range.cidr_ip().is_some_and(|cidr| wanted.cidrs.iter().any(|one| one == cidr))
            };
            let ranges = one.ip_ranges.take().unwrap_or_default();
            let (kept, other): (Vec<_>, Vec<_>) = ranges.into_iter().partition(is_wanted);
            left.extend(kept.into_iter().filter_map(|range| range.cidr_ip));
            one.ip_ranges = Some(other).filter(|other| !other.is_empty());
        }
        if told(std::slice::from_ref(&one)) != NONE {
            excess.push(one);
        }
    }
    (left, excess)
}

/// Whether there was something to take away: EC2 refuses, or in a default VPC only says, that there was not.
async fn revoke_egress(
    env: &Env,
    region: &str,
    group: &str,
    permissions: Vec<IpPermission>,
) -> Result<bool, Failure> {
    let regional = env.region(region);
    let api = regional.api("ec2", "RevokeSecurityGroupEgress");
    let call = || {
        let call = regional.ec2.revoke_security_group_egress().group_id(group);
        call.set_ip_permissions(Some(permissions.clone())).send()
    };
    match env.session.call_on_new(api, call).await {
        Ok(answer) => Ok(answer.unknown_ip_permissions().is_empty()),
        Err(error) if error.has_code("InvalidPermission.NotFound") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(port: i32, cidrs: &[&str]) -> IpPermission {
        let range = |cidr: &&str| IpRange::builder().cidr_ip(*cidr).build();
        let ranges = Some(cidrs.iter().map(range).collect());
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
        rule.set_ip_ranges(ranges).build()
    }

    #[test]
    fn only_what_is_too_much_is_taken_away_and_only_what_is_missing_let_out() {
        let cidrs = ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"].map(str::to_owned).to_vec();
        let wanted = Egress { port: 5432, cidrs };
        let everything = IpPermission::builder().ip_protocol("-1");
        let everything =
            everything.ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build()).build();
        let one_more = permission(5432, &["10.1.0.0/16", "192.0.2.0/24", "10.0.0.0/16"]);
        let other = permission(443, &["10.0.0.0/16"]);
        let all = [everything.clone(), one_more, other.clone()];
        let (left, excess) = parted(&all, Some(&wanted));
        assert_eq!(left, ["10.1.0.0/16", "10.0.0.0/16"]);
        assert_eq!(excess, [everything, permission(5432, &["192.0.2.0/24"]), other]);
        let missing = wanted.without(&left).unwrap();
        assert_eq!(missing.cidrs, ["10.2.0.0/16"]);
        assert_eq!(wanted.without(&wanted.cidrs), None);
        assert_eq!(parted(&[permission(5432, &["10.2.0.0/16"])], Some(&wanted)).1, []);
        assert_eq!(parted(&all, None), (Vec::new(), all.to_vec()));
    }
}
