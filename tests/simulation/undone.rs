//! What somebody does to a cluster behind its back, short of removing it: deletions that can be called off, tags that
//! are taken away, a record that is overwritten. And what cannot be noted or ended in time.

use std::{collections::BTreeSet, time::Duration};

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::{Value as Json, json};

use super::drift::id_of;
use crate::support::{
    agent::{EAST, WEST, WITNESS},
    aws::{connect, pass, simulate},
    user::{Deed, User, change, configuration, differences, errors, lines},
};

const SUFFIX: &str = "trading-dr:environment-suffix";

fn record(sandbox: &Sandbox, region: &str, kind: &str, id: &str) -> Json {
    sandbox.with(|world| world.record(region, kind, id))
}

fn drift(user: &User, region: &str, kind: &str, id: &str, change: &Json) {
    user.sandbox.with(|world| world.drift(region, kind, id, Some(change))).unwrap();
}

/// The tagging API knows of a change after a while only, once somebody has called since.
async fn settle(user: &User) {
    user.sandbox.with(|_| ());
    pass(60).await;
}

#[test]
fn the_deletion_of_a_key_is_shown_and_called_off() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let keys = [EAST, WEST].map(|region| (region, id_of(&user, region, "kms-key")));
        for (region, key) in &keys {
            let kms = connect(&user.sandbox).await.region(region).kms.clone();
            let call = kms.schedule_key_deletion().key_id(key).pending_window_in_days(7);
            call.send().await.unwrap();
        }
        user.restart().await;
        user.refresh().await;
        let planned = user.must_plan(&config).await;
        let shown = differences(user.state.value.as_ref().unwrap(), &planned);
        for (region, _) in &keys {
            let line = format!("components {region}/kms-key");
            let told = shown
                .iter()
                .any(|one| one.contains(&line) && one.contains("pending deletion on 2026-"));
            assert!(told, "{shown:#?}");
        }
        user.must_apply(&config).await;
        for (region, key) in &keys {
            let record = record(&user.sandbox, region, "kms-key", key);
            assert_eq!(record["KeyState"], "Enabled", "{region}: {record:#}");
        }
        pass(600).await;
        user.must_be_unchanged(&config).await;
        // A destroy is not confused by one that is pending already.
        let kms = connect(&user.sandbox).await.region(WITNESS).kms.clone();
        let key = id_of(&user, WITNESS, "kms-key");
        kms.schedule_key_deletion().key_id(key).pending_window_in_days(30).send().await.unwrap();
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_secret_that_was_deleted_is_had_back_with_its_login() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let name = "trading-db-master-prod";
        let before = record(&user.sandbox, EAST, "secret", name);
        let secrets = connect(&user.sandbox).await.region(EAST).secrets.clone();
        let call = secrets.remove_regions_from_replication().secret_id(name);
        call.remove_replica_regions(WEST).send().await.unwrap();
        pass(120).await;
        secrets.delete_secret().secret_id(name).recovery_window_in_days(7).send().await.unwrap();
        user.restart().await;
        user.must_apply(&config).await;
        let after = record(&user.sandbox, EAST, "secret", name);
        assert_eq!(after["DeletedDate"], Json::Null, "{after:#}");
        assert_eq!(after["ARN"], before["ARN"]);
        assert_eq!(after["_value"], before["_value"]);
        assert_eq!(record(&user.sandbox, WEST, "secret", name)["_value"], before["_value"]);
        // It does not go after all when its time would have come.
        pass(8 * 86_400).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_destroy_begins_only_when_it_is_clear_whose_everything_is() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        let key = id_of(&user, WEST, "kms-key");
        let stripped = [
            (WEST, "kms-key", key.as_str(), "us-west-2/kms-key"),
            (EAST, "secret", "trading-db-master-prod", "us-east-1/secret/master"),
            (EAST, "sns-topic", "trading-db-alerts-prod", "us-east-1/sns-topic"),
        ];
        let tag = |value: Json| json!({"_tags": {SUFFIX: value}});
        for (region, kind, id, _) in stripped {
            drift(&user, region, kind, id, &tag(Json::Null));
        }
        settle(&user).await;
        user.sandbox.forget_calls();
        let found = errors(&user.destroy().await);
        for (.., address) in stripped {
            let told = found.iter().find(|one| one.contains(address));
            assert!(told.is_some_and(|one| one.contains(SUFFIX)), "{address}: {found:#?}");
        }
        assert_eq!(found.len(), stripped.len(), "{found:#?}");
        let removed = user.sandbox.calls().into_iter().any(|call| {
            call.operation.starts_with("Delete") && !call.operation.starts_with("DeleteParameter")
        });
        assert!(!removed, "nothing is removed before");
        for (region, kind, id, _) in &stripped[..2] {
            drift(&user, region, kind, id, &tag("prod".into()));
        }
        // One is handed over to somebody else: it stays, and that is said.
        let (region, kind, id, address) = stripped[2];
        drift(&user, region, kind, id, &tag("others".into()));
        settle(&user).await;
        let found = user.destroy().await;
        assert!(!found.has_errors(), "{:#?}", lines(&found));
        let told = lines(&found);
        assert!(told.iter().any(|one| one.contains(address)), "{told:#?}");
        assert_ne!(record(&user.sandbox, region, kind, id), Json::Null);
        assert_eq!(record(&user.sandbox, WEST, "kms-key", &key)["KeyState"], "PendingDeletion");
    });
}

