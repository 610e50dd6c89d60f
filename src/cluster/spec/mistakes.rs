//! What contradicts itself across arguments.

use std::collections::BTreeMap;

use super::{Mode, Site, Spec, is_reserved_tag};
use crate::cluster::{mistake::Mistake, objectives::Objectives, parameters};

/// From how much gp3 storage on operations can be provisioned, in GiB, and how many at least and at most (RDS guide,
/// "gp3 storage", PostgreSQL).
const GP3_LARGE: u32 = 400;
const GP3_OPERATIONS: (u32, u32) = (12_000, 64_000);
/// How many operations io1 and io2 can have, and how many for each GiB at most; half of one at least (RDS guide,
/// "Provisioned IOPS SSD storage").
const PROVISIONED: (u32, u32) = (1_000, 256_000);
const PER_GIB: [(&str, u32); 2] = [("io1", 50), ("io2", 1_000)];

impl Spec {
    /// What contradicts itself across arguments. Each argument alone was checked before.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        let known = |argument: &str| !self.unknown.contains(argument);
        if self.primary.region == self.dr.region {
            found.push(Mistake::new(
                "dr.region",
                "Both sites are in the same region",
                "A disaster that takes the region would take both. Choose another region for dr.",
            ));
        }
        for site in Site::ALL {
            let spec = self.site(site);
            if spec.allowed_security_group_ids.is_empty() && spec.allowed_cidr_blocks.is_empty() {
                found.push(Mistake::new(
                    site.argument(),
                    format!("Nobody may connect to the database in {}", spec.region),
                    "Name security groups in allowed_security_group_ids or address blocks in \
                     allowed_cidr_blocks. Without either, the database there would answer nobody, also \
                     after a failover.",
                ));
            }
            for block in spec.allowed_cidr_blocks.iter().filter(|block| block.prefix_len() == 0) {
                found.push(Mistake::new(
                    &format!("{}.allowed_cidr_blocks", site.argument()),
                    format!("{block} lets everybody in"),
                    "Name the blocks that your applications are in.",
                ));
            }
        }
        self.database_mistakes(&known, &mut found);
        self.window_mistakes(&known, &mut found);
        self.dns_mistakes(&mut found);
        self.failover_mistakes(&known, &mut found);
        found.extend(parameters::mistakes(&self.database.parameters));
        for key in self.tags.keys() {
            if is_reserved_tag(key) {
                found.push(Mistake::new(
                    "tags",
                    format!("The tag {key} is set by AWS or this provider"),
                    "Tags that begin with aws: or trading-dr:, and Name, cannot be chosen, however they are spelled.",
                ));
            }
        }
        found.extend(self.doubles());
        if self.tags.len() > 40 {
            found.push(Mistake::new(
                "tags",
                "More than 40 tags",
                "AWS allows 50 on each resource, and this provider needs some of them.",
            ));
        }
        found
    }

    fn failover_mistakes(&self, known: &dyn Fn(&str) -> bool, found: &mut Vec<Mistake>) {
        let witness = &self.failover.witness_region;
        if *witness == self.primary.region {
            found.push(Mistake::new(
                "failover.witness_region",
                format!("{witness} is the region that is watched"),
                "The lease would be lost with it, and nothing could ever be promoted. Choose a third region.",
            ));
        } else if *witness == self.dr.region
            && known("failover")
            && self.failover.mode == Mode::Automatic
            && !self.failover.accept_split_brain_risk
        {
            found.push(Mistake::new(
                "failover.witness_region",
                format!("{witness} is one of the two regions that it would have to decide between"),
                "Two regions cannot tell a lost one from a cut link: with the lease in the DR region, a cut \
                 link makes it promote, and only the primary region's own monitor then keeps the old writer \
                 from taking writes. Choose a third region, set failover.mode to \"manual\", or accept that \
                 risk with failover.accept_split_brain_risk = true.",
            ));
        }
        // Whatever is stood in for would make a sum of nothing.
        if known("failover") && known("dns.ttl") {
            found.extend(Objectives::new(&self.failover, self.dns.ttl, None).mistakes());
        }
    }

    fn dns_mistakes(&self, found: &mut Vec<Mistake>) {
        if self.dns.zone_id.is_some() && !self.dns.additional_vpc_ids.is_empty() {
            found.push(Mistake::new(
                "dns.additional_vpc_ids",
                "The zone of dns.zone_id is not this cluster's",
                "Associate VPCs with it where it is managed, or leave dns.zone_id out: the cluster then makes \
                 a private zone of its own, and associates them.",
            ));
        }
        let site_vpc = Site::ALL
            .iter()
            .map(|site| &self.site(*site).vpc_id)
            .find(|id| self.dns.additional_vpc_ids.contains(*id));
        if let Some(id) = site_vpc {
            found.push(Mistake::new(
                "dns.additional_vpc_ids",
                format!("{id} sees the zone anyway"),
                "The VPCs of primary and dr need not be named again.",
            ));
        }
        // A zone of our own is named after what follows the first label.
        let name = self.dns.name.as_deref().unwrap_or_default();
        if self.dns.zone_id.is_none() && self.dns.name.is_some() {
            let parent = name.split_once('.').map_or("", |(_, parent)| parent);
            if !parent.contains('.') {
                found.push(Mistake::new(
                    "dns.name",
                    format!("{name} leaves no zone to be made"),
                    "Without dns.zone_id the cluster makes a private zone of everything behind the first \
                     dot, which needs two labels or more, as in db.orders.internal.",
                ));
            }
        }
    }

    fn window_mistakes(&self, known: &dyn Fn(&str) -> bool, found: &mut Vec<Mistake>) {
        let (window, dr_window) = (self.backup.window, self.backup.dr_window());
        if known("backup.window") && window.overlaps(dr_window) {
            found.push(Mistake::new(
                "backup.window",
                format!("{window} overlaps with the DR region's backups at {dr_window}"),
                "The DR region's window begins four hours later: choose a window of less than four hours.",
            ));
        }
        let maintenance = &self.database.maintenance_window;
        let both_known = known("backup.window") && known("database.maintenance_window");
        for daily in [window, dr_window].into_iter().filter(|_| both_known) {
            if maintenance.overlaps(daily) {
                found.push(Mistake::new(
                    "database.maintenance_window",
                    format!("{} overlaps with the backups at {daily}", maintenance.as_str()),
                    "AWS wants the windows apart. The DR region's backups run four hours after the primary's.",
                ));
            }
        }
    }

    fn database_mistakes(&self, known: &dyn Fn(&str) -> bool, found: &mut Vec<Mistake>) {
        let database = &self.database;
        let (class, dr_class) = (&database.instance_class, &database.dr_instance_class);
        let classes_known = known("database.instance_class") && known("database.dr_instance_class");
        if classes_known && dr_class.memory_gib() < class.memory_gib() {
            found.push(Mistake::new(
                "database.dr_instance_class",
                format!("{} is smaller than the primary's {}", dr_class.as_str(), class.as_str()),
                "After a failover it carries the whole load, and a standby with less memory pauses its \
                 recovery. Choose the primary's class or a larger one.",
            ));
        }
        if let Some(most) = database.max_allocated_storage
            && known("database.allocated_storage")
            && most * 100 < database.allocated_storage * 110
        {
            found.push(Mistake::new(
                "database.max_allocated_storage",
                "It leaves no room to grow",
                format!(
                    "AWS wants at least 10 % above allocated_storage, which is {} GiB.",
                    database.allocated_storage
                ),
            ));
        }
        let provisioned = database.storage_type.starts_with("io");
        if known("database.storage_type") && known("database.iops") {
            if provisioned && database.iops.is_none() {
                found.push(Mistake::new(
                    "database.iops",
                    format!("Storage of type {} needs it", database.storage_type),
                    "Give the I/O operations per second that are provisioned.",
                ));
            }
            if !provisioned
                && database.iops.is_some()
                && known("database.allocated_storage")
                && database.allocated_storage < GP3_LARGE
            {
                found.push(Mistake::new(
                    "database.iops",
                    "gp3 storage below 400 GiB has its 3,000 operations per second fixed",
                    "Leave iops out, or allocate at least 400 GiB.",
                ));
            } else if let Some(iops) = database.iops
                && known("database.allocated_storage")
            {
                found.extend(operations(&database.storage_type, database.allocated_storage, iops));
            }
            if provisioned && database.allocated_storage < 100 {
                found.push(Mistake::new(
                    "database.allocated_storage",
                    format!("Storage of type {} begins at 100 GiB", database.storage_type),
                    "Allocate more, or choose gp3.",
                ));
            }
        }
    }

    /// Tags whose keys differ in case only: IAM takes them for one, and refuses a role that has both.
    fn doubles(&self) -> Option<Mistake> {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        let double = self.tags.keys().find_map(|key| {
            let before = seen.insert(key.to_lowercase(), key)?;
            Some((before, key))
        });
        double.map(|(one, other)| {
            Mistake::new(
                "tags",
                format!("The tags {one} and {other} differ in case only"),
                "IAM takes both keys for one, and a role cannot have it twice. Leave one of them out, here or in the \
                 provider's default_tags.",
            )
        })
    }
}

/// What is wrong with so many operations for so much storage.
fn operations(storage_type: &str, gib: u32, iops: u32) -> Option<Mistake> {
    let (least, most) = match PER_GIB.iter().find(|(name, _)| *name == storage_type) {
        Some((_, each)) => {
            let (low, high) = PROVISIONED;
            (low.max(gib.div_ceil(2)), high.min(gib.saturating_mul(*each)))
        }
        None => GP3_OPERATIONS,
    };
    (!(least..=most).contains(&iops)).then(|| {
        Mistake::new(
            "database.iops",
            format!("{gib} GiB of {storage_type} storage cannot have {iops} operations per second"),
            format!("RDS provisions {least} to {most} for that much storage of that type."),
        )
    })
}
