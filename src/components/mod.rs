//! AWS primitives, one file each: what is wanted of them, how they are found, made, changed and removed.
//!
//! A primitive implements [`Primitive`] with its own typed settings; [`Kind`] is the same without the type,
//! for whoever handles all of them alike. The registry of kinds is [`kinds`].

mod address;
pub mod alarm;
pub mod dashboard;
pub mod database_role;
pub mod db_backup;
pub mod db_event_subscription;
pub mod db_instance;
mod db_instance_calls;
mod db_instance_waits;
pub mod db_parameter_group;
pub mod db_snapshot_copy;
pub mod db_subnet_group;
pub mod dns_record;
pub mod drill_instance;
pub mod dynamodb_table;
mod env;
pub mod event_rule;
mod field;
pub mod health_check;
pub mod hosted_zone;
pub mod hosted_zone_association;
pub mod iam_role;
pub mod kms_alias;
pub mod kms_key;
pub mod lambda_function;
pub mod lambda_permission;
pub mod ledger;
pub mod log_group;
pub mod route;
mod route53;
pub mod secret;
pub mod security_group;
pub mod security_group_rule;
pub mod sns_subscription;
pub mod sns_topic;
pub mod ssm_document;
mod tags;
pub mod vpc_peering;
pub mod vpc_peering_accepter;
pub mod vpc_peering_options;

use std::{any::Any, collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use async_trait::async_trait;

use crate::aws::ApiError;
pub use address::{Address, GLOBAL};
pub use alarm::Alarm;
pub use env::{Archive, Env, Failure, Outputs, Owner, Scope};
pub use field::{
    ARN, ENDPOINT, Effect, Equality, Field, ID, Output, RESOURCE_ID, SOURCE, STATUS, Slots, Style,
    Text, canonical_json, short_digest,
};
pub use hosted_zone::HostedZone;
pub use security_group::SecurityGroup;
pub use sns_topic::SnsTopic;
pub use tags::{
    CLUSTER_TAG, IgnoredTags, PREPARED_TAG, RECORD_TAG, SECRET_TAG, SUFFIX_TAG, Tags,
    canonical_tags, retag,
};

/// A component that is wanted, with settings of a type of its own.
#[derive(Clone, Debug)]
pub struct Wanted<P> {
    /// Where it stands in the cluster.
    pub address: Address,
    /// The region whose API it is made with.
    pub region: String,
    /// Its name in AWS.
    pub name: String,
    /// The tags that it carries; empty for what cannot be tagged.
    pub tags: Tags,
    /// What is particular to its kind.
    pub settings: P,
}

/// A component that is wanted.
#[derive(Clone)]
pub struct Component {
    /// Where it stands in the cluster.
    pub address: Address,
    /// What must be there before it, and go after it.
    pub depends_on: Vec<Address>,
    /// What is wanted, for people.
    pub name: String,
    /// Its settings.
    pub fields: Vec<Field>,
    region: String,
    kind: &'static dyn Kind,
    wanted: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Component {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Component")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl Component {
    /// A component of kind `P`. What its settings refer to, it depends on.
    pub fn new<P: Primitive>(wanted: Wanted<P>, depends_on: &[Address]) -> Self {
        let mut fields = wanted.settings.fields();
        if !wanted.tags.is_empty() {
            fields.push(Field::new("tags", canonical_tags(&wanted.tags)).digest().from("tags"));
        }
        let mut depends_on = depends_on.to_vec();
        for field in &fields {
            depends_on.extend(field.value.refs().into_iter().map(|(address, _)| address.clone()));
        }
        depends_on.sort();
        depends_on.dedup();
        Self {
            address: wanted.address.clone(),
            depends_on,
            name: wanted.name.clone(),
            fields,
            region: wanted.region.clone(),
            kind: &KindOf::<P>(PhantomData),
            wanted: Arc::new(wanted),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> &'static dyn Kind {
        self.kind
    }

    /// The setting of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The region whose API it is made with.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// What a plan says about it: its name and all settings in one line.
    pub fn summary(&self) -> String {
        let parts = self.fields.iter().map(|field| (field, field.value.shown().to_owned()));
        self.line(parts)
    }

    /// The same line for what AWS has: a setting that is reached reads as it does in [`Component::summary`].
    pub fn summary_of(&self, found: &Observation, resolve: &Resolve<'_>) -> String {
        let differing = self.differing(found, resolve);
        let parts = self.fields.iter().map(|field| {
            let other = differing.iter().find(|one| one.field == field.name);
            let text =
                other.map_or_else(|| field.value.shown().to_owned(), |one| one.found.clone());
            (field, text)
        });
        self.line(parts)
    }

    fn line<'a>(&self, parts: impl Iterator<Item = (&'a Field, String)>) -> String {
        let parts: Vec<_> =
            parts.map(|(field, text)| format!("{}={}", field.name, field.print(&text))).collect();
        if parts.is_empty() {
            self.name.clone()
        } else {
            format!("{} · {}", self.name, parts.join(" "))
        }
    }

    /// The settings that are not as they are wanted, in the order of the fields.
    pub fn differing(&self, found: &Observation, resolve: &Resolve<'_>) -> Vec<Difference> {
        let each = self.fields.iter().filter_map(|field| {
            let observed = found.settings.get(field.name).cloned().unwrap_or_default();
            let wanted = resolve(&field.value);
            if wanted.as_ref().is_some_and(|wanted| field.is_reached(wanted, &observed)) {
                return None;
            }
            Some(Difference {
                field: field.name,
                argument: field.argument,
                effect: field.effect,
                wanted: field.value.shown().to_owned(),
                found: observed,
            })
        });
        each.collect()
    }
}

/// Turns a setting into the text that AWS would have; `None` if what it refers to does not exist.
pub type Resolve<'a> = dyn Fn(&Text) -> Option<String> + 'a;

/// A setting that is not as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field's name.
    pub field: &'static str,
    /// The argument that it comes from.
    pub argument: &'static str,
    /// What changing it means.
    pub effect: Effect,
    /// What it shall be, as a plan shows it.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

/// Whether a component can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// Not yet; the text is AWS's word for its state.
    Busy(String),
    /// It cannot, and will not by waiting.
    Broken(String),
}

