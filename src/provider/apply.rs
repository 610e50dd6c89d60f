//! Applying: under the lease, observe again, do, observe, until nothing is left to do.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use super::{
    connect::Configured,
    elsewhere,
    explain::{self, Doing},
    flow::{LOOK_AGAIN, Look, Opened, Trouble, Unseen, environment, session},
    intent::{Hold, farewell},
    read::spec_of,
    removal::{strangers, unsaveable},
    state::{Kept, account_of, differing_lines},
    unfinished,
};
use crate::{
    aws::CONSISTENCY_LIMIT,
    cluster::{Change, Changes, Spec, Verb, names::parameter_path},
    components::{Address, Env, Observation, Owner},
    executor::{self, Claim, Lease, Loss, new_id},
    plugin::{ApplyInput, CancellationToken, Context, Diagnostics, Outcome, Schema, Value},
    progress::{Event, Journal},
};

/// How often what was done is looked at and done again where it did not take.
const PASSES: usize = 3;

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
    let account = account_of(&input.private, input.prior.as_ref());
    let env = match environment(configured, context, &spec, account, limit).await {
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
    let is_new = false;
    let mut run =
        Run { configured, schema, env, spec, arguments, input: &input, doing, settled, is_new };
    let mut outcome = match doing {
        Doing::Destroy => run.destroy().await,
        Doing::Create | Doing::Update => run.converge().await,
    };
    watch.abort();
    // Refused before anything was made: no state would lead to what is kept of it.
    let is_refused = run.is_new && outcome.state.is_none();
    let loss = lease.loss().await;
    let is_held = loss.is_none();
    if let Some(loss) = loss {
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
    let is_gone =
        doing == Doing::Destroy && outcome.state.is_none() && !outcome.diagnostics.has_errors();
    if is_held && is_refused && ending.session.stopped().is_none() && lease.is_ours().await {
        lease.quiet().await;
        if let Err(error) = Claim::give_back(&ending, &lease, &path).await {
            outcome.diagnostics.extend(explain::claim_left(&path, &region, &error));
            lease.release(&stop).await;
        }
    } else if is_gone {
        lease.quiet().await;
        if let Err(error) = Claim::give_back(&ending, &lease, &path).await {
            let mut found = explain::trouble(&error.into(), "giving back the environment suffix");
            found.say_in_errors(doing.next_step());
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

/// A create, an update or a destroy of a cluster.
pub(super) struct Run<'a> {
    pub(super) configured: &'a Configured,
    pub(super) schema: &'a Schema,
    pub(super) env: Env,
    pub(super) spec: Spec,
    pub(super) arguments: Value,
    pub(super) input: &'a ApplyInput,
    pub(super) doing: Doing,
    /// Until when reads may be behind what the run before this one did.
    settled: SystemTime,
    /// Whether the suffix was nobody's before.
    is_new: bool,
}

impl Run<'_> {
    fn untouched(&self, diagnostics: Diagnostics) -> Outcome {
        let private = self.input.private.clone();
        Outcome { state: self.input.prior.clone(), private, diagnostics }
    }

    async fn converge(&mut self) -> Outcome {
        let kept = Kept::parse(&self.input.private);
        let (region, path) = (self.spec.dr.region.clone(), parameter_path(&self.spec.suffix));
        let claim = Claim::take(&self.env, &region, &path, kept.cluster_id.clone()).await;
        let claim = match claim {
            Ok(claim) => claim,
            Err(error) => return self.untouched(explain::claim(&error)),
        };
        self.is_new = claim.is_new;
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
        // Reads may be behind, and the record may be removed meanwhile: the run knows whose cluster it makes.
        let kept = Kept { cluster_id: Some(claim.cluster_id.clone()), ..kept };
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

    /// Lets the monitors act again, which protect nothing until then. The run's own session may have ended.
    async fn lift(&self, hold: Hold) -> Diagnostics {
        let session = session(self.configured, CancellationToken::new(), self.spec.timeouts.read);
        let env = self.env.with_session(session);
        let mut found = Diagnostics::new();
        let why = tokio::select! {
            biased;
            lifted = hold.lift(&env) => match lifted {
                Ok(()) => return found,
                Err(error) => error.to_string(),
            },
            () = self.patience() => "there was no answer".into(),
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
            Err(error) => return Err(explain::untouched(&error, "keeping the arguments")),
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

    async fn destroy(&mut self) -> Outcome {
        let mut found = Diagnostics::new();
        if self.spec.deletion.protection {
            return self.untouched(explain::protected());
        }
        let kept = Kept::parse(&self.input.private);
        self.env = self.env.clone().removing();
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
                found.extend(explain::untouched(&error, "telling the monitors"));
                found.extend(explain::told_to_go());
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
