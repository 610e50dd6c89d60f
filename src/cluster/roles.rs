//! Who writes: observed, never assumed.

use super::{Inventory, spec::Site, spec::Spec};
use crate::components::{Readiness, SOURCE, db_instance::DbInstance};

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
}

impl Roles {
    /// Before anything exists.
    pub const NONE: Self = Self { primary: Role::Absent, dr: Role::Absent };

    /// From what AWS holds.
    pub fn observed(spec: &Spec, inventory: &Inventory) -> Self {
        let role = |site: Site| {
            let address = DbInstance::address(&spec.site(site).region);
            inventory.get(&address).map_or(Role::Absent, |found| {
                if found.outputs.contains_key(SOURCE) { Role::Replica } else { Role::Writer }
            })
        };
        Self { primary: role(Site::Primary), dr: role(Site::Dr) }
    }

    /// Whether the DR site's instance was promoted.
    pub fn failed_over(self) -> bool {
        self.dr == Role::Writer
    }

    /// The site that writes, as far as AWS tells.
    pub fn writer(self) -> Option<Site> {
        match self {
            Self { dr: Role::Writer, .. } => Some(Site::Dr),
            Self { primary: Role::Writer, .. } => Some(Site::Primary),
            _ => None,
        }
    }
}

/// One word for how the cluster is.
pub fn status(roles: Roles, inventory: &Inventory, missing: usize) -> &'static str {
    let any = |test: fn(&Readiness) -> bool| inventory.all().any(|one| test(&one.readiness));
    if roles.failed_over() {
        "failed_over"
    } else if any(|one| matches!(one, Readiness::Broken(_))) {
        "degraded"
    } else if missing > 0 {
        "incomplete"
    } else if any(|one| matches!(one, Readiness::Busy(_))) {
        "modifying"
    } else {
        "available"
    }
}
