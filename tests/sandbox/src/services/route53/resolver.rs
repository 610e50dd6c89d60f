//! What a client in a VPC gets for a name.

use serde_json::{Value, json};

use super::{
    checks::is_healthy,
    zones::{ZONE, absolute},
};
use crate::world::{GLOBAL, World};

impl World {
    /// What clients get for every name of the private zones, by VPC and name.
    pub(crate) fn names(&self) -> Value {
        let mut all = json!({});
        for zone in self.table(GLOBAL, ZONE).values() {
            let names = zone["_records"].as_array().into_iter().flatten();
            let names: Vec<&str> = names
                .filter(|one| one["Type"] == "CNAME")
                .filter_map(|one| one["Name"].as_str())
                .collect();
            for vpc in zone["_vpcs"].as_array().into_iter().flatten() {
                let vpc = vpc["VPCId"].as_str().unwrap_or_default();
                for name in &names {
                    let found = self.resolve(vpc, name);
                    let targets = found.into_iter().map(|(target, _)| target).collect::<Vec<_>>();
                    all[vpc][name.trim_end_matches('.')] = json!(targets);
                }
            }
        }
        all
    }

    /// The targets that a name may be answered with in a VPC, each with its share of the answers: private
    /// zones are seen by the VPCs that are associated with them only.
    pub fn resolve(&self, vpc: &str, name: &str) -> Vec<(String, u64)> {
        let name = absolute(name);
        let sees = |zone: &Value| {
            zone["_vpcs"].as_array().into_iter().flatten().any(|one| one["VPCId"] == vpc)
        };
        let zones = self.table(GLOBAL, ZONE).values().filter(|zone| sees(zone));
        let within = |zone: &Value| {
            let domain = zone["Name"].as_str().unwrap_or_default().to_owned();
            (name == domain || name.ends_with(&format!(".{domain}"))).then_some(domain.len())
        };
        let Some((_, zone)) =
            zones.filter_map(|zone| Some((within(zone)?, zone))).max_by_key(|(length, _)| *length)
        else {
            return Vec::new();
        };
        let all = zone["_records"].as_array().into_iter().flatten();
        let group: Vec<&Value> = all.filter(|one| one["Name"] == name.as_str()).collect();
        answer(self, &group)
    }
}

/// Which records of a weighted group answer (Route 53 guide, "How Amazon Route 53 chooses records").
fn answer(world: &World, group: &[&Value]) -> Vec<(String, u64)> {
    let healthy =
        |one: &&&Value| one["HealthCheckId"].as_str().is_none_or(|id| is_healthy(world, id));
    let weight = |one: &Value| one["Weight"].as_u64().unwrap_or(1);
    let mut able: Vec<&Value> = group.iter().filter(healthy).copied().collect();
    if able.is_empty() {
        able = group.to_vec();
    }
    if able.iter().any(|one| weight(one) > 0) {
        able.retain(|one| weight(one) > 0);
    }
    let target = |one: &Value| {
        let value = one["ResourceRecords"][0]["Value"].as_str().unwrap_or_default();
        (value.to_owned(), weight(one).max(1))
    };
    able.into_iter().map(target).collect()
}
