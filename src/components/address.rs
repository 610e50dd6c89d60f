//! The address of a component within its cluster.

use std::fmt;

/// `<region|global>/<kind>[/<qualifier>]`, such as `us-west-2/kms-key` or `us-east-1/route/rtb-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

/// The place of components that belong to no region.
pub const GLOBAL: &str = "global";

impl Address {
    /// The only component of its kind in a place.
    pub fn new(place: &str, kind: &str) -> Self {
        Self(format!("{place}/{kind}"))
    }

    /// One of several of its kind in a place.
    pub fn with(place: &str, kind: &str, qualifier: &str) -> Self {
        Self(format!("{place}/{kind}/{qualifier}"))
    }

    /// The region, or `global`.
    pub fn place(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The kind of AWS primitive.
    pub fn kind(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// What tells it apart from others of its kind; empty where it is the only one.
    pub fn qualifier(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or_default()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_tells_its_parts() {
        let address = Address::with("us-east-1", "security-group-rule", "cidr/10.0.0.0/8");
        assert_eq!(address.place(), "us-east-1");
        assert_eq!(address.kind(), "security-group-rule");
        assert_eq!(address.qualifier(), "cidr/10.0.0.0/8");
        assert_eq!(Address::new("global", "iam-role").qualifier(), "");
    }
}
