//! AWS at its worst, for a cluster's whole life: it is made, looked at, changed and destroyed.

use std::collections::{BTreeMap, BTreeSet};

use aws_sandbox::{CallRecord, Effect, Fault, Rule, Sandbox};
use serde_json::Value as Json;

use super::crash::{census, is_whole, kind, made_by};
use crate::support::{
    agent::{EAST, WEST, WITNESS, begin},
    aws::{connect, pass, simulate},
    user::{User, change, configuration, differences, errors, lines},
};

/// A change of every kind of component that can change in place.
fn changed(config: &Json) -> Json {
    let mut config = config.clone();
    change(&mut config);
    config
}

/// What there is of a cluster in quiet times, as it is made and once it is changed.
async fn calm() -> [BTreeMap<String, usize>; 2] {
    let (mut user, config) = User::with_cluster().await;
    let made = census(&user.sandbox);
    user.must_apply(&changed(&config)).await;
    [made, census(&user.sandbox)]
}

/// A plan waits only so long for a service that fails, and says which one it was: whoever reads that plans again.
async fn must_settle(user: &mut User, config: &Json, plans: usize) {
    let mut told = Vec::new();
    for _ in 0..plans {
        let planned = user.plan(config).await;
        told = errors(&planned.diagnostics);
        if told.is_empty() {
            let (known, planned) = (user.state.value.as_ref().unwrap(), planned.state.unwrap());
            assert_eq!(differences(known, &planned), Vec::<String>::new());
            return;
        }
        let is_told = |one: &String| one.contains("did not answer") && one.contains("try again");
        assert!(told.iter().all(is_told), "{told:#?}");
    }
    panic!("{plans} plans in a row have failed: {told:#?}");
}

/// A life in trouble, that ends as one without: the same things, each made once, and nothing left; `plans` is how
/// often somebody plans until one is not disturbed.
async fn live(plans: usize, trouble: impl Fn(&Sandbox)) {
    let [calm, calm_and_changed] = calm().await;
    let mut user = User::new().await;
    let config = configuration(&user.sandbox);
    trouble(&user.sandbox);
    user.must_apply(&config).await;
    assert_eq!(census(&user.sandbox), calm);
    // A plan right afterwards may see less than the apply saw at its end.
    tokio::time::sleep(BEHIND).await;
    must_settle(&mut user, &config, plans).await;
    user.must_apply(&changed(&config)).await;
    tokio::time::sleep(BEHIND).await;
    must_settle(&mut user, &changed(&config), plans).await;
    assert_eq!(census(&user.sandbox), calm_and_changed);
    user.must_destroy().await;
    assert_eq!(user.leftovers(), Vec::<String>::new());
}

/// Three of ten calls are throttled, every answer is two seconds late, and every minute all services fail for a while.
fn rage(sandbox: &Sandbox) {
    let fault = |percent, effect| Fault::new(Rule { percent, ..Rule::default() }, effect);
    let unavailable = Effect::Fail {
        code: "ServiceUnavailable".into(),
        message: "try later".into(),
        status: 503,
    };
    let sandbox = sandbox.clone();
    let storm = move |is_burst: bool| {
        sandbox.clear_faults();
        if is_burst {
            sandbox.add_fault(fault(None, unavailable.clone()));
        } else {
            sandbox.add_fault(fault(Some(30), Effect::Throttle));
            sandbox.add_fault(fault(None, Effect::Delay { milliseconds: 2000 }));
        }
    };
    storm(false);
    tokio::spawn(async move {
        loop {
            pass(60).await;
            storm(true);
            pass(12).await;
            storm(false);
        }
    });
}

#[test]
fn throttling_bursts_of_failures_and_latency_are_lived_through() {
    simulate(async || live(8, rage).await);
}

/// Longer than any read is behind.
const BEHIND: std::time::Duration = std::time::Duration::from_secs(120);

/// Of which services AWS documents that a read may not show yet what was done.
const EVENTUALLY_CONSISTENT: [(&str, Option<&str>); 5] = [
    ("ec2", None),
    ("iam", None),
    ("kms", None),
    ("lambda", None),
    ("dynamodb", Some("DescribeTable")),
];

/// Reads of those services are behind from now on.
fn fall_behind(sandbox: &Sandbox, seconds: u64, percent: u64) {
    for (service, operation) in EVENTUALLY_CONSISTENT {
        let rule = Rule {
            service: Some(service.into()),
            operation: operation.map(str::to_owned),
            percent: Some(percent),
            ..Rule::default()
        };
        sandbox.add_fault(Fault::new(rule, Effect::Stale { seconds }));
    }
}

