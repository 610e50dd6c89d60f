//! Two runs that begin at once, from two states: one gets the lease, whoever comes first by a moment, and the other one is
//! told, with its state as it was.

use std::time::Duration;

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::{Value as Json, json};
use trading::plugin::Diagnostics;

use crate::support::{
    aws::simulate,
    user::{State, User, configuration, errors},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    Update,
    Destroy,
}

/// Which runs meet, and how they are called where somebody else is told of them.
const PAIRS: [[(Deed, &str); 2]; 4] = [
    [(Deed::Create, "create"), (Deed::Create, "create")],
    [(Deed::Update, "update"), (Deed::Update, "update")],
    [(Deed::Update, "update"), (Deed::Destroy, "destroy")],
    [(Deed::Destroy, "destroy"), (Deed::Update, "update")],
];

async fn run(user: &mut User, deed: Deed, config: &Json) -> Diagnostics {
    match deed {
        Deed::Create | Deed::Update => user.apply(config).await,
        Deed::Destroy => user.destroy().await,
    }
}

#[test]
fn of_two_runs_at_once_one_wins_and_the_other_is_told_which_and_keeps_its_state() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        let empty = Sandbox::new(1.0).world();
        for pair in PAIRS {
            for lag in [0, 30, 1000] {
                // None, or one of the calls to SSM takes its time, by which the lease is made.
                for late in [None, Some(0), Some(3), Some(6)] {
                    let told = format!("{pair:?}, {lag} ms later, the {late:?}th call is late");
                    let is_new = pair[0].0 == Deed::Create;
                    let world = if is_new { empty.clone() } else { made.sandbox.world() };
                    let sandbox = Sandbox::with_world(world, 1.0);
                    if let Some(after) = late {
                        let service = Some("ssm".to_owned());
                        let rule = Rule { service, after, times: Some(1), ..Rule::default() };
                        sandbox.add_fault(Fault::new(rule, Effect::Delay { milliseconds: 1500 }));
                    }
                    let prior = || if is_new { State::default() } else { made.state.clone() };
                    let mut first = User::of(sandbox.clone()).await;
                    let mut second = User::of(sandbox.clone()).await;
                    (first.state, second.state) = (prior(), prior());
                    let mut wanted = if is_new { configuration(&sandbox) } else { config.clone() };
                    if !is_new {
                        wanted["database"] = json!({"instance_class": "db.r6g.large"});
                    }
                    let later = async {
                        tokio::time::sleep(Duration::from_millis(lag)).await;
                        run(&mut second, pair[1].0, &wanted).await
                    };
                    let (one, two) = tokio::join!(run(&mut first, pair[0].0, &wanted), later);
                    let outcome = (one.has_errors(), two.has_errors());
                    assert_ne!(
                        outcome.0,
                        outcome.1,
                        "{told}: {:#?} {:#?}",
                        errors(&one),
                        errors(&two)
                    );
                    let (found, loser, mut winner, by) = match outcome.0 {
                        true => (one, first, second, pair[1]),
                        false => (two, second, first, pair[0]),
                    };
                    let found = errors(&found);
                    let why = format!("another {} is running", by.1);
                    assert!(found[0].contains(&why), "{told}: {found:#?}");
                    assert!(!loser.state.tainted, "{told}");
                    assert_eq!(loser.state.value.is_some(), !is_new, "{told}");
                    winner.sandbox.clear_faults();
                    if by.0 == Deed::Destroy {
                        assert_eq!(winner.leftovers(), Vec::<String>::new(), "{told}");
                    } else {
                        winner.must_be_unchanged(&wanted).await;
                    }
                }
            }
        }
    });
}

/// The answer of a destroy's last call is lost. By the time that it is taken for lost, the suffix is another cluster's.
#[test]
fn a_destroy_whose_end_was_not_answered_takes_nothing_from_the_next_cluster() {
    simulate(async || {
        let (mut first, config) = User::with_cluster().await;
        let mut second = User::of(first.sandbox.clone()).await;
        // The first one takes the lease before it away.
        let operation = Some("DeleteParameters".into());
        let rule = Rule { operation, after: 1, times: Some(1), ..Rule::default() };
        first.sandbox.add_fault(Fault::new(rule, Effect::Delay { milliseconds: 60_000 }));
        let sandbox = first.sandbox.clone();
        let (gone, made) = futures::join!(first.destroy(), async {
            while sandbox.hits() == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            second.apply(&config).await
        });
        assert_eq!(errors(&gone), Vec::<String>::new());
        assert_eq!(errors(&made), Vec::<String>::new());
        assert!(first.state.value.is_none());
        second.must_be_unchanged(&config).await;
        let found = errors(&first.plan(&config).await.diagnostics);
        let told = found.iter().any(|one| one.contains("There is a cluster prod already"));
        assert!(told, "{found:#?}");
        second.must_destroy().await;
        assert_eq!(second.leftovers(), Vec::<String>::new());
    });
}

/// The lease is looked for with a session of its own, which outlasts the run's.
#[test]
fn an_interrupt_while_it_is_asked_what_a_lost_answer_was_ends_soon() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        let operation = Some("DeleteParameters".into());
        let rule = Rule { operation, after: 1, times: Some(1), ..Rule::default() };
        user.sandbox.add_fault(Fault::new(rule, Effect::Delay { milliseconds: 60_000 }));
        let (sandbox, cancel) = (user.sandbox.clone(), user.cancel.clone());
        let interrupted = tokio::spawn(async move {
            while sandbox.hits() == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // By the time that the answer is taken for lost, some six seconds later, nothing is answered any more.
            tokio::time::sleep(Duration::from_secs(2)).await;
            sandbox.add_fault(Fault::new(Rule::default(), Effect::Hang));
            tokio::time::sleep(Duration::from_secs(20)).await;
            cancel.cancel();
            tokio::time::Instant::now()
        });
        let found = errors(&user.destroy().await);
        let took = interrupted.await.unwrap().elapsed();
        assert!(took <= Duration::from_secs(10), "{took:?}");
        let place = "giving back the environment suffix";
        assert!(found.iter().any(|one| one.contains(place)), "{found:#?}");
        assert!(found.iter().any(|one| one.contains("goes on from there")), "{found:#?}");
        user.sandbox.clear_faults();
        user.restart().await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}
