//! The complete set of components that a cluster consists of.

mod agent;
mod copies;
mod dashboard;
pub mod dns;
mod drill;
mod runbooks;
mod watch;

pub use agent::{ARGUMENTS as AGENT_ARGUMENTS, LEDGER};

use std::collections::{BTreeMap, BTreeSet};

use super::{
    names::{Name, final_snapshot, function_log, log_group},
    parameters::{FAMILY, dynamic_names, merged, static_names},
    policies,
    spec::{Site, Spec},
    surroundings::Surroundings,
};
use crate::components::{
    ARN, Address, CLUSTER_TAG, Component, ID, Primitive, SUFFIX_TAG, Scope, Tags, Text, Wanted,
    db_backup::DbBackup,
    db_instance::{Arguments, DbInstance, Origin},
    db_parameter_group::DbParameterGroup,
    db_subnet_group::DbSubnetGroup,
    iam_role::IamRole,
    kms_alias::KmsAlias,
    kms_key::KmsKey,
    log_group::LogGroup,
    route::Route,
    secret::Secret,
    security_group::SecurityGroup,
    security_group_rule::{SecurityGroupRule, Source},
    vpc_peering::VpcPeering,
    vpc_peering_accepter::VpcPeeringAccepter,
    vpc_peering_options::VpcPeeringOptions,
};

/// How long logs are kept, in days: what it takes to look back over a month's end.
const LOG_RETENTION: i32 = 30;
/// The logs that RDS writes for PostgreSQL.
const LOGS: [&str; 2] = ["postgresql", "upgrade"];
/// What enhanced monitoring may do, as AWS defines it.
const MONITORING_POLICY: &str = "service-role/AmazonRDSEnhancedMonitoringRole";
/// The purpose of the role of enhanced monitoring, in its address.
const MONITORING: &str = "monitoring";
/// The purpose of the secret with the master password, in its address.
pub const MASTER: &str = "master";

/// Everything that is wanted, by address; and what would be wanted with other arguments, so that it is found
/// and removed when it no longer is.
#[derive(Clone, Debug, Default)]
pub struct Blueprint {
    wanted: BTreeMap<Address, Component>,
    dormant: BTreeMap<Address, Component>,
    regions: Vec<String>,
}

impl Blueprint {
    /// What a spec means in its surroundings. Pure: the same input gives the same blueprint.
    pub fn new(spec: &Spec, surroundings: &Surroundings, scope: &Scope) -> Self {
        let mut plan =
            Plan { spec, surroundings, scope, all: BTreeMap::new(), dormant: BTreeMap::new() };
        plan.network();
        if spec.peering_connection_id.is_some() {
            plan.dormant.append(&mut plan.all);
        }
        for site in Site::ALL {
            plan.keys(site);
            plan.groups(site);
        }
        plan.monitoring_role();
        plan.master_secret();
        for site in Site::ALL {
            plan.instance(site);
        }
        plan.backups();
        if !spec.backup.cross_region {
            plan.rest(&DbBackup::address(&spec.dr.region));
        }
        for site in Site::ALL {
            plan.notifications(site);
            plan.alarms(site);
        }
        plan.agent();
        plan.copies();
        plan.drill();
        plan.dns();
        for site in Site::ALL {
            plan.runbooks(site);
            plan.dashboard(site);
        }
        let regions = Site::ALL.map(|site| spec.site(site).region.clone()).to_vec();
        Self { wanted: plan.all, dormant: plan.dormant, regions }
    }

    /// What is wanted at an address.
    pub fn get(&self, address: &Address) -> Option<&Component> {
        self.wanted.get(address)
    }

    /// Everything that is wanted, by address.
    pub fn all(&self) -> impl Iterator<Item = &Component> {
        self.wanted.values()
    }

    /// Everything that is looked for: what is wanted, and what is not any more.
    pub fn looked_for(&self) -> impl Iterator<Item = &Component> {
        self.wanted.values().chain(self.dormant.values())
    }

    /// The regions of the two sites.
    pub fn regions(&self) -> &[String] {
        &self.regions
    }
}

/// The name of a site's instance.
pub fn instance_name(spec: &Spec, site: Site) -> String {
    match site {
        Site::Primary => Name::PrimaryInstance.of(&spec.suffix),
        Site::Dr => Name::ReplicaInstance.of(&spec.suffix),
    }
}