#[test]
fn reads_that_are_behind_make_nothing_twice_and_leave_nothing() {
    let all = [(60, 100), (60, 50), (20, 100), (20, 50), (100, 75)];
    for (seconds, percent) in &all[..if is_whole() { all.len() } else { 2 }] {
        let (seconds, percent) = (*seconds, *percent);
        simulate(async || live(1, |sandbox| fall_behind(sandbox, seconds, percent)).await);
    }
}

/// What a role that is new does not allow yet is refused, and asked for again. How often, depends on the time that has passed
/// since: it is this often at most.
const REFUSED: u64 = 24;

/// How often each kind of call failed before it succeeded, where reads are behind.
async fn refused_before() -> BTreeMap<String, u64> {
    let mut user = User::new().await;
    let config = configuration(&user.sandbox);
    fall_behind(&user.sandbox, 60, 100);
    user.must_apply(&config).await;
    let (mut refused, mut done) = (BTreeMap::<_, u64>::new(), BTreeSet::new());
    for call in user.sandbox.calls() {
        let name = kind(&call);
        if call.error.is_none() {
            done.insert(name);
        } else if !done.contains(&name) {
            *refused.entry(name).or_default() += 1;
        }
    }
    refused
}

/// Of each call that makes something with such a service the first answer is lost: until AWS would have shown what it made,
/// nothing is made once more.
#[test]
fn what_was_made_and_whose_answer_was_lost_is_not_made_twice_where_it_does_not_show() {
    simulate(async || {
        let (calm, _) = User::with_cluster().await;
        let calls = calm.sandbox.calls();
        let made = made_by(&calls);
        let refused = refused_before().await;
        let mut tried = 0;
        for name in made.keys() {
            let (service, rest) = name.split_once(':').unwrap();
            let (operation, region) = rest.split_once(" in ").unwrap();
            if !EVENTUALLY_CONSISTENT.iter().any(|(one, _)| *one == service) {
                continue;
            }
            let lost = Some("(connection lost after)");
            let mut is_tried = false;
            // As often as when nothing was lost, most likely.
            let likely = refused.get(name).copied().unwrap_or_default();
            let others = (0..=REFUSED).filter(|after| *after != likely);
            for after in std::iter::once(likely).chain(others) {
                let mut user = User::new().await;
                let config = configuration(&user.sandbox);
                let rule = Rule {
                    service: Some(service.into()),
                    operation: Some(operation.into()),
                    region: Some(region.into()),
                    after,
                    times: Some(1),
                    ..Rule::default()
                };
                // The first fault that fits counts.
                user.sandbox.add_fault(Fault::new(rule, Effect::DropAfter));
                fall_behind(&user.sandbox, 60, 100);
                user.must_apply(&config).await;
                let calls = user.sandbox.calls();
                is_tried = calls.iter().any(|call| call.error.as_deref() == lost);
                if is_tried {
                    assert_eq!(made_by(&calls), made, "{name}");
                    assert_eq!(census(&user.sandbox), census(&calm.sandbox), "{name}");
                    break;
                }
            }
            assert!(is_tried, "{name}");
            tried += 1;
        }
        assert!(tried > 15, "{tried}");
    });
}

/// After how many seconds a create is interrupted: some before its first key shows, some before its first instance
/// is begun, and one after that.
const INTERRUPTED: [u64; 5] = [1, 3, 12, 30, 100];

/// One whose create was interrupted after so many seconds while reads were behind.
async fn interrupted(seconds: u64) -> (User, Json) {
    let mut user = User::new().await;
    let config = configuration(&user.sandbox);
    fall_behind(&user.sandbox, 60, 100);
    let cancel = user.cancel.clone();
    let interrupt = tokio::spawn(async move {
        pass(seconds).await;
        cancel.cancel();
    });
    let found = errors(&user.apply(&config).await);
    interrupt.await.unwrap();
    assert!(found.iter().any(|one| one.contains("nterrupted")), "{seconds} s: {found:#?}");
    user.restart().await;
    (user, config)
}

