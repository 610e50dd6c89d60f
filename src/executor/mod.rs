//! Does what was decided: walks the graph of changes, everything that can run at once does. It decides
//! nothing besides repeating and waiting.

mod claim;
mod lease;
mod parameters;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    pin::Pin,
};

use futures::{StreamExt as _, stream::FuturesUnordered};

pub use claim::{Claim, ClaimError};
pub use lease::{Lease, LeaseError, Loss};

use crate::{
    aws::{CONSISTENCY_LIMIT, ErrorClass, WaitError},
    cluster::{Change, Changes, Verb},
    components::{
        Address, Component, Env, Failure, Observation, Owner, Text, db_instance::DbInstance,
        kind_named,
    },
    progress::{Event, Planned, expected},
};

/// How often a component is made again after an answer that leaves open whether AWS acted.
const ATTEMPTS: u32 = 5;

/// An id that nobody else has, of 64 bits in hex.
pub(crate) fn new_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A change that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The component.
    pub address: Address,
    /// What was being done to it.
    pub doing: Doing,
    /// Why it failed.
    pub failure: Failure,
}

/// What is being done to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Delete,
}

impl fmt::Display for Doing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Create => "creating",
            Self::Update => "updating",
            Self::Delete => "deleting",
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was done.
    pub done: Vec<Address>,
    /// What failed.
    pub failed: Vec<Failed>,
    /// What was begun and not waited for, or not begun at all.
    pub unfinished: Vec<Address>,
    /// The last states of what was waited for in vain.
    pub seen: BTreeMap<Address, String>,
}

impl Report {
    /// Whether everything was done.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.unfinished.is_empty()
    }
}

type Work<'a> = Pin<Box<dyn Future<Output = (Address, Doing, Result<(), Failure>)> + Send + 'a>>;

