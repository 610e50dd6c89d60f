//! The services: each a table of operations.

pub(crate) mod cloudwatch;
pub(crate) mod dynamodb;
pub(crate) mod ec2;
pub(crate) mod events;
pub(crate) mod iam;
pub(crate) mod kms;
pub(crate) mod lambda;
pub(crate) mod logs;
pub(crate) mod rds;
pub(crate) mod route53;
pub(crate) mod secrets;
pub(crate) mod sns;
pub(crate) mod ssm;
pub(crate) mod sts;
pub(crate) mod tagging;

use serde_json::{Map, Value};

use crate::{
    iam::Need,
    request::{Reply, Request},
    wire::Protocol,
    world::{World, tag_map},
};

/// An operation: how it is called, what it needs, what it does.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// The parameters that are implemented, divided by spaces.
    pub(crate) members: &'static str,
    /// What the caller must be allowed to do; an empty action is the operation's own.
    pub(crate) access: fn(&World, &Request) -> Vec<Need>,
    pub(crate) run: fn(&mut World, &Request) -> Reply,
}

pub(crate) const fn op(
    name: &'static str,
    members: &'static str,
    access: fn(&World, &Request) -> Vec<Need>,
    run: fn(&mut World, &Request) -> Reply,
) -> Operation {
    Operation { name, members, access, run }
}

/// A service.
pub(crate) struct Service {
    /// As IAM and signatures spell it.
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) namespace: &'static str,
    /// Whether it has one control plane for all regions.
    pub(crate) global: bool,
    pub(crate) operations: &'static [Operation],
}

const SERVICES: &[&Service] = &[
    &cloudwatch::SERVICE,
    &dynamodb::SERVICE,
    &ec2::SERVICE,
    &events::SERVICE,
    &iam::SERVICE,
    &kms::SERVICE,
    &lambda::SERVICE,
    &logs::SERVICE,
    &rds::SERVICE,
    &route53::SERVICE,
    &secrets::SERVICE,
    &sns::SERVICE,
    &ssm::SERVICE,
    &sts::SERVICE,
    &tagging::SERVICE,
];

pub(crate) fn find(name: &str) -> Option<&'static Service> {
    SERVICES.iter().copied().find(|service| service.name == name)
}

/// What is implemented: the parameters of each operation, by service.
pub(crate) fn operations() -> Value {
    let mut all = Map::new();
    for service in SERVICES {
        let of = service.operations.iter().map(|one| {
            let members: Vec<_> =
                one.members.split(' ').filter(|one| !one.is_empty()).map(Value::from).collect();
            (one.name.to_owned(), Value::from(members))
        });
        all.insert(service.name.to_owned(), Value::Object(of.collect()));
    }
    Value::Object(all)
}

/// Needs the action on `*`: what AWS does not let policies narrow.
pub(crate) fn any(_: &World, _: &Request) -> Vec<Need> {
    vec![Need::new("", "*")]
}

/// The tags that a request asks for, in whatever shape its service has.
pub(crate) fn requested_tags(request: &Request) -> Map<String, Value> {
    match request.service {
        "kms" => tag_map(request.get("Tags"), "TagKey", "TagValue"),
        "ec2" => {
            let mut all = tag_map(request.get("Tag"), "Key", "Value");
            for specification in request.items("TagSpecification") {
                all.extend(tag_map(&specification["Tag"], "Key", "Value"));
            }
            all
        }
        "lambda" => request.get("Tags").as_object().cloned().unwrap_or_default(),
        "logs" => request.get("tags").as_object().cloned().unwrap_or_default(),
        _ => tag_map(request.get("Tags"), "Key", "Value"),
    }
}

/// A page of a list: the items from `start` on, and where the next page starts.
pub(crate) fn page<T: Clone>(
    all: &[T],
    start: Option<&str>,
    size: usize,
) -> (Vec<T>, Option<String>) {
    let from: usize = start.and_then(|text| text.parse().ok()).unwrap_or(0).min(all.len());
    let to = (from + size.max(1)).min(all.len());
    (all[from..to].to_vec(), (to < all.len()).then(|| to.to_string()))
}