#[test]
fn what_a_create_made_a_moment_ago_is_neither_left_nor_made_twice_where_it_does_not_show() {
    simulate(async || {
        let calm = {
            let (user, _) = User::with_cluster().await;
            census(&user.sandbox)
        };
        let mut made = 0;
        for seconds in INTERRUPTED {
            let (mut user, _) = interrupted(seconds).await;
            let had_state = user.state.value.is_some();
            if had_state {
                made += 1;
                user.must_destroy().await;
            }
            // Without a state, nothing but the claim and the lease may have been made.
            let left = user.leftovers();
            let is_kept = |one: &String| !had_state && one.contains("/ssm-parameter/");
            let orphans: Vec<_> = left.iter().filter(|one| !is_kept(one)).collect();
            assert!(orphans.is_empty(), "after {seconds} s: {orphans:#?}");
            let (mut user, config) = interrupted(seconds).await;
            user.state.tainted = false;
            user.must_apply(&config).await;
            assert_eq!(census(&user.sandbox), calm, "after {seconds} s");
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new(), "after {seconds} s");
        }
        assert!(made >= 4, "{made} of them had a state");
    });
}

/// What is down, and how an error names it.
const PLACES: [(&str, &str); 4] = [
    ("us-east-1", "us-east-1"),
    ("us-west-2", "us-west-2"),
    (WITNESS, WITNESS),
    ("global", "in us-east-1"),
];

/// After how many seconds of a run the outage begins: a sample, or all with `make crash`.
fn moments() -> Vec<u64> {
    if is_whole() {
        return vec![0, 5, 20, 50, 90, 200, 400, 700, 1000, 1300, 1600, 1900, 2200];
    }
    vec![5, 90, 1000]
}

/// Takes a place down in so many seconds.
fn down_in(user: &User, place: &'static str, seconds: u64) {
    let sandbox = user.sandbox.clone();
    tokio::spawn(async move {
        pass(seconds).await;
        sandbox.set_down(place, true);
    });
}

/// Ends the outage; the next run is another process.
async fn up(user: &mut User, place: &str) {
    // Whatever was still to go down has.
    pass(3600).await;
    user.sandbox.set_down(place, false);
    user.restart().await;
}

/// An error of a run that an outage ended names the place, and says what comes next; how many errors count what was done.
fn must_tell(found: &[String], named: &str, told: &str) -> usize {
    assert!(found.iter().any(|one| one.contains(named)), "{told}: {found:#?}");
    let ways = ["try again", "`terraform untaint", "goes on from there"];
    assert!(ways.iter().any(|way| found.iter().any(|one| one.contains(way))), "{told}: {found:#?}");
    // A plan changes nothing.
    let done = [" done", "Nothing was changed", "nothing was changed", "while planning"];
    assert!(
        done.iter().any(|text| found.iter().any(|one| one.contains(text))),
        "{told}: {found:#?}"
    );
    let left = regex_lite::Regex::new(
        r"(\d+) of (\d+) changes are done, (\d+) failed\.(?: Not finished: ([^ \n]+(?:, [^ \n]+)*)\.)?",
    );
    let text = found.concat();
    let counts: Vec<_> = left.unwrap().captures_iter(&text).collect();
    for count in &counts {
        let number = |index: usize| count[index].parse::<usize>().unwrap();
        // What is neither done nor has failed is named, each by its address.
        let named = count.get(4).map_or(0, |all| all.as_str().split(", ").count());
        assert_eq!(number(1) + number(3) + named, number(2), "{told}: {}", &count[0]);
        assert!(number(1) < number(2), "{told}: {}", &count[0]);
    }
    counts.len()
}

