//! The agent through the SDK against the sandbox: a region is lost, and the cluster fails over.

use std::time::Duration;

use aws_sandbox::{CallRecord, Effect, Fault, Rule, Sandbox};
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use serde_json::{Value as Json, json};
use trading::{agent::Ledger, cluster::failover::Phase};

use crate::support::{
    agent::{EAST, LEDGER, PROBE_GROUP, WEST, WITNESS, alarm, begin, lease, ledger, set_lost},
    aws::{pass, simulate},
    user::{User, differences, errors, lines},
};

/// What a client in the DR region gets for the cluster's name.
pub fn answers(sandbox: &Sandbox) -> Vec<String> {
    let found = sandbox.with(|world| {
        let vpc = world.network()[WEST]["vpc_id"].as_str().unwrap().to_owned();
        world.resolve(&vpc, "db.trading-db-prod.internal")
    });
    found.into_iter().map(|(target, _)| target).collect()
}

fn endpoint(user: &User, name: &str) -> String {
    user.state.value.as_ref().unwrap().get(name).as_str().unwrap().to_owned()
}

/// The rules by which anybody but the probe reaches a region's database.
pub fn doors(sandbox: &Sandbox, region: &str) -> Vec<String> {
    let all = sandbox.with(|world| world.doors(region, "trading-db-sg-prod"));
    let probe = sandbox.with(|world| world.group_id(region, PROBE_GROUP));
    all.into_iter().filter(|source| *source != probe).collect()
}

#[test]
fn a_lost_region_is_failed_over_within_the_budget_and_stays_so_when_it_comes_back() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        assert_eq!(ledger(&user.sandbox, EAST)["held"], true, "{}", ledger(&user.sandbox, EAST));
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
        assert_eq!(lease(&user.sandbox)["holder"]["S"], EAST);
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "primary_endpoint")]);

        user.sandbox.forget_calls();
        set_lost(&user.sandbox, EAST, true);
        pass(255).await;
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        assert_eq!(lease(&user.sandbox)["holder"]["S"], WEST);
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "replica_endpoint")]);
        assert!(after["data_loss"].as_u64().is_some_and(|seconds| seconds <= 50), "{after}");
        // Nothing on the way needed the lost region, nor what is changed there for all others.
        let needed: Vec<_> = user
            .sandbox
            .calls()
            .into_iter()
            .filter(|call| call.error.is_none())
            .filter(|call| call.region == EAST || ["iam", "route53"].contains(&&*call.service))
            .collect();
        assert!(needed.is_empty(), "{needed:#?}");

        // At 3 a.m., a plan says who writes.
        user.restart().await;
        let found = lines(&user.plan(&config).await.diagnostics);
        let said = "By the monitors in us-west-2, the cluster has failed over";
        assert!(found.iter().any(|one| one.contains(said)), "{found:#?}");

        set_lost(&user.sandbox, EAST, false);
        user.sandbox.forget_calls();
        pass(150).await;
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new(), "the old writer is closed");
        assert!(!doors(&user.sandbox, WEST).is_empty());
        pass(3600).await;
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "replica_endpoint")]);
        assert_eq!(ledger(&user.sandbox, WEST)["fenced_there"], true);
        // Sessions outlive their rule: one reboot ends them, once nobody new gets in.
        let calls = user.sandbox.calls();
        let done = |operation: &str| -> Vec<usize> {
            let here = calls.iter().enumerate().filter(|(_, call)| call.region == EAST);
            let here = here.filter(|(_, call)| call.operation == operation && call.error.is_none());
            here.map(|(index, _)| index).collect()
        };
        let (closed, ended) = (done("RevokeSecurityGroupIngress"), done("RebootDBInstance"));
        assert_eq!(ended.len(), 1, "{ended:?}");
        assert!(closed.iter().all(|at| *at < ended[0]), "{closed:?}");
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        let told: Vec<String> = told.iter().map(|one| one["subject"].to_string()).collect();
        assert!(told.iter().any(|one| one.contains("has failed over")), "{told:?}");
        // The old writer says what only it has: it was written to once more before it was closed.
        let told = user.sandbox.with(|world| world.messages(EAST, "trading-db-alerts-prod"));
        let told: Vec<String> = told.iter().map(|one| one["message"].to_string()).collect();
        let told: Vec<String> = told.into_iter().filter(|one| one.contains("kept out")).collect();
        let left = |one: &String| {
            one.contains("has its writes until 2026-01-05T") && one.contains("nothing is merged")
        };
        assert!(told.iter().any(left), "{told:#?}");

        // The plan shows the new reality and opens nothing again.
        user.restart().await;
        let planned = user.plan(&config).await;
        let warnings = lines(&planned.diagnostics);
        assert!(warnings.iter().any(|one| one.contains("us-west-2 writes")), "{warnings:#?}");
        user.must_apply(&config).await;
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new());
        // What it took and lost is measured, and held against the objectives.
        let recovery = user.state.value.as_ref().unwrap().get("recovery").clone();
        let took = after["timeline"].as_array().unwrap();
        let at = |what: &str| took.iter().find(|one| one["what"] == what).unwrap()["at"].as_u64();
        let seconds = (at("first_write").unwrap() - at("first_failure").unwrap()) / 1000;
        let lost = after["data_loss"].as_u64().unwrap() + 10;
        let shown =
            format!("the standby wrote after {seconds} s; at most {lost} s of writes were lost");
        let last = recovery.get("last_failover").as_str().unwrap_or_default();
        assert!(last.ends_with(&shown), "{recovery:?} {shown}");
        assert_eq!(recovery.get("at_risk").as_str(), Some("no"));

        // One that took too long is told, unless a human had asked for it.
        let mut body = ledger(&user.sandbox, WEST);
        let moments = body["timeline"].as_array_mut().unwrap();
        let late = moments.iter_mut().find(|one| one["what"] == "first_write").unwrap();
        late["at"] = json!(at("first_failure").unwrap() + 400_000);
        for (is_asked, risk) in [(false, "yes: the last failover took 400 of 300 s"), (true, "no")]
        {
            if is_asked {
                let asked = json!({"what": "asked_for", "at": at("first_failure")});
                body["timeline"].as_array_mut().unwrap().push(asked);
            }
            let item = json!({"body": {"S": body.to_string()}});
            let change = json!({"_items": {"prod\u{1}ledger": item}});
            let table = "trading-db-ledger-prod";
            user.sandbox
                .with(|world| world.drift(WEST, "dynamodb-table", table, Some(&change)))
                .unwrap();
            user.restart().await;
            let warned = lines(&user.plan(&config).await.diagnostics);
            let told = warned.iter().any(|one| one.contains("has missed its objectives"));
            assert_eq!(told, !is_asked, "{warned:#?}");
            let recovery = user.state.value.as_ref().unwrap().get("recovery").clone();
            assert_eq!(recovery.get("at_risk").as_str(), Some(risk));
        }
    });
}

