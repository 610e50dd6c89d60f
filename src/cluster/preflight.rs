//! What AWS would refuse twenty minutes into an apply, asked beforehand. Looks, and changes nothing.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::VpcAttributeName;

use super::{
    concurrency,
    defaults::engine_defaults,
    mistake::Mistake,
    names::Name,
    parameters::merged,
    spec::{InstanceClass, Site, Spec},
    surroundings::Surroundings,
};

use crate::{
    aws::ApiError,
    components::{
        Env, Owner,
        route::tables_of,
        secret::kept_in,
        vpc_peering::{describe, from_ec2, is_active, joins},
    },
};

/// Looks for everything that does not fit: DNS in the VPCs, versions and classes on sale, parameters, and
/// the security groups that are named.
///
/// # Errors
/// A look failed.
pub async fn preflight(
    env: &Env,
    spec: &Spec,
    surroundings: &Surroundings,
) -> Result<Vec<Mistake>, ApiError> {
    let known = |argument: &str| !spec.unknown.contains(argument);
    let [primary, dr] = Site::ALL;
    let (names, sources, versions, parameters, peering, secrets) = futures::join!(
        async { futures::try_join!(dns(env, spec, primary), dns(env, spec, dr)) },
        async { futures::try_join!(groups(env, spec, primary), groups(env, spec, dr)) },
        offers(env, spec),
        async {
            if known("database.parameters") { parameters(env, spec).await } else { Ok(Vec::new()) }
        },
        peering(env, spec, surroundings),
        secrets(env, spec),
    );
    let (names, sources) = (names?, sources?);
    let mut found = names.0;
    found.extend(concurrency::mistake(spec, surroundings));
    for more in [names.1, sources.0, sources.1, versions?, parameters?, peering?, secrets?] {
        found.extend(more);
    }
    Ok(found)
}

/// Names of secrets are not free while AWS keeps what was deleted.
async fn secrets(env: &Env, spec: &Spec) -> Result<Vec<Mistake>, ApiError> {
    let regions = [spec.primary.region.as_str(), spec.dr.region.as_str()];
    let mut found = Vec::new();
    for name in [Name::MasterSecret, Name::Probe].map(|name| name.of(&spec.suffix)) {
        let Some(region) = kept_in(env, regions, &name).await? else { continue };
        found.push(Mistake::new(
            "environment_suffix",
            format!("AWS keeps the name {name} in {region} for a deleted secret"),
            format!(
                "Somebody scheduled a secret of that name for deletion, and it is not of this cluster. Unless somebody needs \
                 what it holds, have it deleted at once, `aws secretsmanager delete-secret --region {region} --secret-id \
                 {name} --force-delete-without-recovery`, wait a minute or two and plan again; or choose another suffix."
            ),
        ));
    }
    Ok(found)
}

