//! A cluster as it is, for somebody at a terminal: what the data source knows, without a configuration.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    checks, cluster_schema,
    connect::Configured,
    data_source::MOMENTS,
    overview::{self, Seen},
    read,
};
use crate::{
    cluster::names::Suffix,
    plugin::{CancellationToken, Context, Diagnostics, Path, Severity, Value},
};

/// How it is used.
pub const USAGE: &str = "\
Usage: terraform-provider-trading status [--json] SUFFIX[/PRIMARY-REGION/DR-REGION]

Shows a cluster as it is: who writes, how far behind the standby is, alarms that are on, the last drill and the last
failover. It needs no configuration, only reads (about a dozen calls), and never reads a password. Credentials are found
where every AWS tool finds them; docs/data-sources/dr_cluster.md has the policy that they need.

  SUFFIX   the cluster's environment suffix; with its regions where they are not us-east-1 and us-west-2
  --json   as JSON, with the attributes of the data source trading_dr_cluster

It ends with 0 if the cluster is available, no alarm is on, and everybody answered within 20 s; with 1 if not; with 2 if
it could not be looked at, as while the DR region, where its record is, does not answer.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    suffix: Suffix,
    primary: String,
    dr: String,
    is_json: bool,
}

impl Options {
    /// From the arguments after `status`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut id, mut is_json) = (None, false);
        for one in arguments {
            match one.as_str() {
                "--json" => is_json = true,
                flag if flag.starts_with('-') => return Err(format!("there is no option {flag}")),
                text if id.is_none() => id = Some(text.to_owned()),
                more => return Err(format!("{more} is one argument too many")),
            }
        }
        let id = id.ok_or("of which cluster? Its environment suffix is missing")?;
        let Some((suffix, primary, dr)) = read::parse_id(&id) else {
            return Err(format!("{id} is neither a suffix nor SUFFIX/PRIMARY-REGION/DR-REGION"));
        };
        let mut found = Diagnostics::new();
        for region in [primary, dr] {
            checks::region(&Value::string(region), &Path::root(), &mut found);
        }
        if let Some(wrong) = found.iter().next() {
            return Err(format!("{id}: {}", wrong.detail));
        }
        Ok(Self { suffix, primary: primary.to_owned(), dr: dr.to_owned(), is_json })
    }
}

/// A cluster as it was found.
#[derive(Debug)]
pub struct Report {
    /// What to show.
    pub text: String,
    /// What could not be found out, and what somebody should know.
    pub warnings: String,
    /// Whether it is available, and no alarm is on.
    pub is_well: bool,
}

/// Looks.
///
/// # Errors
/// There is no such cluster, or it could not be looked at; the text says why.
pub async fn status(options: &Options) -> Result<Report, String> {
    let Seen { found, is_whole } = look(options).await.map_err(|found| told(&found))?;
    let state = found.state.unwrap_or(Value::Null);
    let text =
        if options.is_json { format!("{:#}\n", state.to_json()) } else { shown(&state, is_whole) };
    let is_well = is_whole && is_well(&state);
    Ok(Report { text, warnings: told(&found.diagnostics), is_well })
}

fn is_well(state: &Value) -> bool {
    state.get("status").as_str() == Some("available") && state.get("alarms").items().is_empty()
}

async fn look(options: &Options) -> Result<Seen, Diagnostics> {
    let nothing = Value::Mapping(BTreeMap::new());
    let configured =
        Configured::connect(&super::configuration::schema().with_defaults(&nothing), None).await?;
    let config = nothing
        .with("environment_suffix", Value::string(options.suffix.as_str()))
        .with("primary_region", Value::string(options.primary.as_str()))
        .with("dr_region", Value::string(options.dr.as_str()));
    let context = Context { cancel: CancellationToken::new() };
    overview::read(
        &configured,
        &cluster_schema::cluster(),
        &context,
        config,
        |suffix, primary, dr| format!("ask for `{suffix}/{primary}/{dr}`"),
    )
    .await
}

/// Messages as a terminal shows them.
fn told(found: &Diagnostics) -> String {
    let mut text = String::new();
    for one in found.iter() {
        let word = if one.severity == Severity::Error { "Error" } else { "Warning" };
        let _ = writeln!(text, "{word}: {}\n  {}", one.summary, one.detail.replace('\n', "\n  "));
    }
    text
}

