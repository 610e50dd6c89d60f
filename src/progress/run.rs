//! A run, made of its events, and how it is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use super::{Event, Line, Planned, journal::BEAT};

/// How long nothing is heard of a run that lives, at most.
const SILENT: Duration = BEAT.saturating_mul(4);

/// How a change is.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Not begun.
    Waiting,
    /// Begun at a moment of the machine's clock, in milliseconds.
    Running(u64),
    /// Done, after so many seconds.
    Done(f64),
    /// Failed; why.
    Failed(String),
    /// Begun, and not waited for any more.
    Left,
}

/// A change of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What was planned.
    pub planned: Planned,
    /// How it is.
    pub state: State,
}

/// A run, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    id: String,
    /// `create`, `update` or `destroy`.
    pub command: String,
    /// The cluster's suffix.
    pub suffix: String,
    scale: f64,
    begun: u64,
    /// When it was last heard of, by the machine's clock, in milliseconds.
    pub heard: u64,
    /// Its changes, by address.
    pub items: BTreeMap<String, Item>,
    /// Whether it has ended, and if so, whether it has reached its end.
    pub ended: Option<bool>,
}

impl Run {
    /// The last run of a file; `None` before there is one. What cannot be read is left out: a line may be half
    /// written.
    pub fn last(text: &str) -> Option<Self> {
        let mut run: Option<Self> = None;
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            match &line.event {
                Event::RunBegun { command, suffix, scale } => {
                    run = Some(Self {
                        id: line.run.clone(),
                        command: command.clone(),
                        suffix: suffix.clone(),
                        scale: *scale,
                        begun: line.at,
                        heard: line.at,
                        items: BTreeMap::new(),
                        ended: None,
                    });
                }
                _ => {
                    if let Some(run) = run.as_mut().filter(|run| run.id == line.run) {
                        run.take(&line);
                    }
                }
            }
        }
        run
    }

    /// Takes an event of it.
    fn take(&mut self, line: &Line) {
        self.heard = line.at;
        match &line.event {
            Event::Planned { changes } => {
                for planned in changes {
                    let item = Item { planned: planned.clone(), state: State::Waiting };
                    self.items.insert(planned.address.clone(), item);
                }
            }
            Event::Begun { address } => self.set(address, State::Running(line.at)),
            Event::Done { address, seconds } => self.set(address, State::Done(*seconds)),
            Event::Failed { address, error, .. } => self.set(address, State::Failed(error.clone())),
            Event::Left { address } => self.set(address, State::Left),
            Event::RunEnded { complete } => self.ended = Some(*complete),
            Event::RunBegun { .. } | Event::Alive | Event::Unknown => {}
        }
    }

    fn set(&mut self, address: &str, state: State) {
        if let Some(item) = self.items.get_mut(address) {
            item.state = state;
        }
    }

    /// Which run this is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long after another moment one is, in seconds of AWS's time.
    #[allow(clippy::cast_precision_loss)]
    fn between(&self, from: u64, to: u64) -> f64 {
        to.saturating_sub(from) as f64 / 1000.0 * self.scale
    }

    /// How long it has been going on at a moment, in seconds.
    pub fn elapsed(&self, now: u64) -> f64 {
        let end = if self.ended.is_some() { self.heard } else { now };
        self.between(self.begun, end)
    }

    /// Whether it should have been heard of by now.
    pub fn is_silent(&self, now: u64) -> bool {
        self.ended.is_none() && u128::from(now.saturating_sub(self.heard)) > SILENT.as_millis()
    }

    /// How long a change will still take, in seconds; one that takes longer than usual may be done at any moment.
    #[allow(clippy::cast_precision_loss)]
    fn left(&self, item: &Item, now: u64) -> f64 {
        let expected = item.planned.expected as f64;
        match item.state {
            State::Waiting => expected,
            State::Running(since) => (expected - self.between(since, now)).max(0.0),
            State::Done(_) | State::Failed(_) | State::Left => 0.0,
        }
    }

    /// How long it will still take, in seconds, and the changes that this hangs on: the longest chain of those that
    /// are not done.
    pub fn critical_path(&self, now: u64) -> (f64, BTreeSet<&str>) {
        // The longest chain that ends with each change.
        let mut longest: BTreeMap<&str, (f64, Option<&str>)> = BTreeMap::new();
        for address in self.items.keys() {
            self.chain(address, now, &mut longest, &mut BTreeSet::new());
        }
        let open = |address: &str| {
            self.items
                .get(address)
                .is_some_and(|one| matches!(one.state, State::Waiting | State::Running(_)))
        };
        let ends = longest.iter().filter(|(address, _)| open(address));
        let Some((end, (total, _))) =
            ends.max_by(|(_, (one, _)), (_, (other, _))| one.total_cmp(other))
        else {
            return (0.0, BTreeSet::new());
        };
        let mut path = BTreeSet::new();
        let mut next = Some(*end);
        while let Some(address) = next.filter(|address| open(address)) {
            path.insert(address);
            next = longest.get(address).and_then(|(_, before)| *before);
        }
        (*total, path)
    }

    fn chain<'a>(
        &'a self,
        address: &'a str,
        now: u64,
        longest: &mut BTreeMap<&'a str, (f64, Option<&'a str>)>,
        above: &mut BTreeSet<&'a str>,
    ) -> f64 {
        if let Some((known, _)) = longest.get(address) {
            return *known;
        }
        // A file is no proof that there is no circle in it.
        let Some(item) = self.items.get(address).filter(|_| above.insert(address)) else {
            return 0.0;
        };
        let mut best: (f64, Option<&str>) = (0.0, None);
        for before in &item.planned.after {
            let length = self.chain(before, now, longest, above);
            if length > best.0 {
                best = (length, Some(before));
            }
        }
        above.remove(address);
        let total = best.0 + self.left(item, now);
        longest.insert(address, (total, best.1));
        total
    }

    /// In one line: how far it is.
    pub fn summary(&self, now: u64) -> String {
        let count =
            |test: fn(&State) -> bool| self.items.values().filter(|one| test(&one.state)).count();
        let done = count(|one| matches!(one, State::Done(_)));
        let running = count(|one| matches!(one, State::Running(_)));
        let failed = count(|one| matches!(one, State::Failed(_)));
        let mut text =
            format!("{} {}: {done} of {} done", self.command, self.suffix, self.items.len());
        if running > 0 && self.ended.is_none() {
            write!(text, ", {running} under way").ok();
        }
        if failed > 0 {
            write!(text, ", {failed} failed").ok();
        }
        write!(text, "; {}", duration(self.elapsed(now))).ok();
        match self.ended {
            Some(true) => text.push_str(", finished"),
            Some(false) => text.push_str(", not finished"),
            None if self.is_silent(now) => {
                let silence = Duration::from_millis(now.saturating_sub(self.heard));
                write!(
                    text,
                    "; nothing heard for {}: it has probably died",
                    duration(silence.as_secs_f64())
                )
                .ok();
            }
            None if !self.items.is_empty() => {
                write!(text, ", about {} to go", duration(self.critical_path(now).0)).ok();
            }
            None => {}
        }
        text
    }

    /// As a tree of both regions. What is on the critical path is marked with `*`. Without `all`, what is done and
    /// what waits for others is only counted.
    pub fn tree(&self, now: u64, all: bool) -> String {
        let mut out = self.summary(now) + "\n";
        // Nothing is waited for any more in a run that has ended.
        let path = if self.ended.is_some() { BTreeSet::new() } else { self.critical_path(now).1 };
        let mut places: BTreeMap<&str, Vec<(&str, &Item)>> = BTreeMap::new();
        for (address, item) in &self.items {
            let (place, rest) = address.split_once('/').unwrap_or(("", address));
            places.entry(place).or_default().push((rest, item));
        }
        for (place, items) in places {
            writeln!(out, "\n{place}").ok();
            let (mut done, mut waiting) = (0, 0);
            for (rest, item) in items {
                let is_critical = path.contains(&*item.planned.address);
                match &item.state {
                    State::Done(_) if !all => done += 1,
                    State::Waiting if !all && !is_critical => waiting += 1,
                    state => {
                        let mark = if is_critical { '*' } else { ' ' };
                        let (word, more) = self.told(item, state, now);
                        writeln!(out, "  {mark} {word:<8} {rest:<44} {more}").ok();
                    }
                }
            }
            let counts = [(done, "done"), (waiting, "waiting")];
            let counts = counts.iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, word)| format!("{count} {word}")).collect();
            if !counts.is_empty() {
                writeln!(out, "    ({})", counts.join(", ")).ok();
            }
        }
        if !path.is_empty() {
            out.push_str("\n* the longest chain: what the end waits for\n");
        }
        out
    }

    /// A state in a word, and what else there is to say.
    #[allow(clippy::cast_precision_loss)]
    fn told(&self, item: &Item, state: &State, now: u64) -> (&'static str, String) {
        let about = || duration(item.planned.expected as f64);
        match state {
            State::Waiting => ("waiting", format!("{}, about {}", item.planned.doing, about())),
            State::Running(since) => {
                let end = if self.ended.is_some() { self.heard } else { now };
                let since = duration(self.between(*since, end));
                ("running", format!("{} for {since} of about {}", item.planned.doing, about()))
            }
            State::Done(seconds) => {
                ("done", format!("{}, {}", item.planned.doing, duration(*seconds)))
            }
            State::Failed(why) => ("failed", why.lines().next().unwrap_or_default().to_owned()),
            State::Left => ("left", format!("{} goes on in AWS", item.planned.doing)),
        }
    }
}

