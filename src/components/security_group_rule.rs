//! Who may connect to the database: one rule per source, in the database's own security group.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    IpPermission, IpRange, Ipv6Range, PrefixListId, SecurityGroup as Ec2Group, UserIdGroupPair,
};

use super::{
    Address, Env, Failure, Field, ID, Observation, Outputs, Owner, Primitive, SecurityGroup, Text,
    Wanted, security_group::groups, vpc_peering::from_ec2,
};
use crate::aws::ApiError;

/// One source that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupRule {
    /// The group's name.
    pub group_name: String,
    /// Its VPC.
    pub vpc: String,
    /// Who may.
    pub source: Source,
    /// The database's port.
    pub port: u16,
    /// Why it may.
    pub description: String,
    /// The argument that names the source.
    pub argument: &'static str,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A block of addresses, or the id of a security group of the same region.
    Given(String),
    /// The members of a group of ours of this name, in the same VPC.
    Ours(String, Address),
}

impl SecurityGroupRule {
    /// The kind's name.
    pub const KIND: &str = "security-group-rule";

    /// The address of a source's rule.
    pub fn address(region: &str, source: &str) -> Address {
        Address::with(region, Self::KIND, source)
    }
}

/// A rule as AWS has it: one source, where AWS may list several in one permission.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    source: String,
    protocol: String,
    from: i32,
    to: i32,
}

impl Seen {
    fn ports(&self) -> String {
        match (&*self.protocol, self.from == self.to) {
            ("tcp", true) => self.from.to_string(),
            ("tcp", false) => format!("{}-{}", self.from, self.to),
            (protocol, _) => format!("{protocol}:{}-{}", self.from, self.to),
        }
    }

    /// The other way round, for taking away what `ports` named.
    fn parse(id: &str) -> Option<Self> {
        let (source, ports) = id.split_once(' ')?;
        let (protocol, range) = ports.split_once(':').unwrap_or(("tcp", ports));
        let whole = range.parse().map(|port: i32| (port, port)).ok();
        // Ports may be negative: -1 stands for all.
        let cut = range.char_indices().skip(1).find(|(_, one)| *one == '-').map(|(at, _)| at);
        let halves =
            cut.and_then(|at| Some((range[..at].parse().ok()?, range[at + 1..].parse().ok()?)));
        let (from, to) = whole.or(halves)?;
        Some(Self { source: source.to_owned(), protocol: protocol.to_owned(), from, to })
    }

    fn permission(&self, description: Option<&str>) -> IpPermission {
        let base = IpPermission::builder().ip_protocol(&self.protocol);
        let base =
            if self.protocol == "-1" { base } else { base.from_port(self.from).to_port(self.to) };
        let description = description.map(str::to_owned);
        if self.source.starts_with("sg-") {
            let pair =
                UserIdGroupPair::builder().group_id(&self.source).set_description(description);
            base.user_id_group_pairs(pair.build()).build()
        } else if self.source.starts_with("pl-") {
            let list = PrefixListId::builder().prefix_list_id(&self.source);
            base.prefix_list_ids(list.build()).build()
        } else if self.source.contains(':') {
            let range = Ipv6Range::builder().cidr_ipv6(&self.source).set_description(description);
            base.ipv6_ranges(range.build()).build()
        } else {
            let range = IpRange::builder().cidr_ip(&self.source).set_description(description);
            base.ip_ranges(range.build()).build()
        }
    }
}

fn seen(permissions: &[IpPermission]) -> Vec<Seen> {
    let mut all = Vec::new();
    for one in permissions {
        let blocks = one.ip_ranges().iter().filter_map(|range| range.cidr_ip());
        let pairs = one.user_id_group_pairs().iter().filter_map(|pair| pair.group_id());
        let wide = one.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
        let lists = one.prefix_list_ids().iter().filter_map(|list| list.prefix_list_id());
        for source in blocks.chain(pairs).chain(wide).chain(lists) {
            all.push(Seen {
                source: source.to_owned(),
                protocol: one.ip_protocol().unwrap_or_default().to_owned(),
                from: one.from_port().unwrap_or(-1),
                to: one.to_port().unwrap_or(-1),
            });
        }
    }
    all
}

