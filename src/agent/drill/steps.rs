//! What a drill does next, by what it remembers and what it sees. Pure.

use crate::{
    agent::{Instance, InstanceRole, Probed, Session},
    contract::drill::{Drilled, Step, Underway},
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
/// How far the standby may be behind when a drill begins (failover.md, "Drill").
const MOST_BEHIND: u64 = 10 * SECOND;
/// The same when it is only seen at the next look.
const SEEN_BEHIND: u64 = 15 * SECOND;
/// How old the standby's newest backup may be: what has changed since is what RDS saves first, and while it
/// does, the standby cannot be promoted. A day, and two hours for the backup itself.
const BACKUP: u64 = 26 * 60 * MINUTE;
/// After how long without an instance a question for one is repeated.
const UNHEARD_CREATION: u64 = 5 * MINUTE;
/// After how long a promotion of which nothing is seen is asked for again: twice what RDS's status is known to
/// lag behind (aws-facts 1.3).
const UNHEARD_PROMOTION: u64 = 2 * MINUTE;
/// The same for a removal.
const UNHEARD_REMOVAL: u64 = MINUTE;
/// How much of its life a run must have before it to begin what is measured.
const ROOM: u64 = 3 * MINUTE;

/// The throw-away instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// RDS's status.
    pub(super) status: String,
    /// Whether it still follows the standby.
    pub(super) follows: bool,
    /// Whether it has the cluster's tags.
    pub(super) is_ours: bool,
}

/// What a look showed: of what a step does not need, nothing.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) now: u64,
    /// How long the run has before it.
    pub(super) left: u64,
    /// Whether no failover is under way, or was.
    pub(super) is_normal: bool,
    /// Whether somebody holds the cluster.
    pub(super) is_held: bool,
    pub(super) standby: Option<Instance>,
    /// How old the standby's newest backup is.
    pub(super) backup_age: Option<u64>,
    pub(super) copy: Option<Copy>,
    pub(super) probed: Option<Probed>,
}

/// What is done once everything is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing; look again soon.
    Wait,
    /// Nothing in this run: the next one has more time.
    Leave,
    /// RDS is asked for the throw-away instance.
    Create,
    /// RDS is asked to promote it.
    Promote,
    /// RDS is asked to remove it.
    Remove,
    /// It is over.
    Finish,
}

/// How long a step may take, in minutes.
fn limit(step: Step) -> u64 {
    match step {
        Step::Waiting | Step::Creating => 120,
        Step::Comparing | Step::Promoting => 20,
        Step::Removing => 60,
    }
}

fn what(step: Step) -> &'static str {
    match step {
        Step::Waiting => "the cluster was not ready for a drill",
        Step::Creating => "RDS did not make the throw-away instance",
        Step::Comparing => "the throw-away instance did not get what the writer has",
        Step::Promoting => "the throw-away instance took no write",
        Step::Removing => "RDS did not remove the throw-away instance",
    }
}

impl Underway {
    /// One that has just been asked for.
    pub(super) fn new(now: u64) -> Self {
        Self {
            step: Step::Waiting,
            began: now,
            since: now,
            looked: now,
            asked: None,
            mark: None,
            heartbeat_age: None,
            promotion: None,
            blocked: 0,
            waits: String::new(),
            failure: None,
        }
    }

    fn advance(&mut self, step: Step, now: u64) -> Act {
        self.step = step;
        self.since = now;
        self.asked = None;
        self.mark = None;
        self.waits.clear();
        Act::Wait
    }

    fn fail(&mut self, why: impl Into<String>, now: u64) -> Act {
        self.failure.get_or_insert(why.into());
        self.advance(Step::Removing, now)
    }

    /// Whether RDS was asked less than so long ago.
    fn asked_within(&self, limit: u64, now: u64) -> bool {
        self.asked.is_some_and(|at| now.saturating_sub(at) < limit)
    }

    /// What is kept of it.
    pub(super) fn result(&self, now: u64) -> Drilled {
        let seconds =
            |milliseconds: u64| u32::try_from(milliseconds.div_ceil(SECOND)).unwrap_or(u32::MAX);
        Drilled {
            began: self.began,
            ended: now,
            promotion: self.promotion.map(seconds),
            heartbeat_age: self.heartbeat_age.map(seconds),
            blocked: seconds(self.blocked),
            failure: self.failure.clone(),
        }
    }
}

