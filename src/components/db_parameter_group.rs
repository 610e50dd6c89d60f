//! DB parameter groups: PostgreSQL's settings in each region.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_rds::types::{ApplyMethod, Parameter};

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Wanted,
    db_subnet_group::{rds_tags, rds_tags_of, retag_rds},
};
use crate::aws::ApiError;

/// RDS takes so many parameters in one call (aws-facts 1.5).
const BATCH: usize = 20;

/// A parameter group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbParameterGroup {
    /// `postgres15`.
    pub family: String,
    /// Values by name.
    pub parameters: BTreeMap<String, String>,
    /// The names of parameters known to take effect at a restart only.
    pub statics: BTreeSet<String>,
    /// The names of parameters known to take effect at once.
    pub dynamics: BTreeSet<String>,
    /// What it is for.
    pub description: String,
}

impl DbParameterGroup {
    /// The kind's name.
    pub const KIND: &str = "db-parameter-group";

    /// The address of a region's group.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

/// Parameters in one text.
pub fn parameters_text(all: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(";")
}

/// A parameter of a group.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    /// Whether it takes effect at a restart only, by RDS's word.
    pub(super) is_static: bool,
    /// Whether the group was given a value that RDS would not have used by itself: one that is equal to the default leaves
    /// the source what it was (terraform-provider-aws #23335).
    is_own: bool,
}

impl Given {
    fn of(one: &Parameter) -> Option<(String, Self)> {
        let (name, text) = (one.parameter_name()?, one.parameter_value());
        let is_own = one.source() == Some("user");
        if text.is_none() && !is_own {
            return None;
        }
        let (text, is_static) = (text.unwrap_or_default(), one.apply_type() == Some("static"));
        Some((name.to_owned(), Self { text: text.to_owned(), is_static, is_own }))
    }
}

/// The values of a group, by name, from a call that the group and its instance share: those that it was given, and whatever
/// those of these names are.
pub(super) async fn values(
    env: &Env,
    region: &str,
    group: &str,
    wanted: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Given>, ApiError> {
    let key = format!("parameters {region} {group}");
    let ask =
        || async { Ok(find(env, region, group).await?.iter().filter_map(Given::of).collect()) };
    let mut all: BTreeMap<String, Given> = env.shared(key, ask).await?;
    all.retain(|name, one| one.is_own || wanted.contains_key(name));
    Ok(all)
}

fn texts_of(all: BTreeMap<String, Given>) -> BTreeMap<String, String> {
    all.into_iter().map(|(name, one)| (name, one.text)).collect()
}

/// All parameters of a group.
async fn find(env: &Env, region: &str, group: &str) -> Result<Vec<Parameter>, ApiError> {
    let regional = env.region(region);
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("rds", "DescribeDBParameters");
        let call = || {
            let call = regional.rds.describe_db_parameters().db_parameter_group_name(group);
            call.set_marker(page.clone()).send()
        };
        let Some(answer) = env.session.find(api, call).await? else { return Ok(found) };
        page = answer.marker().map(str::to_owned);
        found.extend(answer.parameters.unwrap_or_default());
        if page.is_none() {
            return Ok(found);
        }
    }
}

