//! What exists that was not there in the beginning.

use serde_json::{Value, json};

use crate::{
    services::{ec2, kms},
    world::{World, shown, tags},
};

impl World {
    /// Everything that was made, by region, kind and id, with its tags; routes are listed on their own.
    pub fn inventory(&self) -> Value {
        let mut all = json!({});
        for (region, kind, table) in self.tables() {
            for (id, record) in table {
                if kind == ec2::ROUTE_TABLE {
                    for route in made_routes(record) {
                        let cidr = route["destinationCidrBlock"].as_str().unwrap_or_default();
                        all[region]["route"][format!("{id} {cidr}")] = route.clone();
                    }
                }
                if record["_account"] == true || kind == "access-key" {
                    continue;
                }
                let mut view = shown(record);
                view["Tags"] = Value::Object(tags(record));
                all[region][kind][id] = view;
            }
        }
        all
    }

    /// The ids of [`World::inventory`] without what AWS keeps for a while on its own: keys pending deletion,
    /// peerings and secrets that are deleted already, RDS's shared log group.
    pub fn leftovers(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (region, kinds) in self.inventory().as_object().into_iter().flatten() {
            for (kind, table) in kinds.as_object().into_iter().flatten() {
                for (id, record) in table.as_object().into_iter().flatten() {
                    let code = record["status"]["code"].as_str();
                    let lapses = (kind == "kms-key" && kms::is_pending(record))
                        || matches!(code, Some("deleted" | "failed"))
                        || !record["DeletedDate"].is_null()
                        || id == "RDSOSMetrics";
                    if !lapses {
                        all.push(format!("{region}/{kind}/{id}"));
                    }
                }
            }
        }
        all
    }

    /// The last call that was made.
    pub fn last_call(&self) -> Option<&crate::CallRecord> {
        self.calls.last()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// The master password that an instance takes by now.
    pub fn master_password(&self, region: &str, instance: &str) -> Option<String> {
        let record = self.get(region, "db-instance", instance)?;
        record["_password"].as_str().map(str::to_owned)
    }

    /// Puts a record there that nobody made by a call.
    pub fn place(&mut self, region: &str, kind: &'static str, id: &str, record: Value) {
        self.put(region, kind, id, record);
    }

    /// Changes or removes a record behind everybody's back.
    ///
    /// # Errors
    /// No such record; the text says what there is.
    pub fn drift(
        &mut self,
        region: &str,
        kind: &str,
        id: &str,
        change: Option<&Value>,
    ) -> Result<(), String> {
        let Some(table) = self.table_named(region, kind) else {
            return Err(format!("there is no {kind} in {region}"));
        };
        match change {
            None => table.remove(id).map(|_| ()),
            Some(change) => table.get_mut(id).map(|record| merge(record, change)),
        }
        .ok_or_else(|| {
            let known: Vec<_> = table.keys().cloned().collect();
            format!("there is no {kind} {id} in {region}, only {}", known.join(", "))
        })
    }
}

fn made_routes(table: &Value) -> impl Iterator<Item = &Value> {
    let all = table["routeSet"]["item"].as_array().into_iter().flatten();
    all.filter(|route| route["origin"] == "CreateRoute" && route["_account"] != true)
}

/// JSON merge patch: objects are merged, null removes, everything else replaces.
fn merge(into: &mut Value, change: &Value) {
    match change {
        Value::Object(members) => {
            for (name, value) in members {
                if value.is_null() {
                    if let Some(object) = into.as_object_mut() {
                        object.shift_remove(name);
                    }
                } else {
                    merge(&mut into[name], value);
                }
            }
        }
        other => *into = other.clone(),
    }
}

/// What tests look at that no call tells.
impl World {
    /// A record with the sandbox's own members; null if there is none.
    pub fn record(&mut self, region: &str, kind: &str, id: &str) -> Value {
        self.table_named(region, kind).and_then(|table| table.get(id)).cloned().unwrap_or_default()
    }

    /// An item of a table; null if there is none.
    pub fn item(&self, region: &str, table: &str, hash: &str, range: &str) -> Value {
        let record = self.get(region, "dynamodb-table", table);
        let items = record.map(|one| one["_items"].clone()).unwrap_or_default();
        items[format!("{hash}\u{1}{range}")].clone()
    }

    /// Puts an item into a table.
    pub fn put_item(&mut self, region: &str, table: &str, hash: &str, range: &str, item: Value) {
        if let Some(record) = self.get_mut(region, "dynamodb-table", table) {
            record["_items"][format!("{hash}\u{1}{range}")] = item;
        }
    }

    /// Who is let into the members of a security group.
    pub fn doors(&self, region: &str, name: &str) -> Vec<String> {
        let groups = self.table(region, ec2::GROUP).values().filter(|one| one["groupName"] == name);
        let rules = groups.flat_map(|one| one["_rules"].as_array().into_iter().flatten());
        let open = rules.filter(|rule| rule["egress"] == false);
        open.filter_map(|rule| Some(rule["cidr"].as_str().or(rule["group"].as_str())?.to_owned()))
            .collect()
    }

    /// The id of a security group.
    pub fn group_id(&self, region: &str, name: &str) -> String {
        let mut groups = self.table(region, ec2::GROUP).iter();
        let found = groups.find(|(_, one)| one["groupName"] == name);
        found.map(|(id, _)| id.clone()).unwrap_or_default()
    }
}
