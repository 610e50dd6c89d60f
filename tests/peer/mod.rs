//! hashicorp/aws, a client that nobody here wrote, manages the same stack as separate resources on the simulated AWS.
//! Its waits are real time, so this is run by `make peer`, and where a mirror has the provider.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::{Value as Json, json};

use crate::support::terraform::{Served, Workspace};

/// The one release that the stack is written for and the figures are of.
pub const VERSION: &str = "5.100.0";
const PLACE: &str = "registry.terraform.io/hashicorp/aws";
const STACK: &str = include_str!("stack.tf");
const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

/// A folder with the provider, as zips or unpacked: the one that `AWS_PROVIDER_MIRROR` names, one of those that
/// Terraform looks into by itself, or one in /opt.
fn mirror() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("AWS_PROVIDER_MIRROR") {
        let named = PathBuf::from(named);
        assert!(has(&named), "AWS_PROVIDER_MIRROR: {} has no {VERSION}", named.display());
        return Some(named);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut places = vec![
        home.join(".terraform.d/plugins"),
        "/usr/local/share/terraform/plugins".into(),
        "/usr/share/terraform/plugins".into(),
    ];
    let optional = std::fs::read_dir("/opt").into_iter().flatten().flatten();
    places.extend(optional.map(|entry| entry.path()));
    places.into_iter().find(|place| has(place))
}

fn has(mirror: &Path) -> bool {
    let all = std::fs::read_dir(mirror.join(PLACE)).into_iter().flatten().flatten();
    let zip = format!("terraform-provider-aws_{VERSION}_");
    all.map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| name == VERSION || name.starts_with(&zip))
}

/// The provider's program, where `terraform init` has put it or a link to it.
fn program(workspace: &Workspace) -> PathBuf {
    let version = workspace.path(".terraform/providers").join(PLACE).join(VERSION);
    let platform = std::fs::read_dir(version).unwrap().next().unwrap().unwrap().path();
    let programs = std::fs::read_dir(platform).unwrap().flatten().map(|entry| entry.path());
    let is_program = |path: &PathBuf| path.to_string_lossy().contains("terraform-provider-aws");
    programs.into_iter().find(is_program).unwrap()
}

/// The stack in a folder of its own.
pub struct Stack {
    pub workspace: Workspace,
    /// The provider's program.
    pub binary: PathBuf,
}

impl Stack {
    /// None where no mirror has the provider; that is said.
    pub fn new(served: &Served) -> Option<Self> {
        let Some(mirror) = mirror() else {
            eprintln!(
                "LEFT OUT: no mirror has hashicorp/aws {VERSION}; AWS_PROVIDER_MIRROR names a folder that has"
            );
            return None;
        };
        let workspace = Workspace::bare(served);
        workspace.install_from(&format!("filesystem_mirror {{\n path = {mirror:?}\n }}"));
        std::fs::write(workspace.path("stack.tf"), STACK).unwrap();
        let mut network = served.sandbox.with(|world| world.network());
        network.as_object_mut().unwrap().remove("hosted_zone");
        let function = workspace.path("agent.zip");
        workspace.run(&["init", "-no-color"]).must_succeed();
        let stack = Self { binary: program(&workspace), workspace };
        stack.set(&json!({"network": network, "function_zip": function}));
        Some(stack)
    }

    /// Sets variables, and leaves the others as they are.
    fn set(&self, variables: &Json) {
        let path = self.workspace.path("peer.auto.tfvars.json");
        let old = std::fs::read_to_string(&path).unwrap_or_else(|_| "{}".into());
        let mut all: Json = serde_json::from_str(&old).unwrap();
        all.as_object_mut().unwrap().extend(variables.as_object().unwrap().clone());
        std::fs::write(path, all.to_string()).unwrap();
    }

    /// The addresses that a plan would change, each with what it would do.
    fn planned(&self) -> BTreeSet<String> {
        let ran = self.workspace.run(&["plan", "-no-color", "-out=planned"]).must_succeed();
        let shown = self.workspace.run(&["show", "-json", "planned"]).must_succeed();
        let plan: Json = serde_json::from_str(&shown.out).unwrap();
        let changes = plan["resource_changes"].as_array().unwrap_or_else(|| panic!("{}", ran.out));
        let words = |change: &Json| {
            let all = change["change"]["actions"].as_array().into_iter().flatten();
            all.filter_map(Json::as_str).collect::<Vec<_>>().join("+")
        };
        changes
            .iter()
            .map(|change| (words(change), change["address"].as_str().unwrap_or_default()))
            .filter(|(words, _)| words != "no-op" && words != "read")
            .map(|(words, address)| format!("{words} {address}"))
            .collect()
    }
}

