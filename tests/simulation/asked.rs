//! Failovers that a human asks for while something that they need is missing; and what tells of that beforehand.

use aws_sandbox::{Effect, Fault, Rule, Sandbox, World};
use serde_json::json;

use super::{agent::ask, runbooks::run};
use crate::support::{
    agent::{EAST, LEDGER, PROBE_GROUP, WEST, WITNESS, alarm, begin, lease, ledger, set_lost},
    aws::{pass, simulate},
    traffic,
    user::User,
};

/// Whether anybody but the probe reaches a region's database.
pub(super) fn is_open(sandbox: &Sandbox, region: &str) -> bool {
    let all = sandbox.with(|world| world.doors(region, "trading-db-sg-prod"));
    let probe = sandbox.with(|world| world.group_id(region, PROBE_GROUP));
    all.into_iter().any(|source| source != probe)
}

fn messages(sandbox: &Sandbox) -> Vec<String> {
    let told = sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
    told.iter().map(|one| format!("{}: {}", one["subject"], one["message"])).collect()
}

fn fault(service: &str, operation: Option<&str>, region: &str) -> Fault {
    let rule = Rule {
        service: Some(service.into()),
        operation: operation.map(Into::into),
        region: Some(region.into()),
        ..Rule::default()
    };
    let code = "ServiceUnavailable".to_owned();
    Fault::new(rule, Effect::Fail { status: 503, code, message: "Service unavailable.".into() })
}

async fn watched() -> User {
    let (user, _) = User::with_cluster().await;
    begin(&user.sandbox);
    pass(200).await;
    user
}

/// The same in manual mode.
async fn watched_by_hand() -> User {
    let (mut user, mut config) = User::with_cluster().await;
    config["failover"] = json!({"mode": "manual"});
    user.must_apply(&config).await;
    begin(&user.sandbox);
    pass(200).await;
    user
}

#[test]
fn force_does_without_the_witness_and_a_region_that_are_both_lost() {
    simulate(async || {
        let user = watched().await;
        user.sandbox.with(World::record_traffic);
        set_lost(&user.sandbox, EAST, true);
        set_lost(&user.sandbox, WITNESS, true);
        pass(400).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal", "not by itself");
        let refused = run(&user.sandbox, WEST, "failover", &[]).await;
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("say force"), "{why}");
        run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        let moments = after["timeline"].as_array().unwrap();
        assert!(moments.iter().any(|one| one["what"] == "asked_for"), "{after:#}");

        // The witness is back before anybody has told it who writes.
        set_lost(&user.sandbox, WITNESS, false);
        set_lost(&user.sandbox, EAST, false);
        pass(300).await;
        assert_eq!(lease(&user.sandbox)["holder"]["S"], WEST);
        assert!(!is_open(&user.sandbox, EAST), "the old writer is closed");
        assert!(is_open(&user.sandbox, WEST));

        // Asked in the wrong region, the old one would take over again with what it had, and close the other.
        let refused = run(&user.sandbox, EAST, "failover", &[("Force", "true")]).await;
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("us-east-1 was overtaken: us-west-2 has the writer"), "{why}");
        // Where the witness does not say so, the other region does.
        set_lost(&user.sandbox, WITNESS, true);
        let refused = run(&user.sandbox, EAST, "failover", &[("Force", "true")]).await;
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("us-east-1 was overtaken"), "{why}");
        set_lost(&user.sandbox, WITNESS, false);
        pass(120).await;
        assert_eq!(lease(&user.sandbox)["holder"]["S"], WEST);
        assert!(is_open(&user.sandbox, WEST));
        traffic::keep("forced", &[&user.sandbox]);
    });
}