struct Plan<'a> {
    spec: &'a Spec,
    surroundings: &'a Surroundings,
    scope: &'a Scope,
    all: BTreeMap<Address, Component>,
    dormant: BTreeMap<Address, Component>,
}

impl Plan<'_> {
    fn region(&self, site: Site) -> &str {
        &self.spec.site(site).region
    }

    /// The names of the parameters that take effect at a restart only.
    fn static_names(&self) -> BTreeSet<String> {
        static_names().into_iter().chain(self.surroundings.statics.iter().cloned()).collect()
    }

    fn tags(&self, name: &str) -> Tags {
        let mut tags = self.spec.tags.clone();
        tags.insert(SUFFIX_TAG.into(), self.spec.suffix.to_string());
        if let Some(id) = &self.scope.cluster_id {
            tags.insert(CLUSTER_TAG.into(), id.clone());
        }
        tags.insert("Name".into(), name.to_owned());
        tags
    }

    fn add<P: Primitive>(
        &mut self,
        address: Address,
        region: &str,
        name: String,
        tags: Tags,
        settings: P,
        after: &[Address],
    ) {
        let wanted =
            Wanted { address: address.clone(), region: region.to_owned(), name, tags, settings };
        self.all.insert(address, Component::new(wanted, after));
    }

    fn add_tagged<P: Primitive>(
        &mut self,
        address: Address,
        region: &str,
        name: String,
        settings: P,
        after: &[Address],
    ) {
        let tags = self.tags(name.strip_prefix("alias/").unwrap_or(&name));
        self.add(address, region, name, tags, settings, after);
    }

    /// Something is not wanted, and is looked for all the same.
    fn rest(&mut self, address: &Address) {
        self.dormant.extend(self.all.remove_entry(address));
    }

    /// The site whose instance is meant to write: what watches the writer or the replica is placed by it.
    /// After a failover the placement stays as it was until the sites' roles are decided anew.
    fn writer() -> Site {
        Site::Primary
    }

    fn network(&mut self) {
        let spec = self.spec;
        let (primary, dr) = (&spec.primary, &spec.dr);
        let (peering, accepter) =
            (VpcPeering::address(&primary.region), VpcPeeringAccepter::address(&dr.region));
        let name = Name::Peering.of(&spec.suffix);
        let settings = VpcPeering {
            vpc: primary.vpc_id.clone(),
            peer_vpc: dr.vpc_id.clone(),
            peer_region: dr.region.clone(),
        };
        self.add_tagged(peering.clone(), &primary.region, name.clone(), settings, &[]);
        let id = Text::Ref(peering, ID);
        let settings = VpcPeeringAccepter {
            peering: id.clone(),
            vpc: dr.vpc_id.clone(),
            peer_vpc: primary.vpc_id.clone(),
        };
        self.add_tagged(accepter.clone(), &dr.region, name.clone(), settings, &[]);
        for site in Site::ALL {
            let (own, other) = (spec.site(site), spec.site(site.other()));
            let settings = VpcPeeringOptions {
                peering: id.clone(),
                is_requester: site == Site::Primary,
                vpc: own.vpc_id.clone(),
                peer_vpc: other.vpc_id.clone(),
            };
            let after = [accepter.clone()];
            let address = VpcPeeringOptions::address(&own.region);
            self.add(address, &own.region, name.clone(), Tags::new(), settings, &after);
            let tables = self.surroundings.network(site).route_tables.clone();
            for table in tables {
                for cidr in self.surroundings.network(site.other()).cidrs.clone() {
                    let settings = Route {
                        vpc: own.vpc_id.clone(),
                        table: table.clone(),
                        cidr: cidr.to_string(),
                        peering: id.clone(),
                    };
                    let address = Route::address(&own.region, &table, &cidr.to_string());
                    let name = format!("{table} to {cidr}");
                    self.add(address, &own.region, name, Tags::new(), settings, &after);
                }
            }
        }
    }

    fn keys(&mut self, site: Site) {
        let region = self.region(site).to_owned();
        let instance = instance_name(self.spec, site);
        let mut groups = LOGS.map(|log| log_group(&instance, log)).to_vec();
        groups.extend(agent::FUNCTIONS.map(|one| function_log(&one.of(&self.spec.suffix))));
        self.key(&region, &groups);
        for log in LOGS {
            let settings = LogGroup {
                key: Text::Ref(KmsKey::address(&region), ARN),
                retention_days: LOG_RETENTION,
            };
            let address = LogGroup::address(&region, log);
            self.add_tagged(address, &region, log_group(&instance, log), settings, &[]);
        }
    }

    /// The key of a region, which CloudWatch Logs may use for these groups.
    fn key(&mut self, region: &str, groups: &[String]) {
        let alias = Name::KeyAlias.of(&self.spec.suffix);
        let settings = KmsKey {
            alias: alias.clone(),
            description: format!("PostgreSQL disaster recovery cluster {}", self.spec.suffix),
            policy: policies::key(self.surroundings, region, groups),
        };
        let name = alias.trim_start_matches("alias/").to_owned();
        self.add_tagged(KmsKey::address(region), region, name, settings, &[]);
        let settings = KmsAlias { target: Text::Ref(KmsKey::address(region), ID) };
        self.add(KmsAlias::address(region), region, alias, Tags::new(), settings, &[]);
    }

    fn groups(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let own = spec.site(site);
        let name = Name::SecurityGroup.of(&spec.suffix);
        let settings = SecurityGroup {
            vpc: own.vpc_id.clone(),
            description: format!("Database of the disaster recovery cluster {}", spec.suffix),
            egress: None,
        };
        let group = SecurityGroup::address(&region);
        self.add_tagged(group.clone(), &region, name.clone(), settings, &[]);
        for (source, why, argument) in self.sources(site) {
            let settings = SecurityGroupRule {
                group_name: name.clone(),
                vpc: own.vpc_id.clone(),
                source: Source::Given(source.clone()),
                port: spec.database.port,
                description: why.to_owned(),
                argument,
            };
            let address = SecurityGroupRule::address(&region, &source);
            let name = format!("from {source}");
            let after = std::slice::from_ref(&group);
            self.add(address, &region, name, Tags::new(), settings, after);
        }
        let subnets = &self.surroundings.network(site).subnets;
        let settings = DbSubnetGroup {
            subnets: subnets.iter().map(|one| one.id.clone()).collect(),
            description: format!("Subnets of the disaster recovery cluster {}", spec.suffix),
            argument: match site {
                Site::Primary => "primary.subnet_ids",
                Site::Dr => "dr.subnet_ids",
            },
        };
        let name = Name::SubnetGroup.of(&spec.suffix);
        self.add_tagged(DbSubnetGroup::address(&region), &region, name, settings, &[]);
        let settings = DbParameterGroup {
            family: FAMILY.to_owned(),
            parameters: merged(&spec.database.parameters, spec.database.allocated_storage),
            statics: self.static_names(),
            dynamics: dynamic_names(),
            description: format!("Tuned for replication: cluster {}", spec.suffix),
        };
        let name = Name::ParameterGroup.of(&spec.suffix);
        self.add_tagged(DbParameterGroup::address(&region), &region, name, settings, &[]);
    }

    /// Who may connect: whom the user names, and the other site's network, over the peering: there is the
    /// application that finds its database in this region after a failover.
    fn sources(&self, site: Site) -> Vec<(String, &'static str, &'static str)> {
        let own = self.spec.site(site);
        let (groups, blocks) = match site {
            Site::Primary => ("primary.allowed_security_group_ids", "primary.allowed_cidr_blocks"),
            Site::Dr => ("dr.allowed_security_group_ids", "dr.allowed_cidr_blocks"),
        };
        let mut all: BTreeMap<String, (&str, &'static str)> = BTreeMap::new();
        for cidr in &self.surroundings.network(site.other()).cidrs {
            all.insert(cidr.to_string(), ("The other region, over the peering", ""));
        }
        for group in &own.allowed_security_group_ids {
            all.insert(group.clone(), ("Named in allowed_security_group_ids", groups));
        }
        for block in &own.allowed_cidr_blocks {
            all.insert(block.to_string(), ("Named in allowed_cidr_blocks", blocks));
        }
        all.into_iter().map(|(source, (why, argument))| (source, why, argument)).collect()
    }

    fn monitoring_role(&mut self) {
        let (partition, account) = (&self.surroundings.partition, &self.surroundings.account);
        let arns: Vec<String> = Site::ALL
            .iter()
            .map(|site| {
                let (region, name) = (self.region(*site), instance_name(self.spec, *site));
                format!("arn:{partition}:rds:{region}:{account}:db:{name}")
            })
            .collect();
        let settings = IamRole {
            trust: policies::monitoring_trust(self.surroundings, &arns),
            policies: BTreeSet::from([format!(
                "arn:{partition}:iam::aws:policy/{MONITORING_POLICY}"
            )]),
            permissions: None,
            description: format!("Enhanced monitoring of the cluster {}", self.spec.suffix),
        };
        let (region, name) =
            (self.region(Site::Primary).to_owned(), Name::MonitoringRole.of(&self.spec.suffix));
        self.add_tagged(IamRole::address(MONITORING), &region, name, settings, &[]);
    }

    fn master_secret(&mut self) {
        let spec = self.spec;
        let (primary, dr) = (&spec.primary.region, &spec.dr.region);
        let settings = Secret {
            key: Text::Ref(KmsKey::address(primary), ARN),
            replica_region: dr.clone(),
            replica_key: Text::Ref(KmsKey::address(dr), ARN),
            username: spec.database.username.clone(),
            db_name: spec.database.db_name.clone(),
            description: format!("Master password of the cluster {}", spec.suffix),
        };
        let name = Name::MasterSecret.of(&spec.suffix);
        self.add_tagged(Secret::address(primary, MASTER), primary, name, settings, &[]);
    }

    fn instance(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let database = &spec.database;
        let writes = site == Site::Primary;
        let origin = if writes {
            Origin::Writer {
                db_name: database.db_name.clone(),
                username: database.username.clone(),
                secret: Text::Ref(Secret::address(&region, MASTER), ARN),
            }
        } else {
            Origin::Replica { source: Text::Ref(DbInstance::address(&spec.primary.region), ARN) }
        };
        let arguments = if writes {
            Arguments { class: "database.instance_class", multi_az: "" }
        } else {
            Arguments { class: "database.dr_instance_class", multi_az: "database.dr_multi_az" }
        };
        let parameters = merged(&database.parameters, database.allocated_storage);
        let static_names = self.static_names();
        let class = if writes { &database.instance_class } else { &database.dr_instance_class };
        let window = if writes { spec.backup.window } else { spec.backup.dr_window() };
        let settings = DbInstance {
            origin,
            arguments,
            class: class.as_str().to_owned(),
            engine_version: database.engine_version.clone(),
            allocated_storage: database.allocated_storage,
            max_allocated_storage: database.max_allocated_storage,
            storage_type: database.storage_type.clone(),
            iops: database.iops,
            multi_az: writes || database.dr_multi_az,
            port: database.port,
            key: Text::Ref(KmsKey::address(&region), ARN),
            subnet_group: Name::SubnetGroup.of(&spec.suffix),
            security_group: Text::Ref(SecurityGroup::address(&region), ID),
            parameter_group: Name::ParameterGroup.of(&spec.suffix),
            static_parameters: parameters
                .into_iter()
                .filter(|(name, _)| static_names.contains(name))
                .collect(),
            static_names,
            retention_days: spec.backup.retention_days,
            backup_window: window.to_string(),
            maintenance_window: database.maintenance_window.as_str().to_owned(),
            monitoring_interval: database.monitoring_interval,
            monitoring_role: Text::Ref(IamRole::address(MONITORING), ARN),
            performance_insights: database.performance_insights,
            deletion_protection: spec.deletion.protection,
            final_snapshot: spec.deletion.final_snapshot.then(|| {
                final_snapshot(&spec.suffix, self.scope.cluster_id.as_deref().unwrap_or("0"))
            }),
            ca_certificate: database.ca_certificate_identifier.clone(),
            apply_immediately: database.apply_immediately,
        };
        let mut after = vec![
            DbSubnetGroup::address(&region),
            DbParameterGroup::address(&region),
            KmsAlias::address(&region),
        ];
        after.extend(LOGS.map(|log| LogGroup::address(&region, log)));
        let address = DbInstance::address(&region);
        self.add_tagged(address, &region, instance_name(spec, site), settings, &after);
    }

    fn backups(&mut self) {
        let spec = self.spec;
        let (primary, dr) = (&spec.primary.region, &spec.dr.region);
        let name = instance_name(spec, Site::Primary);
        let settings = DbBackup {
            source: Text::Ref(DbInstance::address(primary), ARN),
            source_name: name.clone(),
            source_region: primary.clone(),
            key: Text::Ref(KmsKey::address(dr), ARN),
            retention_days: spec.backup.retention_days,
        };
        self.add_tagged(DbBackup::address(dr), dr, name, settings, &[]);
    }
}
