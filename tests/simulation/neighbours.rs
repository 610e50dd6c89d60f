//! Clusters of one account whose suffixes begin or end alike: what runs for one leaves the others alone, and may do nothing
//! else.

use aws_sandbox::{Sandbox, World};
use serde_json::{Value as Json, json};

use super::runbooks::run;
use crate::support::{
    agent::{EAST, WEST, begin_only, begin_the_others},
    aws::{pass, simulate},
    traffic,
    user::{User, configuration},
};

const SUFFIXES: [&str; 3] = ["prod", "prod-2", "eu-prod"];

/// Whose something is, by its name.
fn owner(name: &str) -> Option<&'static str> {
    let ends = |suffix: &&&str| name.ends_with(&format!("-{suffix}"));
    SUFFIXES.iter().filter(ends).max_by_key(|suffix| suffix.len()).copied()
}

/// A cluster of each suffix, on the same networks.
async fn neighbours() -> Vec<(User, Json)> {
    let sandbox = Sandbox::new(1.0);
    let mut all: Vec<(User, Json)> = Vec::new();
    for suffix in SUFFIXES {
        let mut user = User::of(sandbox.clone()).await;
        let mut config = configuration(&sandbox);
        config["environment_suffix"] = json!(suffix);
        config["drill"] = json!({"schedule": "cron(0 9 * * ? *)"});
        if let Some((first, _)) = all.first() {
            let state = first.state.value.as_ref().unwrap();
            let peering = state.get("arns").get("us-east-1/vpc-peering").clone();
            config["peering_connection_id"] = json!(peering.as_str().unwrap().rsplit('/').next());
        }
        user.must_apply(&config).await;
        all.push((user, config));
    }
    all
}

fn records(world: &World, region: &str, kind: &str) -> Vec<(String, Json)> {
    let all = world.inventory()[region][kind].as_object().cloned().unwrap_or_default();
    all.into_iter().collect()
}

#[test]
fn what_runs_for_one_leaves_the_others_alone_and_may_do_nothing_else() {
    simulate(async || {
        let mut all = neighbours().await;
        let sandbox = all[0].0.sandbox.clone();
        sandbox.with(|world| {
            world.record_access();
            world.record_traffic();
        });
        begin_only(&sandbox, &["copier", "drill"]);
        pass(30 * 3600).await;
        begin_the_others(&sandbox);
        pass(300).await;

        // Each has copies of its own, and has held its own drill.
        sandbox.with(|world| {
            let copies = records(world, WEST, "db-snapshot");
            for suffix in SUFFIXES {
                let named = |name: &str| {
                    name.starts_with("trading-db-copy-") && owner(name) == Some(suffix)
                };
                let its: Vec<_> = copies.iter().filter(|(name, _)| named(name)).collect();
                assert!(!its.is_empty(), "{suffix}: {copies:#?}");
                let source = format!("trading-db-primary-{suffix}");
                for (name, copy) in its {
                    assert_eq!(copy["DBInstanceIdentifier"], source, "{name}");
                }
            }
        });
        for (user, _) in &mut all {
            user.restart().await;
            user.refresh().await;
            let recovery = user.state.value.as_ref().unwrap().get("recovery").clone();
            assert!(recovery.get("last_drill").as_str().is_some(), "{recovery:?}");
        }

        // What the roles of one have done, those of another may not do.
        let seen = sandbox.with(|world| world.accesses());
        let (mut tried, mut allowed) = (0, Vec::new());
        for one in &seen {
            let role = one.principal().rsplit('/').nth(1).unwrap_or_default();
            let Some(theirs) = owner(role) else { continue };
            // On everything, for want of a name, and what Lambda does in networks that they share.
            let is_shared = one.resource() == "*" || one.resource().contains(":network-interface/");
            if is_shared || one.resource().contains(":subnet/") {
                continue;
            }
            // Those that did it may.
            assert!(sandbox.with(|world| world.would_allow(&one.by_role(role))), "{role}: {one:?}");
            for mine in SUFFIXES.iter().filter(|one| **one != theirs) {
                let role = format!("{}{mine}", role.strip_suffix(theirs).unwrap());
                tried += 1;
                if sandbox.with(|world| world.would_allow(&one.by_role(&role))) {
                    allowed.push(format!("{role}: {} on {}", one.action(), one.resource()));
                }
            }
        }
        assert!(tried > 100, "{tried}");
        assert_eq!(allowed, Vec::<String>::new());

        // One of them fails over, and another is removed.
        run(&sandbox, WEST, "failover", &[("Force", "true")]).await;
        pass(300).await;
        let phase = |suffix: &str| {
            let table = format!("trading-db-ledger-{suffix}");
            let item = sandbox.with(|world| world.item(WEST, &table, suffix, "ledger"));
            let body: Json = serde_json::from_str(item["body"]["S"].as_str().unwrap()).unwrap();
            body["phase"].clone()
        };
        assert_eq!(phase("prod"), "promoted");
        let (last, _) = &mut all[2];
        last.restart().await;
        last.must_destroy().await;
        assert_eq!(phase("prod-2"), "normal");
        sandbox.with(|world| {
            assert!(world.doors(EAST, "trading-db-sg-prod-2").len() > 1);
            let replica = world.record(WEST, "db-instance", "trading-db-replica-prod-2");
            assert!(replica["ReadReplicaSourceDBInstanceIdentifier"].is_string(), "{replica:#}");
        });
        let (middle, config) = &mut all[1];
        middle.restart().await;
        middle.must_be_unchanged(config).await;
        traffic::keep("neighbours", &[&sandbox]);
    });
}