/// What is done next. What it is remembered by changes first, and is written before anything is done.
pub(super) fn next(run: &mut Underway, seen: &Seen) -> Act {
    let now = seen.now;
    let passed = now.saturating_sub(run.looked);
    run.looked = now;
    if run.step == Step::Removing {
        return remove(run, seen);
    }
    if !seen.is_normal {
        return run.fail("a failover has begun", now);
    }
    let minutes = limit(run.step);
    if now.saturating_sub(run.since) > minutes * MINUTE {
        let why = if run.waits.is_empty() { String::new() } else { format!(": {}", run.waits) };
        return run.fail(format!("{} within {minutes} minutes{why}", what(run.step)), now);
    }
    if seen.copy.as_ref().is_some_and(|copy| !copy.is_ours) {
        return run.fail("an instance of somebody else's has the throw-away instance's name", now);
    }
    match run.step {
        Step::Waiting => begin(run, seen),
        Step::Creating => create(run, seen, passed),
        Step::Comparing => compare(run, seen),
        Step::Promoting => promote(run, seen),
        Step::Removing => Act::Wait,
    }
}

fn begin(run: &mut Underway, seen: &Seen) -> Act {
    if seen.copy.is_some() {
        // Of a drill that nobody remembers.
        run.waits = "an older throw-away instance has to go first".into();
        return Act::Remove;
    }
    match why_not(run, seen) {
        Some(why) => {
            run.waits = why;
            Act::Wait
        }
        None => run.advance(Step::Creating, seen.now),
    }
}

/// What speaks against a drill now: it must not add to a trouble, and not delay a failover for long.
fn why_not(run: &mut Underway, seen: &Seen) -> Option<String> {
    if seen.is_held {
        return Some("somebody holds the cluster".into());
    }
    match &seen.standby {
        None => return Some("there is no standby".into()),
        Some(one) if one.role != InstanceRole::Replica => {
            return Some("the standby follows nobody".into());
        }
        Some(one) if one.status != "available" => {
            return Some(format!("the standby is {}", one.status));
        }
        Some(_) => {}
    }
    if seen.backup_age.is_none_or(|age| age > BACKUP) {
        return Some("the standby has no backup of the last 26 hours".into());
    }
    let (Some(Session::Standby { replayed, .. }), Some(Session::Writer { acknowledged })) =
        (seen.probed.as_ref().map(|one| &one.here), seen.probed.as_ref().map(|one| &one.there))
    else {
        run.mark = None;
        return Some("the databases do not both answer as they should".into());
    };
    let fresh = Some((*acknowledged, seen.now));
    match run.mark {
        Some((stamp, at)) if *replayed >= stamp && seen.now.saturating_sub(at) <= SEEN_BEHIND => {
            return None;
        }
        Some((stamp, at)) if *replayed >= stamp || seen.now.saturating_sub(at) > MOST_BEHIND => {
            run.mark = fresh;
            let late = *replayed < stamp;
            return Some(if late { "the standby is more than 10 s behind" } else { LOOKS }.into());
        }
        Some(_) => {}
        None => run.mark = fresh,
    }
    Some(LOOKS.into())
}

/// One look tells what was written, another one whether it has arrived.
const LOOKS: &str = "a write has to arrive at the standby";

fn create(run: &mut Underway, seen: &Seen, passed: u64) -> Act {
    let is_free = seen.standby.as_ref().is_some_and(|one| one.status == "available");
    if !is_free {
        run.blocked += passed;
    }
    match &seen.copy {
        None if run.asked_within(UNHEARD_CREATION, seen.now) => Act::Wait,
        None => {
            run.asked = Some(seen.now);
            Act::Create
        }
        Some(copy) if copy.status == "failed" || copy.status.starts_with("incompatible") => {
            run.fail(format!("the throw-away instance is {}", copy.status), seen.now)
        }
        Some(copy) if copy.status == "available" && is_free => {
            run.advance(Step::Comparing, seen.now)
        }
        Some(copy) => {
            run.waits = format!("it is {}", copy.status);
            Act::Wait
        }
    }
}