/// A peering that is somebody else's must carry traffic between the two VPCs already.
async fn peering(
    env: &Env,
    spec: &Spec,
    surroundings: &Surroundings,
) -> Result<Vec<Mistake>, ApiError> {
    let Some(id) = &spec.peering_connection_id else { return Ok(Vec::new()) };
    let argument = "peering_connection_id";
    let wrong = |summary: String, detail: &str| Ok(vec![Mistake::new(argument, summary, detail)]);
    let Some(one) = describe(env, &spec.primary.region, id).await? else {
        let summary = format!("There is no peering {id} in {}", spec.primary.region);
        return wrong(summary, "Leave it out, and the cluster makes a peering of its own.");
    };
    if env.scope.owner(&from_ec2(one.tags())) == Owner::Ours {
        let summary = format!("{id} is the cluster's own peering");
        return wrong(
            summary,
            "Leave the argument out: named here, it would be taken for somebody else's.",
        );
    }
    if !joins(&one, &spec.primary.vpc_id, &spec.dr.vpc_id) {
        let summary = format!("{id} does not join {} and {}", spec.primary.vpc_id, spec.dr.vpc_id);
        return wrong(summary, "Name the peering of these two VPCs, or leave it out.");
    }
    if !is_active(&one) {
        let state = one.status().and_then(|status| status.message()).unwrap_or("unknown");
        return wrong(
            format!("{id} is not active"),
            &format!(
                "AWS says: {state}. One that waits is accepted in the region of its accepter."
            ),
        );
    }
    let mut missing = Vec::new();
    for site in Site::ALL {
        let own = spec.site(site);
        let tables = tables_of(env, &own.region, &own.vpc_id).await?;
        let network = surroundings.network(site);
        for table in tables {
            let name = table.route_table_id().unwrap_or_default();
            if !network.route_tables.contains(name) {
                continue;
            }
            for cidr in &surroundings.network(site.other()).cidrs {
                let leads = table.routes().iter().any(|route| {
                    let block = route.destination_cidr_block().and_then(|text| text.parse().ok());
                    let covers = block.is_some_and(|block: ipnet::Ipv4Net| block.contains(cidr));
                    covers && route.vpc_peering_connection_id() == Some(id)
                });
                if !leads {
                    missing.push(format!("{name} in {} to {cidr}", own.region));
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    wrong(
        format!("Routes over {id} are missing"),
        &format!("Add them where the peering is managed: {}.", missing.join(", ")),
    )
}

/// A private zone is seen only from VPCs with both (aws-facts 12b).
async fn dns(env: &Env, spec: &Spec, site: Site) -> Result<Vec<Mistake>, ApiError> {
    let wanted = spec.site(site);
    let regional = env.region(&wanted.region);
    let ask = |name: VpcAttributeName| {
        let regional = regional.clone();
        async move {
            let api = regional.api("ec2", "DescribeVpcAttribute");
            let call = || {
                let call = regional.ec2.describe_vpc_attribute().vpc_id(&wanted.vpc_id);
                call.attribute(name.clone()).send()
            };
            env.session.call(api, call).await
        }
    };
    let (support, hostnames) = futures::try_join!(
        ask(VpcAttributeName::EnableDnsSupport),
        ask(VpcAttributeName::EnableDnsHostnames)
    )?;
    let is_on = |value: Option<&aws_sdk_ec2::types::AttributeBooleanValue>| {
        value.and_then(aws_sdk_ec2::types::AttributeBooleanValue::value).unwrap_or(false)
    };
    let mut missing = Vec::new();
    if !is_on(support.enable_dns_support()) {
        missing.push("DNS support");
    }
    if !is_on(hostnames.enable_dns_hostnames()) {
        missing.push("DNS hostnames");
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Mistake::new(
        &format!("{}.vpc_id", site.argument()),
        format!("{} in {} has no {}", wanted.vpc_id, wanted.region, missing.join(" and no ")),
        "Names of databases, and of the private zone that leads to the writer, do not resolve without. \
         Switch them on for the VPC (enableDnsSupport, enableDnsHostnames).",
    )])
}

async fn groups(env: &Env, spec: &Spec, site: Site) -> Result<Vec<Mistake>, ApiError> {
    let wanted = spec.site(site);
    let argument = format!("{}.allowed_security_group_ids", site.argument());
    if wanted.allowed_security_group_ids.is_empty() || spec.unknown.contains(&argument) {
        return Ok(Vec::new());
    }
    let regional = env.region(&wanted.region);
    let filter = aws_sdk_ec2::types::Filter::builder().name("group-id");
    let ids: Vec<String> = wanted.allowed_security_group_ids.iter().cloned().collect();
    let filter = filter.set_values(Some(ids)).build();
    let api = regional.api("ec2", "DescribeSecurityGroups");
    let call = || regional.ec2.describe_security_groups().filters(filter.clone()).send();
    let answer = env.session.call(api, call).await?;
    let there: BTreeSet<&str> =
        answer.security_groups().iter().filter_map(|one| one.group_id()).collect();
    let missing: Vec<_> = wanted
        .allowed_security_group_ids
        .iter()
        .filter(|id| !there.contains(id.as_str()))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Mistake::new(
        &argument,
        format!("{} has no security group {}", wanted.region, missing.join(", ")),
        "A security group can be named in its own region only, peering or not. Members of groups of the \
         other region connect by their addresses: name those in allowed_cidr_blocks.",
    )])
}

async fn offers(env: &Env, spec: &Spec) -> Result<Vec<Mistake>, ApiError> {
    let argument = "database.engine_version";
    if spec.unknown.contains(argument) {
        return Ok(Vec::new());
    }
    let regional = env.region(&spec.primary.region);
    let given = &spec.database.engine_version;
    let api = regional.api("rds", "DescribeDBEngineVersions");
    let call = || {
        let call = regional.rds.describe_db_engine_versions().engine("postgres");
        // A major version alone means the one that RDS takes for it.
        call.engine_version(given).default_only(!given.contains('.')).send()
    };
    let answer = env.session.call(api, call).await?;
    let resolved = answer.db_engine_versions().first().and_then(|one| one.engine_version());
    let Some(resolved) = resolved else {
        return Ok(vec![Mistake::new(
            argument,
            format!("RDS has no PostgreSQL {given} in {}", spec.primary.region),
            "`15` takes the version that RDS prefers; `aws rds describe-db-engine-versions --engine postgres` \
             lists all of them.",
        )]);
    };
    let database = &spec.database;
    let supported: Vec<&str> = answer.db_engine_versions()[0]
        .supported_ca_certificate_identifiers()
        .iter()
        .map(String::as_str)
        .collect();
    let certificate = database.ca_certificate_identifier.as_str();
    let unknown = spec.unknown.contains("database.ca_certificate_identifier");
    let certificate = (!unknown && !supported.is_empty() && !supported.contains(&certificate))
        .then(|| {
            Mistake::new(
                "database.ca_certificate_identifier",
                format!("No server of PostgreSQL {resolved} has a certificate of {certificate}"),
                format!("RDS offers: {}.", supported.join(", ")),
            )
        });
    let wanted = [
        (Site::Primary, &database.instance_class, "database.instance_class"),
        (Site::Dr, &database.dr_instance_class, "database.dr_instance_class"),
    ];
    let [one, other] =
        wanted.map(|(site, class, argument)| on_sale(env, spec, site, class, argument, resolved));
    let (one, other) = futures::try_join!(one, other)?;
    Ok(one.into_iter().chain(other).chain(certificate).collect())
}

async fn on_sale(
    env: &Env,
    spec: &Spec,
    site: Site,
    class: &InstanceClass,
    argument: &str,
    version: &str,
) -> Result<Option<Mistake>, ApiError> {
    if spec.unknown.contains(argument) {
        return Ok(None);
    }
    let region = &spec.site(site).region;
    let regional = env.region(region);
    let api = regional.api("rds", "DescribeOrderableDBInstanceOptions");
    let call = || {
        let call = regional.rds.describe_orderable_db_instance_options().engine("postgres");
        call.engine_version(version).db_instance_class(class.as_str()).max_records(20).send()
    };
    let answer = env.session.call(api, call).await?;
    if !answer.orderable_db_instance_options().is_empty() {
        return Ok(None);
    }
    Ok(Some(Mistake::new(
        argument,
        format!("{} is not on sale in {region} for PostgreSQL {version}", class.as_str()),
        "Choose a class that both regions sell: `aws rds describe-orderable-db-instance-options --engine \
         postgres` lists them.",
    )))
}

/// What RDS itself says about the parameters: the user's, and ours that nobody overrides.
async fn parameters(env: &Env, spec: &Spec) -> Result<Vec<Mistake>, ApiError> {
    let known = engine_defaults(env, spec).await?;
    let mut found = Vec::new();
    let storage = spec.database.allocated_storage;
    for (name, value) in &merged(&spec.database.parameters, storage) {
        let argument = format!("database.parameters[{name}]");
        let Some(one) = known.iter().find(|one| one.parameter_name() == Some(name)) else {
            found.push(Mistake::new(
                &argument,
                format!("There is no parameter {name} in {}", super::parameters::FAMILY),
                "Check its spelling or, if the cluster sets it by itself, set it to \"default\"; `aws rds describe-engine-default-parameters \
                 --db-parameter-group-family postgres15` lists all of them.",
            ));
            continue;
        };
        if one.is_modifiable() == Some(false) {
            let text =
                "It is RDS's own: leave it out or, if the cluster sets it, set it to \"default\".";
            found.push(Mistake::new(&argument, format!("RDS lets nobody set {name}"), text));
        } else if let Some(allowed) = one.allowed_values().filter(|one| !allows(one, value)) {
            found.push(Mistake::new(
                &argument,
                format!("{name} cannot be {value}"),
                format!("RDS allows {allowed}."),
            ));
        }
    }
    Ok(found)
}

/// Whether a value is in RDS's list or range. What cannot be judged here passes: RDS judges in the end.
fn allows(allowed: &str, value: &str) -> bool {
    if allowed.is_empty() || value.contains(['{', '(']) {
        return true;
    }
    let range = |text: &str| {
        let cut = text.char_indices().skip(1).find(|(_, one)| *one == '-')?.0;
        let low = text[..cut].parse::<f64>().ok()?;
        Some(low..=text[cut + 1..].parse::<f64>().ok()?)
    };
    let parts: Vec<&str> = allowed.split(',').map(str::trim).collect();
    parts.iter().any(|part| {
        *part == value
            || match (range(part), value.parse::<f64>()) {
                (Some(range), Ok(number)) => range.contains(&number),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::allows;

    #[test]
    fn ranges_and_lists_of_rds_are_read() {
        assert!(allows("6-262143", "500") && !allows("6-262143", "5"));
        assert!(allows("-1-2147483647", "-1") && !allows("-1-2147483647", "-2"));
        assert!(allows("0,1", "1") && !allows("0,1", "on"));
        assert!(allows("local,on,off,remote_write", "off") && !allows("local,on", "maybe"));
        assert!(allows("0-1.79769e+308", "1.1") && allows("", "anything"));
        assert!(allows("6-262143", "{DBInstanceClassMemory/1}"));
    }
}