/// It would count as overtaken, were it promoted by hand.
#[test]
fn a_standby_that_could_not_note_that_it_gave_the_lease_back_notes_it_later() {
    simulate(async || {
        let user = watched().await;
        let item =
            |sandbox: &Sandbox| sandbox.with(|world| world.item(WEST, LEDGER, "prod", "ledger"));
        let mut left = item(&user.sandbox);
        let mut body = ledger(&user.sandbox, WEST);
        assert_eq!(body["held"], false);
        body["held"] = true.into();
        left["body"]["S"] = body.to_string().into();
        user.sandbox.with(|world| world.put_item(WEST, LEDGER, "prod", "ledger", left));
        pass(30).await;
        assert_eq!(ledger(&user.sandbox, WEST)["held"], false);
        assert_eq!(lease(&user.sandbox)["holder"]["S"], EAST);
    });
}

#[test]
fn a_writer_that_lives_closes_itself_when_its_cluster_is_failed_over_without_the_witness() {
    simulate(async || {
        let user = watched().await;
        set_lost(&user.sandbox, WITNESS, true);
        run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        assert!(after["data_loss"].as_u64().is_some_and(|loss| loss <= 10), "{after:#}");
        assert!(!is_open(&user.sandbox, EAST));
        set_lost(&user.sandbox, WITNESS, false);
        for _ in 0..60 {
            pass(10).await;
            assert!(!is_open(&user.sandbox, EAST), "it stays closed");
        }
        assert_eq!(lease(&user.sandbox)["holder"]["S"], WEST);
    });
}

#[test]
fn what_a_human_asked_for_in_vain_is_called_off_and_force_goes_on_without_closing_the_writer() {
    simulate(async || {
        let user = watched_by_hand().await;
        // The writer is lost, and its region does not let it be closed.
        let state = json!({"DBInstanceStatus": "failed"});
        let primary = "trading-db-primary-prod";
        user.sandbox.with(|world| world.drift(EAST, "db-instance", primary, Some(&state))).unwrap();
        user.sandbox.add_fault(fault("ec2", Some("RevokeSecurityGroupIngress"), EAST));
        let vain = run(&user.sandbox, WEST, "failover", &[]).await;
        assert!(vain.failure_message.unwrap_or_default().contains("WaitUntilItWrites"));
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "normal", "{after:#}");
        assert_eq!(lease(&user.sandbox)["holder"]["S"], EAST);
        let told = messages(&user.sandbox);
        assert!(told.iter().any(|one| one.contains("called off")), "{told:#?}");

        run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        assert_eq!(after["unclosed_there"], true);
        // It is told as long as it cannot be closed, and closed as soon as it can.
        pass(60).await;
        let told = messages(&user.sandbox);
        assert!(told.iter().any(|one| one.contains("cannot be closed")), "{told:#?}");
        user.sandbox.clear_faults();
        pass(60).await;
        assert!(!is_open(&user.sandbox, EAST));
    });
}

#[test]
fn a_failover_of_a_writer_that_failed_is_not_called_off_while_rds_refuses_it() {
    simulate(async || {
        let user = watched_by_hand().await;
        // Nobody gets in any more, and RDS goes on calling it available.
        let (primary, replica) = ("trading-db-primary-prod", "trading-db-replica-prod");
        let dead = json!({"_hangs": true});
        user.sandbox.with(|world| world.drift(EAST, "db-instance", primary, Some(&dead))).unwrap();
        let state = json!({"DBInstanceStatus": "backing-up"});
        user.sandbox.with(|world| world.drift(WEST, "db-instance", replica, Some(&state))).unwrap();
        pass(120).await;
        run(&user.sandbox, WEST, "failover", &[]).await;
        pass(300).await;
        assert_eq!(
            ledger(&user.sandbox, WEST)["phase"],
            "promoting",
            "for longer than ten minutes"
        );
        let state = json!({"DBInstanceStatus": "available"});
        user.sandbox.with(|world| world.drift(WEST, "db-instance", replica, Some(&state))).unwrap();
        pass(300).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
    });
}

/// Ten seconds after ten seconds until something is over, with what is looked at each time.
async fn beside(what: impl Future<Output = ()>, mut look: impl FnMut()) {
    let mut what = std::pin::pin!(what);
    loop {
        let pause = std::pin::pin!(pass(10));
        match futures::future::select(what.as_mut(), pause).await {
            futures::future::Either::Left(_) => return,
            futures::future::Either::Right(_) => look(),
        }
    }
}

