//! What has to change so that AWS holds what the blueprint says, and in which order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Blueprint, Inventory, Role, Roles, Site, Spec,
    parameters::{self, limits_rise, merged},
    spec::InstanceClass,
};
use crate::components::{
    Address, Component, Difference, Effect, HostedZone, Observation, Owner, Readiness, SOURCE,
    Text, database_role::DatabaseRole, db_backup::DbBackup,
    db_event_subscription::DbEventSubscription, db_instance::DbInstance,
    db_parameter_group::DbParameterGroup, dns_record::DnsRecord, drill_instance::DrillInstance,
    health_check::HealthCheck, hosted_zone_association::HostedZoneAssociation, is_byproduct, kinds,
    lambda_function::LambdaFunction, security_group_rule::SecurityGroupRule,
};

/// What is done to a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is made.
    Create,
    /// These settings of it are changed.
    Update(Vec<Difference>),
    /// It is removed and made anew because of these settings.
    Replace(Vec<Difference>),
    /// It is as it should be, and not ready yet.
    Wait(String),
    /// It is removed.
    Delete,
    /// It must not be touched, and cannot stay as it is; the text says why and what to do.
    Refuse(String),
}

/// A change of one component.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub address: Address,
    /// What is done.
    pub verb: Verb,
    /// What is wanted; absent for a removal.
    pub component: Option<Component>,
    /// What there is; absent for a creation.
    pub found: Option<Observation>,
}

/// What has to change, by address.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    all: BTreeMap<Address, Change>,
    after: BTreeMap<Address, BTreeSet<Address>>,
}

/// Kinds whose members hold or follow the data, those that lead clients to it, and the functions, which name
/// both databases. After a failover none of them is planned.
const HELD_KINDS: [&str; 8] = [
    DbInstance::KIND,
    DatabaseRole::KIND,
    LambdaFunction::KIND,
    DbBackup::KIND,
    HealthCheck::KIND,
    DnsRecord::KIND,
    HostedZone::KIND,
    HostedZoneAssociation::KIND,
];

/// Whether a component stays as it is after a failover. Rules of the lost writer are among them: whoever
/// closed it must not be undone by an apply. So is what tells of its instance, which may be gone for good.
pub fn is_held(spec: &Spec, roles: Roles, address: &Address) -> bool {
    let (kind, is_lost) = (address.kind(), address.place() == spec.primary.region);
    let closed = is_lost && kind == SecurityGroupRule::KIND;
    let tells = is_lost && kind == DbEventSubscription::KIND;
    let stays = closed || tells || HELD_KINDS.contains(&kind);
    (roles.are_moving() && stays) || (roles.is_closed && closed)
}

impl Changes {
    /// Holds what is wanted against what there is.
    pub fn new(spec: &Spec, blueprint: &Blueprint, inventory: &Inventory, roles: Roles) -> Self {
        let mut all = BTreeMap::new();
        let mut replaced = BTreeSet::new();
        // What refers to something that is made anew differs as well; each round may find more of them.
        loop {
            let resolve = |text: &Text| {
                let is_replaced =
                    text.refs().iter().any(|(address, _)| replaced.contains(*address));
                if is_replaced { None } else { inventory.resolve(text) }
            };
            for component in blueprint.all() {
                if is_held(spec, roles, &component.address) {
                    continue;
                }
                let found = inventory.get(&component.address);
                if let Some(verb) = verb(component, found, &resolve, &spec.unknown) {
                    let change = Change {
                        address: component.address.clone(),
                        verb,
                        component: Some(component.clone()),
                        found: found.cloned(),
                    };
                    all.insert(component.address.clone(), change);
                }
            }
            let anew: BTreeSet<Address> = all
                .values()
                .filter(|change| matches!(change.verb, Verb::Replace(_)))
                .map(|change| change.address.clone())
                .collect();
            if anew == replaced {
                break;
            }
            replaced = anew;
        }
        let is_new = !inventory.all().any(|one| one.owner == Owner::Ours);
        for found in inventory.all() {
            let unwanted = blueprint.get(&found.address).is_none() && found.owner == Owner::Ours;
            let comes_and_goes = is_byproduct(&found.address);
            if unwanted && !comes_and_goes && !is_held(spec, roles, &found.address) {
                all.insert(found.address.clone(), removal(found));
            }
            // Nothing of a plan's, and no drill could be held. Of a cluster that there is, drills themselves tell.
            if is_new
                && let Owner::Foreign(why) = &found.owner
                && found.address.kind() == DrillInstance::KIND
            {
                let verb = Verb::Refuse(exists(&found.id, why));
                all.insert(found.address.clone(), Change { verb, ..removal(found) });
            }
        }
        let mut changes = Self { all, after: BTreeMap::new() };
        changes.protect_data(spec, roles);
        changes.order(spec, inventory);
        changes
    }