impl Primitive for DbParameterGroup {
    const KIND: &'static str = DbParameterGroup::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("family", &*self.family),
            Field::new("parameters", parameters_text(&self.parameters)).from("database.parameters"),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let regional = env.region(region);
        let mut found = Vec::new();
        for wanted in wanted {
            let api = regional.api("rds", "DescribeDBParameterGroups");
            let call = || {
                let call = regional.rds.describe_db_parameter_groups();
                call.db_parameter_group_name(&wanted.name).send()
            };
            let group = env.session.find(api, call);
            let (group, values) = futures::join!(
                group,
                values(env, region, &wanted.name, &wanted.settings.parameters)
            );
            let Some(answer) = group? else { continue };
            let Some(one) = answer.db_parameter_groups().first() else { continue };
            let arn = one.db_parameter_group_arn().unwrap_or_default();
            let tags = rds_tags_of(env, region, arn, Some(&wanted.tags)).await?;
            found.push(
                Observation::new(wanted.address.clone(), region, &wanted.name)
                    .with("family", one.db_parameter_group_family().unwrap_or_default())
                    .with("parameters", parameters_text(&texts_of(values?)))
                    .output(ARN, arn)
                    .tagged(tags, env),
            );
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let settings = &wanted.settings;
        let api = regional.api("rds", "CreateDBParameterGroup");
        let call = || {
            let call =
                regional.rds.create_db_parameter_group().db_parameter_group_name(&wanted.name);
            let call = call.db_parameter_group_family(&settings.family);
            call.description(&settings.description).set_tags(Some(rds_tags(&wanted.tags))).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let arn = answer.db_parameter_group().and_then(|one| one.db_parameter_group_arn());
        let arn = arn.unwrap_or_default().to_owned();
        set(env, wanted, &settings.parameters).await?;
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"parameters") {
            let wants = &wanted.settings.parameters;
            env.look_again();
            let mut has = values(env, &wanted.region, &wanted.name, wants).await?;
            let mut new = wants.clone();
            new.retain(|name, value| has.get(name).is_none_or(|one| one.text != *value));
            set(env, wanted, &new).await?;
            has.retain(|name, _| !wants.contains_key(name));
            reset(env, wanted, &has).await?;
            env.look_again();
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            retag_rds(env, &wanted.region, &arn, &found.tags, &wanted.tags).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("rds", "DeleteDBParameterGroup");
        let call =
            || regional.rds.delete_db_parameter_group().db_parameter_group_name(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}

/// Which of these take effect at a restart only. What is not known here, the group itself tells.
async fn statics(
    env: &Env,
    wanted: &Wanted<DbParameterGroup>,
    values: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>, ApiError> {
    let settings = &wanted.settings;
    let known = |name: &String| settings.statics.contains(name) || settings.dynamics.contains(name);
    if values.keys().all(known) {
        return Ok(settings.statics.clone());
    }
    let all = find(env, &wanted.region, &wanted.name).await?;
    let fixed = all.iter().filter(|one| one.apply_type() == Some("static"));
    let fixed = fixed.filter_map(|one| one.parameter_name().map(str::to_owned));
    Ok(fixed.chain(settings.statics.iter().cloned()).collect())
}

/// AWS takes `immediate` for dynamic parameters only.
fn method(statics: &BTreeSet<String>, name: &str) -> ApplyMethod {
    if statics.contains(name) { ApplyMethod::PendingReboot } else { ApplyMethod::Immediate }
}

async fn set(
    env: &Env,
    wanted: &Wanted<DbParameterGroup>,
    values: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let regional = env.region(&wanted.region);
    let statics = statics(env, wanted, values).await?;
    let all: Vec<Parameter> = values
        .iter()
        .map(|(name, value)| {
            let one = Parameter::builder().parameter_name(name).parameter_value(value);
            one.apply_method(method(&statics, name)).build()
        })
        .collect();
    for batch in all.chunks(BATCH) {
        let api = regional.api("rds", "ModifyDBParameterGroup");
        let call = || {
            let call =
                regional.rds.modify_db_parameter_group().db_parameter_group_name(&wanted.name);
            call.set_parameters(Some(batch.to_vec())).send()
        };
        env.session.call(api, call).await?;
    }
    Ok(())
}

async fn reset(
    env: &Env,
    wanted: &Wanted<DbParameterGroup>,
    gone: &BTreeMap<String, Given>,
) -> Result<(), ApiError> {
    let regional = env.region(&wanted.region);
    let all: Vec<Parameter> = gone
        .iter()
        .map(|(name, one)| {
            // A dynamic one that waits for a restart would make the instance wait for it.
            let method =
                if one.is_static { ApplyMethod::PendingReboot } else { ApplyMethod::Immediate };
            Parameter::builder().parameter_name(name).apply_method(method).build()
        })
        .collect();
    for batch in all.chunks(BATCH) {
        let api = regional.api("rds", "ResetDBParameterGroup");
        let call = || {
            let call =
                regional.rds.reset_db_parameter_group().db_parameter_group_name(&wanted.name);
            call.reset_all_parameters(false).set_parameters(Some(batch.to_vec())).send()
        };
        env.session.call(api, call).await?;
    }
    Ok(())
}
