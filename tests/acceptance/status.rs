//! `terraform-provider-trading status`, from a terminal without a configuration.

use aws_sandbox::{Effect, Fault, Rule};
use serde_json::{Value as Json, json};

use crate::support::terraform::{Ran, Served, Workspace, cluster};

#[test]
fn a_cluster_is_shown_as_it_is() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let status = |workspace: &Workspace, more: &[&str]| -> Ran {
        workspace.start_by_hand(&[&["status"], more].concat()).wait()
    };
    let ran = status(&workspace, &["prod"]);
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(ran.err.contains("There is no cluster prod in us-west-2"), "{}", ran.err);
    assert!(ran.err.contains("ask for `prod/<primary region>/<dr region>`"), "{}", ran.err);

    workspace.apply().must_succeed();
    served.sandbox.forget_calls();
    let ran = status(&workspace, &["prod"]);
    assert!(ran.out.starts_with("prod: available\n"), "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("us-east-1 (primary)  "), "{}", ran.out);
    assert!(ran.out.contains("  writes: trading-db-primary-prod."), "{}", ran.out);
    assert!(ran.out.contains("  does not write: trading-db-replica-prod."), "{}", ran.out);
    let changing =
        |name: &str| !["Get", "Describe", "List", "Query"].iter().any(|one| name.starts_with(one));
    let calls = served.sandbox.calls();
    assert!(!calls.is_empty() && !calls.iter().any(|call| changing(&call.operation)), "{calls:?}");

    // No monitor runs here, and that is what is on.
    let silent = "trading-db-monitor-silent-prod";
    served.until(600, "their silence is noticed", |world| {
        world.inventory()["us-west-2"]["alarm"][silent]["StateValue"] == "ALARM"
    });
    let ran = status(&workspace, &["prod"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains(&format!("us-west-2/{silent}")), "{}", ran.out);
    for region in ["us-east-1", "us-west-2"] {
        served.sandbox.with(|world| world.drift(region, "alarm", silent, None)).unwrap();
    }

    // The same as JSON, for a program.
    let ran = status(&workspace, &["--json", "prod/us-east-1/us-west-2"]);
    let shown: Json = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown["writer_region"], "us-east-1");
    assert_eq!((ran.code, &shown["alarms"]), (0, &json!([])), "{}", ran.err);

    // Alarms that nobody tells are not taken for none.
    let rule = Rule { operation: Some("DescribeAlarms".into()), ..Rule::default() };
    served.sandbox.add_fault(Fault::new(rule, Effect::Throttle));
    let ran = status(&workspace, &["prod"]);
    assert!(ran.code == 1 && ran.out.contains("none that is known"), "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("Warning: Alarms in us-west-2 could not be looked at"), "{}", ran.err);
    served.sandbox.clear_faults();

    // A region that is gone is said, and what the other one knows is shown all the same.
    served.sandbox.set_down("us-east-1", true);
    let ran = status(&workspace, &["prod"]);
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.starts_with("prod: unknown\n"), "{}", ran.out);
    assert!(ran.err.contains("Warning: us-east-1 does not answer"), "{}", ran.err);
    served.sandbox.set_down("us-east-1", false);
    served.sandbox.set_down("us-west-2", true);
    let ran = status(&workspace, &["prod"]);
    assert!(
        ran.code == 2 && ran.err.contains("in us-west-2 did not answer"),
        "{}\n{}",
        ran.out,
        ran.err
    );
    served.sandbox.set_down("us-west-2", false);

    let ran = status(&workspace, &["prod", "--yaml"]);
    assert!(ran.code == 2 && ran.err.contains("there is no option --yaml"), "{}", ran.err);
    let ran = status(&workspace, &["--help"]);
    assert!(ran.code == 0 && ran.out.starts_with("Usage: "), "{}", ran.out);
    workspace.variable("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE0001");
    let ran = status(&workspace, &["prod"]);
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(ran.err.starts_with("Error: "), "{}", ran.err);
    workspace.variable("AWS_ACCESS_KEY_ID", aws_sandbox::ACCESS_KEY);
    workspace.destroy().must_succeed();
}