#[test]
fn a_region_that_is_cut_off_closes_itself_and_the_message_says_so() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        let cut = |on: bool| {
            user.sandbox.with(|world| {
                world.set_cut(EAST, WEST, on);
                world.set_cut(EAST, WITNESS, on);
            });
        };
        cut(true);
        pass(58).await;
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new(), "it closed itself");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal", "before anybody is promoted");
        pass(210).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        let told: Vec<String> = told.iter().map(|one| one["message"].to_string()).collect();
        assert!(told.iter().any(|one| one.contains("was only cut off")), "{told:#?}");
        cut(false);
        pass(600).await;
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new(), "it stays closed");
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "replica_endpoint")]);
    });
}

#[test]
fn a_zone_that_fails_over_promotes_nothing_and_neither_does_a_busy_hour() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        let rds = crate::support::aws::connect(&user.sandbox).await.region(EAST).rds.clone();
        let reboot = rds.reboot_db_instance().db_instance_identifier("trading-db-primary-prod");
        reboot.force_failover(true).send().await.unwrap();
        pass(600).await;
        for region in [EAST, WEST] {
            assert_eq!(ledger(&user.sandbox, region)["phase"], "normal");
        }
        assert_eq!(lease(&user.sandbox)["holder"]["S"], EAST);
        assert!(!doors(&user.sandbox, EAST).is_empty());
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "primary_endpoint")]);
    });
}

#[test]
fn a_standby_that_is_promoted_by_hand_while_the_writer_lives_is_told_as_two_writers() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        let rds = crate::support::aws::connect(&user.sandbox).await.region(WEST).rds.clone();
        let promote = rds.promote_read_replica().db_instance_identifier("trading-db-replica-prod");
        promote.send().await.unwrap();
        pass(900).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "diverged");
        assert_eq!(alarm(&user.sandbox, WEST, "failover-withheld"), "ALARM");
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        let told: Vec<String> = told.iter().map(|one| one["message"].to_string()).collect();
        assert!(told.iter().any(|one| one.contains("two instances take writes")), "{told:#?}");
        // The name and the doors stay where they are.
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "primary_endpoint")]);
        assert!(!doors(&user.sandbox, EAST).is_empty());

        // Terraform says the same, and changes neither.
        user.restart().await;
        let planned = user.plan(&config).await;
        let warnings = lines(&planned.diagnostics);
        let said = "Two instances take writes, in us-east-1 and in us-west-2";
        assert!(warnings.iter().any(|one| one.contains(said)), "{warnings:#?}");
        assert!(!warnings.iter().any(|one| one.contains("has failed over")), "{warnings:#?}");
        let state = user.state.value.clone().unwrap();
        assert_eq!(state.get("status").as_str(), Some("diverged"));
        assert_eq!(state.get("writer_region").as_str(), Some(EAST));
        assert_eq!(differences(&state, &planned.state.unwrap()), Vec::<String>::new());
    });
}