/// A line for each thing that somebody asks first. Where not everybody answered, what is not there is not known.
fn shown(state: &Value, is_whole: bool) -> String {
    let text = |name: &str| state.get(name).as_str();
    let number = |name: &str| match state.get(name) {
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |what: &str, said: String| lines.push((what.to_owned(), said));
    let port = number("port").unwrap_or_default();
    line("endpoint", format!("{}:{port}", text("endpoint").unwrap_or("not known")));
    let writer = text("writer_region");
    let sites = [
        ("primary", text("primary_region"), text("primary_endpoint")),
        ("dr", text("dr_region"), text("replica_endpoint")),
    ];
    for (site, region, endpoint) in sites {
        let role = match writer {
            Some(writer) if Some(writer) == region => "writes",
            Some(_) => "does not write",
            None => "role not known",
        };
        let endpoint = endpoint.unwrap_or("no instance is known");
        line(&format!("{} ({site})", region.unwrap_or_default()), format!("{role}: {endpoint}"));
    }
    let behind = number("replica_lag_seconds").map(|lag| format!("{lag} s by RDS"));
    let age = number("heartbeat_age_seconds").map(|age| format!("{age} s by its newest heartbeat"));
    let both: Vec<String> = behind.into_iter().chain(age).collect();
    let nothing = "nobody says".to_owned();
    line("standby behind", if both.is_empty() { nothing } else { both.join(", ") });
    line("failover", text("phase").unwrap_or("no monitor has run yet").to_owned());
    let alarms: Vec<_> = state.get("alarms").items().iter().filter_map(Value::as_str).collect();
    let none = if is_whole { "none" } else { "none that is known: not everybody answered" };
    line("alarms on", if alarms.is_empty() { none.into() } else { alarms.join(", ") });
    let last = state.get("last_failover");
    if !last.is_null() {
        for (moment, _) in MOMENTS {
            if let Some(at) = last.get(moment).as_str() {
                line(&format!("last failover: {}", moment.replace('_', " ")), at.to_owned());
            }
        }
        for name in ["seconds", "data_loss_seconds"] {
            if let Value::Number(seconds) = last.get(name) {
                let what = if name == "seconds" { "took" } else { "lost at most" };
                line(&format!("last failover: {what}"), format!("{seconds} s"));
            }
        }
    }
    for (name, said) in state.get("recovery").entries() {
        line(&name.replace('_', " "), said.as_str().unwrap_or_default().to_owned());
    }
    let width = lines.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    let mut shown = format!(
        "{}: {}\n",
        text("environment_suffix").unwrap_or_default(),
        text("status").unwrap_or("not known")
    );
    for (what, said) in lines {
        let _ = writeln!(shown, "  {what:<width$}  {said}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(&arguments.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_a_suffix_or_one_with_its_regions() {
        assert!(!parsed(&["prod"]).unwrap().is_json);
        assert!(parsed(&["--json", "prod/eu-west-1/eu-central-1"]).unwrap().is_json);
        assert!(parsed(&[]).unwrap_err().contains("suffix is missing"));
        assert!(parsed(&["Prod"]).unwrap_err().contains("Prod is neither"));
        assert!(parsed(&["prod/eu-west-1"]).unwrap_err().contains("is neither"));
        assert!(parsed(&["prod/here/there"]).unwrap_err().contains("as us-east-1 is"));
        assert!(parsed(&["--yaml", "prod"]).unwrap_err().contains("no option --yaml"));
        assert!(parsed(&["prod", "dev"]).unwrap_err().contains("one argument too many"));
    }

    #[test]
    fn what_nobody_knows_is_said_to_be_so() {
        let empty = Value::Mapping(BTreeMap::new());
        let state = empty
            .with("environment_suffix", Value::string("prod"))
            .with("status", Value::string("unknown"))
            .with("primary_region", Value::string("us-east-1"))
            .with("dr_region", Value::string("us-west-2"));
        assert!(!is_well(&state));
        let state = state.with("status", Value::string("available"));
        assert!(is_well(&state) && shown(&state, true).contains("alarms on            none\n"));
        let on = state.clone().with("alarms", Value::strings(["us-west-2/trading-db-cpu-prod"]));
        assert!(!is_well(&on), "an alarm is on");
        let state = state.with("status", Value::string("unknown"));
        let shown = shown(&state, false);
        assert!(shown.contains("none that is known"), "{shown}");
        assert!(shown.starts_with("prod: unknown\n"), "{shown}");
        assert!(
            shown.contains("us-east-1 (primary)  role not known: no instance is known"),
            "{shown}"
        );
        assert!(shown.contains("standby behind       nobody says"), "{shown}");
    }
}
