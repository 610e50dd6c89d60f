//! A run that loses its lease to another one, and a state that speaks of what another run finished.

use std::time::Duration;

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::json;

use crate::support::{
    agent::WEST,
    aws::{connect, simulate},
    user::{User, configuration, errors, lines},
};

/// Somebody takes a lease of a higher number after a while, and then is not heard of any more.
fn take_over_after(sandbox: &Sandbox, seconds: u64, number: u64) {
    let sandbox = sandbox.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let ssm = connect(&sandbox).await.region(WEST).ssm.clone();
        let call = ssm.put_parameter().name(format!("/trading-db/prod/lease/{number}"));
        let value = json!({"holder": "another", "command": "create", "released": false});
        call.value(value.to_string()).r#type("String".into()).send().await.unwrap();
    });
}

/// Terraform would mark what it got as tainted, and build anew what the other run made.
#[test]
fn a_create_that_was_taken_over_stops_and_leaves_the_cluster_to_the_other_run() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        // In the middle of the primary's creation.
        take_over_after(&user.sandbox, 300, 2);
        let begun = tokio::time::Instant::now();
        let found = errors(&user.apply(&config).await);
        assert!(begun.elapsed() < Duration::from_secs(330), "{:?}", begun.elapsed());
        let told = |text: &str| found.iter().any(|one| one.contains(text));
        assert!(told("Another run has taken over"), "{found:#?}");
        assert!(told("its state has nothing of the cluster"), "{found:#?}");
        assert!(told("changes are done"), "{found:#?}");
        assert!(told("The create was not finished: its lease was lost"), "{found:#?}");
        assert!(!told("untaint") && !told("interrupted"), "{found:#?}");
        assert!(user.state.value.is_none() && !user.state.tainted);
        // Should the other one die as well, somebody's next create goes on.
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let made = user.sandbox.calls().into_iter().filter(|call| call.error.is_none());
        assert_eq!(made.filter(|call| call.operation == "CreateDBInstance").count(), 1);
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn an_update_and_a_destroy_that_were_taken_over_stop_and_keep_what_is_known() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["database"] = json!({"instance_class": "db.r6g.large"});
        take_over_after(&user.sandbox, 60, 3);
        let found = errors(&user.apply(&config).await);
        let told = |found: &[String], text: &str| found.iter().any(|one| one.contains(text));
        assert!(told(&found, "Another run has taken over"), "{found:#?}");
        assert!(told(&found, "`terraform apply` goes on from there"), "{found:#?}");
        assert!(user.state.value.is_some() && !user.state.tainted);
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        take_over_after(&user.sandbox, 60, 6);
        let found = errors(&user.destroy().await);
        assert!(told(&found, "Another run has taken over"), "{found:#?}");
        assert!(told(&found, "`terraform destroy` goes on from there"), "{found:#?}");
        assert!(user.state.value.is_some());
        user.restart().await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_state_of_an_unfinished_create_is_told_that_another_run_has_finished_the_cluster() {
    simulate(async || {
        let mut one = User::new().await;
        let config = configuration(&one.sandbox);
        one.refuse("CreateDBInstance");
        assert!(one.apply(&config).await.has_errors() && one.state.tainted);
        one.sandbox.clear_faults();
        one.restart().await;
        let quiet = lines(&one.refresh().await);
        let is_told = |all: &[String]| all.iter().any(|one| one.contains("was finished since"));
        assert!(!is_told(&quiet), "{quiet:#?}");
        let mut other = User::of(one.sandbox.clone()).await;
        other.must_apply(&config).await;
        one.restart().await;
        let told = lines(&one.refresh().await);
        assert!(is_told(&told), "{told:#?}");
        assert!(told.iter().any(|one| one.contains("terraform untaint")), "{told:#?}");
        // Whoever finished it is told nothing, and keeps it: what is tainted elsewhere is not rebuilt.
        other.restart().await;
        assert!(!is_told(&lines(&other.refresh().await)));
        one.restart().await;
        let refused = errors(&one.apply(&config).await);
        assert!(
            refused[0].contains("was finished by another run, and is not destroyed"),
            "{refused:#?}"
        );
        other.must_be_unchanged(&config).await;
        // Whoever untaints it takes it over.
        one.restart().await;
        one.state.tainted = false;
        one.must_apply(&config).await;
        assert!(!is_told(&lines(&one.refresh().await)));
        one.must_destroy().await;
        assert_eq!(one.leftovers(), Vec::<String>::new());
    });
}