#[test]
fn a_writer_that_is_lost_while_its_region_answers_is_closed_first() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        user.sandbox.forget_calls();
        // The instance hangs: RDS says that it is available, and nobody can connect.
        user.sandbox.with(|world| world.set_dark(EAST, true));
        pass(300).await;
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        let moments: Vec<&str> = after["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["what"].as_str().unwrap())
            .collect();
        assert_eq!(moments[..4], ["first_failure", "decided", "lease_taken", "accepted"]);
        let calls = user.sandbox.calls();
        let at = |operation: &str| calls.iter().position(|call| call.operation == operation);
        assert!(at("RevokeSecurityGroupIngress") < at("PromoteReadReplica"), "closed first");
        assert!(at("PromoteReadReplica") < at("RebootDBInstance"), "its sessions are ended");
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new(), "closed before the promotion");
    });
}

/// A fence is waited for: applications and the other region's network lose their way in by one call. EC2 takes all rules
/// of a call or none.
#[test]
fn a_fence_closes_for_everybody_and_what_ec2_does_not_take_keeps_it_open_for_nobody_else() {
    // What EC2 says to the first calls, and how many it takes until the writer is closed.
    let troubles = [
        (None, 0, 1..=1),
        (Some("InvalidPermission.NotFound"), 1, 3..=3),
        (Some("InvalidParameterValue"), 2, 4..=5),
    ];
    simulate(async || {
        for (code, times, expected) in troubles {
            let (user, _) = User::with_cluster().await;
            begin(&user.sandbox);
            pass(200).await;
            assert_eq!(doors(&user.sandbox, EAST).len(), 2);
            user.sandbox.forget_calls();
            if let Some(code) = code {
                let operation = Some("RevokeSecurityGroupIngress".into());
                let rule = Rule { operation, times: Some(times), ..Rule::default() };
                let (code, message) = (code.to_owned(), "It is refused.".to_owned());
                let refused = Effect::Fail { status: 400, code, message };
                user.sandbox.add_fault(Fault::new(rule, refused));
            }
            user.sandbox.with(|world| world.set_dark(EAST, true));
            pass(300).await;
            assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new(), "{code:?}");
            assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted", "{code:?}");
            let calls = user.sandbox.calls();
            let closing = |call: &&CallRecord| call.operation == "RevokeSecurityGroupIngress";
            let tries = calls.iter().filter(closing).count();
            assert!(expected.contains(&tries), "{code:?}: {tries}");
        }
    });
}

#[test]
fn a_hold_and_a_destroy_keep_the_monitors_from_acting() {
    simulate(async || {
        for intent in
            [json!({"destroying": {"BOOL": true}}), json!({"hold_until": {"N": "99999999999999"}})]
        {
            let (user, _) = User::with_cluster().await;
            begin(&user.sandbox);
            pass(200).await;
            let mut item = json!({"cluster": {"S": "prod"}, "item": {"S": "intent"}});
            item.as_object_mut().unwrap().extend(intent.as_object().unwrap().clone());
            user.sandbox.with(|world| world.put_item(WEST, LEDGER, "prod", "intent", item));
            set_lost(&user.sandbox, EAST, true);
            pass(900).await;
            let phase: Json = ledger(&user.sandbox, WEST)["phase"].clone();
            assert!(phase == "normal" || phase == "destroying", "{phase}");
            assert_eq!(answers(&user.sandbox), [endpoint(&user, "primary_endpoint")]);
        }
    });
}

