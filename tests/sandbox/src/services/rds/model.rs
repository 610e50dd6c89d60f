//! The model database engine: what a session with an instance shows, and who gets one. It is enough for a
//! probe; SQL is not understood.

use serde_json::Value;

use super::{INSTANCE, split_arn};
use crate::{
    clock::Time,
    services::ec2,
    world::{GLOBAL, World},
};

/// How far a replica is behind, in milliseconds.
const LAG: u64 = 1_000;
/// How long a receiver outlives its writer, in milliseconds (aws-facts 12b).
const RECEIVER: u64 = 20_000;
/// States in which an instance takes connections.
pub(super) const OPEN: &[&str] = &["available", "modifying", "backing-up", "storage-optimization"];

/// A place in the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The region.
    pub region: String,
    /// The VPC.
    pub vpc: String,
    /// The security groups.
    pub groups: Vec<String>,
}

/// Who opens a session: where it comes from, and as whom.
#[derive(Clone, Debug)]
pub struct Visitor<'a> {
    /// Where it comes from.
    pub from: &'a Source,
    /// The role.
    pub username: &'a str,
    /// Its password.
    pub password: &'a str,
}

/// What a session shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionView {
    /// Nobody answers, or the network lets nobody through.
    Closed,
    /// The password is none.
    Denied,
    /// A writer: a row was written at this moment.
    Writer(Time),
    /// A standby.
    Standby {
        /// The moment of the last row that it has replayed.
        row: Time,
        /// How long ago, in milliseconds, its receiver heard of the writer.
        heard: Option<u64>,
        /// The moment until which it has replayed everything: somebody always writes.
        committed: Time,
    },
}

impl World {
    /// Takes a region's databases and functions down or up again: what its control plane does is another
    /// matter.
    pub fn set_dark(&mut self, region: &str, dark: bool) {
        if !dark {
            self.dark.remove(region);
            return;
        }
        let regions: Vec<String> = self.tables().map(|(region, ..)| region.to_owned()).collect();
        for other in regions {
            self.arrive(region, &other);
        }
        self.dark.insert(region.to_owned());
    }

    /// What has left a region until now for another one has arrived there; from now on, nothing does.
    fn arrive(&mut self, region: &str, other: &str) {
        let now = self.now.0;
        for replica in self.table_mut(other, INSTANCE).values_mut() {
            let of = replica["_source"].as_str().and_then(split_arn);
            if of.is_some_and(|(source, _)| source == region) {
                replica["_replayed"] = now.saturating_sub(LAG).into();
                replica["_heard"] = now.into();
            }
        }
    }

    /// Takes everything in a region away, with what is changed in the first region for all of them (aws-facts 4),
    /// or brings it back.
    pub fn set_lost(&mut self, region: &str, lost: bool) {
        let mut places = vec![region];
        if region == "us-east-1" {
            places.push(GLOBAL);
        }
        for place in places {
            if lost {
                self.down.insert(place.to_owned());
            } else {
                self.down.remove(place);
            }
        }
        self.set_dark(region, lost);
    }

