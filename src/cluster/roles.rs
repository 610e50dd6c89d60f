//! Who writes: observed, never assumed.

use super::{Inventory, blueprint::LEDGER, failover::Phase, spec::Site, spec::Spec};
use crate::components::{
    Output, Readiness, SOURCE,
    db_instance::DbInstance,
    dynamodb_table::DynamodbTable,
    ledger::{CLOSED, PHASE},
};

/// What an instance is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes: it follows nobody.
    Writer,
    /// It follows another instance.
    Replica,
    /// It is not there.
    Absent,
}

/// What the two sites' instances are by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The one that was born to write.
    pub primary: Role,
    /// The one that was born to follow.
    pub dr: Role,
    /// Whether the ledgers say that a failover has begun: RDS tells of a promotion late.
    pub is_failing_over: bool,
    /// Whether the monitors keep applications out of the writer.
    pub is_closed: bool,
    /// Whether the monitors saw both take writes: the name still leads to the one that was born to write.
    pub is_diverged: bool,
}

impl Roles {
    /// Before anything exists.
    pub const NONE: Self = Self {
        primary: Role::Absent,
        dr: Role::Absent,
        is_failing_over: false,
        is_closed: false,
        is_diverged: false,
    };

    /// From what AWS holds.
    pub fn observed(spec: &Spec, inventory: &Inventory) -> Self {
        let role = |site: Site| {
            let address = DbInstance::address(&spec.site(site).region);
            inventory.get(&address).map_or(Role::Absent, |found| {
                if found.outputs.contains_key(SOURCE) { Role::Replica } else { Role::Writer }
            })
        };
        let ledger = |site: Site, what: Output| {
            let address = DynamodbTable::address(&spec.site(site).region, LEDGER);
            let found = inventory.get(&address)?.outputs.get(what);
            found.map(String::as_str)
        };
        let moving = [Phase::Promoting, Phase::Accepted, Phase::Promoted].map(Phase::as_str);
        let says = |site| ledger(site, PHASE).is_some_and(|phase| moving.contains(&phase));
        let diverged = |site| ledger(site, PHASE) == Some(Phase::Diverged.as_str());
        Self {
            primary: role(Site::Primary),
            dr: role(Site::Dr),
            is_failing_over: Site::ALL.into_iter().any(says),
            is_closed: Site::ALL.into_iter().any(|site| ledger(site, CLOSED) == Some("true")),
            is_diverged: Site::ALL.into_iter().any(diverged),
        }
    }

    /// Whether the DR site's instance was promoted.
    pub fn failed_over(self) -> bool {
        self.dr == Role::Writer
    }

    /// Whether what holds the data, follows it or leads to it is nobody's to change: it has failed over, or is
    /// about to.
    pub fn are_moving(self) -> bool {
        self.failed_over() || self.is_failing_over
    }

    /// Whether both take writes, and nobody has decided yet which one counts.
    pub fn are_diverged(self) -> bool {
        self.is_diverged && self.primary == Role::Writer && self.dr == Role::Writer
    }

    /// The site that writes, as far as AWS tells: of two, the one that the name leads to.
    pub fn writer(self) -> Option<Site> {
        match self {
            _ if self.are_diverged() => Some(Site::Primary),
            Self { dr: Role::Writer, .. } => Some(Site::Dr),
            Self { primary: Role::Writer, .. } => Some(Site::Primary),
            _ => None,
        }
    }
}

/// The word for a cluster whose create was not finished, or not noted as finished.
pub const INCOMPLETE: &str = "incomplete";

/// One word for how the cluster is.
pub fn status(roles: Roles, inventory: &Inventory, missing: usize) -> &'static str {
    let any = |test: fn(&Readiness) -> bool| inventory.all().any(|one| test(&one.readiness));
    if roles.are_diverged() {
        "diverged"
    } else if roles.failed_over() {
        "failed_over"
    } else if any(|one| matches!(one, Readiness::Broken(_))) {
        "degraded"
    } else if missing > 0 {
        INCOMPLETE
    } else if any(|one| matches!(one, Readiness::Busy(_))) {
        "modifying"
    } else {
        "available"
    }
}