fn compare(run: &mut Underway, seen: &Seen) -> Act {
    if seen.copy.is_none() {
        return run.fail("somebody has removed the throw-away instance", seen.now);
    }
    match &seen.probed {
        Some(Probed {
            here: Session::Standby { replayed, .. },
            there: Session::Writer { acknowledged },
        }) => {
            let (stamp, _) = *run.mark.get_or_insert((*acknowledged, seen.now));
            if *replayed >= stamp {
                run.heartbeat_age = Some(acknowledged.saturating_sub(*replayed));
                return run.advance(Step::Promoting, seen.now);
            }
            run.waits = "a write has to arrive at it".into();
        }
        Some(probed) => run.waits = format!("it shows {:?}", probed.here),
        None => {}
    }
    Act::Wait
}

fn promote(run: &mut Underway, seen: &Seen) -> Act {
    let Some(copy) = &seen.copy else {
        return run.fail("somebody has removed the throw-away instance", seen.now);
    };
    let Some(asked) = run.asked else {
        if seen.left < ROOM {
            return Act::Leave;
        }
        run.asked = Some(seen.now);
        return Act::Promote;
    };
    // It holds the role and the heartbeats of the cluster, or it would not have taken a write of the probe.
    if matches!(seen.probed, Some(Probed { here: Session::Writer { .. }, .. })) {
        run.promotion = Some(seen.now.saturating_sub(asked));
        return run.advance(Step::Removing, seen.now);
    }
    run.waits = format!("it is {}", copy.status);
    if copy.follows && copy.status == "available" && !run.asked_within(UNHEARD_PROMOTION, seen.now)
    {
        run.asked = Some(seen.now);
        return Act::Promote;
    }
    Act::Wait
}

