//! What a cluster consists of, and what comes before what, as a drawing: for whoever reviews one, or wonders why
//! something waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Read as _,
};

use serde_json::{Value as Json, json};

use super::{
    cluster_schema,
    draft::{self, Draft},
};
use crate::{
    cluster::{Blueprint, Site, Spec, surroundings::Surroundings},
    components::{Address, Scope, Tags},
    plugin::{Diagnostics, Value, from_json},
};

/// How it is used.
pub const USAGE: &str = "\
Usage: terraform-provider-trading graph [--dot] [FILE [ADDRESS]]

Prints the components of a cluster as a drawing, in Mermaid, which GitHub and GitLab show as it stands. An arrow leads from
what is made first to what needs it; a destroy goes the other way. It calls nothing and needs no credentials.

  FILE     what `terraform show -json` prints of a state or of a saved plan; - is the standard input. Without it, the
           cluster is one with nothing but defaults
  ADDRESS  the resource in it, such as trading_dr_cluster.prod, where there are several
  --dot    for Graphviz: `terraform-provider-trading graph --dot | dot -Tsvg > cluster.svg`
";

/// The account in names that a drawing shows.
const ACCOUNT: &str = "123456789012";

/// What to draw, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    is_dot: bool,
    file: Option<String>,
    address: Option<String>,
}

impl Options {
    /// From the arguments after `graph`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        for one in arguments {
            match one.as_str() {
                "--dot" => options.is_dot = true,
                flag if flag.starts_with("--") => return Err(format!("there is no option {flag}")),
                text if options.file.is_none() => options.file = Some(text.to_owned()),
                text if options.address.is_none() => options.address = Some(text.to_owned()),
                more => return Err(format!("{more} is one argument too many")),
            }
        }
        Ok(options)
    }
}

/// Draws.
///
/// # Errors
/// There is nothing to draw; the text says why.
pub fn graph(options: &Options) -> Result<String, String> {
    let drawing = match &options.file {
        None => Drawing::of(
            &json!({
                "environment_suffix": "prod",
                "primary": {"vpc_id": "vpc-primary", "allowed_security_group_ids": ["sg-primary"]},
                "dr": {"vpc_id": "vpc-dr", "allowed_security_group_ids": ["sg-dr"]},
                "components": {
                    "us-east-1/route/rtb-primary/10.1.0.0/16": "", "us-west-2/route/rtb-dr/10.0.0.0/16": "",
                },
            }),
            &Json::Null,
        )?,
        Some(file) => {
            let text = if file == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map(|_| text)
            } else {
                std::fs::read_to_string(file)
            };
            let text = text.map_err(|error| format!("{file} cannot be read: {error}"))?;
            let shown: Json = serde_json::from_str(&text).map_err(|error| {
                format!("{file} is not what `terraform show -json` prints: {error}")
            })?;
            let (address, values) = values(&shown, file, options.address.as_deref())?;
            let mut changes = shown["resource_changes"].as_array().into_iter().flatten();
            let of_this = |change: &&Json| change["address"] == *address;
            let unknown = changes.find(of_this).map(|one| &one["change"]["after_unknown"]);
            Drawing::of(values, unknown.unwrap_or(&Json::Null))?
        }
    };
    Ok(if options.is_dot { drawing.dot() } else { drawing.mermaid() })
}

/// Every cluster below a module, by its address.
fn clusters<'a>(module: &'a Json, found: &mut BTreeMap<&'a str, &'a Json>) {
    for one in module["resources"].as_array().into_iter().flatten() {
        if one["type"] == "trading_dr_cluster" && one["mode"] == "managed" {
            found.insert(one["address"].as_str().unwrap_or_default(), &one["values"]);
        }
    }
    for child in module["child_modules"].as_array().into_iter().flatten() {
        clusters(child, found);
    }
}