#[test]
fn a_writer_that_lives_stays_open_until_rds_would_promote_the_standby() {
    stays_open(&[]);
}

/// Its guard then asks the other region, which says that a failover has begun.
#[test]
fn it_stays_open_also_where_the_witness_is_silent() {
    stays_open(&[WITNESS]);
}

fn stays_open(lost: &'static [&'static str]) {
    simulate(async || {
        let user = watched().await;
        for region in lost {
            set_lost(&user.sandbox, region, true);
        }
        let replica = "trading-db-replica-prod";
        let state = json!({"DBInstanceStatus": "backing-up"});
        user.sandbox.with(|world| world.drift(WEST, "db-instance", replica, Some(&state))).unwrap();
        let mut looks = 0;
        let asked = async {
            let vain = run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
            assert!(vain.failure_message.unwrap_or_default().contains("WaitUntilItWrites"));
        };
        beside(asked, || {
            looks += 1;
            assert!(is_open(&user.sandbox, EAST));
            assert_eq!(lease(&user.sandbox)["holder"]["S"], EAST);
        })
        .await;
        assert!(looks > 60, "it is waited for: {looks}");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
        let told = messages(&user.sandbox);
        let about = told.iter().find(|one| one.contains("called off")).expect("it is told");
        assert!(about.contains("for ten minutes, RDS has the standby as backing-up"), "{about}");
        // As soon as it is available, it is done.
        let state = json!({"DBInstanceStatus": "available"});
        user.sandbox.with(|world| world.drift(WEST, "db-instance", replica, Some(&state))).unwrap();
        run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
    });
}

#[test]
fn a_failover_by_hand_that_rds_refuses_is_called_off_and_the_writer_opens_again() {
    simulate(async || {
        let user = watched().await;
        let mut refused = fault("rds", Some("PromoteReadReplica"), WEST);
        let code = "InvalidDBInstanceState".to_owned();
        refused.effect = Effect::Fail { status: 400, code, message: "Not now.".into() };
        user.sandbox.add_fault(refused);
        let asked = async {
            let vain = run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
            assert!(vain.failure_message.unwrap_or_default().contains("WaitUntilItWrites"));
        };
        let (begun, mut phases) = (user.sandbox.now().0, Vec::new());
        beside(asked, || {
            let phase = ledger(&user.sandbox, WEST)["phase"].as_str().unwrap().to_owned();
            phases.push(((user.sandbox.now().0 - begun) / 1000, phase));
        })
        .await;
        pass(120).await;
        for (at, phase) in phases {
            let wanted = if at < 590 { "promoting" } else { "normal" };
            assert!(at < 30 || (590..660).contains(&at) || phase == wanted, "{at}: {phase}");
        }
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
        let told = messages(&user.sandbox);
        let about = told.iter().find(|one| one.contains("called off")).expect("it is told");
        assert!(about.contains("RDS did not promote the standby"), "{about}");
        assert!(is_open(&user.sandbox, EAST), "the writer is open again");
        assert_eq!(lease(&user.sandbox)["holder"]["S"], EAST);
    });
}

#[test]
fn force_in_the_region_that_has_the_writer_changes_nothing_though_the_witness_is_silent() {
    simulate(async || {
        let user = watched().await;
        set_lost(&user.sandbox, WITNESS, true);
        let refused = run(&user.sandbox, EAST, "failover", &[("Force", "true")]).await;
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("us-east-1 has the writer; ask in the other region"), "{why}");
        assert_eq!(ledger(&user.sandbox, EAST)["phase"], "normal");
        set_lost(&user.sandbox, WITNESS, false);
        pass(120).await;
        assert!(is_open(&user.sandbox, EAST));
        let renewed = lease(&user.sandbox)["beat"].clone();
        assert!(renewed.is_object(), "{renewed}");
        pass(60).await;
        assert_ne!(lease(&user.sandbox)["beat"], renewed, "it is guarded as before");
    });
}