#[test]
fn an_outage_at_any_time_is_named_and_the_next_run_goes_on() {
    simulate(async || {
        let [calm, calm_and_changed] = calm().await;
        let (mut ended, mut counted) = ([0; 3], 0);
        for (place, named) in PLACES {
            // Little is made at the witness, and all of it early.
            let few = place == WITNESS && !is_whole();
            for seconds in if few { vec![5] } else { moments() } {
                let told = format!("{place} after {seconds} s");
                let mut user = User::new().await;
                let config = configuration(&user.sandbox);
                down_in(&user, place, seconds);
                let found = errors(&user.apply(&config).await);
                if !found.is_empty() {
                    counted += must_tell(&found, named, &format!("create, {told}"));
                    ended[0] += 1;
                }
                up(&mut user, place).await;
                user.state.tainted = false;
                user.must_apply(&config).await;
                user.must_be_unchanged(&config).await;
                assert_eq!(census(&user.sandbox), calm, "{told}");

                let config = changed(&config);
                let planned = user.plan(&config).await;
                assert!(!planned.diagnostics.has_errors());
                down_in(&user, place, seconds);
                let found = errors(&user.apply_planned(&config, planned).await);
                if !found.is_empty() {
                    counted += must_tell(&found, named, &format!("update, {told}"));
                    ended[1] += 1;
                }
                assert!(user.state.value.is_some() && !user.state.tainted, "{told}");
                up(&mut user, place).await;
                user.must_apply(&config).await;
                user.must_be_unchanged(&config).await;
                assert_eq!(census(&user.sandbox), calm_and_changed, "{told}");

                down_in(&user, place, seconds);
                let found = errors(&user.destroy().await);
                if !found.is_empty() {
                    counted += must_tell(&found, named, &format!("destroy, {told}"));
                    assert!(user.state.value.is_some(), "{told}: nothing is known any more");
                    ended[2] += 1;
                }
                up(&mut user, place).await;
                if user.state.value.is_some() {
                    user.must_destroy().await;
                }
                assert_eq!(user.leftovers(), Vec::<String>::new(), "{told}");
            }
        }
        assert!(ended.iter().all(|count| *count >= 6), "{ended:?} runs were ended");
        assert!(counted > 10, "{counted} errors say how much was done");
    });
}

#[test]
fn an_outage_at_plan_is_named_and_changes_nothing() {
    simulate(async || {
        for (place, named) in PLACES {
            let (mut user, config) = User::with_cluster().await;
            let before = user.state.clone();
            user.restart().await;
            user.sandbox.set_down(place, true);
            user.sandbox.forget_calls();
            let found = lines(&user.plan(&changed(&config)).await.diagnostics);
            assert!(found.iter().any(|one| one.contains(named)), "{place}: {found:#?}");
            assert!(found.iter().any(|one| one.contains("did not answer")), "{place}: {found:#?}");
            assert_eq!(user.state.value, before.value);
            let calls = user.sandbox.calls();
            let changing: Vec<_> =
                calls.iter().filter(|call| super::crash::changes_something(call)).collect();
            assert!(changing.is_empty(), "{place}: {changing:#?}");
        }
    });
}

#[test]
fn while_the_dr_region_is_away_a_plan_says_who_writes() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        user.restart().await;
        user.sandbox.set_down(WEST, true);
        let found = lines(&user.plan(&config).await.diagnostics);
        for told in [
            "in us-west-2 did not answer",
            "By the monitors in us-east-1, applications may write there.",
        ] {
            assert!(found.iter().any(|one| one.contains(told)), "{told}: {found:#?}");
        }
    });
}

/// After a failover, what serves is in the DR region, and nobody who has lost the other one may touch it by mistake.
#[test]
fn while_a_region_is_away_that_was_failed_over_from_nothing_that_serves_is_touched() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let rds = connect(&user.sandbox).await.region(WEST).rds.clone();
        let call = rds.promote_read_replica().db_instance_identifier("trading-db-replica-prod");
        call.send().await.unwrap();
        pass(600).await;
        user.restart().await;
        user.refresh().await;
        let writer = |user: &User| {
            let state = user.state.value.as_ref().unwrap();
            state.get("writer_region").as_str().map(str::to_owned)
        };
        assert_eq!(writer(&user).as_deref(), Some(WEST));
        user.restart().await;
        user.sandbox.set_down(EAST, true);
        user.sandbox.forget_calls();
        let found = lines(&user.plan(&changed(&config)).await.diagnostics);
        assert!(found.iter().any(|one| one.contains("in us-east-1 did not answer")), "{found:#?}");
        user.restart().await;
        let found = errors(&user.destroy().await);
        assert!(found.iter().any(|one| one.contains("us-east-1 did not answer")), "{found:#?}");
        assert!(found.iter().any(|one| one.contains("othing was")), "{found:#?}");
        assert_eq!(writer(&user).as_deref(), Some(WEST), "what is known is kept");
        let calls = user.sandbox.calls();
        // The lease is what says that somebody looks.
        let is_lease = |one: &CallRecord| one.parameters.to_string().contains("/lease/");
        let touched: Vec<_> = calls
            .iter()
            .filter(|one| super::crash::changes_something(one) && !is_lease(one))
            .collect();
        assert!(touched.is_empty(), "{touched:#?}");
        up(&mut user, EAST).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}
