//! The agent through the SDK against the sandbox: a region is lost, and the cluster fails over.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, WEST, install, lease, ledger, set_lost},
    aws::simulate,
    user::{User, lines},
};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn answers(user: &User) -> Vec<String> {
    let name = user.state.value.as_ref().unwrap().get("endpoint").as_str().unwrap().to_owned();
    let found = user.sandbox.with(|world| {
        let vpc = world.network()[WEST]["vpc_id"].as_str().unwrap().to_owned();
        world.resolve(&vpc, &name)
    });
    found.into_iter().map(|(target, _)| target).collect()
}

fn endpoint(user: &User, name: &str) -> String {
    user.state.value.as_ref().unwrap().get(name).as_str().unwrap().to_owned()
}

/// The rules by which anybody but the probe reaches a region's database.
fn doors(user: &User, region: &str) -> Vec<String> {
    let all = user.sandbox.with(|world| world.doors(region, "trading-db-sg-prod"));
    let probe = user.sandbox.with(|world| world.group_id(region, "probe"));
    all.into_iter().filter(|source| *source != probe).collect()
}

#[test]
fn a_lost_region_is_failed_over_within_the_budget_and_stays_so_when_it_comes_back() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        install(&user).await;
        pass(200).await;
        assert_eq!(ledger(&user, EAST)["held"], true, "{}", ledger(&user, EAST));
        assert_eq!(ledger(&user, WEST)["phase"], "normal");
        assert_eq!(lease(&user)["holder"]["S"], EAST);
        assert_eq!(answers(&user), [endpoint(&user, "primary_endpoint")]);

        user.sandbox.forget_calls();
        set_lost(&user, EAST, true);
        pass(255).await;
        let after = ledger(&user, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        assert_eq!(lease(&user)["holder"]["S"], WEST);
        assert_eq!(answers(&user), [endpoint(&user, "replica_endpoint")]);
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

        set_lost(&user, EAST, false);
        pass(150).await;
        assert_eq!(doors(&user, EAST), Vec::<String>::new(), "the old writer is closed");
        assert!(!doors(&user, WEST).is_empty());
        pass(3600).await;
        assert_eq!(answers(&user), [endpoint(&user, "replica_endpoint")]);
        assert_eq!(ledger(&user, WEST)["fenced_there"], true);
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        let told: Vec<String> = told.iter().map(|one| one["subject"].to_string()).collect();
        assert!(told.iter().any(|one| one.contains("has failed over")), "{told:?}");

        // The plan shows the new reality and opens nothing again.
        user.restart().await;
        let planned = user.plan(&config).await;
        let warnings = lines(&planned.diagnostics);
        assert!(warnings.iter().any(|one| one.contains("us-west-2 writes")), "{warnings:#?}");
        user.must_apply(&config).await;
        assert_eq!(doors(&user, EAST), Vec::<String>::new());
    });
}

#[test]
fn a_zone_that_fails_over_promotes_nothing_and_neither_does_a_busy_hour() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        install(&user).await;
        pass(200).await;
        let rds = crate::support::aws::connect(&user.sandbox).await.region(EAST).rds.clone();
        let reboot = rds.reboot_db_instance().db_instance_identifier("trading-db-primary-prod");
        reboot.force_failover(true).send().await.unwrap();
        pass(600).await;
        for region in [EAST, WEST] {
            assert_eq!(ledger(&user, region)["phase"], "normal");
        }
        assert_eq!(lease(&user)["holder"]["S"], EAST);
        assert!(!doors(&user, EAST).is_empty());
        assert_eq!(answers(&user), [endpoint(&user, "primary_endpoint")]);
    });
}

#[test]
fn a_writer_that_is_lost_while_its_region_answers_is_closed_first() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        install(&user).await;
        pass(200).await;
        // The instance hangs: RDS says that it is available, and nobody can connect.
        user.sandbox.with(|world| world.set_dark(EAST, true));
        pass(300).await;
        let after = ledger(&user, WEST);
        assert_eq!(after["phase"], "promoted", "{after:#}");
        let moments: Vec<&str> = after["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["what"].as_str().unwrap())
            .collect();
        assert_eq!(moments[..4], ["first_failure", "decided", "lease_taken", "accepted"]);
        assert_eq!(doors(&user, EAST), Vec::<String>::new(), "closed before the promotion");
    });
}

#[test]
fn a_hold_and_a_destroy_keep_the_monitors_from_acting() {
    simulate(async || {
        for intent in
            [json!({"destroying": {"BOOL": true}}), json!({"hold_until": {"N": "99999999999999"}})]
        {
            let (user, _) = User::with_cluster().await;
            install(&user).await;
            pass(200).await;
            let mut item = json!({"cluster": {"S": "prod"}, "item": {"S": "intent"}});
            item.as_object_mut().unwrap().extend(intent.as_object().unwrap().clone());
            user.sandbox.with(|world| world.put_item(WEST, "ledger", "prod", "intent", item));
            set_lost(&user, EAST, true);
            pass(900).await;
            let phase: Json = ledger(&user, WEST)["phase"].clone();
            assert!(phase == "normal" || phase == "destroying", "{phase}");
            assert_eq!(answers(&user), [endpoint(&user, "primary_endpoint")]);
        }
    });
}