    /// Removes everything that belongs to the cluster, the wanted and the unwanted.
    pub fn removal(inventory: &Inventory) -> Self {
        let ours = inventory.all().filter(|found| found.owner == Owner::Ours);
        let all = ours.map(|found| (found.address.clone(), removal(found))).collect();
        Self { all, after: BTreeMap::new() }
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.all.values()
    }

    /// The change of a component, if there is one.
    pub fn get(&self, address: &Address) -> Option<&Change> {
        self.all.get(address)
    }

    /// Whether something is to be done besides waiting.
    pub fn is_empty(&self) -> bool {
        self.iter().all(|change| matches!(change.verb, Verb::Wait(_)))
    }

    /// What must be done before a change: makings and alterations of other components.
    pub fn before(&self, address: &Address) -> impl Iterator<Item = &Address> {
        self.after.get(address).into_iter().flatten()
    }

    /// Removals in the order in which they are possible: what is in one group may go at once.
    pub fn removals(&self) -> Vec<Vec<&Change>> {
        let order: Vec<&str> = kinds().iter().map(|kind| kind.name()).collect();
        let mut groups: BTreeMap<(usize, u8), Vec<&Change>> = BTreeMap::new();
        for change in self.iter().filter(|change| change.verb == Verb::Delete) {
            let place = order.iter().position(|kind| *kind == change.address.kind()).unwrap_or(0);
            // A replica goes before its source: what follows an instance that is gone stays behind
            // unfinished (aws-facts 0.11).
            let follows = change.found.as_ref().is_some_and(|one| one.outputs.contains_key(SOURCE));
            groups.entry((order.len() - place, u8::from(!follows))).or_default().push(change);
        }
        groups.into_values().collect()
    }

    /// What an apply must have been told by its plan: removals, replacements and refusals.
    pub fn grave(&self) -> BTreeSet<String> {
        let word = |verb: &Verb| match verb {
            Verb::Delete => Some("delete"),
            Verb::Replace(_) => Some("replace"),
            Verb::Refuse(_) => Some("refuse"),
            Verb::Create | Verb::Update(_) | Verb::Wait(_) => None,
        };
        self.iter()
            .filter_map(|change| Some(format!("{} {}", word(&change.verb)?, change.address)))
            .collect()
    }

    /// Each change in a few words, for messages and logs.
    pub fn describe(&self) -> Vec<String> {
        let settings = |all: &[Difference]| {
            let each: Vec<_> = all
                .iter()
                .map(|one| format!("{} {} instead of {}", one.field, one.found, one.wanted))
                .collect();
            each.join(", ")
        };
        let text = |change: &Change| match &change.verb {
            Verb::Create => format!("{} is missing", change.address),
            Verb::Update(all) | Verb::Replace(all) => {
                format!("{} has {}", change.address, settings(all))
            }
            Verb::Wait(state) => format!("{} is {state}", change.address),
            Verb::Delete => format!("{} is there", change.address),
            Verb::Refuse(why) => format!("{}: {why}", change.address),
        };
        self.iter().map(text).collect()
    }

    fn differs(&self, address: &Address, field: &str) -> bool {
        self.all.get(address).is_some_and(|change| match &change.verb {
            Verb::Update(all) => all.iter().any(|one| one.field == field),
            _ => false,
        })
    }

    /// An instance that is gone while the other one holds the data is not made anew, empty.
    fn protect_data(&mut self, spec: &Spec, roles: Roles) {
        let address = DbInstance::address(&spec.primary.region);
        if roles.primary == Role::Absent
            && roles.dr == Role::Replica
            && let Some(change) = self.all.get_mut(&address)
        {
            change.verb = Verb::Refuse(format!(
                "the writer in {} is gone, and the replica in {} holds the only copy of the data. A \
                     new, empty writer would not be what you want. Promote the replica (in the RDS console \
                     or with `aws rds promote-read-replica`), then plan again. To remove everything all the \
                     same: `terraform destroy -refresh=false`",
                spec.primary.region, spec.dr.region
            ));
        }
    }

