//! What wakes somebody, and what does not: the monitors' alarms, before and after a failover.

use aws_sandbox::{Effect, Fault, Rule, Sandbox, World};
use serde_json::json;

use crate::support::{
    agent::{EAST, WEST, alarm, alarms_on, begin, ledger, set_lost},
    aws::{pass, simulate},
    user::User,
};

const STANDBY: &str = "trading-db-replica-prod";

fn refuse(sandbox: &Sandbox, service: &str, operation: &str, region: &str, code: &str) {
    let rule = Rule {
        service: Some(service.into()),
        operation: Some(operation.into()),
        region: Some(region.into()),
        ..Rule::default()
    };
    let effect = Effect::Fail { code: code.into(), message: "not now".into(), status: 400 };
    sandbox.add_fault(Fault::new(rule, effect));
}

/// A cluster that has been watched for long enough that nothing is on.
async fn quiet() -> User {
    let (user, _) = User::with_cluster().await;
    begin(&user.sandbox);
    pass(900).await;
    assert_eq!(alarms_on(&user.sandbox), Vec::<String>::new());
    user
}

#[test]
fn a_link_that_is_cut_tells_what_a_failover_would_lose_and_that_nobody_is_promoted() {
    simulate(async || {
        let user = quiet().await;
        let cut = |on: bool| user.sandbox.with(|world| world.set_cut(EAST, WEST, on));
        cut(true);
        pass(420).await;
        for name in ["heartbeat-age", "failover-withheld", "replica-lag"] {
            assert_eq!(alarm(&user.sandbox, WEST, name), "ALARM", "{name}");
        }
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
        cut(false);
        pass(900).await;
        assert_eq!(alarms_on(&user.sandbox), Vec::<String>::new());
    });
}

/// RDS replicates on a way of its own.
#[test]
fn a_peering_that_is_gone_makes_nothing_older_and_is_told() {
    simulate(async || {
        let user = quiet().await;
        let all = user.sandbox.with(|world| world.inventory());
        for region in [EAST, WEST] {
            for id in all[region]["vpc-peering-connection"].as_object().unwrap().keys() {
                let remove =
                    |world: &mut World| world.drift(region, "vpc-peering-connection", id, None);
                user.sandbox.with(remove).unwrap();
            }
        }
        pass(900).await;
        assert_eq!(alarms_on(&user.sandbox), ["us-west-2/failover-withheld"]);
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");
    });
}

/// Backups and drills take minutes; what takes longer would be learned on the day of the failover.
#[test]
fn a_standby_that_rds_would_not_promote_is_told_after_half_an_hour() {
    simulate(async || {
        let user = quiet().await;
        let becomes = |status: &str| {
            let change = json!({"DBInstanceStatus": status});
            user.sandbox
                .with(|world| world.drift(WEST, "db-instance", STANDBY, Some(&change)))
                .unwrap();
        };
        becomes("backing-up");
        pass(1740).await;
        assert_eq!(alarms_on(&user.sandbox), Vec::<String>::new());
        pass(300).await;
        assert_eq!(alarms_on(&user.sandbox), ["us-west-2/promotion-blocked"]);
        becomes("available");
        pass(300).await;
        assert_eq!(alarms_on(&user.sandbox), Vec::<String>::new());
    });
}

#[test]
fn a_promotion_that_rds_refuses_is_told_until_it_does_not() {
    simulate(async || {
        let user = quiet().await;
        refuse(&user.sandbox, "rds", "PromoteReadReplica", WEST, "InvalidDBInstanceState");
        set_lost(&user.sandbox, EAST, true);
        pass(300).await;
        assert_eq!(alarm(&user.sandbox, WEST, "promotion-blocked"), "ALARM");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoting");
        user.sandbox.clear_faults();
        pass(420).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        assert_eq!(alarm(&user.sandbox, WEST, "promotion-blocked"), "OK");
    });
}

#[test]
fn a_monitor_that_fails_minute_after_minute_is_told_in_its_region() {
    simulate(async || {
        let user = quiet().await;
        for (region, other) in [(EAST, WEST), (WEST, EAST)] {
            // What it remembers cannot be read.
            refuse(&user.sandbox, "dynamodb", "Query", region, "InternalServerError");
            pass(480).await;
            assert_eq!(alarm(&user.sandbox, region, "agent-errors"), "ALARM", "{region}");
            assert_eq!(alarm(&user.sandbox, other, "agent-errors"), "OK", "{region}");
            user.sandbox.clear_faults();
            pass(900).await;
            assert_eq!(alarms_on(&user.sandbox), Vec::<String>::new(), "{region}");
        }
    });
}

/// A failover is one message and one alarm that says where the cluster is; nothing else wakes anybody for ever.
#[test]
fn after_a_failover_nothing_goes_on_waking_somebody() {
    simulate(async || {
        let user = quiet().await;
        set_lost(&user.sandbox, EAST, true);
        pass(1800).await;
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        let on = |region: &str| -> Vec<String> {
            alarms_on(&user.sandbox).into_iter().filter(|one| one.starts_with(region)).collect()
        };
        assert_eq!(on(WEST), ["us-west-2/primary-serving"]);
        set_lost(&user.sandbox, EAST, false);
        pass(1800).await;
        assert_eq!(alarms_on(&user.sandbox), ["us-west-2/primary-serving"]);
        // What is over, as CloudWatch says when it first sees an alarm's metric, wakes nobody.
        let told = || {
            let all = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
            let subjects = all.iter().map(|one| one["subject"].as_str().unwrap_or("").to_owned());
            subjects.filter(|one| !one.starts_with("OK: ")).collect::<Vec<_>>()
        };
        let first = told();
        let failovers = first.iter().filter(|one| *one == "The cluster has failed over");
        assert_eq!(failovers.count(), 1, "{first:#?}");
        // A working night: what is measured once an hour has been, six times.
        pass(6 * 3600).await;
        assert_eq!(alarms_on(&user.sandbox), ["us-west-2/primary-serving"]);
        assert_eq!(told(), first);
    });
}
