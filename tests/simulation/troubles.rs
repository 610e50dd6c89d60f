//! Trouble drawn from seeds, through the SDK and the sandbox: what must hold is looked at every second.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sandbox::{Effect, Fault, Rule, Sandbox, Source, Time, World};
use serde_json::{Value as Json, json};
use trading::{
    cluster::{objectives::Objectives, spec::FailoverSpec},
    contract::drill::Step,
};

use super::{
    agent::{answers, doors},
    drill,
};
use crate::support::{
    agent::{EAST, WEST, WITNESS, begin, begin_the_others, lease, ledger, set_lost},
    aws::{pass, simulate},
    user::User,
};

/// How long clients remember an answer, in seconds.
const TTL: u64 = 30;
/// For how many seconds a region that comes back may take writes beside the other one: its monitor runs every minute,
/// and looks.
const UNTIL_CLOSED: u64 = 90;
/// The instances.
const WRITER: &str = "trading-db-primary-prod";
const STANDBY: &str = "trading-db-replica-prod";
/// The time between two heartbeats; and between two looks of clients, and rounding up; in milliseconds.
const HEARTBEAT: u64 = 10_000;
const SLACK: u64 = 2_500;
/// After how long a lost region is given up at the latest, and how long after a drill's snapshot RDS is asked again, in
/// milliseconds.
const DETECTED: u64 = 75_000;
const ASKED: u64 = 12_000;

/// What a cluster's clients saw, second by second.
#[derive(Default)]
struct Watch {
    /// When trouble began.
    lost_at: Time,
    /// When the standby first took writes of its clients.
    writes_at: Option<Time>,
    /// When the name first led to it.
    moved_at: Option<Time>,
    /// For how many seconds clients of both regions could write, each to their own.
    overlap: u64,
    /// When clients could last write before RDS was asked, and until when the standby had then replayed.
    stopped_at: Time,
    replayed_to: Time,
    /// When RDS would last have refused to promote the standby, before it was asked.
    busy_at: Time,
    epoch: u64,
    looks: u64,
    was_promoted: bool,
    /// What must never be.
    wrong: Vec<String>,
}