    /// Cuts two regions off from each other, or joins them again: the peering, replication, and what the functions
    /// of one ask the other's AWS.
    pub fn set_cut(&mut self, one: &str, other: &str, cut: bool) {
        for pair in [(one, other), (other, one)] {
            let is_new = cut && !self.is_cut(pair.0, pair.1);
            if is_new && !self.is_dark(pair.0) {
                self.arrive(pair.0, pair.1);
            }
            let pair = (pair.0.to_owned(), pair.1.to_owned());
            if cut {
                self.cut.insert(pair);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    /// Whether two regions are cut off from each other.
    pub fn is_cut(&self, one: &str, other: &str) -> bool {
        self.cut.contains(&(one.to_owned(), other.to_owned()))
    }

    /// Whether a region's databases and functions are down.
    pub fn is_dark(&self, region: &str) -> bool {
        self.dark.contains(region)
    }

    /// Makes a role in a writer, and thereby in its replicas, as the master user.
    ///
    /// # Errors
    /// Why there is no session of the master user with a writer.
    pub fn make_role(
        &mut self,
        host: &str,
        master: &Visitor<'_>,
        username: &str,
        password: &str,
    ) -> Result<(), String> {
        match self.visit(host, master) {
            SessionView::Writer(_) => {}
            SessionView::Standby { .. } => {
                return Err("cannot execute CREATE ROLE in a read-only transaction".into());
            }
            SessionView::Denied => {
                return Err(format!(
                    "password authentication failed for user \"{}\"",
                    master.username
                ));
            }
            SessionView::Closed => return Err("error connecting to server".into()),
        }
        if let Some((region, id)) = self.instance_at(host)
            && let Some(instance) = self.get_mut(&region, INSTANCE, &id)
        {
            instance["_roles"][username] = password.into();
        }
        Ok(())
    }

    /// The instance that an endpoint is of.
    pub(crate) fn instance_at(&self, host: &str) -> Option<(String, String)> {
        for (region, kind, table) in self.tables() {
            if kind != INSTANCE {
                continue;
            }
            for (id, instance) in table {
                if instance["Endpoint"]["Address"] == host {
                    return Some((region.to_owned(), id.clone()));
                }
            }
        }
        None
    }

    /// Opens a session and does what a probe does: writes a row where it can, and looks.
    pub fn visit(&mut self, host: &str, visitor: &Visitor<'_>) -> SessionView {
        let Some((region, id)) = self.instance_at(host) else { return SessionView::Closed };
        let Some(instance) = self.get(&region, INSTANCE, &id).cloned() else {
            return SessionView::Closed;
        };
        let status = instance["DBInstanceStatus"].as_str().unwrap_or_default();
        // RDS does not notice everything that hangs.
        if instance["_hangs"] == true
            || !OPEN.contains(&status)
            || !self.lets_through(visitor.from, &(region.clone(), id.clone()))
        {
            return SessionView::Closed;
        }
        let source = instance["_source"].as_str().and_then(split_arn);
        if !self.knows(&instance, source.as_ref(), visitor) {
            return SessionView::Denied;
        }
        let now = self.now;
        let Some((source_region, source_id)) = source else {
            if let Some(record) = self.get_mut(&region, INSTANCE, &id) {
                record["_written"] = now.0.into();
                let mut rows = record["_rows"].as_array().cloned().unwrap_or_default();
                rows.push(now.0.into());
                let old = rows.len().saturating_sub(100);
                record["_rows"] = rows.split_off(old).into();
            }
            return SessionView::Writer(now);
        };
        let writer = self.get(&source_region, INSTANCE, &source_id).cloned().unwrap_or_default();
        let lives = self.flows(&source_region, &writer) && !self.is_cut(&source_region, &region);
        let (writer, hops) = self.origin(writer);
        if lives && let Some(record) = self.get_mut(&region, INSTANCE, &id) {
            record["_replayed"] = now.0.saturating_sub(LAG * hops).into();
            record["_heard"] = now.0.into();
            // Roles are replicated like everything else, and stay after a promotion.
            record["_roles"] = writer["_roles"].clone();
        }
        let number = |name: &str| {
            let record = self.get(&region, INSTANCE, &id);
            record.and_then(|one| one[name].as_u64()).unwrap_or(0)
        };
        let (replayed, heard) = (number("_replayed"), number("_heard"));
        let rows = writer["_rows"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        let last = rows.filter(|at| *at <= replayed).max().unwrap_or(0);
        let age = now.0.saturating_sub(heard);
        let heard = (age < RECEIVER).then_some(age);
        SessionView::Standby { row: Time(last), heard, committed: Time(replayed) }
    }

    /// Whether an instance takes writes of whoever connects now from a place.
    pub fn takes_writes(&self, region: &str, id: &str, from: &Source) -> bool {
        let is_open = self.get(region, INSTANCE, id).is_some_and(|instance| {
            OPEN.contains(&instance["DBInstanceStatus"].as_str().unwrap_or_default())
                && instance["_source"].is_null()
        });
        is_open && self.lets_through(from, &(region.to_owned(), id.to_owned()))
    }

    /// Until when a replica has replayed what its source was told, as far as anybody has looked or a region was lost.
    pub fn replayed(&self, region: &str, id: &str) -> Option<Time> {
        self.get(region, INSTANCE, id)?["_replayed"].as_u64().map(Time)
    }

    /// RDS's status of an instance; empty if there is none.
    pub fn status(&self, region: &str, id: &str) -> &str {
        self.get(region, INSTANCE, id)
            .and_then(|one| one["DBInstanceStatus"].as_str())
            .unwrap_or_default()
    }

    /// Whether what a source gets reaches its replicas: it runs, and so do all that it follows itself.
    pub(super) fn flows(&self, region: &str, source: &Value) -> bool {
        let runs = !self.is_dark(region)
            && source["_hangs"] != true
            && OPEN.contains(&source["DBInstanceStatus"].as_str().unwrap_or_default());
        let above = source["_source"].as_str().and_then(split_arn);
        runs && above.is_none_or(|(above, id)| {
            !self.is_cut(&above, region)
                && self.get(&above, INSTANCE, &id).is_some_and(|one| self.flows(&above, one))
        })
    }

    /// The writer that everything comes from in the end, and over how many links.
    fn origin(&self, mut source: Value) -> (Value, u64) {
        let mut hops = 1;
        while let Some((region, id)) = source["_source"].as_str().and_then(split_arn) {
            let Some(above) = self.get(&region, INSTANCE, &id) else { break };
            (source, hops) = (above.clone(), hops + 1);
        }
        (source, hops)
    }

    /// A replica has its source's roles.
    fn knows(
        &self,
        instance: &Value,
        source: Option<&(String, String)>,
        visitor: &Visitor<'_>,
    ) -> bool {
        let above = source.and_then(|(region, id)| self.get(region, INSTANCE, id));
        let origin = above.map(|one| self.origin(one.clone()).0);
        let roles = |one: &Value| {
            one["_roles"][visitor.username] == visitor.password
                || (one["MasterUsername"] == visitor.username
                    && one["_password"] == visitor.password)
        };
        roles(instance) || origin.as_ref().is_some_and(roles)
    }

    /// Whether the network lets a new connection through: a way, and a rule.
    pub(crate) fn lets_through(&self, from: &Source, instance: &(String, String)) -> bool {
        let Some(record) = self.get(&instance.0, INSTANCE, &instance.1) else { return false };
        self.is_joined(from, instance) && self.has_rule(from, &instance.0, record)
    }

    /// Whether there is a way between a place and an instance: the same VPC, or a peering between regions that
    /// are up and not cut off from each other.
    pub(crate) fn is_joined(&self, from: &Source, (region, id): &(String, String)) -> bool {
        let Some(record) = self.get(region, INSTANCE, id) else { return false };
        let vpc = record["DBSubnetGroup"]["VpcId"].as_str().unwrap_or_default();
        if self.is_dark(region) || self.is_dark(&from.region) {
            return false;
        }
        let subnets = record["DBSubnetGroup"]["Subnets"]["Subnet"].as_array().into_iter().flatten();
        let subnets: Vec<_> = subnets.filter_map(|one| one["SubnetIdentifier"].as_str()).collect();
        let (here, there) = (self.block(&from.region, &from.vpc), self.block(region, vpc));
        let joined = |(id, peering): (&String, &Value)| {
            let side = |name: &str| peering[name]["vpcId"].as_str().unwrap_or_default();
            let pair = [side("requesterVpcInfo"), side("accepterVpcInfo")];
            peering["status"]["code"] == "active"
                && pair.contains(&vpc)
                && pair.contains(&from.vpc.as_str())
                // A peering without routes in both directions carries nothing.
                && ec2::routes::lead(self, &from.region, &from.vpc, &[], there, id)
                && ec2::routes::lead(self, region, vpc, &subnets, here, id)
        };
        vpc == from.vpc
            || (!self.is_cut(region, &from.region)
                && self.table(&from.region, ec2::PEERING).iter().any(joined))
    }

    /// The addresses of a VPC.
    fn block(&self, region: &str, vpc: &str) -> &str {
        let found = self.get(region, ec2::VPC, vpc);
        found.and_then(|one| one["cidrBlock"].as_str()).unwrap_or_default()
    }

    fn has_rule(&self, from: &Source, region: &str, instance: &Value) -> bool {
        let vpc = instance["DBSubnetGroup"]["VpcId"].as_str().unwrap_or_default();
        let is_local = vpc == from.vpc;
        let block = self.block(&from.region, &from.vpc);
        let port = instance["Endpoint"]["Port"].as_i64().unwrap_or(5432);
        let groups = instance["VpcSecurityGroups"]["VpcSecurityGroupMembership"].as_array();
        let ids = groups.into_iter().flatten().filter_map(|one| one["VpcSecurityGroupId"].as_str());
        let rules = ids.filter_map(|id| self.get(region, ec2::GROUP, id)?["_rules"].as_array());
        rules.flatten().any(|rule| {
            let in_range = rule["from"].as_i64() <= Some(port) && Some(port) <= rule["to"].as_i64();
            let by_group =
                is_local && from.groups.iter().any(|group| rule["group"] == group.as_str());
            // Where in its VPC a place is, nothing says: a rule for a part of it lets nobody in.
            let by_block =
                rule["cidr"].as_str().is_some_and(|cidr| ec2::routes::covers(cidr, block));
            rule["egress"] == false && in_range && (by_group || by_block)
        })
    }
}