/// As in `3s`, `12m03s`, `1h05m`.
pub(super) fn duration(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::VERSION, *};

    const KEY: &str = "us-east-1/kms-key";
    const WRITER: &str = "us-east-1/db-instance";
    const REPLICA: &str = "us-west-2/db-instance";
    const TABLE: &str = "us-west-2/dynamodb-table/ledger";

    fn planned(address: &str, after: &[&str], expected: u64) -> Planned {
        let after = after.iter().map(ToString::to_string).collect();
        Planned { address: address.into(), doing: "create".into(), after, expected }
    }

    /// A file of events, each so many seconds after the first.
    fn file(events: &[(u64, Event)]) -> String {
        let line = |(at, event): &(u64, Event)| {
            let line =
                Line { version: VERSION, run: "r".into(), at: at * 1000, event: event.clone() };
            serde_json::to_string(&line).unwrap()
        };
        events.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn begun(address: &str) -> Event {
        Event::Begun { address: address.into() }
    }

    fn done(address: &str, seconds: f64) -> Event {
        Event::Done { address: address.into(), seconds }
    }

    fn beginning() -> Vec<(u64, Event)> {
        let changes = vec![
            planned(KEY, &[], 3),
            planned(WRITER, &[KEY], 720),
            planned(REPLICA, &[WRITER], 1200),
            planned(TABLE, &[], 15),
        ];
        let first = Event::RunBegun { command: "create".into(), suffix: "prod".into(), scale: 1.0 };
        vec![(0, first), (1, Event::Planned { changes })]
    }

    #[test]
    fn the_longest_chain_is_what_the_end_waits_for() {
        let mut events = beginning();
        events.extend([
            (1, begun(KEY)),
            (1, begun(TABLE)),
            (4, done(KEY, 3.0)),
            (4, begun(WRITER)),
        ]);
        let run = Run::last(&file(&events)).unwrap();
        let (left, path) = run.critical_path(104_000);
        assert!((left - (620.0 + 1200.0)).abs() < 0.1, "{left}");
        assert_eq!(path, BTreeSet::from([WRITER, REPLICA]));
        // What takes longer than usual is as good as done.
        let (left, _) = run.critical_path(2_000_000);
        assert!((left - 1200.0).abs() < 0.1, "{left}");
    }

    #[test]
    fn a_tree_says_what_is_under_way_and_counts_the_rest() {
        let mut events = beginning();
        events.extend([
            (1, begun(KEY)),
            (4, done(KEY, 3.0)),
            (4, begun(WRITER)),
            (60, Event::Alive),
        ]);
        let run = Run::last(&file(&events)).unwrap();
        let tree = run.tree(64_000, false);
        let expected = "\
create prod: 1 of 4 done, 1 under way; 1m04s, about 31m00s to go

us-east-1
  * running  db-instance                                  create for 1m00s of about 12m00s
    (1 done)

us-west-2
  * waiting  db-instance                                  create, about 20m00s
    (1 waiting)

* the longest chain: what the end waits for
";
        assert_eq!(tree, expected);
        let all = run.tree(64_000, true);
        assert!(
            all.contains("    done     kms-key")
                && all.contains("    waiting  dynamodb-table/ledger"),
            "{all}"
        );
        assert!(run.tree(200_000, false).contains("nothing heard for 2m20s: it has probably died"));
    }

    #[test]
    fn an_end_is_final_and_the_next_run_begins_anew() {
        let mut events = beginning();
        let failed =
            Event::Failed { address: KEY.into(), seconds: 2.0, error: "denied\nby whom".into() };
        events.extend([
            (1, begun(KEY)),
            (1, begun(TABLE)),
            (3, failed),
            (3, Event::Left { address: TABLE.into() }),
            (5, Event::RunEnded { complete: false }),
        ]);
        let run = Run::last(&file(&events)).unwrap();
        let tree = run.tree(9_000_000, false);
        assert!(
            tree.starts_with("create prod: 0 of 4 done, 1 failed; 5s, not finished\n"),
            "{tree}"
        );
        assert!(tree.contains("failed   kms-key") && tree.contains("denied\n"), "{tree}");
        assert!(tree.contains("left     dynamodb-table/ledger"), "{tree}");

        let again = Event::RunBegun { command: "update".into(), suffix: "prod".into(), scale: 1.0 };
        events.push((10, again));
        let run = Run::last(&file(&events)).unwrap();
        assert_eq!((&*run.command, run.items.len(), run.ended), ("update", 0, None));
        assert_eq!(run.summary(12_000), "update prod: 0 of 0 done; 2s");
    }

    #[test]
    fn whatever_is_in_a_file_does_no_harm() {
        let mut events = beginning();
        let circle = vec![planned(KEY, &[WRITER, "nowhere"], 3), planned(WRITER, &[KEY], u64::MAX)];
        events.push((2, Event::Planned { changes: circle }));
        events.push((3, begun("us-east-1/nothing")));
        let text = file(&events) + "\n{\"version\":1,\"run\":\"r\",\"at\":\n\u{0}\n[]\n";
        let run = Run::last(&text).unwrap();
        assert!(run.tree(0, true).contains("kms-key"));
        assert_eq!(Run::last("nothing of use"), None);
    }
}