#[test]
fn a_log_group_with_tags_of_somebody_else_is_theirs() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let name = "/aws/rds/instance/trading-db-primary-prod/postgresql";
        drift(&user, EAST, "log-group", name, &json!({"_tags": {SUFFIX: null, "team": "audit"}}));
        settle(&user).await;
        user.restart().await;
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found.iter().any(|one| one.contains("log-group/postgresql")), "{found:#?}");
        let tags = record(&user.sandbox, EAST, "log-group", name)["_tags"].clone();
        assert_eq!(tags["team"], "audit");
    });
}

#[test]
fn a_record_that_makes_no_sense_is_an_error_and_no_cluster_is_forgotten() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        for nonsense in ["", "{}", "{\"cluster_id\": \"\"}", "not json"] {
            let change = json!({"Value": nonsense});
            drift(&user, WEST, "ssm-parameter", "/trading-db/prod/cluster", &change);
            user.restart().await;
            let before = user.state.value.clone();
            let found = errors(&user.refresh().await);
            assert!(found.iter().any(|one| one.contains("/trading-db/prod/cluster")), "{found:#?}");
            assert_eq!(user.state.value, before, "{nonsense:?}");
            assert!(user.plan(&config).await.diagnostics.has_errors());
            assert!(user.destroy().await.has_errors());
        }
    });
}

/// How many parameters are put before the one that notes the end of a create.
async fn parameters_before_the_note() -> u64 {
    let mut user = User::new().await;
    let config = configuration(&user.sandbox);
    user.must_apply(&config).await;
    let calls = user.sandbox.calls();
    let put = calls.iter().filter(|call| call.operation == "PutParameter");
    let names = put.map(|call| call.parameters["Name"].as_str().unwrap_or_default().to_owned());
    let before = names.take_while(|name| !name.ends_with("/complete")).count();
    u64::try_from(before).unwrap()
}

