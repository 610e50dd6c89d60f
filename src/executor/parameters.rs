//! The few parameters in SSM that a cluster keeps about itself, in its DR region.

use std::{collections::BTreeMap, time::SystemTime};

use aws_sdk_ssm::types::{ParameterTier, ParameterType, Tag};

use crate::{
    aws::ApiError,
    components::{CLUSTER_TAG, Env, SUFFIX_TAG},
};

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) value: String,
    /// Counts the writes.
    pub(super) version: i64,
    /// When it was last written, by AWS's clock.
    pub(super) written: Option<SystemTime>,
}

/// Everything below a path, by what follows the path.
pub(super) async fn read(
    env: &Env,
    region: &str,
    path: &str,
) -> Result<BTreeMap<String, Parameter>, ApiError> {
    let regional = env.region(region);
    let mut found = BTreeMap::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("ssm", "GetParametersByPath");
        let call = || {
            let call = regional.ssm.get_parameters_by_path().path(path).recursive(true);
            call.set_next_token(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        for one in answer.parameters() {
            let name = one.name().unwrap_or_default();
            let name = name.strip_prefix(path).unwrap_or(name).trim_start_matches('/');
            let value = one.value().unwrap_or_default().to_owned();
            let written = one.last_modified_date().and_then(|at| SystemTime::try_from(*at).ok());
            found.insert(name.to_owned(), Parameter { value, version: one.version(), written });
        }
        page = answer.next_token().map(str::to_owned);
        if page.is_none() {
            return Ok(found);
        }
    }
}

/// Makes a parameter that does not exist: of two that try, one succeeds. An answer that never came may hide
/// either; whoever made it, its value tells.
///
/// # Errors
/// Somebody has made it ([`crate::aws::ErrorClass::AlreadyExists`]), or the call failed.
pub(super) async fn make(env: &Env, region: &str, name: &str, value: &str) -> Result<(), ApiError> {
    let regional = env.region(region);
    let mut tags = vec![(SUFFIX_TAG, env.scope.suffix.clone())];
    tags.extend(env.scope.cluster_id.clone().map(|id| (CLUSTER_TAG, id)));
    let tags: Vec<_> = tags
        .iter()
        .filter_map(|(key, value)| Tag::builder().key(*key).value(value).build().ok())
        .collect();
    let api = regional.api("ssm", "PutParameter");
    let call = || {
        let call =
            regional.ssm.put_parameter().name(name).value(value).r#type(ParameterType::String);
        call.overwrite(false).set_tags(Some(tags.clone())).send()
    };
    env.session.call(api, call).await.map(|_| ())
}

/// Writes a parameter, whether it exists or not.
pub(super) async fn write(
    env: &Env,
    region: &str,
    name: &str,
    value: &str,
    grows: bool,
) -> Result<(), ApiError> {
    let regional = env.region(region);
    let api = regional.api("ssm", "PutParameter");
    // What has been advanced once cannot be standard again: AWS chooses, for what may become long.
    let tier = grows.then_some(ParameterTier::IntelligentTiering);
    let call = || {
        let call =
            regional.ssm.put_parameter().name(name).value(value).r#type(ParameterType::String);
        call.overwrite(true).set_tier(tier.clone()).send()
    };
    env.session.call(api, call).await.map(|_| ())
}

/// Removes parameters; those that are gone already count as removed.
pub(super) async fn remove(env: &Env, region: &str, names: &[String]) -> Result<(), ApiError> {
    take_away(env, region, names, true).await
}

/// The same, but where it is not known whether AWS acted, that is returned at once.
pub(super) async fn remove_once(env: &Env, region: &str, names: &[String]) -> Result<(), ApiError> {
    take_away(env, region, names, false).await
}

async fn take_away(env: &Env, region: &str, names: &[String], again: bool) -> Result<(), ApiError> {
    let regional = env.region(region);
    for some in names.chunks(10) {
        let api = regional.api("ssm", "DeleteParameters");
        let call = || regional.ssm.delete_parameters().set_names(Some(some.to_vec())).send();
        if again {
            env.session.call(api, call).await?;
        } else {
            env.session.call_once(api, call).await?;
        }
    }
    Ok(())
}