    /// Dependencies among changes. A standby must never have lower limits than its writer, or its recovery
    /// pauses (aws-facts 2): what raises them goes to the replica first, what lowers them to the writer.
    fn order(&mut self, spec: &Spec, inventory: &Inventory) {
        let address = |site: Site| DbInstance::address(&spec.site(site).region);
        let both_exist = Site::ALL.iter().all(|site| inventory.get(&address(*site)).is_some());
        for change in self.all.values() {
            let Some(component) = &change.component else { continue };
            let mut after: BTreeSet<Address> = component
                .depends_on
                .iter()
                .filter(|one| self.all.contains_key(one))
                .cloned()
                .collect();
            if both_exist && change.address == address(Site::Dr) {
                after.remove(&address(Site::Primary));
            }
            self.after.insert(change.address.clone(), after);
        }
        if !both_exist {
            return;
        }
        // AWS upgrades a source only after its replicas.
        let upgrades = self.differs(&address(Site::Primary), "engine_version");
        let first = if upgrades || rises(spec, inventory) { Site::Dr } else { Site::Primary };
        let second = first.other();
        let waits = [
            DbParameterGroup::address(&spec.site(second).region),
            DbInstance::address(&spec.site(second).region),
        ];
        for one in waits.into_iter().filter(|one| self.all.contains_key(one)) {
            if self.all.contains_key(&address(first)) {
                self.after.entry(one).or_default().insert(address(first));
            }
        }
    }
}

fn removal(found: &Observation) -> Change {
    Change {
        address: found.address.clone(),
        verb: Verb::Delete,
        component: None,
        found: Some(found.clone()),
    }
}

/// Of something of somebody else's.
fn exists(name: &str, why: &str) -> String {
    format!(
        "{name} exists already and is not this cluster's: {why}. Rename or remove it, or choose another \
         environment_suffix"
    )
}

fn verb(
    component: &Component,
    found: Option<&Observation>,
    resolve: &dyn Fn(&Text) -> Option<String>,
    unknown: &BTreeSet<String>,
) -> Option<Verb> {
    let Some(found) = found else { return Some(Verb::Create) };
    if let Owner::Foreign(why) = &found.owner {
        return Some(Verb::Refuse(exists(&component.name, why)));
    }
    let mut differing = component.differing(found, resolve);
    // What comes from an argument that is not known yet says nothing.
    differing.retain(|one| !unknown.contains(one.argument));
    let refusal = differing.iter().find_map(|one| match one.effect {
        Effect::Refuse(why) => Some(Verb::Refuse(format!(
            "{} has {} {}, and {} is wanted: {why}",
            component.name, one.field, one.found, one.wanted
        ))),
        Effect::InPlace | Effect::Reboot | Effect::RebootNow | Effect::Replace => None,
    });
    if refusal.is_some() {
        return refusal;
    }
    if differing.iter().any(|one| one.effect == Effect::Replace) {
        return Some(Verb::Replace(differing));
    }
    match (&found.readiness, differing.is_empty()) {
        (_, false) => Some(Verb::Update(differing)),
        (Readiness::Busy(state), true) => Some(Verb::Wait(state.clone())),
        (Readiness::Ready | Readiness::Broken(_), true) => None,
    }
}

/// Whether the writer's limits become larger, by its parameters or by its class.
fn rises(spec: &Spec, inventory: &Inventory) -> bool {
    let (before, after) = limits(spec, inventory);
    limits_rise((&before.0, before.1), (&after.0, after.1))
}

/// Whether some of the writer's limits would become larger and others smaller in one apply.
pub fn limits_cross(spec: &Spec, inventory: &Inventory) -> bool {
    let (before, after) = limits(spec, inventory);
    parameters::limits_cross((&before.0, before.1), (&after.0, after.1))
}

type Limits = (BTreeMap<String, String>, u64);

/// The writer's parameters and memory in bytes, as they are and as they are wanted.
fn limits(spec: &Spec, inventory: &Inventory) -> (Limits, Limits) {
    const GIB: u64 = 1 << 30;
    let region = &spec.primary.region;
    let wanted = merged(&spec.database.parameters, spec.database.allocated_storage);
    let group = inventory.get(&DbParameterGroup::address(region));
    let text = group.and_then(|one| one.settings.get("parameters")).cloned();
    let current = text.map_or_else(
        || wanted.clone(),
        |text| {
            let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        },
    );
    let class =
        inventory.get(&DbInstance::address(region)).and_then(|one| one.settings.get("class"));
    let before = class.and_then(|class| InstanceClass::parse(class).ok());
    let after = u64::from(spec.database.instance_class.memory_gib()) * GIB;
    let before = before.map_or(after, |class| u64::from(class.memory_gib()) * GIB);
    ((current, before), (wanted, after))
}