#[test]
fn a_create_whose_end_cannot_be_noted_is_finished_and_noted_later() {
    simulate(async || {
        let before = parameters_before_the_note().await;
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let rule = Rule {
            operation: Some("PutParameter".into()),
            after: before,
            times: Some(1),
            ..Rule::default()
        };
        let (code, message) = ("AccessDeniedException".to_owned(), "not now".to_owned());
        user.sandbox.add_fault(Fault::new(rule, Effect::Fail { code, message, status: 400 }));
        let found = user.apply(&config).await;
        assert!(!found.has_errors(), "{:#?}", lines(&found));
        let told = lines(&found);
        assert!(told.iter().any(|one| one.contains("could not be noted")), "{told:#?}");
        let noted = |user: &User| {
            let found = record(&user.sandbox, WEST, "ssm-parameter", "/trading-db/prod/complete");
            !found.is_null()
        };
        assert!(!noted(&user));
        user.restart().await;
        user.refresh().await;
        let planned = user.must_plan(&config).await;
        let shown = differences(user.state.value.as_ref().unwrap(), &planned);
        assert!(shown.iter().any(|one| one.contains("status")), "{shown:#?}");
        assert!(!shown.iter().any(|one| one.contains("components")), "{shown:#?}");
        user.must_apply(&config).await;
        assert!(noted(&user));
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn an_error_that_leaves_a_create_tainted_says_how_to_go_on() {
    simulate(async || {
        // Whatever fails, once something is made: also what is no change of a component.
        let (code, message) = ("UnauthorizedOperation".to_owned(), "denied".to_owned());
        let denial = Effect::Fail { code, message, status: 403 };
        let denied = |operation: &str, after: u64| {
            let rule = Rule { operation: Some(operation.into()), after, ..Rule::default() };
            Fault::new(rule, denial.clone())
        };
        // The plan and the apply look at what is there, and the apply again after the changes.
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        let calls = user.sandbox.calls();
        let before = calls.iter().take_while(|call| call.operation != "CreateDBInstance");
        let looks = before.filter(|call| call.operation == "DescribeDBSubnetGroups").count();
        let looks = u64::try_from(looks).unwrap();
        for (operation, after) in [("CreateDBInstance", 0), ("DescribeDBSubnetGroups", looks)] {
            let mut user = User::new().await;
            let config = configuration(&user.sandbox);
            user.sandbox.add_fault(denied(operation, after));
            let found = errors(&user.apply(&config).await);
            let made = user.sandbox.calls().into_iter();
            let made = made.filter(|call| call.operation.starts_with("Create")).count();
            assert!(made > 10 && user.state.value.is_some(), "{operation}: {made} {found:#?}");
            let told = found.iter().all(|one| one.contains("terraform untaint"));
            assert!(!found.is_empty() && told, "{operation}: {found:#?}");
        }
    });
}

#[test]
fn an_interrupt_ends_within_ten_seconds_while_nothing_answers() {
    simulate(async || {
        for (deed, seconds) in [
            (Deed::Create, 30),
            (Deed::Create, 300),
            (Deed::Create, 1500),
            (Deed::Update, 20),
            (Deed::Update, 300),
            (Deed::Destroy, 20),
            (Deed::Destroy, 120),
            (Deed::Destroy, 400),
        ] {
            let (mut user, mut config) = match deed {
                Deed::Create => {
                    let user = User::new().await;
                    let config = configuration(&user.sandbox);
                    (user, config)
                }
                Deed::Update | Deed::Destroy => User::with_cluster().await,
            };
            if deed == Deed::Update {
                change(&mut config);
            }
            let (sandbox, cancel) = (user.sandbox.clone(), user.cancel.clone());
            let interrupted = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                sandbox.add_fault(Fault::new(Rule::default(), Effect::Hang));
                tokio::time::sleep(Duration::from_secs(40)).await;
                cancel.cancel();
                tokio::time::Instant::now()
            });
            let found = match deed {
                Deed::Create | Deed::Update => user.apply(&config).await,
                Deed::Destroy => user.destroy().await,
            };
            let ended = tokio::time::Instant::now();
            let took = ended.duration_since(interrupted.await.unwrap());
            assert!(found.has_errors(), "{deed:?} after {seconds} s");
            assert!(took <= Duration::from_secs(10), "{deed:?} after {seconds} s: {took:?}");
            assert!(user.state.value.is_some(), "what was begun is in the state");
            // It goes on from there.
            user.sandbox.clear_faults();
            user.restart().await;
            if deed != Deed::Destroy {
                // One follows the advice of the error, the others have it built anew.
                let goes_on = seconds == 1500;
                user.state.tainted &= !goes_on;
                user.must_apply(&config).await;
                user.must_be_unchanged(&config).await;
                let made = user.sandbox.calls().into_iter().filter(|call| call.error.is_none());
                let made = made.filter(|call| call.operation == "CreateDBInstance").count();
                assert!(!goes_on || made == 1, "{deed:?} after {seconds} s: {made} databases");
            }
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_timeout_ends_within_ten_seconds_while_nothing_answers() {
    simulate(async || {
        for (deed, argument) in
            [(Deed::Create, "create"), (Deed::Update, "update"), (Deed::Destroy, "delete")]
        {
            let mut user = User::new().await;
            let mut config = configuration(&user.sandbox);
            if deed != Deed::Create {
                config["timeouts"] = json!({"update": "6m", "delete": "6m"});
                user.must_apply(&config).await;
            }
            if deed == Deed::Update {
                change(&mut config);
            }
            config["timeouts"] = json!({argument: "6m"});
            let sandbox = user.sandbox.clone();
            let silent = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(330)).await;
                sandbox.add_fault(Fault::new(Rule::default(), Effect::Hang));
            });
            let begun = tokio::time::Instant::now();
            let found = match deed {
                Deed::Create | Deed::Update => user.apply(&config).await,
                Deed::Destroy => user.destroy().await,
            };
            let took = begun.elapsed();
            silent.await.unwrap();
            assert!(found.has_errors(), "{deed:?}");
            let limit = Duration::from_secs(360);
            let most = limit + Duration::from_secs(10);
            assert!((limit..most).contains(&took), "{deed:?}: {took:?}");
            assert!(user.state.value.is_some(), "what was begun is in the state");
            // It goes on from there.
            user.sandbox.clear_faults();
            user.restart().await;
            config["timeouts"] = Json::Null;
            if deed == Deed::Destroy {
                // Its time is that of the state.
                for _ in 0..10 {
                    user.restart().await;
                    if !user.destroy().await.has_errors() {
                        break;
                    }
                }
                assert_eq!(user.leftovers(), Vec::<String>::new());
            } else {
                user.state.tainted = false;
                user.must_apply(&config).await;
                user.must_be_unchanged(&config).await;
            }
        }
    });
}

/// Kinds of which AWS deletes nothing while an instance uses it; what other tests lose: bookkeeping, and rows of tables
/// of routes.
const NOT_DELETED: [&str; 6] = [
    "db-parameter-group",
    "db-subnet-group",
    "kms-key",
    "route",
    "security-group",
    "ssm-parameter",
];

/// One of each kind in each region: whatever kinds there will be, each is deleted here.
#[test]
fn whatever_is_deleted_behind_terraforms_back_is_planned_and_made_again() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        let ours = made.leftovers();
        let mut tried = BTreeSet::new();
        let mut wrong = Vec::new();
        for one in &ours {
            let (region, rest) = one.split_once('/').unwrap();
            let (kind, id) = rest.split_once('/').unwrap();
            if NOT_DELETED.contains(&kind) || !tried.insert((region, kind)) {
                continue;
            }
            let mut user = User::of(Sandbox::with_world(made.sandbox.world(), 1.0)).await;
            user.state = made.state.clone();
            // What is in both regions goes in both.
            let is_shared = ["secret", "vpc-peering-connection"].contains(&kind);
            let regions = if is_shared { vec![EAST, WEST] } else { vec![region] };
            for region in regions {
                user.sandbox.with(|world| world.drift(region, kind, id, None)).unwrap();
            }
            settle(&user).await;
            let before = user.state.value.clone().unwrap();
            let planned = user.plan(&config).await;
            let found = errors(&planned.diagnostics);
            let shown = differences(&before, user.state.value.as_ref().unwrap());
            // Dashboards are of no region, and each shows one.
            let place =
                if is_shared || kind == "dashboard" { "us-" } else { &format!("{region}/") };
            let place = format!("components {place}");
            let is_shown =
                shown.iter().any(|line| line.starts_with(&place) && line.ends_with("→ null"));
            if (region, kind) == (EAST, "db-instance") {
                // The replica holds the only copy then.
                assert!(found.iter().any(|one| one.contains("Promote the replica")), "{found:#?}");
                continue;
            }
            if !found.is_empty() || !is_shown {
                wrong.push(format!("{one} is planned as {shown:#?} {found:#?}"));
                continue;
            }
            let found = errors(&user.apply(&config).await);
            if !found.is_empty() {
                wrong.push(format!("{one} is not made again: {found:#?}"));
                continue;
            }
            user.must_be_unchanged(&config).await;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(tried.len() > 30, "{tried:?}");
    });
}

/// Where a record was, only its health check remembers, until the next record is made.
#[test]
fn a_record_that_is_wrongly_said_to_be_gone_is_not_left_in_its_old_zone() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["dns"] = json!({"name": "db.orders.example"});
        let (operation, times) = (Some("ChangeResourceRecordSets".into()), Some(1));
        let rule = Rule { operation, times, ..Rule::default() };
        let (code, message) = ("NoSuchHostedZone".into(), "no such zone".into());
        user.sandbox.add_fault(Fault::new(rule, Effect::Fail { code, message, status: 404 }));
        let found = errors(&user.apply(&config).await);
        assert!(found[0].contains("route53:ChangeResourceRecordSets"), "{found:#?}");
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let zones = user.sandbox.with(|world| world.inventory())["global"]["hosted-zone"].clone();
        assert_eq!(zones.as_object().unwrap().len(), 1, "{zones:#}");
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}
