//! Runs of functions, which whoever owns the sandbox does.

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::FUNCTION;
use crate::{
    Source,
    iam::{self, Need},
    request::Request,
    services::{cloudwatch, logs},
    world::World,
};

/// A function that is to run.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where it runs.
    pub region: String,
    /// Its name.
    pub function: String,
    /// Its environment variables.
    pub environment: Value,
    /// Where it runs; the VPC is empty outside of one.
    pub place: Source,
    /// The access key of its role.
    pub access_key: String,
    /// What it is given.
    pub payload: Value,
    /// A number that no other invocation has, and that grows.
    pub request: String,
    /// Its ARN.
    pub arn: String,
    /// Its archive's hash, and the archive.
    pub archive: (String, Arc<[u8]>),
    /// How long it may run, in seconds.
    pub timeout: u64,
    /// How much memory it may take, in MiB.
    pub memory: u64,
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
pub(crate) fn invocation(world: &mut World, function: &str, payload: Value) -> Option<Invocation> {
    let mut parts = function.split(':').skip(3);
    let (region, name) = (parts.next()?, parts.nth(2)?);
    let number = world.next();
    let record = world.get(region, FUNCTION, name).filter(|one| one["State"] == "Active")?;
    if world.is_dark(region) {
        return None;
    }
    let role = record["Role"].as_str()?.rsplit('/').next()?;
    // Lambda has a grant for the role as it was when the function was made; a role that was made anew since has to
    // have the right itself, which is asked for here of every one.
    if let Some(key) = record["KMSKeyArn"].as_str().filter(|key| !key.is_empty()) {
        let need = Need::new("kms:Decrypt", key)
            .with("kms:EncryptionContext:aws:lambda:FunctionArn", function)
            .on_key(world, iam::key_of(world, key));
        if !iam::allowed(world, &iam::role_principal(role), &need) {
            return None;
        }
    }
    // What may not be written is lost, and the run goes on.
    logs::may_write(world, region, &format!("/aws/lambda/{name}"), &iam::role_key(role));
    Some(Invocation {
        region: region.to_owned(),
        function: name.to_owned(),
        environment: record["Environment"]["Variables"].clone(),
        place: Source {
            region: region.to_owned(),
            vpc: record["VpcConfig"]["VpcId"].as_str().unwrap_or_default().to_owned(),
            groups: crate::request::texts(&record["VpcConfig"]["SecurityGroupIds"]),
        },
        access_key: iam::role_key(role),
        payload,
        request: format!("{:016}-{number:08}", world.now.0),
        arn: function.to_owned(),
        archive: archive(world, record),
        timeout: record["Timeout"].as_u64().unwrap_or(3),
        memory: record["MemorySize"].as_u64().unwrap_or(128),
    })
}

/// The function whose own code makes a call: its session's credentials say so, those that Lambda itself acts with do not
/// (Lambda guide, "Using source function ARN to control function access behavior").
pub(crate) fn calling(world: &World, request: &Request) -> Option<String> {
    let who = &request.principal;
    if !iam::is_of_function(who) {
        return None;
    }
    let role = format!(":role/{}", who.name);
    let runs_so = |one: &&Value| one["Role"].as_str().is_some_and(|arn| arn.ends_with(&role));
    let mut all = world.table(&request.region, FUNCTION).values();
    all.find(runs_so)?["FunctionArn"].as_str().map(str::to_owned)
}

fn archive(world: &World, record: &Value) -> (String, Arc<[u8]>) {
    let hash = record["CodeSha256"].as_str().unwrap_or_default().to_owned();
    let bytes = world.archives.get(&hash).cloned().unwrap_or_default();
    (hash, bytes)
}

/// Whether a function still is what was invoked: its program, and what it is told.
pub(crate) fn is_current(world: &World, of: &Invocation) -> bool {
    world.get(&of.region, FUNCTION, &of.function).is_some_and(|record| {
        record["CodeSha256"] == *of.archive.0
            && record["Environment"]["Variables"] == of.environment
            && record["Timeout"].as_u64() == Some(of.timeout)
            && record["MemorySize"].as_u64() == Some(of.memory)
            && record["VpcConfig"]["VpcId"].as_str().unwrap_or_default() == of.place.vpc
    })
}

/// What Lambda measures of a run that nobody waited for.
pub(crate) fn ran(world: &mut World, region: &str, function: &str, failed: bool) {
    let dimensions = json!([{"Name": "FunctionName", "Value": function}]);
    let (at, errors) = (world.now, if failed { 1.0 } else { 0.0 });
    cloudwatch::publish(world, region, "AWS/Lambda", "Errors", &dimensions, at, errors);
}
