//! What happens to a world, and the time that passes in it: runs of the monitor that start every minute,
//! overlap, and die.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Waker},
};

use trading::agent::{Config, LIFE, Monitor, Tick};

use super::world::{Place, Shared, View, sleep_until};

/// Something that happens to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Everything in the writer's region ends, or is back.
    Region(bool),
    /// The RDS and EC2 APIs of the writer's region.
    Control(bool),
    /// The writer alone.
    Writer(bool),
    /// What probes reach each other's databases over.
    Peering(bool),
    /// The same from one place only.
    Way(Place, bool),
    /// Nobody writes any more but the heartbeat.
    Idle,
    /// All ways between two places; with the third, that is two of them.
    Between(Place, Place, bool),
    /// RDS's own channel.
    Replication(bool),
    /// The writer's zone fails over and needs so many seconds.
    Zone(u64),
    /// The standby cannot be promoted for so many seconds.
    Busy(u64),
    /// Probes of a region run, or fail.
    Probes(Place, bool),
    /// Runs of the monitor in a region start, or do not.
    Runs(Place, bool),
    /// The tables can be reached from a place, or cannot.
    Tables(Place, bool),
    /// A region's runs can write their ledger, or only read it.
    Notes(Place, bool),
    /// Somebody asks a region's monitor for a failover, by force.
    Force(Place),
    /// All runs in a region die where they stand.
    Kill(Place),
    /// The run whose promotion RDS accepts dies before it hears of that.
    DiesWhenAccepted,
    /// So many in a hundred calls fail from now on.
    Faults(u32),
    /// Somebody asks for no failover for so many seconds.
    Hold(u64),
    /// The cluster is being removed.
    Destroying,
    /// Somebody promotes the standby in the console.
    PromotedByHand,
}

/// How long a run lives that somebody has asked, in milliseconds.
const ASKED: u64 = 30_000;

type Task = (Place, u64, Pin<Box<dyn Future<Output = ()>>>);

/// A run of the monitor, which the schedule has begun or, if `forced`, whoever asks for a failover.
async fn run(world: Shared, place: Place, number: u64, forced: bool) {
    let policy = world.borrow().policy;
    let name = |place: Place| format!("{place:?}");
    let other = if place == Place::P { Place::D } else { Place::P };
    let config = Config { here: name(place), there: name(other), policy };
    let view = View { world: Rc::clone(&world), place };
    let mut monitor = Monitor::new(view, config, format!("{number:020}"));
    let said = |tick: &Tick| {
        let mut world = world.borrow_mut();
        let now = world.now;
        world.said.push((now, place, format!("{tick:?}")));
    };
    if forced {
        let answer = monitor.fail_over(true, None).await;
        world.borrow_mut().answers.push(answer.clone());
        if answer.is_err() {
            return;
        }
    }
    monitor.run(if forced { ASKED } else { LIFE }, said).await;
}

/// Lives through a script of events until a moment, all in seconds from the beginning.
pub fn live(world: &Shared, script: &[(u64, Event)], until: u64) {
    let start = world.borrow().now;
    let mut script: Vec<(u64, Event)> =
        script.iter().map(|(at, event)| (start + at * 1000, event.clone())).collect();
    script.sort_by_key(|(at, _)| *at);
    script.reverse();
    let end = start + until * 1000;
    let mut tasks: Vec<Task> = Vec::new();
    let mut next_minute = start;
    let mut number = 0;
    let waker = Waker::noop();
    loop {
        let event = script.last().map_or(u64::MAX, |(at, _)| *at);
        let task = tasks.iter().map(|(_, wake, _)| *wake).min().unwrap_or(u64::MAX);
        let next = event.min(task).min(next_minute);
        if next >= end {
            world.borrow_mut().pass(end);
            return;
        }
        world.borrow_mut().pass(next);
        if event == next
            && let Some((_, event)) = script.pop()
        {
            if let Event::Kill(place) = event {
                tasks.retain(|(its, ..)| *its != place);
            }
            if event == Event::Region(false) {
                tasks.retain(|(its, ..)| *its != Place::P);
            }
            if let Event::Force(place) = event {
                number += 1;
                tasks.push((place, next, Box::pin(run(Rc::clone(world), place, number, true))));
            }
            world.borrow_mut().happen(&event);
            continue;
        }
        if next_minute == next {
            next_minute += 60_000;
            for place in [Place::P, Place::D] {
                number += 1;
                if world.borrow().may_run(place) {
                    // Schedules fire within the minute, at any moment of it.
                    let at = next + world.borrow_mut().random.u64(0..60_000);
                    let run = run(Rc::clone(world), place, number, false);
                    let world = Rc::clone(world);
                    let task = async move {
                        sleep_until(&world, at).await;
                        run.await;
                    };
                    tasks.push((place, at, Box::pin(task)));
                }
            }
            continue;
        }
        let mut index = 0;
        while index < tasks.len() {
            if tasks[index].1 > next {
                index += 1;
                continue;
            }
            world.borrow_mut().wake = u64::MAX;
            let done = tasks[index].2.as_mut().poll(&mut Context::from_waker(waker)).is_ready();
            let dies = world.borrow_mut().dies.take();
            if let Some(place) = dies {
                tasks.retain(|(its, ..)| *its != place);
                index = 0;
            } else if done {
                drop(tasks.remove(index));
            } else {
                tasks[index].1 = world.borrow().wake;
                index += 1;
            }
        }
    }
}
