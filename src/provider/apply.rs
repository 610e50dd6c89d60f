//! Applying: under the lease, observe again, do, observe, until nothing is left to do.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    connect::Configured,
    elsewhere,
    explain::{self, Doing},
    flow::{LOOK_AGAIN, Look, Opened, Trouble, Unseen, environment, session},
    intent::{Hold, farewell},
    read::spec_of,
    removal::{strangers, unsaveable},
    state::{Kept, differing_lines, observed},
    unfinished,
};
use crate::{
    aws::CONSISTENCY_LIMIT,
    cluster::{
        Change, Changes, Spec, Verb,
        names::{final_snapshot, parameter_path},
        roles::INCOMPLETE,
    },
    components::{Address, Env, Observation, Owner, kms_key::KmsKey},
    executor::{self, Claim, Lease, Loss, new_id},
    plugin::{ApplyInput, CancellationToken, Context, Diagnostics, Outcome, Schema, Value},
    progress::{Event, Journal},
};

/// How often what was done is looked at and done again where it did not take.
const PASSES: usize = 3;
/// How long the look after a failure may take in real time, so that an interrupt ends soon.
const LAST_LOOK: Duration = Duration::from_millis(3500);

pub(super) async fn apply(
    configured: &Configured,
    schema: &Schema,
    context: &Context,
    input: ApplyInput,
) -> Outcome {
    let doing = match (&input.prior, &input.planned) {
        (_, None) => Doing::Destroy,
        (None, Some(_)) => Doing::Create,
        (Some(_), Some(_)) => Doing::Update,
    };
    let arguments = input.planned.as_ref().or(input.prior.as_ref()).cloned().unwrap_or(Value::Null);
    let failed = |diagnostics: Diagnostics| Outcome {
        state: input.prior.clone(),
        private: input.private.clone(),
        diagnostics,
    };
    let spec = match spec_of(configured, schema, &arguments) {
        Ok(spec) => spec,
        Err(found) => return failed(found),
    };
    configured.memory().note_apply(spec.suffix.as_str());
    let kept = Kept::parse(&input.private);
    let finished = configured.memory().finished.get(spec.suffix.as_str()).cloned();
    if doing == Doing::Destroy
        && kept.is_unfinished
        && finished.is_some_and(|id| kept.cluster_id == Some(id))
    {
        // With create_before_destroy, the next object went on with what this one left: it is the same cluster.
        let diagnostics = explain::gone_on_with(spec.suffix.as_str());
        return Outcome { state: None, private: Vec::new(), diagnostics };
    }
    let limit = match doing {
        Doing::Create => spec.timeouts.create,
        Doing::Update => spec.timeouts.update,
        Doing::Destroy => spec.timeouts.delete,
    };
    let env = match environment(configured, context, &spec, input.prior.as_ref(), limit).await {
        Ok(env) => env,
        Err(error) => return failed(explain::trouble(&error.into(), "beginning")),
    };
    let path = parameter_path(&spec.suffix);
    let mut lease = match Lease::acquire(&env, &spec.dr.region, &path, doing.word()).await {
        Ok(lease) => lease,
        Err(error) => return failed(explain::lease(&error, spec.suffix.as_str())),
    };
    // A lost lease ends the run as an interrupt does.
    let stop = context.cancel.child_token();
    let (lost, stopping) = (lease.lost.clone(), stop.clone());
    let env = env.with_session(env.session.under_lease(lost.clone(), stop.clone()));
    let watch = tokio::spawn(async move {
        lost.cancelled().await;
        stopping.cancel();
    });
    let (ending, region) = (env.clone(), spec.dr.region.clone());
    let journal = journal(configured, &env, doing, &spec);
    let env = env.with_journal(journal.clone());
    let began = env.session.clock.now();
    let settled = lease.idle.map_or(began, |idle| began + CONSISTENCY_LIMIT.saturating_sub(idle));
    let run = Run { configured, schema, env, spec, arguments, input: &input, doing, settled };
    let mut outcome = match doing {
        Doing::Destroy => run.destroy().await,
        Doing::Create | Doing::Update => run.converge().await,
    };
    watch.abort();
    if let Some(loss) = lease.loss().await {
        let is_done =
            doing != Doing::Destroy && outcome.state.is_some() && !outcome.diagnostics.has_errors();
        if doing == Doing::Create && loss == Loss::TakenOver && !is_done {
            // Terraform would mark it as tainted, and its next apply would rebuild what the other run makes.
            outcome.state = None;
            outcome.private.clear();
            outcome.diagnostics.drop_from_errors(doing.next_step());
        }
        outcome.diagnostics.extend(explain::lost_lease(loss, &region, doing, is_done));
        if outcome.state.is_none() && doing == Doing::Destroy {
            // Whoever has the lease now may have made something.
            outcome.state.clone_from(&input.prior);
            outcome.private.clone_from(&input.private);
        }
    }
    if doing == Doing::Destroy && outcome.state.is_none() && !outcome.diagnostics.has_errors() {
        lease.quiet().await;
        if let Err(error) = Claim::give_back(&ending, &region, &path).await {
            let found = explain::trouble(&error.into(), "giving back the environment suffix");
            outcome.diagnostics.extend(found);
            outcome.state.clone_from(&input.prior);
            outcome.private.clone_from(&input.private);
        }
    } else {
        if ending.session.stopped().is_some() {
            stop.cancel();
        }
        lease.release(&stop).await;
    }
    if let Some(journal) = journal {
        journal.note(&Event::RunEnded { complete: !outcome.diagnostics.has_errors() });
    }
    outcome
}

