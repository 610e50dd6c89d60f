//! What happens after a loss, and when: by what the monitors remember, the cluster's name, and an application.

use std::fmt;

use trading::contract::moments::{ACCEPTED, DECIDED, FIRST_FAILURE, FIRST_WRITE, LEASE_TAKEN};

use super::{
    application::Application,
    stage::{NAME, Stage, ledger},
};
use crate::support::agent::WEST;

/// How long a failover is followed, in seconds of the account's time.
const FOLLOWED: u64 = 600;

/// The moments that the monitors note, and what they are called here.
const NOTED: [(&str, &str); 5] = [
    (FIRST_FAILURE, "the DR region's monitor sees a write fail"),
    (DECIDED, "decided: nothing was written, replicated or vouched for"),
    (LEASE_TAKEN, "the lease is taken from the lost region"),
    (ACCEPTED, "RDS accepts the promotion"),
    (FIRST_WRITE, "the new writer writes and reads a heartbeat"),
];
const MOVED: &str = "the cluster's name leads to the DR region";
const SERVED: &str = "an application's write is acknowledged";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds after the loss.
    after: u64,
    what: &'static str,
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>6.1} s  {}", seconds(self.after), self.what)
    }
}

/// A failover, from a loss to the first write of an application in the other region.
#[derive(Clone, Debug)]
pub struct Story {
    /// By the account's clock, in milliseconds.
    pub began: u64,
    events: Vec<Event>,
    /// What the monitors say is lost at most, in seconds.
    pub reported_loss: u64,
}

#[allow(clippy::cast_precision_loss)]
pub fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

impl Story {
    /// Follows a failover that begins now, until `application` is served again; each event is told as it happens.
    ///
    /// # Panics
    /// It does not get there.
    pub fn follow(
        stage: &Stage,
        began: u64,
        application: &Application,
        mut tell: impl FnMut(&Event),
    ) -> Self {
        let mut story = Self { began, events: Vec::new(), reported_loss: 0 };
        let target = stage.attribute("replica_endpoint");
        for _ in 0..FOLLOWED {
            let (ledger, targets) = stage.with(|world| {
                let vpc = world.network()[WEST]["vpc_id"].as_str().unwrap_or_default().to_owned();
                (ledger(world), world.resolve(&vpc, NAME))
            });
            let noted = |what: &str| {
                let all = ledger["timeline"].as_array()?;
                all.iter().find(|one| one["what"] == what)?["at"].as_u64()
            };
            // The timeline begins anew with each decision. Of this one, the write that failed may have been tried
            // before the trouble began, and have failed by it.
            let is_of_this = noted(DECIDED).is_some_and(|at| at >= began);
            let moment = |what: &str| noted(what).filter(|_| is_of_this);
            let mut seen: Vec<_> =
                NOTED.iter().filter_map(|(what, words)| Some((moment(what)?, *words))).collect();
            if targets.iter().any(|(name, _)| *name == target) {
                seen.push((stage.now(), MOVED));
            }
            // What was acknowledged before RDS was asked, the old writer took.
            let accepted = moment(ACCEPTED);
            if let Some(row) = accepted.and_then(|at| application.first_after(at)) {
                seen.push((row.at, SERVED));
            }
            for (at, what) in seen {
                if story.at(what).is_none() {
                    let event = Event { after: at.saturating_sub(began), what };
                    tell(&event);
                    story.events.push(event);
                }
            }
            if story.events.len() == NOTED.len() + 2 {
                story.events.sort_by_key(|event| event.after);
                story.reported_loss = ledger["data_loss"].as_u64().expect("a loss is known") + 10;
                return story;
            }
            stage.served.pass(1);
        }
        panic!(
            "{:#}\nnot within {FOLLOWED} s; begun at {began}, seen until now: {:?}",
            stage.with(|world| ledger(world)),
            story.events
        );
    }

    fn at(&self, what: &str) -> Option<u64> {
        self.events.iter().find(|event| event.what == what).map(|event| event.after)
    }

    /// When one of the moments was that monitors note, by the account's clock.
    pub fn moment(&self, noted: &str) -> u64 {
        let (_, words) = NOTED.iter().find(|(name, _)| *name == noted).unwrap();
        self.began + self.at(words).unwrap()
    }

    /// Seconds from the loss to one of the moments that monitors note.
    pub fn noted(&self, moment: &str) -> f64 {
        seconds(self.moment(moment) - self.began)
    }

    /// Seconds from the loss to the first write of an application.
    pub fn recovery_time(&self) -> f64 {
        seconds(self.at(SERVED).unwrap())
    }

    /// What the time was spent on, one after the other, in seconds.
    pub fn parts(&self) -> [(&'static str, f64); 3] {
        let (decided, accepted) = (self.noted(DECIDED), self.noted(ACCEPTED));
        [
            ("detection", decided),
            ("lease, RDS asked", accepted - decided),
            // Side by side: whichever is longer.
            ("promotion; name, TTL", self.recovery_time() - accepted),
        ]
    }
}