impl Primitive for SecurityGroupRule {
    const KIND: &'static str = SecurityGroupRule::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("port", self.port.to_string()).from("database.port")]
    }

    /// Every rule of our group is ours, and what nobody wants is found as well: somebody opened a door. Of a group that is
    /// somebody else's, ours is what lets in a group of ours, which could not be removed.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let Some(any) = wanted.first() else { return Ok(Vec::new()) };
        let mut names = BTreeSet::from([any.settings.group_name.clone()]);
        for one in wanted {
            if let Source::Ours(name, _) = &one.settings.source {
                names.insert(name.clone());
            }
        }
        let all = groups(env, region, names).await?;
        let named = |name: &String| {
            let vpc = Some(any.settings.vpc.as_str());
            all.iter().find(|one| one.group_name() == Some(name) && one.vpc_id() == vpc)
        };
        let Some(group) = named(&any.settings.group_name) else { return Ok(Vec::new()) };
        let is_ours = |group: &Ec2Group| env.scope.owner(&from_ec2(group.tags())) == Owner::Ours;
        let all_ours = is_ours(group);
        let id = group.group_id().unwrap_or_default();
        let mut left = seen(group.ip_permissions());
        let mut found = Vec::new();
        for one in wanted {
            let settings = &one.settings;
            let source = match &settings.source {
                Source::Given(source) => Some(source.clone()).filter(|_| all_ours),
                Source::Ours(name, _) => {
                    let source = named(name).filter(|one| all_ours || is_ours(one));
                    source.and_then(|one| one.group_id()).map(str::to_owned)
                }
            };
            let exact = |rule: &Seen| rule.ports() == settings.port.to_string();
            let of_source = |rule: &&Seen| Some(&rule.source) == source.as_ref();
            let best = left.iter().filter(of_source).find(|rule| exact(rule));
            let Some(rule) = best.or_else(|| left.iter().find(of_source)).cloned() else {
                continue;
            };
            left.retain(|other| *other != rule);
            found.push(observation(one.address.clone(), region, &rule, id));
        }
        for rule in left.iter().filter(|_| all_ours) {
            let qualifier = format!("{}/{}", rule.source, rule.ports());
            let address = Address::with(region, Self::KIND, &qualifier);
            found.push(observation(address, region, rule, id));
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let group = env.resolve(&Text::Ref(SecurityGroup::address(&wanted.region), ID))?;
        let port = i32::from(settings.port);
        let source = match &settings.source {
            Source::Given(source) => source.clone(),
            Source::Ours(_, address) => env.resolve(&Text::Ref(address.clone(), ID))?,
        };
        let protocol = "tcp".to_owned();
        let rule = Seen { source, protocol, from: port, to: port };
        let permission = rule.permission(Some(&settings.description));
        let regional = env.region(&wanted.region);
        let api = regional.api("ec2", "AuthorizeSecurityGroupIngress");
        let call = || {
            let call = regional.ec2.authorize_security_group_ingress().group_id(&group);
            call.ip_permissions(permission.clone()).send()
        };
        match env.session.call_on_new(api, call).await {
            Err(error) if !error.has_code("InvalidPermission.Duplicate") => Err(error.into()),
            _ => Ok(Outputs::new()),
        }
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if !differing.is_empty() {
            Self::create(env, wanted).await?;
            Self::delete(env, found).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (group, rule) = found.id.split_once(' ').unwrap_or_default();
        let Some(rule) = Seen::parse(rule) else {
            return Err(Failure::Obstacle(format!(
                "the rule {} of {group} cannot be read",
                found.id
            )));
        };
        let permission = rule.permission(None);
        let regional = env.region(&found.region);
        let api = regional.api("ec2", "RevokeSecurityGroupIngress");
        let call = || {
            let call = regional.ec2.revoke_security_group_ingress().group_id(group);
            call.ip_permissions(permission.clone()).send()
        };
        Ok(env.session.remove(api, call).await?)
    }
}

fn observation(address: Address, region: &str, rule: &Seen, group: &str) -> Observation {
    let id = format!("{group} {} {}", rule.source, rule.ports());
    let seen = Observation::new(address, region, id).with("port", rule.ports());
    seen.output(ID, format!("{group} {}", rule.source))
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_rule_is_found_again_by_its_id() {
        let rule = |protocol: &str, from, to| Seen {
            source: "10.0.0.0/8".into(),
            protocol: protocol.into(),
            from,
            to,
        };
        for one in [
            rule("tcp", 5432, 5432),
            rule("tcp", 1, 65535),
            rule("-1", -1, -1),
            rule("udp", 53, 53),
        ] {
            assert_eq!(Seen::parse(&format!("{} {}", one.source, one.ports())), Some(one));
        }
    }
}