fn remove(run: &mut Underway, seen: &Seen) -> Act {
    let minutes = limit(Step::Removing);
    if seen.now.saturating_sub(run.since) > minutes * MINUTE {
        // It is tried on: a throw-away instance holds back what the standby could forget.
        run.failure.get_or_insert_with(|| format!("{} within {minutes} minutes", what(run.step)));
    }
    match &seen.copy {
        Some(copy) if copy.is_ours => {
            if copy.status == "deleting" || run.asked_within(UNHEARD_REMOVAL, seen.now) {
                return Act::Wait;
            }
            run.asked = Some(seen.now);
            Act::Remove
        }
        // One whose making was asked for without an answer may still appear.
        None if run.asked.is_none() && seen.now.saturating_sub(run.since) < MINUTE => Act::Wait,
        Some(_) | None => Act::Finish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(now: u64) -> Seen {
        let standby =
            Instance { role: InstanceRole::Replica, status: "available".into(), zone: None };
        Seen {
            now: now * SECOND,
            left: 270 * SECOND,
            is_normal: true,
            is_held: false,
            standby: Some(standby),
            backup_age: Some(60 * MINUTE),
            copy: None,
            probed: Some(Probed {
                here: Session::Standby {
                    replayed: (now - 1) * SECOND,
                    receiver_age: Some(0),
                    committed: None,
                },
                there: Session::Writer { acknowledged: now * SECOND },
            }),
        }
    }

    fn copy(status: &str, follows: bool) -> Option<Copy> {
        Some(Copy { status: status.into(), follows, is_ours: true })
    }

    #[test]
    fn a_drill_goes_through_all_its_steps_and_measures() {
        let mut run = Underway::new(100 * SECOND);
        let mut at = |now, change: &dyn Fn(&mut Seen)| {
            let mut seen = seen(now);
            change(&mut seen);
            let act = next(&mut run, &seen);
            (run.step, act, run.clone())
        };
        assert_eq!(at(100, &|_| {}).1, Act::Wait);
        assert_eq!(at(105, &|_| {}).0, Step::Creating);
        assert_eq!(at(106, &|_| {}).1, Act::Create);
        let busy = |one: &mut Seen| {
            one.copy = copy("creating", true);
            one.standby.as_mut().unwrap().status = "modifying".into();
        };
        assert_eq!(at(116, &busy).1, Act::Wait);
        assert_eq!(at(346, &busy).2.blocked, 240 * SECOND);
        assert_eq!(at(700, &|one| one.copy = copy("available", true)).0, Step::Comparing);
        let there = |one: &mut Seen| one.copy = copy("available", true);
        assert_eq!(at(710, &there).0, Step::Comparing, "what was just written has to arrive");
        assert_eq!(at(720, &there).0, Step::Promoting);
        assert_eq!(
            at(721, &|one| (one.copy, one.left) = (copy("available", true), 1)).1,
            Act::Leave
        );
        assert_eq!(at(722, &there).1, Act::Promote);
        let written = |one: &mut Seen| {
            one.copy = copy("modifying", true);
            one.probed.as_mut().unwrap().here = Session::Writer { acknowledged: 1 };
        };
        let (step, _, run_then) = at(812, &written);
        assert_eq!((step, run_then.promotion), (Step::Removing, Some(90 * SECOND)));
        assert_eq!(at(813, &|one| one.copy = copy("available", false)).1, Act::Remove);
        assert_eq!(at(823, &|one| one.copy = copy("deleting", false)).1, Act::Wait);
        let (_, act, run) = at(1200, &|_| {});
        assert_eq!(act, Act::Finish);
        let result = run.result(1200 * SECOND);
        assert_eq!(
            (result.promotion, result.heartbeat_age, result.failure),
            (Some(90), Some(1), None)
        );
        assert_eq!(result.blocked, 240);
    }

    #[test]
    fn nothing_begins_in_trouble_and_it_is_said_why() {
        let why = |change: &dyn Fn(&mut Seen)| {
            let mut run = Underway::new(100 * SECOND);
            for now in [100, 105] {
                let mut seen = seen(now);
                change(&mut seen);
                assert_eq!(next(&mut run, &seen), Act::Wait);
                assert_eq!(run.step, Step::Waiting, "{run:?}");
            }
            run.waits
        };
        assert_eq!(why(&|one| one.is_held = true), "somebody holds the cluster");
        assert_eq!(why(&|one| one.standby = None), "there is no standby");
        let backing_up =
            |one: &mut Seen| one.standby.as_mut().unwrap().status = "backing-up".into();
        assert_eq!(why(&backing_up), "the standby is backing-up");
        let old = |one: &mut Seen| one.backup_age = Some(BACKUP + 1);
        assert_eq!(why(&old), "the standby has no backup of the last 26 hours");
        let closed = |one: &mut Seen| one.probed.as_mut().unwrap().there = Session::Closed;
        assert!(why(&closed).contains("do not both answer"));
        let mut run = Underway::new(100 * SECOND);
        for now in [100, 105, 111] {
            let mut seen = seen(now);
            seen.probed.as_mut().unwrap().here =
                Session::Standby { replayed: SECOND, receiver_age: Some(0), committed: None };
            next(&mut run, &seen);
        }
        assert_eq!(run.waits, "the standby is more than 10 s behind");
    }

    #[test]
    fn whatever_goes_wrong_ends_with_a_removal_and_its_reason() {
        let failed = |step, now, change: &dyn Fn(&mut Seen)| {
            let mut run = Underway { step, ..Underway::new(100 * SECOND) };
            let mut seen = seen(now);
            change(&mut seen);
            next(&mut run, &seen);
            assert_eq!(run.step, Step::Removing);
            run.failure.unwrap()
        };
        let moves = |one: &mut Seen| one.is_normal = false;
        assert_eq!(failed(Step::Comparing, 101, &moves), "a failover has begun");
        let limits = [(Step::Waiting, 120), (Step::Creating, 120), (Step::Promoting, 20)];
        for (step, minutes) in limits {
            let why = failed(step, 101 + minutes * 60, &|_| {});
            assert!(why.ends_with(&format!("within {minutes} minutes")), "{why}");
        }
        let odd = |one: &mut Seen| one.copy = copy("incompatible-parameters", true);
        assert!(failed(Step::Creating, 101, &odd).contains("incompatible-parameters"));
        let foreign = |one: &mut Seen| {
            one.copy = Some(Copy { status: "available".into(), follows: false, is_ours: false });
        };
        assert!(failed(Step::Waiting, 101, &foreign).contains("somebody else's"));
        assert!(failed(Step::Promoting, 101, &|_| {}).contains("has removed"));
    }

    #[test]
    fn what_is_somebody_elses_or_may_still_appear_is_not_removed_or_forgotten() {
        let mut run = Underway::new(0);
        run.fail("why", 100 * SECOND);
        assert_eq!(next(&mut run, &seen(101)), Act::Wait, "its making may have been accepted");
        assert_eq!(next(&mut run.clone(), &seen(160)), Act::Finish);
        let mut other = seen(101);
        other.copy = Some(Copy { status: "available".into(), follows: false, is_ours: false });
        assert_eq!(next(&mut run, &other), Act::Finish);
    }
}