/// A component as AWS has it.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Where it stands in the cluster.
    pub address: Address,
    /// The region whose API it was found with.
    pub region: String,
    /// What AWS knows it by.
    pub id: String,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Whether it can be used.
    pub readiness: Readiness,
    /// Its settings, by the names of the fields.
    pub settings: BTreeMap<&'static str, String>,
    /// Its tags; empty for what cannot be tagged.
    pub tags: Tags,
    /// What AWS decided about it.
    pub outputs: Outputs,
    /// What AWS will change in it by itself later.
    pub pending: Vec<String>,
}

impl Observation {
    /// Something that is there, ready, ours and without settings so far.
    pub fn new(address: Address, region: &str, id: impl Into<String>) -> Self {
        Self {
            address,
            region: region.to_owned(),
            id: id.into(),
            owner: Owner::Ours,
            readiness: Readiness::Ready,
            settings: BTreeMap::new(),
            tags: Tags::new(),
            outputs: Outputs::new(),
            pending: Vec::new(),
        }
    }

    /// Adds a setting.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(name, value.into());
        self
    }

    /// Adds an output.
    #[must_use]
    pub fn output(mut self, name: Output, value: impl Into<String>) -> Self {
        self.outputs.insert(name, value.into());
        self
    }

    /// Adds its tags, and judges by them whom it belongs to.
    #[must_use]
    pub fn tagged(mut self, tags: Tags, env: &Env) -> Self {
        self.owner = env.scope.owner(&tags);
        let tags = env.judged(tags);
        self.settings.insert("tags", canonical_tags(&tags));
        self.tags = tags;
        self
    }

    /// Says whether it can be used.
    #[must_use]
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }
}

/// An AWS primitive.
///
/// Each operation is idempotent and may be repeated after a crash at any point. `create`, `update` and
/// `delete` return when the thing can really be used, or is really gone.
pub trait Primitive: Clone + fmt::Debug + Send + Sync + Sized + 'static {
    /// The kind's name in addresses.
    const KIND: &'static str;

    /// Whether its members are found by what they point at, so that they are looked for even where nobody
    /// can name one.
    const NAMELESS: bool = false;

    /// Whether its members are made by something else of the cluster, and come and go: no plan and no state
    /// speaks of them, and a destroy removes them.
    const BYPRODUCT: bool = false;

    /// Whether AWS makes another one each time it is asked, and is slow to show the last one: where it is not known
    /// whether it acted, that has to be waited for before it is asked again.
    const MULTIPLIES: bool = false;

    /// The settings, in the order in which plans print them.
    fn fields(&self) -> Vec<Field>;

    /// Looks for all that are wanted in a region, and for what else of this kind belongs to the cluster
    /// there. What is not found is absent.
    fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> impl Future<Output = Result<Vec<Observation>, ApiError>> + Send;

    /// Makes it, and tells what AWS decided about it.
    fn create(
        env: &Env,
        wanted: &Wanted<Self>,
    ) -> impl Future<Output = Result<Outputs, Failure>> + Send;

    /// Changes the settings named in `differing`, and waits until it is ready; with none, only waits.
    /// Tells what of the outputs is new. What is only ever made anew has nothing to do here.
    fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> impl Future<Output = Result<Outputs, Failure>> + Send {
        let _ = (env, wanted, found, differing);
        async { Ok(Outputs::new()) }
    }

    /// Removes it.
    fn delete(env: &Env, found: &Observation) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Looks for all that are wanted at once; what is not found is absent.