#[test]
fn a_database_that_an_apply_restarts_is_not_taken_for_lost() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        user.sandbox.forget_calls();
        // Without a standby in another zone to take over, it would be gone for longer than the patience.
        config["database"] = json!({"instance_class": "db.t3.large"});
        user.must_apply(&config).await;
        let calls = user.sandbox.calls();
        let at = |operation: &str, words: &str| {
            calls.iter().position(|call| {
                call.operation == operation && call.parameters.to_string().contains(words)
            })
        };
        let (held, changed) =
            (at("UpdateItem", "hold_until"), at("ModifyDBInstance", "db.t3.large"));
        assert!(held.is_some() && held < changed, "{held:?} {changed:?}");
        assert!(at("PromoteReadReplica", "").is_none());
        for region in [EAST, WEST] {
            assert_eq!(ledger(&user.sandbox, region)["phase"], "normal");
            let intent = user.sandbox.with(|world| world.item(region, LEDGER, "prod", "intent"));
            assert!(intent["hold_until"].is_null(), "{region} goes on waiting: {intent}");
        }
        // And it is guarded again.
        set_lost(&user.sandbox, EAST, true);
        pass(255).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
    });
}

#[test]
fn a_destroy_tells_the_monitors_first_and_leaves_nothing() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        user.sandbox.forget_calls();
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
        let calls = user.sandbox.calls();
        let told = |call: &CallRecord| call.parameters.to_string().contains("destroying");
        let removes = |call: &CallRecord| {
            // Leases that an apply has left are tidied up before.
            call.operation.starts_with("Delete") && !call.operation.contains("Parameter")
        };
        let removed = calls.iter().position(removes);
        assert!(calls.iter().position(told) < removed, "told before anything is removed");
        assert!(!calls.iter().any(|call| call.operation == "PromoteReadReplica"));
    });
}

#[test]
fn a_destroy_that_was_given_up_is_shown_and_undone_by_an_apply() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let refusal = Effect::Fail {
            code: "AccessDeniedException".into(),
            message: "not authorized".into(),
            status: 403,
        };
        let rule = Rule { operation: Some("DeleteRule".into()), ..Rule::default() };
        user.sandbox.add_fault(Fault::new(rule, refusal));
        assert!(user.destroy().await.has_errors());
        user.sandbox.clear_faults();
        let planned = user.must_plan(&config).await;
        let shown = differences(user.state.value.as_ref().unwrap(), &planned);
        let told = shown.iter().filter(|one| one.contains("cluster=being removed"));
        assert_eq!(told.count(), 2, "the ledger of each region: {shown:#?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        begin(&user.sandbox);
        pass(200).await;
        set_lost(&user.sandbox, EAST, true);
        pass(255).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
    });
}

#[test]
fn a_new_agent_is_an_update_of_its_functions_and_a_missing_one_is_told() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let before = user.state.value.clone().unwrap();
        user.restart_with(Some(b"PK another".to_vec())).await;
        let planned = user.must_plan(&config).await;
        let changed = differences(before.get("components"), planned.get("components"));
        let names: Vec<_> = changed.iter().map(|one| one.split(':').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "us-east-1/lambda-function/monitor",
                "us-east-1/lambda-function/probe",
                "us-west-2/lambda-function/copier",
                "us-west-2/lambda-function/drill",
                "us-west-2/lambda-function/monitor",
                "us-west-2/lambda-function/probe",
            ]
        );
        user.restart_with(None).await;
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found.len() == 1 && found[0].contains("TRADING_AGENT_ZIP"), "{found:#?}");
        // To look and to destroy, it is not needed.
        assert!(!user.refresh().await.has_errors());
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// What the monitors of a region have written down, in their own words.
pub fn write_down(user: &User, region: &str, ledger: &Ledger) {
    let body = serde_json::to_string(ledger).unwrap();
    let item = json!({
        "cluster": {"S": "prod"}, "item": {"S": "ledger"}, "version": {"N": "7"}, "body": {"S": body},
    });
    user.sandbox.with(|world| world.put_item(region, LEDGER, "prod", "ledger", item));
}

#[test]
fn an_apply_opens_nothing_that_the_monitors_have_closed() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let closed_here = vec!["a rule".to_owned()];
        write_down(&user, EAST, &Ledger { closed_here, ..Ledger::default() });
        let group = user.sandbox.with(|world| world.group_id(EAST, "trading-db-sg-prod"));
        let closed = json!({"_rules": []});
        user.sandbox
            .with(|world| world.drift(EAST, "security-group", &group, Some(&closed)))
            .unwrap();
        let found = user.apply(&config).await;
        assert!(errors(&found).is_empty(), "{:#?}", errors(&found));
        let planned = user.plan(&config).await;
        let told = lines(&planned.diagnostics);
        assert!(told.iter().any(|one| one.contains("keep applications out")), "{told:#?}");
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new());
        // Once they let applications in again, what is missing is put back.
        write_down(&user, EAST, &Ledger::default());
        user.must_apply(&config).await;
        assert!(!doors(&user.sandbox, EAST).is_empty());
    });
}

