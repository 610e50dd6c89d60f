//! What the operations of components work with: clients, ownership, and what AWS gave other components.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::OnceCell;

use super::{Address, CLUSTER_TAG, IgnoredTags, Output, SUFFIX_TAG, Tags, Text, canonical_tags};
use crate::{
    aws::{ApiError, Aws, Regional, Session, WaitError},
    progress::{Event, Journal},
};

/// What AWS decided about a component.
pub type Outputs = BTreeMap<Output, String>;

/// The archive of the agent: what its functions run.
#[derive(Clone, PartialEq, Eq)]
pub struct Archive {
    /// The archive.
    pub bytes: Arc<[u8]>,
    /// Its hash as Lambda tells it: SHA-256 in base64.
    pub sha256: String,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Archive").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// Whom a thing in AWS belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This cluster.
    Ours,
    /// Somebody else; the text says how that shows.
    Foreign(String),
}

/// Which cluster this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The environment suffix.
    pub suffix: String,
    /// The id that the cluster got when it was first made; unknown before.
    pub cluster_id: Option<String>,
    /// Suffixes of clusters that go before this one comes: in a plan that replaces them, their things are in
    /// nobody's way.
    pub leaving: BTreeSet<String>,
    /// The AWS account.
    pub account: String,
    /// The partition in ARNs.
    pub partition: String,
}

impl Scope {
    /// Judges by tags.
    pub fn owner(&self, tags: &Tags) -> Owner {
        match (tags.get(SUFFIX_TAG), tags.get(CLUSTER_TAG), &self.cluster_id) {
            (None, ..) => Owner::Foreign(format!(
                "it does not carry the tag {SUFFIX_TAG} = {} (if somebody took it away, put it back)",
                self.suffix
            )),
            (Some(suffix), ..) if self.leaving.contains(suffix) => Owner::Ours,
            (Some(suffix), ..) if *suffix != self.suffix => {
                Owner::Foreign(format!("its tag {SUFFIX_TAG} says {suffix}"))
            }
            (_, Some(id), Some(ours)) if id != ours => {
                Owner::Foreign(format!("it belongs to the cluster {id}, not to {ours}"))
            }
            (Some(suffix), Some(id), None) => Owner::Foreign(format!(
                "it is left from the cluster {id}, of which nothing else is known here (if that was begun with another \
                 region, set it back, or import it by `{suffix}/<primary region>/<dr region>` and destroy it)"
            )),
            _ => Owner::Ours,
        }
    }

    /// Judges what no name leads to: its tags have to name the cluster's id as well. Of the suffix alone anybody can think.
    pub fn owner_by_id(&self, tags: &Tags) -> Owner {
        let leaves = tags.get(SUFFIX_TAG).is_some_and(|suffix| self.leaving.contains(suffix));
        match (self.owner(tags), &self.cluster_id) {
            (Owner::Ours, Some(id)) if !leaves && !tags.contains_key(CLUSTER_TAG) => {
                Owner::Foreign(format!(
                    "it does not carry the tag {CLUSTER_TAG} = {id} (if somebody took it away, put it back)"
                ))
            }
            (Owner::Ours, None) if !leaves => {
                Owner::Foreign("it is tagged with the suffix, and with no cluster's id".into())
            }
            (owner, _) => owner,
        }
    }

    /// Whether something was made for this very cluster.
    pub fn made(&self, tags: &Tags) -> bool {
        let id = tags.get(CLUSTER_TAG);
        id.is_some() && id == self.cluster_id.as_ref() && self.owner(tags) == Owner::Ours
    }

    /// Whether a tag is missing that would say whose something is.
    pub fn lacks_tag(&self, tags: &Tags) -> bool {
        let suffix = tags.get(SUFFIX_TAG);
        suffix.is_none_or(|suffix| *suffix == self.suffix && !tags.contains_key(CLUSTER_TAG))
    }
}