async fn each<'a, P, F>(
    wanted: &[&'a Wanted<P>],
    look: impl Fn(&'a Wanted<P>) -> F,
) -> Result<Vec<Observation>, ApiError>
where
    F: Future<Output = Result<Option<Observation>, ApiError>>,
{
    let found = futures::future::try_join_all(wanted.iter().map(|one| look(one))).await?;
    Ok(found.into_iter().flatten().collect())
}

/// A [`Primitive`] without its type.
#[async_trait]
pub trait Kind: Send + Sync {
    /// The kind's name in addresses.
    fn name(&self) -> &'static str;

    /// See [`Primitive::NAMELESS`].
    fn is_found_without_a_name(&self) -> bool;

    /// See [`Primitive::BYPRODUCT`].
    fn is_byproduct(&self) -> bool;

    /// See [`Primitive::MULTIPLIES`].
    fn multiplies(&self) -> bool;

    /// See [`Primitive::observe`]. Components of other kinds are not asked for.
    async fn observe(
        &self,
        env: &Env,
        region: &str,
        wanted: &[&Component],
    ) -> Result<Vec<Observation>, ApiError>;

    /// See [`Primitive::create`].
    async fn create(&self, env: &Env, wanted: &Component) -> Result<Outputs, Failure>;

    /// See [`Primitive::update`].
    async fn update(
        &self,
        env: &Env,
        wanted: &Component,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure>;

    /// See [`Primitive::delete`].
    async fn delete(&self, env: &Env, found: &Observation) -> Result<(), Failure>;
}

struct KindOf<P>(PhantomData<fn() -> P>);

fn typed<P: Primitive>(component: &Component) -> Option<&Wanted<P>> {
    component.wanted.downcast_ref()
}

fn misplaced(component: &Component) -> Failure {
    Failure::Obstacle(format!("{} was handed to another kind: this is a bug", component.address))
}

#[async_trait]
impl<P: Primitive> Kind for KindOf<P> {
    fn name(&self) -> &'static str {
        P::KIND
    }

    fn is_found_without_a_name(&self) -> bool {
        P::NAMELESS
    }

    fn is_byproduct(&self) -> bool {
        P::BYPRODUCT
    }

    fn multiplies(&self) -> bool {
        P::MULTIPLIES
    }

    async fn observe(
        &self,
        env: &Env,
        region: &str,
        wanted: &[&Component],
    ) -> Result<Vec<Observation>, ApiError> {
        let wanted: Vec<_> = wanted.iter().filter_map(|one| typed::<P>(one)).collect();
        P::observe(env, region, &wanted).await
    }

    async fn create(&self, env: &Env, wanted: &Component) -> Result<Outputs, Failure> {
        P::create(env, typed(wanted).ok_or_else(|| misplaced(wanted))?).await
    }

    async fn update(
        &self,
        env: &Env,
        wanted: &Component,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        P::update(env, typed(wanted).ok_or_else(|| misplaced(wanted))?, found, differing).await
    }

    async fn delete(&self, env: &Env, found: &Observation) -> Result<(), Failure> {
        P::delete(env, found).await
    }
}

const fn kind<P: Primitive>() -> &'static dyn Kind {
    &KindOf::<P>(PhantomData)
}

/// Every kind, each after those that it depends on: leftovers are removed in the opposite order.
const KINDS: &[&dyn Kind] = &[
    kind::<kms_key::KmsKey>(),
    kind::<kms_alias::KmsAlias>(),
    kind::<vpc_peering::VpcPeering>(),
    kind::<vpc_peering_accepter::VpcPeeringAccepter>(),
    kind::<vpc_peering_options::VpcPeeringOptions>(),
    kind::<route::Route>(),
    // Lambda removes a function's interfaces as the function's role: it goes after the groups that these hold.
    kind::<iam_role::IamRole>(),
    kind::<security_group::SecurityGroup>(),
    kind::<security_group_rule::SecurityGroupRule>(),
    kind::<db_subnet_group::DbSubnetGroup>(),
    kind::<db_parameter_group::DbParameterGroup>(),
    kind::<secret::Secret>(),
    kind::<log_group::LogGroup>(),
    kind::<dynamodb_table::DynamodbTable>(),
    kind::<db_snapshot_copy::DbSnapshotCopy>(),
    kind::<db_instance::DbInstance>(),
    kind::<drill_instance::DrillInstance>(),
    kind::<db_backup::DbBackup>(),
    kind::<sns_topic::SnsTopic>(),
    kind::<sns_subscription::SnsSubscription>(),
    kind::<db_event_subscription::DbEventSubscription>(),
    kind::<lambda_function::LambdaFunction>(),
    kind::<database_role::DatabaseRole>(),
    kind::<lambda_permission::LambdaPermission>(),
    kind::<event_rule::EventRule>(),
    kind::<ssm_document::SsmDocument>(),
    kind::<alarm::Alarm>(),
    kind::<dashboard::Dashboard>(),
    kind::<hosted_zone::HostedZone>(),
    kind::<hosted_zone_association::HostedZoneAssociation>(),
    kind::<health_check::HealthCheck>(),
    kind::<dns_record::DnsRecord>(),
];

/// Every kind, each after those that it depends on.
pub fn kinds() -> &'static [&'static dyn Kind] {
    KINDS
}

/// Whether something comes and goes by itself: see [`Primitive::BYPRODUCT`].
pub fn is_byproduct(address: &Address) -> bool {
    kind_named(address.kind()).is_some_and(Kind::is_byproduct)
}

/// The kind of that name.
pub fn kind_named(name: &str) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}