#[test]
fn an_apply_changes_no_instance_while_a_failover_is_under_way() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        for phase in [Phase::Promoting, Phase::Accepted] {
            write_down(&user, WEST, &Ledger { phase, ..Ledger::default() });
            config["database"] = json!({"instance_class": "db.t3.large"});
            user.sandbox.forget_calls();
            let planned = user.plan(&config).await;
            let told = lines(&planned.diagnostics);
            assert!(told.iter().any(|one| one.contains("failover is under way")), "{told:#?}");
            user.must_apply(&config).await;
            let calls = user.sandbox.calls();
            assert!(!calls.iter().any(|call| call.operation == "ModifyDBInstance"), "{phase:?}");
        }
    });
}

#[test]
fn what_somebody_else_holds_stays_held() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let hold = |until: u64| json!({"cluster": {"S": "prod"}, "item": {"S": "intent"}, "hold_until": {"N": until.to_string()}});
        let now = user.sandbox.now().0;
        // One for longer than the apply may take, one for an hour.
        let (long, short) = (now + 48 * 3_600_000, now + 3_600_000);
        user.sandbox.with(|world| world.put_item(EAST, LEDGER, "prod", "intent", hold(long)));
        user.sandbox.with(|world| world.put_item(WEST, LEDGER, "prod", "intent", hold(short)));
        config["database"] = json!({"instance_class": "db.t3.large"});
        user.must_apply(&config).await;
        for (region, until) in [(EAST, long), (WEST, short)] {
            let intent = user.sandbox.with(|world| world.item(region, LEDGER, "prod", "intent"));
            assert_eq!(intent["hold_until"]["N"], until.to_string(), "{region}");
            assert!(intent["held_by"].is_null(), "{intent}");
        }
    });
}

#[test]
fn a_hold_outlives_an_apply_that_fails_and_ends_with_the_one_that_finishes() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let refusal = Effect::Fail {
            code: "AccessDenied".into(),
            message: "not authorized".into(),
            status: 403,
        };
        let rule = Rule { operation: Some("ModifyDBInstance".into()), ..Rule::default() };
        user.sandbox.add_fault(Fault::new(rule, refusal));
        config["database"] = json!({"instance_class": "db.t3.large"});
        let found = user.apply(&config).await;
        assert!(found.has_errors());
        let told = lines(&found);
        assert!(told.iter().any(|one| one.contains("until the next apply is done")), "{told:#?}");
        let holder = |user: &User| {
            let item = user.sandbox.with(|world| world.item(WEST, LEDGER, "prod", "intent"));
            item["held_by"]["S"].as_str().map(str::to_owned)
        };
        assert_eq!(holder(&user).as_deref(), Some("apply"));
        user.sandbox.clear_faults();
        user.must_apply(&config).await;
        assert_eq!(holder(&user), None);
    });
}

/// Asks the monitor in the DR region, as its README has it.
pub(super) async fn ask(user: &User, question: &Json) -> Result<Json, String> {
    let aws = crate::support::aws::connect(&user.sandbox).await;
    let lambda = &aws.region(WEST).lambda;
    let call = lambda.invoke().function_name("trading-db-monitor-prod");
    let payload = aws_sdk_lambda::primitives::Blob::new(question.to_string());
    // Many clients wait for a minute, and ask again then.
    let minute =
        TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(60)).build();
    let minute = aws_sdk_lambda::config::Builder::new().timeout_config(minute);
    let call = call.payload(payload).customize().config_override(minute);
    let answer = call.send().await.expect("an answer within a minute");
    let body = answer.payload().unwrap().as_ref();
    if answer.function_error().is_some() {
        return Err(String::from_utf8_lossy(body).into_owned());
    }
    Ok(serde_json::from_slice(body).unwrap())
}

#[test]
fn in_manual_mode_a_human_asks_and_is_refused_while_the_writer_writes() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = crate::support::user::configuration(&user.sandbox);
        config["failover"] = json!({"mode": "manual"});
        user.must_apply(&config).await;
        begin(&user.sandbox);
        pass(200).await;
        let question = json!({"action": "failover"});
        let refused = ask(&user, &question).await.unwrap_err();
        assert!(refused.contains("the writer takes writes"), "{refused}");
        set_lost(&user.sandbox, EAST, true);
        pass(600).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal", "nobody has asked");
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        assert!(!told.is_empty(), "somebody was told");
        ask(&user, &question).await.unwrap();
        pass(180).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        assert_eq!(answers(&user.sandbox), [endpoint(&user, "replica_endpoint")]);
    });
}
