//! States in which AWS leaves a key, a peering, a function or an event subscription until something is done about it:
//! each is told by name, none of them leads to anything that holds data being made anew, and once it is over there is
//! nothing left to do.

use aws_sandbox::{Sandbox, World};
use serde_json::{Value as Json, json};

use super::drift::id_of;
use crate::support::{
    agent::{EAST, WEST},
    aws::simulate,
    user::{User, differences, errors, lines},
};

/// Where something is, of which kind, what it is called, and what is said of it.
struct Odd {
    region: &'static str,
    kind: &'static str,
    id: String,
    /// What AWS says of it then, and what it said before.
    state: Json,
    before: Json,
    /// Its address in the state, and the word for what is odd.
    address: &'static str,
    word: &'static str,
}

fn all(user: &User) -> Vec<Odd> {
    let mut all = Vec::new();
    for (region, address) in [(EAST, "us-east-1/kms-key"), (WEST, "us-west-2/kms-key")] {
        for (state, word) in [("Unavailable", "unavailable"), ("PendingImport", "pendingimport")] {
            let id = id_of(user, region, "kms-key");
            let before = json!({"KeyState": "Enabled", "Enabled": true});
            let state = json!({"KeyState": state, "Enabled": false});
            all.push(Odd { region, kind: "kms-key", id, state, before, address, word });
        }
    }
    for (region, name, address) in [
        (EAST, "trading-db-monitor-prod", "us-east-1/lambda-function/monitor"),
        (WEST, "trading-db-probe-prod", "us-west-2/lambda-function/probe"),
    ] {
        let before = json!({"State": "Active", "LastUpdateStatus": "Successful"});
        for (state, word) in [
            (json!({"State": "Failed", "StateReason": "EniLimitExceeded"}), "failed"),
            (json!({"State": "Inactive", "StateReason": "idle for long"}), "inactive"),
            (json!({"LastUpdateStatus": "Failed"}), "failed"),
        ] {
            let (kind, id) = ("function", name.to_owned());
            let (before, state) = (before.clone(), state);
            all.push(Odd { region, kind, id, state, before, address, word });
        }
    }
    for (region, address) in
        [(EAST, "us-east-1/db-event-subscription"), (WEST, "us-west-2/db-event-subscription")]
    {
        for word in ["no-permission", "topic-not-exist"] {
            let (kind, id) = ("db-event-subscription", "trading-db-events-prod".to_owned());
            let (state, before) = (json!({"Status": word}), json!({"Status": "active"}));
            all.push(Odd { region, kind, id, state, before, address, word });
        }
    }
    for code in ["failed", "rejected", "expired"] {
        let (region, kind) = (EAST, "vpc-peering-connection");
        let id = id_of(user, region, kind);
        let state = json!({"status": {"code": code, "message": "so it is"}});
        let before = json!({"status": {"code": "active", "message": "Active"}});
        let address = "us-east-1/vpc-peering";
        all.push(Odd { region, kind, id, state, before, address, word: "null" });
    }
    all
}

/// What holds data, or what data are encrypted with, by what it cannot have in common with another one.
fn kept(sandbox: &Sandbox) -> Vec<String> {
    let inventory = sandbox.with(|world| world.inventory());
    let mut all = Vec::new();
    for (region, kinds) in inventory.as_object().unwrap() {
        for (kind, name) in [
            ("db-instance", "DbiResourceId"),
            ("kms-key", "KeyId"),
            ("dynamodb-table", "TableId"),
            ("secret", "ARN"),
        ] {
            let Some(records) = kinds[kind].as_object() else { continue };
            let ids = records.values().map(|one| one[name].to_string());
            all.extend(ids.map(|id| format!("{region}/{kind} {id}")));
        }
    }
    all
}

#[test]
fn what_is_in_an_odd_state_is_told_by_name_and_nothing_that_holds_data_is_made_anew() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        for odd in all(&made) {
            let told = format!("{} {} is {}", odd.region, odd.id, odd.state);
            let sandbox = Sandbox::with_world(made.sandbox.world(), 1.0);
            let mut user = User::of(sandbox).await;
            user.state = made.state.clone();
            let before = kept(&user.sandbox);
            // Both sides of a peering say the same of it.
            let sides = match odd.kind {
                "vpc-peering-connection" => vec![EAST, WEST],
                _ => vec![odd.region],
            };
            let become_so = |user: &User, state: &Json| {
                for region in &sides {
                    let drifted =
                        |world: &mut World| world.drift(region, odd.kind, &odd.id, Some(state));
                    user.sandbox.with(drifted).unwrap();
                }
            };
            become_so(&user, &odd.state);
            let known = user.state.value.clone().unwrap();
            let planned = user.plan(&config).await;
            assert!(
                !planned.diagnostics.has_errors(),
                "{told}: {:#?}",
                errors(&planned.diagnostics)
            );
            assert!(planned.requires_replace.is_empty(), "{told}");
            // A warning has it, or the line by which the plan differs from what was known; a peering that came to nothing is
            // none.
            let mut texts = lines(&planned.diagnostics);
            texts.extend(differences(&known, user.state.value.as_ref().unwrap()));
            let is_its = |one: &str| {
                let mut rest = one.split(odd.address).skip(1);
                rest.any(|rest| !rest.starts_with(['-', '/']))
            };
            let is_told = |one: &String| is_its(one) && one.contains(odd.word);
            assert!(texts.iter().any(is_told), "{told}: {texts:#?}");
            // Something else is changed meanwhile: it works, or says what hinders it.
            let mut other = config.clone();
            other["tags"] = json!({"team": "risk"});
            let found = errors(&user.apply(&other).await);
            assert!(found.is_empty() || found.iter().any(is_told), "{told}: {found:#?}");
            assert_eq!(kept(&user.sandbox), before, "{told}");
            let is_there = user
                .sandbox
                .with(|world| world.inventory()[odd.region][odd.kind].get(&odd.id).is_some());
            if is_there && !found.is_empty() {
                become_so(&user, &odd.before);
            }
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
            assert_eq!(kept(&user.sandbox), before, "{told}");
            user.must_destroy().await;
            let mut left = user.leftovers();
            // A peering that came to nothing cannot be deleted; EC2 forgets it after a while.
            left.retain(|one| odd.kind != "vpc-peering-connection" || !one.ends_with(&odd.id));
            assert_eq!(left, Vec::<String>::new(), "{told}");
        }
    });
}