/// Makes and alters first, in the order of the graph; removes last.
///
/// After a failure nothing new is begun, and what is under way is not waited for: it goes on in AWS, and
/// the next run picks it up.
pub async fn run(env: &Env, changes: &Changes) -> Report {
    let mut report = Report::default();
    env.tell(|| Event::Planned { changes: planned(changes) });
    // What fails here ends the waiting of the others, not the run's own token.
    let child = env.session.cancel.child_token();
    let env = env.with_session(env.session.with_cancel(child.clone()));
    let mut waiting: BTreeSet<Address> = changes
        .iter()
        .filter(|one| one.component.is_some())
        .map(|one| one.address.clone())
        .collect();
    let mut running: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
    let mut under_way = BTreeSet::new();
    loop {
        let may_begin = report.failed.is_empty() && env.session.stopped().is_none();
        let ready: Vec<Address> = waiting
            .iter()
            .filter(|one| {
                may_begin
                    && changes
                        .before(one)
                        .all(|other| !waiting.contains(other) && !under_way.contains(other))
            })
            .cloned()
            .collect();
        for address in ready {
            waiting.remove(&address);
            under_way.insert(address.clone());
            if let Some(change) = changes.get(&address) {
                running.push(Box::pin(alter(&env, change)));
            }
        }
        let Some((address, doing, result)) = running.next().await else { break };
        under_way.remove(&address);
        note(&mut report, address, doing, result);
        if !report.failed.is_empty() {
            child.cancel();
        }
    }
    report.unfinished.extend(waiting);
    for group in changes.removals() {
        if !report.is_complete() || env.session.stopped().is_some() {
            report.unfinished.extend(group.iter().map(|one| one.address.clone()));
            continue;
        }
        // What is removed at once does not depend on each other, so the rest of a group goes on.
        let mut running: FuturesUnordered<Work<'_>> =
            group.into_iter().map(|change| Box::pin(remove(&env, change)) as Work<'_>).collect();
        while let Some((address, doing, result)) = running.next().await {
            note(&mut report, address, doing, result);
        }
    }
    report
}

/// The changes as somebody who watches sees them.
fn planned(changes: &Changes) -> Vec<Planned> {
    let removals = changes.removals();
    let mut all = Vec::new();
    let mut add = |change: &Change, doing: &str, after: Vec<String>| {
        let kind = change.address.kind();
        let needs = change.component.iter().flat_map(|one| &one.depends_on);
        let follows = kind == DbInstance::KIND && needs.into_iter().any(|one| one.kind() == kind);
        let expected = expected(kind, doing, follows);
        let address = change.address.to_string();
        all.push(Planned { address, doing: doing.to_owned(), after, expected });
    };
    for change in changes.iter().filter(|one| one.component.is_some()) {
        let doing = match change.verb {
            Verb::Create | Verb::Replace(_) => "create",
            _ => "update",
        };
        add(change, doing, changes.before(&change.address).map(ToString::to_string).collect());
    }
    // What is removed goes when everything else is done.
    let altered = changes.iter().filter(|one| one.component.is_some());
    let mut before: Vec<String> = altered.map(|one| one.address.to_string()).collect();
    for group in removals {
        let these = group.iter().map(|one| one.address.to_string()).collect();
        for change in group {
            add(change, "delete", before.clone());
        }
        before = these;
    }
    all
}

/// Does a change, and tells of it.
async fn watched(
    env: &Env,
    address: &Address,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let begun = env.session.clock.now();
    env.tell(|| Event::Begun { address: address.to_string() });
    let result = work.await;
    env.tell(|| {
        let (address, seconds) =
            (address.to_string(), env.session.clock.since(begun).as_secs_f64());
        match &result {
            Ok(()) => Event::Done { address, seconds },
            Err(failure) if is_stop(failure) => Event::Left { address },
            Err(failure) => Event::Failed { address, seconds, error: failure.to_string() },
        }
    });
    result
}

fn note(report: &mut Report, address: Address, doing: Doing, result: Result<(), Failure>) {
    match result {
        Ok(()) => {
            tracing::info!(target: "trading::executor", component = address.as_str(), "{doing}: done");
            report.done.push(address);
        }
        Err(failure) if is_stop(&failure) => {
            tracing::info!(target: "trading::executor", component = address.as_str(), "{doing}: {failure}");
            if let Failure::Wait(WaitError::Stopped { state, .. }) = failure {
                report.seen.insert(address.clone(), state);
            }
            report.unfinished.push(address);
        }
        Err(failure) => {
            tracing::warn!(target: "trading::executor", component = address.as_str(), "{doing}: {failure}");
            report.failed.push(Failed { address, doing, failure });
        }
    }
}

/// Whether the run was stopped, which is no fault of the component's.
fn is_stop(failure: &Failure) -> bool {
    match failure {
        Failure::Api(error) | Failure::Wait(WaitError::Api(error)) => {
            error.class == ErrorClass::Stopped
        }
        Failure::Wait(WaitError::Stopped { .. }) => true,
        _ => false,
    }
}

/// The same environment, whose calls are logged with the component that they are made for.
fn for_change(env: &Env, change: &Change) -> Env {
    env.with_session(env.session.for_component(change.address.as_str()))
}

async fn alter(env: &Env, change: &Change) -> (Address, Doing, Result<(), Failure>) {
    let doing = match change.verb {
        Verb::Create | Verb::Replace(_) => Doing::Create,
        _ => Doing::Update,
    };
    tracing::info!(target: "trading::executor", component = change.address.as_str(), "{doing}");
    let env = for_change(env, change);
    let result = watched(&env, &change.address, altered(&env, change)).await;
    (change.address.clone(), doing, result)
}

async fn altered(env: &Env, change: &Change) -> Result<(), Failure> {
    let Some(component) = &change.component else { return Ok(()) };
    match (&change.verb, &change.found) {
        (Verb::Refuse(why), _) => Err(Failure::Obstacle(why.clone())),
        (Verb::Replace(_), Some(found)) => {
            component.kind().delete(env, found).await?;
            env.forget(&component.address);
            env.look_again();
            create(env, component).await
        }
        (Verb::Update(differing), Some(found)) => {
            let names: Vec<_> = differing.iter().map(|one| one.field).collect();
            let outputs = component.kind().update(env, component, found, &names).await?;
            env.note(&component.address, outputs);
            Ok(())
        }
        (Verb::Wait(_), Some(found)) => {
            let outputs = component.kind().update(env, component, found, &[]).await?;
            env.note(&component.address, outputs);
            Ok(())
        }
        _ => create(env, component).await,
    }
}

/// Makes a component. An answer that leaves open whether AWS acted, or that the thing is there already, is
/// followed by a look: what an earlier attempt made is finished, not made twice.
async fn create(env: &Env, component: &Component) -> Result<(), Failure> {
    let kind = component.kind();
    let (mut looks, mut failing, begun) = (0, 1, env.session.clock.now());
    loop {
        let error = match kind.create(env, component).await {
            Ok(outputs) => {
                env.note(&component.address, outputs);
                return Ok(());
            }
            Err(Failure::Api(error)) => error,
            Err(other) => return Err(other),
        };
        // What is there already shows sooner or later.
        let goes_on = match error.class {
            ErrorClass::Transient => failing < ATTEMPTS,
            ErrorClass::AlreadyExists => env.session.clock.since(begun) < CONSISTENCY_LIMIT,
            _ => false,
        };
        if !goes_on {
            return Err(error.into());
        }
        failing += u32::from(error.class == ErrorClass::Transient);
        let failed = env.session.clock.now();
        let is_awaited = error.class == ErrorClass::Transient && kind.multiplies();
        loop {
            looks += 1;
            env.be_thorough();
            env.settle(looks).await?;
            let seen = kind.observe(env, component.region(), &[component]).await?;
            if let Some(found) = seen.into_iter().find(|one| one.address == component.address) {
                return adopt(env, component, &found).await;
            }
            if !is_awaited || env.session.clock.since(failed) >= CONSISTENCY_LIMIT {
                break;
            }
        }
    }
}

/// Finishes what an earlier attempt made.
async fn adopt(env: &Env, component: &Component, found: &Observation) -> Result<(), Failure> {
    if let Owner::Foreign(why) = &found.owner {
        let text = format!("{} exists already and is not this cluster's: {why}", component.name);
        return Err(Failure::Obstacle(text));
    }
    env.note(&component.address, found.outputs.clone());
    let resolve = |text: &Text| env.resolve(text).ok();
    let names: Vec<_> = component.differing(found, &resolve).iter().map(|one| one.field).collect();
    let outputs = component.kind().update(env, component, found, &names).await?;
    env.note(&component.address, outputs);
    Ok(())
}

async fn remove(env: &Env, change: &Change) -> (Address, Doing, Result<(), Failure>) {
    tracing::info!(target: "trading::executor", component = change.address.as_str(), "deleting");
    let env = &for_change(env, change);
    let work = async {
        match (&change.found, kind_named(change.address.kind())) {
            (Some(found), Some(kind)) => kind.delete(env, found).await,
            _ => Ok(()),
        }
    };
    let result = watched(env, &change.address, work).await;
    if result.is_ok() {
        env.forget(&change.address);
    }
    (change.address.clone(), Doing::Delete, result)
}