#[test]
fn force_takes_over_a_failover_that_waits_with_the_lease() {
    simulate(async || {
        let user = watched().await;
        user.sandbox.add_fault(fault("ec2", Some("RevokeSecurityGroupIngress"), EAST));
        let state = json!({"DBInstanceStatus": "failed"});
        let primary = "trading-db-primary-prod";
        user.sandbox.with(|world| world.drift(EAST, "db-instance", primary, Some(&state))).unwrap();
        // By itself, it has decided, holds the lease, and promotes nothing that it cannot close.
        pass(600).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoting");
        assert_eq!(lease(&user.sandbox)["holder"]["S"], WEST);
        let refused = run(&user.sandbox, WEST, "failover", &[]).await;
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("say force to go on"), "{why}");
        // It is tried for another minute, however long ago it was decided.
        let begun = user.sandbox.now().0;
        run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        assert_eq!(after["unclosed_there"], true);
        let moments = after["timeline"].as_array().unwrap();
        let accepted = moments.iter().find(|one| one["what"] == "accepted").unwrap();
        assert!(accepted["at"].as_u64().unwrap() >= begun + 60_000, "{after:#}");
    });
}

#[test]
fn what_was_asked_for_before_another_failover_began_is_refused() {
    simulate(async || {
        let user = watched().await;
        let epoch = ledger(&user.sandbox, WEST)["epoch"].as_u64().unwrap();
        let question = |epoch| json!({"action": "failover", "force": true, "epoch": epoch});
        let refused = ask(&user, &question(epoch + 1)).await.unwrap_err();
        assert!(refused.contains("a failover has begun since"), "{refused}");
        let refused =
            ask(&user, &json!({"action": "failover", "epoch": "later"})).await.unwrap_err();
        assert!(refused.contains("epoch is no number"), "{refused}");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
        ask(&user, &question(epoch)).await.unwrap();
        pass(180).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        assert_eq!(ledger(&user.sandbox, WEST)["epoch"].as_u64(), Some(epoch + 1));
    });
}

/// Writes an epoch into a ledger's item, or takes it away, beside what monitors go by.
fn show_epoch(sandbox: &Sandbox, epoch: Option<u64>) {
    sandbox.with(|world| {
        let mut item = world.item(WEST, LEDGER, "prod", "ledger");
        match epoch {
            Some(epoch) => item["epoch"] = json!({"N": epoch.to_string()}),
            None => drop(item.as_object_mut().unwrap().remove("epoch")),
        }
        world.put_item(WEST, LEDGER, "prod", "ledger", item);
    });
}

#[test]
fn the_runbook_asks_by_the_epoch_that_it_has_seen_and_without_one_where_there_is_none() {
    simulate(async || {
        let user = watched().await;
        // Another failover begins between the runbook's look and its question.
        let epoch = ledger(&user.sandbox, WEST)["epoch"].as_u64().unwrap();
        show_epoch(&user.sandbox, Some(epoch - 1));
        let refused = run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("a failover has begun since"), "{why}");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
        // As monitors of an earlier version leave it.
        show_epoch(&user.sandbox, None);
        let done = run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        assert_eq!(done.failure_message, None, "no step that failed counts");
        let outputs = done.outputs.unwrap();
        assert!(outputs["AskWithoutEpoch.Payload"][0].contains("looks"), "{outputs:?}");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
    });
}

