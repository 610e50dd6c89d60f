//! What RDS says of PostgreSQL's parameters, before any group says otherwise.

use std::collections::BTreeSet;

use aws_sdk_rds::types::Parameter;

use super::{
    parameters::{FAMILY, are_known},
    spec::Spec,
};
use crate::{aws::ApiError, components::Env};

/// All parameters of the family, from a call that whoever asks shares.
///
/// # Errors
/// The call failed.
pub(super) async fn engine_defaults(env: &Env, spec: &Spec) -> Result<Vec<Parameter>, ApiError> {
    let region = &spec.primary.region;
    let regional = env.region(region);
    let ask = || async {
        let mut known = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let api = regional.api("rds", "DescribeEngineDefaultParameters");
            let call = || {
                let call = regional.rds.describe_engine_default_parameters();
                call.db_parameter_group_family(FAMILY).set_marker(page.clone()).send()
            };
            let answer = env.session.call(api, call).await?;
            let Some(defaults) = answer.engine_defaults() else { break };
            known.extend(defaults.parameters().to_vec());
            page = defaults.marker().map(str::to_owned);
            if page.is_none() {
                break;
            }
        }
        Ok(known)
    };
    env.shared(format!("engine defaults {region}"), ask).await
}

/// The names of the parameters that take effect at a restart only, by RDS's word; nothing where all that the user sets
/// are known here.
///
/// # Errors
/// The call failed.
pub(super) async fn statics(env: &Env, spec: &Spec) -> Result<BTreeSet<String>, ApiError> {
    let unknown = spec.unknown.contains("database.parameters");
    if unknown || are_known(&spec.database.parameters) {
        return Ok(BTreeSet::new());
    }
    let all = engine_defaults(env, spec).await?;
    let fixed = all.iter().filter(|one| one.apply_type() == Some("static"));
    Ok(fixed.filter_map(|one| one.parameter_name().map(str::to_owned)).collect())
}