/// The one cluster that is meant.
fn values<'a>(
    shown: &'a Json,
    file: &str,
    address: Option<&str>,
) -> Result<(&'a str, &'a Json), String> {
    let mut found = BTreeMap::new();
    for part in ["values", "planned_values"] {
        clusters(&shown[part]["root_module"], &mut found);
    }
    let named = || found.keys().copied().collect::<Vec<_>>().join(", ");
    match (address, found.len()) {
        (_, 0) => Err(format!("there is no trading_dr_cluster in {file}")),
        (Some(address), _) => found
            .get_key_value(address)
            .map(|(address, values)| (*address, *values))
            .ok_or_else(|| format!("there is no {address} in {file}, only {}", named())),
        (None, 1) => found.into_iter().next().ok_or_else(String::new),
        (None, _) => Err(format!("which one? In {file} there are {}", named())),
    }
}

fn told(found: &Diagnostics) -> String {
    let texts = found.iter().map(|one| format!("{}: {}", one.summary, one.detail));
    texts.collect::<Vec<_>>().join("\n")
}

/// A value with what is known only after apply put back, which a plan leaves out: `unknown` is true there.
fn with_unknown(value: &Value, unknown: &Json) -> Value {
    match unknown {
        Json::Bool(true) => Value::Unknown,
        Json::Object(names) => {
            let empty = || Value::Mapping(BTreeMap::new());
            let object = if value.is_null() { empty() } else { value.clone() };
            let each = names.iter().filter(|(_, unknown)| has_unknown(unknown));
            each.fold(object.clone(), |made, (name, unknown)| {
                made.with(name, with_unknown(object.get(name), unknown))
            })
        }
        Json::Array(_) if has_unknown(unknown) => Value::Unknown,
        _ => value.clone(),
    }
}

fn has_unknown(unknown: &Json) -> bool {
    match unknown {
        Json::Bool(it) => *it,
        Json::Object(all) => all.values().any(has_unknown),
        Json::Array(all) => all.iter().any(has_unknown),
        _ => false,
    }
}

fn spec(values: &Json, unknown: &Json) -> Result<Spec, String> {
    let schema = cluster_schema::cluster();
    let value = from_json(values, &schema.object_type()).map_err(|error| error.to_string())?;
    let config = schema.with_defaults(&with_unknown(&value, unknown));
    match Draft::decode(&config, &Tags::new()) {
        Ok(Draft::Decided(spec)) => Ok(*spec),
        Ok(Draft::Undecided(argument)) => {
            Err(format!("{argument} is known only after apply, and what there is depends on it"))
        }
        Err(mistakes) => Err(told(&draft::diagnose(&mistakes))),
    }
}

