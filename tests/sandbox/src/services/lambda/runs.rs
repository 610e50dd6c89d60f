//! Runs of functions, which whoever owns the sandbox does.

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::FUNCTION;
use crate::{iam, services::cloudwatch, world::World};

/// A function that is to run.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where it runs.
    pub region: String,
    /// Its name.
    pub function: String,
    /// Its environment variables.
    pub environment: Value,
    /// Its VPC; empty outside of one.
    pub vpc: String,
    /// The security groups that it is in there.
    pub groups: Vec<String>,
    /// The access key of its role.
    pub access_key: String,
    /// What it is given.
    pub payload: Value,
    /// A number that no other invocation has.
    pub request: String,
}

/// What runs functions of a sandbox: an answer, or what went wrong.
pub type Runtime = Arc<
    dyn Fn(
            crate::Sandbox,
            Invocation,
        ) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>>
        + Send
        + Sync,
>;

/// The run of a function that can run.
pub(crate) fn invocation(world: &World, function: &str, payload: Value) -> Option<Invocation> {
    let mut parts = function.split(':').skip(3);
    let (region, name) = (parts.next()?, parts.nth(2)?);
    let record = world.get(region, FUNCTION, name).filter(|one| one["State"] == "Active")?;
    if world.is_dark(region) {
        return None;
    }
    let role = record["Role"].as_str()?.rsplit('/').next()?;
    Some(Invocation {
        region: region.to_owned(),
        function: name.to_owned(),
        environment: record["Environment"]["Variables"].clone(),
        vpc: record["VpcConfig"]["VpcId"].as_str().unwrap_or_default().to_owned(),
        groups: crate::request::texts(&record["VpcConfig"]["SecurityGroupIds"]),
        access_key: iam::role_key(role),
        payload,
        request: format!("{:016}", world.now.0),
    })
}

/// What Lambda measures of a run that nobody waited for.
pub(crate) fn ran(world: &mut World, region: &str, function: &str, failed: bool) {
    let dimensions = json!([{"Name": "FunctionName", "Value": function}]);
    let (at, errors) = (world.now, if failed { 1.0 } else { 0.0 });
    cloudwatch::publish(world, region, "AWS/Lambda", "Errors", &dimensions, at, errors);
}