/// What is changed behind Terraform's back: region, kind, name, the change (none: removed), and what the plan is to say.
fn drifts(
    served: &Served,
) -> Vec<(&'static str, &'static str, String, Option<Json>, &'static str)> {
    let inventory = served.sandbox.with(|world| world.inventory());
    let only = |region: &str, kind: &str, has: &str| {
        let table = inventory[region][kind].as_object().unwrap();
        let found =
            table.iter().find(|(id, one)| id.contains(has) || one.to_string().contains(has));
        found.unwrap_or_else(|| panic!("no {kind} with {has} in {region}")).0.clone()
    };
    let named = |name: &str| format!("trading-db-{name}-peer");
    vec![
        (
            EAST,
            "kms-key",
            only(EAST, "kms-key", "Storage"),
            Some(json!({"_rotation": false})),
            "update aws_kms_key.primary",
        ),
        (
            WEST,
            "kms-alias",
            only(WEST, "kms-alias", "trading-db-key"),
            None,
            "create aws_kms_alias.dr",
        ),
        (
            WEST,
            "alarm",
            named("cpu"),
            Some(json!({"Threshold": 99.0})),
            "update aws_cloudwatch_metric_alarm.cpu",
        ),
        (WEST, "alarm", named("replica-lag"), None, "create aws_cloudwatch_metric_alarm.lag"),
        (
            EAST,
            "db-instance",
            named("primary"),
            Some(json!({"BackupRetentionPeriod": 1})),
            "update aws_db_instance.primary",
        ),
        (
            WEST,
            "db-instance",
            named("replica"),
            Some(json!({"CopyTagsToSnapshot": false})),
            "update aws_db_instance.replica",
        ),
        (
            WEST,
            "function",
            named("monitor"),
            Some(json!({"MemorySize": 128, "_reserved": null})),
            "update aws_lambda_function.monitor",
        ),
        (
            WEST,
            "event-rule",
            named("monitor"),
            Some(json!({"State": "DISABLED"})),
            "update aws_cloudwatch_event_rule.monitor",
        ),
        (
            WEST,
            "dynamodb-table",
            named("ledger"),
            Some(json!({"_recovery_days": null})),
            // Terraform reads the policy's document during the apply only, as it depends on what changes.
            "update aws_dynamodb_table.ledger, update aws_iam_role_policy.monitor",
        ),
        (
            WEST,
            "ssm-parameter",
            "/trading/dr/peer/claim".into(),
            Some(json!({"Value": "{}"})),
            "update aws_ssm_parameter.claim",
        ),
        (
            EAST,
            "log-group",
            "/aws/rds/instance/trading-db-primary-peer/upgrade".into(),
            Some(json!({"retentionInDays": 1})),
            "update aws_cloudwatch_log_group.database[\"upgrade\"]",
        ),
        // Both of its rules.
        (
            WEST,
            "security-group",
            only(WEST, "security-group", named("sg").as_str()),
            Some(json!({"_rules": []})),
            "create aws_vpc_security_group_egress_rule.dr, create aws_vpc_security_group_ingress_rule.dr",
        ),
    ]
}

#[test]
#[ignore = "waits in real time; run by make peer"]
fn hashicorp_aws_applies_the_stack_finds_nothing_puts_drift_back_and_destroys() {
    let served = Served::new();
    let Some(stack) = Stack::new(&served) else { return };
    let at = std::time::Instant::now();
    let told = |what: &str| eprintln!("{:>5} s  {what}", at.elapsed().as_secs());
    stack.workspace.apply().must_succeed();
    told("applied");
    stack.workspace.must_be_unchanged();
    told("nothing to change");

    let mut expected = BTreeSet::new();
    for (region, kind, id, change, plan) in drifts(&served) {
        served.sandbox.with(|world| world.drift(region, kind, &id, change.as_ref())).unwrap();
        expected.extend(plan.split(", ").map(str::to_owned));
    }
    assert_eq!(stack.planned(), expected);
    stack.workspace.run(&["apply", "-no-color", "planned"]).must_succeed();
    told("drift is put back");
    stack.workspace.must_be_unchanged();

    stack.set(&json!({"cpu_percent": 70}));
    assert_eq!(
        stack.planned(),
        BTreeSet::from(["update aws_cloudwatch_metric_alarm.cpu".to_owned()])
    );
    stack.workspace.run(&["apply", "-no-color", "planned"]).must_succeed();
    told("one line is changed");

    stack.workspace.destroy().must_succeed();
    // Ending their replication leaves what was replicated, and this client ends it only (RDS guide, "Replicating automated backups to another AWS Region").
    let left = served.leftovers();
    // So does the replica of a secret: this client deletes the primary at once, while the replica is still being removed,
    // which was observed on AWS to leave it there as a secret of its own.
    let is_known = |one: &String| {
        one.starts_with("us-west-2/db-automated-backup/")
            || one == "us-west-2/secret/trading-db-master-peer"
    };
    assert!(left.len() == 2 && left.iter().all(is_known), "{left:?}");
    told("destroyed; the replicated backups and the secret's replica stay behind");
}