/// The surroundings as far as the components of a state tell them: the tables that have routes, and where these lead.
fn surroundings(spec: &Spec, values: &Json) -> Surroundings {
    let mut surroundings = Surroundings::unknown(ACCOUNT, "aws");
    let components = values["components"].as_object();
    for address in components.into_iter().flatten().map(|(address, _)| address) {
        let mut parts = address.splitn(4, '/');
        let (Some(region), Some("route"), Some(table), Some(cidr)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        for site in Site::ALL.into_iter().filter(|site| spec.site(*site).region == region) {
            if let Some(network) = surroundings.networks.get_mut(&site) {
                network.route_tables.insert(table.to_owned());
            }
            if let (Some(other), Ok(cidr)) =
                (surroundings.networks.get_mut(&site.other()), cidr.parse())
                && !other.cidrs.contains(&cidr)
            {
                other.cidrs.push(cidr);
            }
        }
    }
    surroundings
}

/// A component in a drawing.
struct Node {
    address: Address,
    name: String,
    /// Those that it comes directly after.
    after: BTreeSet<Address>,
}

/// A cluster to be drawn.
struct Drawing {
    suffix: String,
    nodes: BTreeMap<Address, Node>,
}

impl Drawing {
    fn of(values: &Json, unknown: &Json) -> Result<Self, String> {
        let spec = spec(values, unknown)?;
        let scope = Scope {
            suffix: spec.suffix.to_string(),
            cluster_id: None,
            leaving: BTreeSet::new(),
            account: ACCOUNT.to_owned(),
            partition: "aws".to_owned(),
        };
        let blueprint = Blueprint::new(&spec, &surroundings(&spec, values), &scope);
        let there: BTreeMap<&Address, BTreeSet<&Address>> = blueprint
            .all()
            .map(|one| {
                let is_there = |address: &&Address| blueprint.get(address).is_some();
                (&one.address, one.depends_on.iter().filter(is_there).collect())
            })
            .collect();
        let mut before = BTreeMap::new();
        for address in there.keys() {
            ancestors(address, &there, &mut before);
        }
        let nodes = blueprint.all().map(|one| {
            let direct = &there[&one.address];
            // What is implied by another arrow is not drawn.
            let is_implied =
                |address: &&&Address| direct.iter().any(|other| before[*other].contains(**address));
            let after = direct.iter().filter(|one| !is_implied(one)).map(|one| (*one).clone());
            let (address, name) = (one.address.clone(), one.name.clone());
            (address.clone(), Node { address, name, after: after.collect() })
        });
        Ok(Self { suffix: scope.suffix, nodes: nodes.collect() })
    }

    /// The components by the place where they are.
    fn places(&self) -> BTreeMap<&str, Vec<&Node>> {
        let mut places = BTreeMap::<_, Vec<_>>::new();
        for node in self.nodes.values() {
            places.entry(node.address.place()).or_default().push(node);
        }
        places
    }

    fn mermaid(&self) -> String {
        let ids: BTreeMap<&Address, usize> =
            self.nodes.keys().enumerate().map(|(index, address)| (address, index)).collect();
        let (count, suffix) = (self.nodes.len(), &self.suffix);
        let mut text = format!(
            "%% cluster {suffix}: {count} components; an arrow leads from what is made first to what needs it\n\
             flowchart LR\n"
        );
        for (index, (place, nodes)) in self.places().into_iter().enumerate() {
            let _ = writeln!(text, "  subgraph p{index}[\"{place}\"]");
            for node in nodes {
                let (kind, name) = (node.address.kind(), node.name.replace('"', "#quot;"));
                let _ = writeln!(text, "    n{}[\"{kind}<br/>{name}\"]", ids[&node.address]);
            }
            text.push_str("  end\n");
        }
        for node in self.nodes.values() {
            for before in &node.after {
                let _ = writeln!(text, "  n{} --> n{}", ids[before], ids[&node.address]);
            }
        }
        text
    }

    fn dot(&self) -> String {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = format!(
            "// An arrow leads from what is made first to what needs it.\ndigraph \"{}\" {{\n  rankdir=LR;\n  \
             node [shape=box];\n",
            self.suffix
        );
        for (place, nodes) in self.places() {
            let _ = writeln!(text, "  subgraph \"cluster_{place}\" {{\n    label=\"{place}\";");
            for node in nodes {
                let (address, kind) = (quoted(node.address.as_str()), node.address.kind());
                let name = quoted(&node.name);
                let _ = writeln!(text, "    \"{address}\" [label=\"{kind}\\n{name}\"];");
            }
            text.push_str("  }\n");
        }
        for node in self.nodes.values() {
            let to = quoted(node.address.as_str());
            for from in &node.after {
                let _ = writeln!(text, "  \"{}\" -> \"{to}\";", quoted(from.as_str()));
            }
        }
        text.push_str("}\n");
        text
    }
}

/// Notes everything that comes before a component.
fn ancestors<'a>(
    address: &'a Address,
    there: &BTreeMap<&'a Address, BTreeSet<&'a Address>>,
    known: &mut BTreeMap<&'a Address, BTreeSet<&'a Address>>,
) {
    if known.contains_key(address) {
        return;
    }
    let mut all = BTreeSet::new();
    for one in &there[address] {
        ancestors(one, there, known);
        all.insert(*one);
        all.extend(known[one].iter().copied());
    }
    known.insert(address, all);
}