/// 32 random bits in hex: for names that AWS takes once and never again.
pub(super) fn nonce() -> Result<String, Failure> {
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::Obstacle(format!("the operating system gives no random numbers: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Why an operation on a component did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Waiting ended without the thing being ready.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Something that it refers to is not there.
    #[error("{0} is not there yet")]
    Missing(Address),
    /// What AWS has stands in the way.
    #[error("{0}")]
    Obstacle(String),
}

/// Everything that an operation needs.
#[derive(Clone)]
pub struct Env {
    /// AWS.
    pub aws: Arc<Aws>,
    /// This run's way of calling it.
    pub session: Session,
    /// Which cluster this is.
    pub scope: Scope,
    /// The agent's archive, where there is one.
    pub archive: Option<Archive>,
    /// Where it is told what is being done.
    journal: Option<Arc<Journal>>,
    ignored: Arc<IgnoredTags>,
    outputs: Arc<Mutex<BTreeMap<Address, Outputs>>>,
    answers: Arc<Mutex<BTreeMap<String, Arc<dyn Any + Send + Sync>>>>,
    thorough: Arc<AtomicBool>,
    is_removing: bool,
}

impl Env {
    /// For one run.
    pub fn new(aws: Arc<Aws>, session: Session, scope: Scope) -> Self {
        let (outputs, answers) = (Arc::default(), Arc::default());
        let (ignored, thorough) = (Arc::default(), Arc::default());
        let (archive, journal, is_removing) = (None, None, false);
        Self {
            aws,
            session,
            scope,
            archive,
            journal,
            ignored,
            outputs,
            answers,
            thorough,
            is_removing,
        }
    }

    /// The same, with tags that are none of our business.
    #[must_use]
    pub fn ignoring(self, ignored: Arc<IgnoredTags>) -> Self {
        Self { ignored, ..self }
    }

    /// The tags that are ours to judge.
    pub(super) fn judged(&self, tags: Tags) -> Tags {
        self.ignored.without(tags)
    }

    /// The same with the agent's archive at hand.
    #[must_use]
    pub fn with_archive(self, archive: Option<Archive>) -> Self {
        Self { archive, ..self }
    }

    /// The same, telling what is being done.
    #[must_use]
    pub fn with_journal(self, journal: Option<Arc<Journal>>) -> Self {
        Self { journal, ..self }
    }

    /// Tells what is being done, to whoever watches.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(journal) = &self.journal {
            journal.note(&event());
        }
    }

    /// The same for a cluster whose id is known by now.
    #[must_use]
    pub fn for_cluster(&self, id: Option<String>) -> Self {
        let scope = Scope { cluster_id: id, ..self.scope.clone() };
        Self { scope, ..self.clone() }
    }

    /// The same with another way of calling.
    #[must_use]
    pub fn with_session(&self, session: Session) -> Self {
        Self { session, ..self.clone() }
    }

    /// The clients of a region.
    pub fn region(&self, name: &str) -> Arc<Regional> {
        self.aws.region(name)
    }

    /// From now on, leaves no stone unturned when looking for things that have no name: an earlier run may
    /// have made one without living to name it.
    pub fn be_thorough(&self) {
        self.thorough.store(true, Ordering::Relaxed);
    }

    /// Whether to look thoroughly.
    pub fn is_thorough(&self) -> bool {
        self.thorough.load(Ordering::Relaxed)
    }

    /// The same for a run that leaves nothing: what waits to be deleted counts as being there.
    #[must_use]
    pub fn removing(self) -> Self {
        Self { is_removing: true, ..self }
    }

    /// Whether nothing is to be left.
    pub fn is_removing(&self) -> bool {
        self.is_removing
    }

    /// An answer that several kinds need and that is asked for once; what it says is as old as the first
    /// question after the last [`Env::look_again`].
    ///
    /// # Errors
    /// Asking failed; the next one asks again.
    pub async fn shared<T, F>(&self, key: String, ask: impl FnOnce() -> F) -> Result<T, ApiError>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, ApiError>>,
    {
        let cell = {
            let mut all = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Arc::new(OnceCell::<T>::new()) as Arc<dyn Any + Send + Sync>;
            Arc::clone(all.entry(key).or_insert_with(fresh))
        };
        match cell.downcast::<OnceCell<T>>() {
            Ok(cell) => cell.get_or_try_init(ask).await.cloned(),
            // Two kinds gave one key to different things: a bug that costs a call, not a wrong answer.
            Err(_) => ask().await,
        }
    }

    /// Forgets all shared answers: the next questions are put to AWS again.
    pub fn look_again(&self) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Notes what AWS decided about a component.
    pub fn note(&self, address: &Address, outputs: Outputs) {
        let mut all = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(address.clone()).or_default().extend(outputs);
    }

    /// Forgets a component that is gone.
    pub fn forget(&self, address: &Address) {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// What AWS decided about a component, if it exists.
    pub fn output(&self, address: &Address, output: Output) -> Option<String> {
        let all = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(address)?.get(output).cloned()
    }

    /// A text with nothing left to resolve.
    ///
    /// # Errors
    /// It refers to something that is not there.
    pub fn resolve(&self, text: &Text) -> Result<String, Failure> {
        text.filled(|address, output| self.output(address, output)).map_err(Failure::Missing)
    }

    /// Tags by ARN of everything in a region that carries this cluster's suffix, from one call that all
    /// share. It may be half a minute old: what follows from it must be confirmed by the service itself.
    ///
    /// # Errors
    /// The call failed.
    pub async fn tagged(&self, region: &str) -> Result<BTreeMap<String, Tags>, ApiError> {
        self.shared(format!("tags {region}"), || self.find_tagged(region)).await
    }

    async fn find_tagged(&self, region: &str) -> Result<BTreeMap<String, Tags>, ApiError> {
        use aws_sdk_resourcegroupstagging::types::TagFilter;
        let regional = self.region(region);
        let filter = TagFilter::builder().key(SUFFIX_TAG).values(&self.scope.suffix).build();
        let mut found = BTreeMap::new();
        let mut page: Option<String> = None;
        loop {
            let answer = self
                .session
                .call(regional.api("tag", "GetResources"), || {
                    regional
                        .tagging
                        .get_resources()
                        .tag_filters(filter.clone())
                        .set_pagination_token(page.clone())
                        .send()
                })
                .await?;
            for one in answer.resource_tag_mapping_list() {
                let tags =
                    one.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
                found.insert(one.resource_arn().unwrap_or_default().to_owned(), tags.collect());
            }
            page = answer.pagination_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if page.is_none() {
                return Ok(found);
            }
        }
    }

    /// The tags of one thing: as the shared call has them if that is what is wanted, else as its own
    /// service says, which costs a call and is never stale.
    ///
    /// # Errors
    /// A call failed.
    pub async fn tags_of<F>(
        &self,
        region: &str,
        arn: &str,
        wanted: Option<&Tags>,
        ask: impl FnOnce() -> F,
    ) -> Result<Tags, ApiError>
    where
        F: Future<Output = Result<Tags, ApiError>>,
    {
        if let Some(wanted) = wanted {
            let shared = self.tagged(region).await?;
            let told = shared.get(arn).cloned().map(|tags| self.judged(tags));
            if let Some(tags) = told.filter(|tags| canonical_tags(tags) == canonical_tags(wanted)) {
                return Ok(tags);
            }
        }
        ask().await.map(|tags| self.judged(tags))
    }

    /// A pause before looking again after a call whose result is not known: 2 s, and longer each time, up to 30 s.
    ///
    /// # Errors
    /// The run was stopped meanwhile.
    pub async fn settle(&self, times: u32) -> Result<(), Failure> {
        let state = "unclear whether AWS had acted".to_owned();
        let seconds = 2u64.saturating_pow(times.clamp(1, 5)).min(30);
        let paused = self.session.pause(Duration::from_secs(seconds)).await;
        self.look_again();
        paused.map_err(|reason| WaitError::Stopped { reason, state }.into())
    }
}