/// Somebody cleans up parameters: nobody has taken over, and what was made must stay in a state.
#[test]
fn a_create_whose_lease_was_removed_stops_and_keeps_what_it_made() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let sandbox = user.sandbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            let ssm = connect(&sandbox).await.region(WEST).ssm.clone();
            ssm.delete_parameter().name("/trading-db/prod/lease/1").send().await.unwrap();
        });
        let found = errors(&user.apply(&config).await);
        let told = |text: &str| found.iter().any(|one| one.contains(text));
        assert!(told("The cluster's lease is gone") && told("terraform untaint"), "{found:#?}");
        assert!(user.state.tainted);
        user.state.tainted = false;
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

/// Neither a failed update nor a destroy that was cut off leaves the state of an unfinished create.
#[test]
fn a_refresh_after_a_failed_update_or_destroy_speaks_of_no_other_run() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["notifications"] = json!({"emails": ["oncall@example.com"]});
        user.refuse("Subscribe");
        assert!(user.apply(&config).await.has_errors());
        user.sandbox.clear_faults();
        user.restart().await;
        let is_told = |all: &[String]| all.iter().any(|one| one.contains("was finished since"));
        assert!(!is_told(&lines(&user.refresh().await)));
        user.refuse("DeleteDBInstance");
        assert!(user.destroy().await.has_errors());
        user.sandbox.clear_faults();
        user.restart().await;
        assert!(!is_told(&lines(&user.refresh().await)));
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// Whoever may not write its heartbeat any more ends in time, to the second.
#[test]
fn a_run_whose_heartbeats_are_denied_ends_before_another_one_may_begin() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        let (operation, region) = (Some("PutParameter".into()), Some(WEST.into()));
        // The lease itself is made.
        let rule = Rule { operation, region, after: 1, ..Rule::default() };
        let (code, message) = ("AccessDeniedException".into(), "not authorized".into());
        user.sandbox.add_fault(Fault::new(rule, Effect::Fail { code, message, status: 400 }));
        let begun = user.sandbox.now().0;
        let found = errors(&user.destroy().await);
        let took = (user.sandbox.now().0 - begun) / 1000;
        let told = |text: &str| found.iter().any(|one| one.contains(text));
        assert!(told("The destroy was not finished: its lease was lost"), "{found:#?}");
        assert!(told("The cluster's lease could not be renewed"), "{found:#?}");
        assert!(took < 90, "{took} s");
        user.sandbox.clear_faults();
        user.restart().await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// With create_before_destroy, Terraform makes the next object before it destroys the one that a failed create left: the
/// create goes on with what is there, and the destroy, in the same process, must not take it away.
#[test]
fn what_was_left_and_gone_on_with_is_not_destroyed_after_it() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        user.refuse("CreateDBInstanceReadReplica");
        assert!(user.apply(&config).await.has_errors() && user.state.tainted);
        user.sandbox.clear_faults();
        user.restart().await;
        let left = std::mem::take(&mut user.state);
        let planned = user.plan_again(&config, None, Vec::new()).await;
        let found = user.apply_planned(&config, planned).await;
        assert!(!found.has_errors(), "{:#?}", errors(&found));
        let next = std::mem::replace(&mut user.state, left);
        let told = lines(&user.destroy_in_this_walk().await);
        assert!(told[0].contains("gone on with, and nothing of it is removed"), "{told:#?}");
        assert!(user.state.value.is_none());
        user.state = next;
        user.restart().await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}