#[test]
fn what_a_human_asked_for_is_gone_on_with_where_no_schedule_begins_a_run() {
    simulate(async || {
        let user = watched_by_hand().await;
        let off = json!({"State": "DISABLED"});
        let rule = "trading-db-monitor-prod";
        user.sandbox.with(|world| world.drift(WEST, "event-rule", rule, Some(&off))).unwrap();
        set_lost(&user.sandbox, EAST, true);
        let mut refused = fault("rds", Some("PromoteReadReplica"), WEST);
        let code = "InvalidDBInstanceState".to_owned();
        refused.effect = Effect::Fail { status: 400, code, message: "It is busy.".into() };
        user.sandbox.add_fault(refused);
        // Whatever the schedule has begun is over.
        pass(200).await;
        let begun = user.sandbox.now().0;
        let (_, ()) = futures::join!(run(&user.sandbox, WEST, "failover", &[]), async {
            pass(90).await;
            user.sandbox.clear_faults();
        });
        let after = ledger(&user.sandbox, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        let moments = after["timeline"].as_array().unwrap();
        let accepted = moments.iter().find(|one| one["what"] == "accepted").unwrap();
        let took = (accepted["at"].as_u64().unwrap() - begun) / 1000;
        assert!((90..105).contains(&took), "{took}");
    });
}

/// Or it would be advised to use force, by one answer.
#[test]
fn what_a_human_asks_for_does_not_fail_for_one_lost_answer() {
    simulate(async || {
        // The first call of a function is the monitor's own.
        let lost = [("lambda", WEST, 1), ("dynamodb", WITNESS, 0)];
        for (service, region, after) in lost {
            let user = watched_by_hand().await;
            let off = json!({"State": "DISABLED"});
            let rule = "trading-db-monitor-prod";
            user.sandbox.with(|world| world.drift(WEST, "event-rule", rule, Some(&off))).unwrap();
            set_lost(&user.sandbox, EAST, true);
            // Whatever the schedule has begun is over: nobody else can meet it.
            pass(200).await;
            let mut once = fault(service, None, region);
            (once.rule.after, once.rule.times) = (after, Some(1));
            user.sandbox.add_fault(once);
            let question = json!({"action": "failover"});
            let answer = ask(&user, &question).await;
            answer.unwrap_or_else(|why| panic!("{service}: {why}"));
            let phase = &ledger(&user.sandbox, WEST)["phase"];
            assert!(phase == "accepted" || phase == "promoted", "{service}: {phase}");
        }
    });
}

#[test]
fn a_message_that_the_topic_did_not_take_is_told_later() {
    simulate(async || {
        let user = watched().await;
        user.sandbox.add_fault(fault("sns", Some("Publish"), WEST));
        set_lost(&user.sandbox, EAST, true);
        pass(400).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        let is_told = || messages(&user.sandbox).iter().any(|one| one.contains("has failed over"));
        assert!(!is_told());
        user.sandbox.clear_faults();
        pass(60).await;
        assert!(is_told(), "{:#?}", messages(&user.sandbox));
        let count =
            |all: Vec<String>| all.iter().filter(|one| one.contains("has failed over")).count();
        pass(300).await;
        assert_eq!(count(messages(&user.sandbox)), 1, "and once");
    });
}

#[test]
fn that_it_could_not_fail_over_is_told_while_the_writer_writes() {
    simulate(async || {
        let user = watched().await;
        pass(300).await;
        assert_eq!(alarm(&user.sandbox, WEST, "evidence-unknown"), "OK");
        let trouble: [(&str, &dyn Fn(bool)); 2] = [
            ("the witness is lost", &|on| set_lost(&user.sandbox, WITNESS, on)),
            ("nobody vouches for the writer", &|on| {
                let state = json!({"State": if on { "DISABLED" } else { "ENABLED" }});
                let rule = "trading-db-monitor-prod";
                user.sandbox
                    .with(|world| world.drift(EAST, "event-rule", rule, Some(&state)))
                    .unwrap();
            }),
        ];
        for (what, trouble) in trouble {
            trouble(true);
            pass(420).await;
            assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal", "{what}");
            assert_eq!(alarm(&user.sandbox, WEST, "evidence-unknown"), "ALARM", "{what}");
            trouble(false);
            pass(420).await;
            assert_eq!(alarm(&user.sandbox, WEST, "evidence-unknown"), "OK", "{what}");
        }
    });
}