impl Watch {
    /// Looks every second from now on.
    fn begin(sandbox: &Sandbox) -> Arc<Mutex<Self>> {
        let watch = Arc::new(Mutex::new(Self::default()));
        let (its, sandbox) = (watch.clone(), sandbox.clone());
        tokio::spawn(async move {
            loop {
                its.lock().unwrap().look(&sandbox);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        watch
    }

    fn look(&mut self, sandbox: &Sandbox) {
        let now = sandbox.now();
        self.looks += 1;
        let was_asked = sandbox.has_called(|call| {
            call.operation == "PromoteReadReplica"
                && call.error.is_none()
                && call.parameters["DBInstanceIdentifier"] == STANDBY
        });
        let writes = |region: &str, id: &str| {
            sandbox.with(|world| {
                let network = world.network()[region].clone();
                let text = |name: &str| network[name].as_str().unwrap().to_owned();
                let groups = vec![text("application_security_group_id")];
                let from = Source { region: region.to_owned(), vpc: text("vpc_id"), groups };
                world.takes_writes(region, id, &from)
            })
        };
        let old = writes(EAST, WRITER);
        let new = writes(WEST, STANDBY);
        self.overlap += u64::from(old && new);
        if !was_asked {
            if old {
                self.stopped_at = now;
            }
            sandbox.with(|world| {
                self.replayed_to = world.replayed(WEST, STANDBY).unwrap_or_default();
                if world.status(WEST, STANDBY) != "available" {
                    self.busy_at = now;
                }
            });
        }
        if new {
            self.writes_at.get_or_insert(now);
        }
        let names = answers(sandbox);
        let has_moved = names.iter().any(|name| name.contains("replica"));
        match self.moved_at {
            None if has_moved => self.moved_at = Some(now),
            Some(_) if !has_moved => {
                self.wrong.push(format!("{now:?}: the name moved back: {names:?}"));
            }
            _ => {}
        }
        if has_moved && !was_asked {
            self.wrong.push(format!("{now:?}: the name leads to a replica"));
        }
        let epoch = lease(sandbox)["epoch"]["N"].as_str().and_then(|text| text.parse().ok());
        if epoch.unwrap_or(0) < self.epoch {
            self.wrong
                .push(format!("{now:?}: the lease's epoch fell from {} to {epoch:?}", self.epoch));
        }
        self.epoch = self.epoch.max(epoch.unwrap_or(0));
        if names.len() != 1 {
            self.wrong.push(format!("{now:?}: the name is answered with {names:?}"));
        }
        let is_promoted = ledger(sandbox, WEST)["phase"] == "promoted";
        if self.was_promoted && !is_promoted {
            self.wrong.push(format!("{now:?}: it is no longer promoted"));
        }
        self.was_promoted |= is_promoted;
    }

    fn must_have_held(&self, trouble: Trouble, story: &str) {
        assert!(self.wrong.is_empty(), "{story}: {:#?}", self.wrong);
        self.must_have_been_in_time(trouble, story);
    }

    /// True loss ≤ what was reported ≤ true loss and a heartbeat; what is reported is the estimate and a heartbeat.
    fn must_have_told(&self, trouble: Trouble, estimate: Option<u64>, story: &str) {
        let lost = self.stopped_at.0.saturating_sub(self.replayed_to.0);
        let estimate = estimate.unwrap_or_else(|| panic!("{story}: no loss is known")) * 1000;
        let (more, less) = match trouble {
            // It wrote on until its guard closed it, and the report says so.
            Trouble::CutFromBoth => (60_000, 0),
            // Where calls fail, nobody knows better than by the last one that did not.
            Trouble::FailingCalls => (0, estimate),
            _ => (0, 0),
        };
        let least = estimate.saturating_sub(less + SLACK);
        let most = estimate + HEARTBEAT + more + SLACK;
        assert!((least..=most).contains(&lost), "{story}: lost {lost} ms of {least} to {most}");
    }

    fn must_have_been_in_time(&self, trouble: Trouble, story: &str) {
        assert!(self.looks > 400 && self.epoch > 0, "{story}: nobody looked");
        let limit = if trouble == Trouble::RegionLostAndBack { UNTIL_CLOSED } else { 0 };
        assert!(self.overlap <= limit, "{story}: for {} s, both took writes", self.overlap);
        let objectives = Objectives::new(&FailoverSpec::default(), 30, None);
        let budget = match trouble {
            Trouble::RegionLost | Trouble::RegionLostAndBack | Trouble::CutFromBoth => {
                objectives.lost_region.seconds()
            }
            Trouble::WriterLost => objectives.lost_instance.seconds(),
            // Later by what a drill keeps RDS from promoting, beyond the time in which the region is given up.
            Trouble::LostInDrill => {
                let given_up = self.lost_at.0 + DETECTED;
                let delayed = (self.busy_at.0 + ASKED).saturating_sub(given_up) / 1000;
                objectives.lost_region.seconds() + u32::try_from(delayed).unwrap()
            }
            _ => return,
        };
        let both = self.writes_at.zip(self.moved_at);
        let served = both.map(|(writes, moved)| writes.max(moved));
        let took = served.map(|at| (at.0 - self.lost_at.0) / 1000 + TTL);
        assert!(took.is_some_and(|took| took <= budget.into()), "{story}: {took:?} of {budget} s");
    }
}

/// What happens to a cluster that has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    RegionLost,
    RegionLostAndBack,
    /// It lives, and reaches nobody but its own clients.
    CutFromBoth,
    ControlLost,
    WriterLost,
    WitnessLost,
    WitnessLostThenRegion,
    ZoneFailover,
    FailingCalls,
    SlowCalls,
    ShortLoss,
    /// The region, while a drill of the standby goes on.
    LostInDrill,
}

const TROUBLES: [Trouble; 12] = [
    Trouble::RegionLost,
    Trouble::RegionLostAndBack,
    Trouble::CutFromBoth,
    Trouble::ControlLost,
    Trouble::WriterLost,
    Trouble::WitnessLost,
    Trouble::WitnessLostThenRegion,
    Trouble::ZoneFailover,
    Trouble::FailingCalls,
    Trouble::SlowCalls,
    Trouble::ShortLoss,
    Trouble::LostInDrill,
];

/// Lives through a seed's trouble; whether the cluster must, may or must not have failed over in the end.
async fn suffer(
    sandbox: &Sandbox,
    watch: &Mutex<Watch>,
    trouble: Trouble,
    random: &mut fastrand::Rng,
) -> Option<bool> {
    pass(random.u64(0..60)).await;
    watch.lock().unwrap().lost_at = sandbox.now();
    let fault = |effect| {
        sandbox.add_fault(Fault::new(Rule { percent: Some(15), ..Rule::default() }, effect));
    };
    match trouble {
        Trouble::RegionLost => set_lost(sandbox, EAST, true),
        Trouble::RegionLostAndBack => {
            set_lost(sandbox, EAST, true);
            pass(260 + random.u64(0..100)).await;
            set_lost(sandbox, EAST, false);
        }
        Trouble::CutFromBoth => sandbox.with(|world| {
            world.set_cut(EAST, WEST, true);
            world.set_cut(EAST, WITNESS, true);
        }),
        Trouble::ControlLost => sandbox.set_down(EAST, true),
        Trouble::WriterLost => sandbox.with(|world| world.set_dark(EAST, true)),
        Trouble::WitnessLost => sandbox.set_down(WITNESS, true),
        Trouble::WitnessLostThenRegion => {
            sandbox.set_down(WITNESS, true);
            pass(random.u64(0..60)).await;
            set_lost(sandbox, EAST, true);
        }
        Trouble::ZoneFailover => {
            let aws = crate::support::aws::connect(sandbox).await;
            let rds = &aws.region(EAST).rds;
            let reboot = rds.reboot_db_instance().db_instance_identifier(WRITER);
            reboot.force_failover(true).send().await.unwrap();
        }
        Trouble::FailingCalls => {
            fault(Effect::Fail {
                code: "InternalFailure".into(),
                message: "x".into(),
                status: 500,
            });
            fault(Effect::Throttle);
            set_lost(sandbox, EAST, true);
        }
        Trouble::SlowCalls => {
            fault(Effect::Delay { milliseconds: 2000 });
            set_lost(sandbox, EAST, true);
        }
        Trouble::ShortLoss => {
            set_lost(sandbox, EAST, true);
            pass(random.u64(5..45)).await;
            set_lost(sandbox, EAST, false);
        }
        Trouble::LostInDrill => {
            drill::ask(sandbox).await;
            drill::until(sandbox, Some(Step::Creating)).await;
            pass(random.u64(0..500)).await;
            watch.lock().unwrap().lost_at = sandbox.now();
            set_lost(sandbox, EAST, true);
            // What a drill blocks at most.
            pass(260).await;
        }
    }
    pass(420).await;
    match trouble {
        Trouble::RegionLost
        | Trouble::RegionLostAndBack
        | Trouble::CutFromBoth
        | Trouble::WriterLost
        | Trouble::SlowCalls
        | Trouble::LostInDrill => Some(true),
        // Failing calls may keep the evidence incomplete for that long.
        Trouble::FailingCalls => None,
        Trouble::ControlLost
        | Trouble::WitnessLost
        | Trouble::WitnessLostThenRegion
        | Trouble::ZoneFailover
        | Trouble::ShortLoss => Some(false),
    }
}

fn trouble_of(seed: u64) -> Trouble {
    TROUBLES[usize::try_from(seed).unwrap() % TROUBLES.len()]
}

/// Makes it a new account: ten functions at once, and none of that can be kept for one of them.
fn make_new(world: &mut World) {
    world.set_concurrency(10);
    for region in [EAST, WEST] {
        for function in ["trading-db-monitor-prod", "trading-db-probe-prod"] {
            world.drift(region, "function", function, Some(&json!({"_reserved": null}))).unwrap();
        }
    }
}

fn judge(seed: u64, mut world: World) {
    if seed / u64::try_from(TROUBLES.len()).unwrap() % 2 == 1 {
        make_new(&mut world);
    }
    simulate(async || {
        let (trouble, mut random) = (trouble_of(seed), fastrand::Rng::with_seed(seed));
        let sandbox = Sandbox::with_world(world, 1.0);
        begin(&sandbox);
        // Runs that were under way are gone with the world that they were in.
        pass(120).await;
        let watch = Watch::begin(&sandbox);
        let must = suffer(&sandbox, &watch, trouble, &mut random).await;
        // Where the answer to a promotion was lost, the name stays until it is known, and it may be asked for again.
        let is_open = |ledger: &Json| ledger["phase"] == "accepted" && ledger["certain"] != true;
        for _ in 0..60 {
            pass(if is_open(&ledger(&sandbox, WEST)) { 10 } else { 0 }).await;
        }
        if ledger(&sandbox, WEST)["phase"] == "accepted" {
            // The name follows the metric within its budget.
            pass(150).await;
        }
        let (after, names) = (ledger(&sandbox, WEST), answers(&sandbox));
        let story = format!("seed {seed} ({trouble:?}): {after:#} {names:?}");
        let has = after["phase"] == "promoted";
        assert!(must.is_none_or(|must| must == has), "{story}");
        assert_eq!(names.len(), 1, "{story}");
        let moves = after["phase"] == "accepted" && !is_open(&after);
        assert_eq!(names[0].contains("replica"), has || moves, "{story}");
        if trouble == Trouble::RegionLostAndBack {
            assert_eq!(doors(&sandbox, EAST), Vec::<String>::new(), "{story}");
        }
        watch.lock().unwrap().must_have_held(trouble, &story);
        if has {
            watch.lock().unwrap().must_have_told(trouble, after["data_loss"].as_u64(), &story);
        }
        if must == Some(false) {
            assert!(!doors(&sandbox, EAST).is_empty(), "{story}");
            assert_eq!(lease(&sandbox)["holder"]["S"], EAST, "{story}");
        }
    });
}

/// `AGENT_SEEDS` are tried; each is a cluster of its own, made from one that has settled.
#[test]
fn what_must_hold_holds_through_the_sdk() {
    let mut settled = None;
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        user.sandbox.forget_calls();
        settled = Some(user.sandbox.world());
    });
    let settled = settled.unwrap();
    let mut drilled = None;
    simulate(async || {
        let (user, ..) = drill::drilled(json!({})).await;
        begin_the_others(&user.sandbox);
        pass(200).await;
        user.sandbox.forget_calls();
        drilled = Some(user.sandbox.world());
    });
    let drilled = drilled.unwrap();
    let world = |seed| match trouble_of(seed) {
        Trouble::LostInDrill => drilled.clone(),
        _ => settled.clone(),
    };
    let count =
        std::env::var("AGENT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100u64);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let world = &world;
            scope.spawn(move || {
                for seed in (half..count).step_by(2) {
                    judge(seed, world(seed));
                }
            });
        }
    });
}