/// Where it is told what this run does; nowhere if that cannot be written.
fn journal(configured: &Configured, env: &Env, doing: Doing, spec: &Spec) -> Option<Arc<Journal>> {
    let folder = configured.progress.as_ref()?;
    let run = new_id().ok()?;
    let (command, scale) = (doing.word(), env.session.clock.scale());
    match Journal::begin(folder, command, spec.suffix.as_str(), &run, scale) {
        Ok(journal) => Some(journal),
        Err(error) => {
            tracing::info!("no progress is written to {}: {error}", folder.display());
            None
        }
    }
}

struct Run<'a> {
    configured: &'a Configured,
    schema: &'a Schema,
    env: Env,
    spec: Spec,
    arguments: Value,
    input: &'a ApplyInput,
    doing: Doing,
    /// Until when reads may be behind what the run before this one did.
    settled: SystemTime,
}

impl Run<'_> {
    fn untouched(&self, diagnostics: Diagnostics) -> Outcome {
        let private = self.input.private.clone();
        Outcome { state: self.input.prior.clone(), private, diagnostics }
    }

    async fn converge(mut self) -> Outcome {
        let kept = Kept::parse(&self.input.private);
        let (region, path) = (self.spec.dr.region.clone(), parameter_path(&self.spec.suffix));
        let claim = Claim::take(&self.env, &region, &path, kept.cluster_id.clone()).await;
        let claim = match claim {
            Ok(claim) => claim,
            Err(error) => return self.untouched(explain::claim(&error)),
        };
        if let Some(remembered) = kept.cluster_id.clone().filter(|id| *id != claim.cluster_id) {
            let there = claim.cluster_id.clone();
            let trouble = Trouble::Another { remembered, there };
            return self.untouched(explain::trouble(&trouble, "beginning"));
        }
        if self.doing == Doing::Create && claim.is_complete {
            let found = explain::exists(self.spec.suffix.as_str(), &claim.cluster_id);
            return self.untouched(found);
        }
        self.env = self.env.for_cluster(Some(claim.cluster_id.clone()));
        if self.doing == Doing::Create {
            // An earlier attempt may have left something without a name.
            self.env.be_thorough();
        }
        let mut found = Diagnostics::new();
        let (mut done, mut again) = (BTreeSet::new(), Vec::new());
        let mut surroundings = None;
        for pass in 0..PASSES {
            let look = match &surroundings {
                None => self.look(&kept, Look::Strict, self.settled, Opened::unnamed).await,
                Some(known) => {
                    let until = self.env.session.clock.now() + CONSISTENCY_LIMIT;
                    let undone = |opened: &Opened| undone(&opened.changes(), &done);
                    self.look(&kept, Look::Within(known), until, undone).await
                }
            };
            let opened = match look {
                Ok(opened) => opened,
                Err(unseen) => {
                    found.extend(self.unseen(unseen, done.len()).await);
                    return if pass == 0 {
                        self.untouched(found)
                    } else {
                        self.partial(found).await
                    };
                }
            };
            let changes = opened.changes();
            surroundings.get_or_insert_with(|| opened.surroundings.clone());
            if pass == 0 {
                let stale = self.stale(&kept, &opened, &changes);
                if !stale.is_empty() {
                    found.extend(explain::stale(&stale));
                    return self.untouched(found);
                }
                if self.doing == Doing::Create {
                    let moved = unfinished::moved(self.schema, &claim, &self.arguments);
                    if moved.has_errors() {
                        found.extend(moved);
                        return self.untouched(found);
                    }
                }
                match self.keep(&claim).await {
                    Ok(more) => found.extend(more),
                    Err(more) => return self.untouched(more),
                }
            }
            if changes.iter().next().is_none() {
                if let Some(hold) = Hold::left(&opened) {
                    found.extend(self.lift(hold).await);
                }
                return self.reached(&claim, opened, found).await;
            }
            let hold = match Hold::before(&opened, &changes).await {
                Ok(hold) => hold,
                Err(error) => {
                    found.extend(explain::trouble(&error.into(), "telling the monitors to wait"));
                    return self.partial(found).await;
                }
            };
            let report = executor::run(&opened.env, &changes).await;
            if !report.is_complete() {
                // What AWS has begun goes on: the hold ends by itself, or with the apply that finishes this.
                if hold.is_some() {
                    found.extend(explain::held());
                }
                found.extend(explain::report(&report, self.doing, opened.env.session.stopped()));
                return self.partial(found).await;
            }
            if let Some(hold) = hold {
                found.extend(self.lift(hold).await);
            }
            done.extend(changes.iter().map(|one| one.address.clone()));
            again = changes.describe();
        }
        found.error(
            "AWS does not keep what was set",
            format!(
                "Each time, something was different again: {}. Somebody else may be changing it.",
                again.join("; ")
            ),
        );
        self.partial(found).await
    }

    /// Looks until nothing is `missing` that was done and may not show yet, or until it would.
    async fn look(
        &self,
        kept: &Kept,
        how: Look<'_>,
        until: SystemTime,
        missing: impl Fn(&Opened) -> Vec<String>,
    ) -> Result<Opened, Unseen> {
        let id = kept.cluster_id.clone();
        Opened::look_until(&self.env, &self.spec, id, how, until, missing).await
    }

    /// Says why it was not seen what there is, after so many changes.
    async fn unseen(&self, why: Unseen, done: usize) -> Diagnostics {
        match why {
            Unseen::Trouble(trouble) => {
                let what = "looking at what is there";
                let found = elsewhere::trouble(&self.env, &self.spec, &trouble, what).await;
                explain::after(found, done)
            }
            Unseen::Stopped(why) => explain::unseen(self.doing, why, done),
        }
    }

    /// Lets the monitors act again. The run's own session may have ended.
    async fn lift(&self, hold: Hold) -> Diagnostics {
        let session = session(self.configured, CancellationToken::new(), self.spec.timeouts.read);
        let env = self.env.with_session(session);
        let mut found = Diagnostics::new();
        let lifted = tokio::time::timeout(LAST_LOOK, hold.lift(&env)).await;
        let why = match lifted {
            Ok(Ok(())) => return found,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "there was no answer".into(),
        };
        found.warning(
            "The monitors go on waiting",
            format!(
                "They were told to promote nothing while the databases were changed, and could not be told that \
                 this is over: {why}. It ends by itself when timeouts.update has passed."
            ),
        );
        found
    }

    /// Keeps the arguments in AWS, for an import.
    async fn keep(&self, claim: &Claim) -> Result<Diagnostics, Diagnostics> {
        let mut found = Diagnostics::new();
        match claim.keep(&self.env, &self.schema.arguments_of(&self.arguments).to_json()).await {
            Ok(true) => {}
            Ok(false) => found.warning(
                "The arguments are too long to be kept in AWS",
                "Everything works but an import, which needs them: keep the state safe.",
            ),
            Err(error) => return Err(explain::trouble(&error.into(), "keeping the arguments")),
        }
        Ok(found)
    }

    /// What would be done now and was not planned. Plans of a create show no removals, whatever an earlier
    /// attempt left.
    fn stale(&self, kept: &Kept, opened: &Opened, changes: &Changes) -> Vec<String> {
        let mut all: Vec<String> = changes.grave().difference(&kept.grave).cloned().collect();
        if self.doing == Doing::Create {
            all.retain(|one| one.starts_with("refuse"));
        }
        let reasons = changes.iter().filter_map(|change| match &change.verb {
            Verb::Refuse(why) => Some((format!("refuse {}", change.address), why)),
            _ => None,
        });
        for (what, why) in reasons {
            if let Some(one) = all.iter_mut().find(|one| **one == what) {
                *one = format!("{}: {why}", explain::change_of(&what));
            }
        }
        let roles = format!("{:?}", opened.roles);
        if self.doing == Doing::Update && kept.roles.as_ref().is_some_and(|before| *before != roles)
        {
            all.push("the instances have other roles now".into());
        }
        if let Some(plan) = self.input.planned.as_ref().filter(|_| all.is_empty()) {
            all = differing_lines(plan, self.input.prior.as_ref(), opened, changes);
        }
        all
    }

    /// What is kept of the object that the state has.
    fn kept_before(&self) -> Kept {
        let object = match self.doing {
            Doing::Create => None,
            Doing::Update | Doing::Destroy => Kept::parse(&self.input.private).object,
        };
        Kept { object, ..Kept::default() }.marked()
    }

    async fn reached(&self, claim: &Claim, opened: Opened, mut found: Diagnostics) -> Outcome {
        let kept = Kept { cluster_id: Some(claim.cluster_id.clone()), ..self.kept_before() };
        if self.doing == Doing::Create {
            let (suffix, id) = (self.spec.suffix.to_string(), claim.cluster_id.clone());
            self.configured.memory().finished.insert(suffix, id);
        }
        let mut state = observed(&self.arguments, &opened);
        if let Err(error) = claim.complete(&self.env).await {
            // An error would have Terraform rebuild what is whole.
            found.extend(explain::unnoted(&error));
            state = state.with("status", Value::string(INCOMPLETE));
        }
        // A drill may have ended meanwhile. What the plan said is promised; the next read tells of the drill.
        let planned = self.input.planned.as_ref().map(|planned| planned.get("recovery"));
        if let Some(planned) = planned.filter(|planned| planned.is_wholly_known()) {
            state = state.with("recovery", planned.clone());
        }
        Outcome { state: Some(state), private: kept.to_private(), diagnostics: found }
    }

    /// What there is after something went wrong. The look is a new one: the run's own session has ended.
    async fn partial(&self, mut found: Diagnostics) -> Outcome {
        found.say_in_errors(self.doing.next_step());
        let session = session(self.configured, CancellationToken::new(), self.spec.timeouts.read);
        let env = self.env.with_session(session);
        let id = env.scope.cluster_id.clone();
        let mut kept = Kept { cluster_id: id.clone(), ..self.kept_before() };
        let look = Opened::look(&env, &self.spec, id, Look::Lenient);
        let state = match tokio::time::timeout(LAST_LOOK, look).await {
            Ok(Ok(opened)) => {
                let state = observed(&self.arguments, &opened);
                let is_complete = opened.claim.is_none_or(|claim| claim.is_complete);
                // A create that gets here has not finished it, whoever has.
                kept.is_unfinished = self.doing == Doing::Create || !is_complete;
                // However much of it there is: that it is finished, another apply has to note.
                if !is_complete { state.with("status", Value::string(INCOMPLETE)) } else { state }
            }
            _ => {
                found.warning(
                    "What exists by now could not be looked at",
                    "The state keeps what was known before; the next plan reads all of it.",
                );
                kept.is_unfinished =
                    self.doing == Doing::Create || Kept::parse(&self.input.private).is_unfinished;
                match &self.input.prior {
                    Some(prior) => prior.clone(),
                    None => self.blank(),
                }
            }
        };
        Outcome { state: Some(state), private: kept.to_private(), diagnostics: found }
    }

    /// A state of a create of which nothing is known but that it was begun.
    fn blank(&self) -> Value {
        let empty = || Value::string_map::<String, String>([]);
        self.schema
            .with_defaults(&self.schema.arguments_of(&self.arguments))
            .with("id", Value::string(self.spec.suffix.as_str()))
            .with("components", empty())
            .with("arns", empty())
            .with("tags_all", Value::string_map(self.spec.tags.clone()))
            .with("status", Value::string(INCOMPLETE))
            .with("pending_changes", Value::strings::<String>([]))
    }

    async fn destroy(mut self) -> Outcome {
        let mut found = Diagnostics::new();
        if self.spec.deletion.protection {
            return self.untouched(explain::protected());
        }
        let kept = Kept::parse(&self.input.private);
        self.env = self.env.removing();
        self.env.be_thorough();
        let (mut seen, mut done) = (BTreeSet::new(), BTreeSet::new());
        let (mut pass, [mut pause, longest]) = (0, LOOK_AGAIN);
        let mut again: Option<SystemTime> = None;
        loop {
            let hidden = |opened: &Opened| self.hidden(opened, &seen);
            let opened = match self.look(&kept, Look::Lenient, self.settled, hidden).await {
                Ok(opened) => opened,
                Err(unseen) => {
                    found.extend(self.unseen(unseen, done.len()).await);
                    return if pass == 0 {
                        self.untouched(found)
                    } else {
                        self.remaining(found).await
                    };
                }
            };
            if kept.is_unfinished && opened.claim.as_ref().is_some_and(|claim| claim.is_complete) {
                return self.untouched(explain::finished_by_another(self.spec.suffix.as_str()));
            }
            let strangers = strangers(&opened, pass == 0);
            // Nothing may be removed before it is clear what all of it is: the key of a storage would go, and the
            // storage stay.
            if !strangers.is_empty() {
                found.extend(explain::strangers(&strangers, self.spec.suffix.as_str()));
                return if pass == 0 { self.untouched(found) } else { self.remaining(found).await };
            }
            if opened.inventory.all().all(|one| one.owner != Owner::Ours) {
                return self.gone(found, &opened);
            }
            if pass == 0
                && let Some((writer, state)) = unsaveable(&opened)
            {
                found.extend(explain::unsaveable(writer, state));
                return self.untouched(found);
            }
            if pass == 0
                && let Err(error) = farewell(&opened).await
            {
                found.extend(explain::trouble(&error.into(), "telling the monitors"));
                return self.untouched(found);
            }
            let removal = Changes::removal(&opened.inventory);
            let addresses = || removal.iter().map(|one| one.address.clone());
            // What was removed and still shows, or was made anew by a function's last words: removing it once more
            // does no harm.
            if addresses().all(|one| done.contains(&one)) {
                let clock = &opened.env.session.clock;
                let since = *again.get_or_insert_with(|| clock.now());
                if clock.since(since) >= CONSISTENCY_LIMIT {
                    found.error(
                        "Something comes back each time it is removed",
                        format!(
                            "For {} minutes, this was there again: {}. The state keeps what is left. Somebody else \
                             may be making it; try again.",
                            CONSISTENCY_LIMIT.as_secs() / 60,
                            addresses().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
                        ),
                    );
                    return self.remaining(found).await;
                }
                if let Err(why) = opened.env.session.pause(pause).await {
                    found.extend(explain::unseen(self.doing, why, done.len()));
                    return self.remaining(found).await;
                }
                pause = (pause * 2).min(longest);
            } else {
                again = None;
            }
            let report = executor::run(&opened.env, &removal).await;
            if !report.is_complete() {
                found.extend(explain::report(&report, self.doing, opened.env.session.stopped()));
                return self.remaining(found).await;
            }
            seen.extend(opened.inventory.all().map(|one| one.address.to_string()));
            done.extend(addresses());
            tracing::info!("pass {pass} of the destroy removed {} components", report.done.len());
            pass += 1;
        }
    }

    /// What the state speaks of, or an interrupted create may have left, and reads that are behind may not show.
    /// While anything else is there, that goes first.
    fn hidden(&self, opened: &Opened, seen: &BTreeSet<String>) -> Vec<String> {
        let is_ours = |one: &Observation| one.owner == Owner::Ours;
        if opened.inventory.all().any(is_ours) {
            return Vec::new();
        }
        let prior = self.input.prior.as_ref().map(|state| state.get("components"));
        let Some(Value::Mapping(known)) = prior else { return Vec::new() };
        let is_hidden = |address: &&String| {
            !seen.contains(*address)
                && !opened.inventory.all().any(|one| one.address.as_str() == **address)
        };
        let mut hidden: Vec<String> = known.keys().filter(is_hidden).cloned().collect();
        if opened.claim.as_ref().is_some_and(|claim| !claim.is_complete) {
            hidden.push("what an interrupted create may have made".into());
        }
        hidden
    }

    async fn remaining(&self, found: Diagnostics) -> Outcome {
        let mut outcome = self.partial(found).await;
        outcome.private.clone_from(&self.input.private);
        outcome
    }

    fn gone(&self, mut found: Diagnostics, opened: &Opened) -> Outcome {
        let kept_id = opened.env.scope.cluster_id.clone();
        let mut left = vec![format!(
            "the KMS keys in {}, {} and {}, which AWS deletes after 7 days (their aliases are gone)",
            self.spec.primary.region, self.spec.dr.region, self.spec.failover.witness_region
        )];
        if self.spec.deletion.final_snapshot {
            let id = kept_id.unwrap_or_default();
            let name = final_snapshot(&self.spec.suffix, &id);
            left.push(format!(
                "the snapshot {name}, which was asked for: to restore from it, cancel the deletion of its \
                 {} within these 7 days",
                KmsKey::KIND
            ));
        }
        if self.spec.database.monitoring_interval > 0 {
            left.push(
                "the log group RDSOSMetrics, which all instances of the account share".into(),
            );
        }
        let theirs = opened.inventory.all().filter(|one| one.owner != Owner::Ours);
        let theirs: Vec<_> = theirs.map(|one| one.address.to_string()).collect();
        if !theirs.is_empty() {
            left.push(format!(
                "what has the cluster's names and is somebody else's by its tags: {}",
                theirs.join(", ")
            ));
        }
        found.warning(
            format!("Nothing of the cluster {} is left", self.spec.suffix),
            format!(
                "Every service was looked at again. Still there, as it must be: {}.",
                left.join("; ")
            ),
        );
        Outcome { state: None, private: Vec::new(), diagnostics: found }
    }
}

/// Of what is still to be done, what was done already. What must not be done is no matter of time, and what is not
/// ready yet is waited for by its own kind.
fn undone(left: &Changes, done: &BTreeSet<Address>) -> Vec<String> {
    if left.iter().any(|one| matches!(one.verb, Verb::Refuse(_))) {
        return Vec::new();
    }
    let again = |one: &&Change| done.contains(&one.address) && !matches!(one.verb, Verb::Wait(_));
    left.iter().filter(again).map(|one| one.address.to_string()).collect()
}
