//! Functions of AWS Lambda that run the agent.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_lambda::{
    config::timeout::TimeoutConfig,
    operation::get_function::GetFunctionOutput,
    primitives::Blob,
    types::{Architecture, Environment, FunctionCode, LastUpdateStatus, Runtime, State, VpcConfig},
};

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Readiness, Tags,
    Text, Wanted, each, retag,
};
use crate::aws::{ApiError, ErrorClass, Progress};

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// What plans call it.
    pub field: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Text,
    /// The argument that it comes from.
    pub argument: &'static str,
}

/// Where a function is that reaches into a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Ids of subnets.
    pub subnets: Vec<String>,
    /// The argument that they come from.
    pub argument: &'static str,
    /// The id of its security group.
    pub group: Text,
}

/// A function that runs the agent's archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LambdaFunction {
    /// What it is for.
    pub description: String,
    /// The hash of the archive, as Lambda tells it; empty where no archive is at hand.
    pub code: String,
    /// The ARN of the role that it runs as.
    pub role: Text,
    /// The ARN of the key of its variables.
    pub key: Text,
    /// MiB; processors come with them.
    pub memory: i32,
    /// Seconds that a run may take.
    pub timeout: i32,
    /// Its variables.
    pub variables: Vec<Variable>,
    /// Where it is in a VPC, if it is in one.
    pub place: Option<Place>,
    /// Whether it runs on a schedule, so that nobody waits for what it answers.
    pub is_scheduled: bool,
    /// What is reserved for it.
    pub reserved: Reservation,
}

/// What is reserved for a function of the runs that the account may have at once in its region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// How many, if any.
    pub runs: Option<i32>,
    /// The argument that says so.
    pub argument: &'static str,
}

/// What it runs on: the archive holds a program of this name for this processor.
const RUNTIME: Runtime = Runtime::Providedal2023;
const HANDLER: &str = "bootstrap";
/// Runs that nobody waits for are not repeated, and not begun late: the next one is a minute away.
const RETRIES: i32 = 0;
const OLDEST: i32 = 60;
/// How long an answer to leaving the VPC is waited for.
const OUT_OF_VPC: Duration = Duration::from_secs(30);
/// How long an archive may take to be sent: tens of megabytes over a slow line.
const UPLOAD: Duration = Duration::from_secs(600);

impl LambdaFunction {
    /// The kind's name.
    pub const KIND: &str = "lambda-function";

    /// The address of a region's function.
    pub fn address(region: &str, function: &str) -> Address {
        Address::with(region, Self::KIND, function)
    }

    fn network(&self) -> String {
        self.place.as_ref().map_or_else(|| "none".into(), |place| place.subnets.join(","))
    }

    fn variables(&self, env: &Env) -> Result<Environment, Failure> {
        let mut all = Environment::builder();
        for one in &self.variables {
            all = all.variables(one.name, env.resolve(&one.value)?);
        }
        Ok(all.build())
    }

    /// An empty one takes a function out of its VPC.
    fn vpc(&self, env: &Env) -> Result<VpcConfig, Failure> {
        let config = VpcConfig::builder();
        let Some(place) = &self.place else {
            let none = || Some(Vec::new());
            return Ok(config.set_subnet_ids(none()).set_security_group_ids(none()).build());
        };
        let group = env.resolve(&place.group)?;
        Ok(config.set_subnet_ids(Some(place.subnets.clone())).security_group_ids(group).build())
    }
}

/// A function as Lambda tells of it, in one call that several kinds share.
async fn get(env: &Env, region: &str, name: &str) -> Result<Option<GetFunctionOutput>, ApiError> {
    env.shared(format!("function {region} {name}"), || look(env, region, name)).await
}

async fn look(env: &Env, region: &str, name: &str) -> Result<Option<GetFunctionOutput>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("lambda", "GetFunction");
    let call = || regional.lambda.get_function().function_name(name).send();
    let found = env.session.find(api.clone(), call).await?;
    // Without its tags, a function of ours would look like somebody else's.
    if let Some(error) = found.as_ref().and_then(GetFunctionOutput::tags_error) {
        let message = format!("its tags are withheld: {}", error.message());
        return Err(ApiError {
            class: ErrorClass::Denied,
            code: Some(error.error_code().into()),
            ..ApiError::unusable(api, message)
        });
    }
    Ok(found)
}

fn tags_of(function: &GetFunctionOutput) -> Tags {
    function.tags().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// How many runs at once are reserved for a function; none for one that is not there.
///
/// # Errors
/// The call failed.
pub(crate) async fn reserved_concurrency(
    env: &Env,
    region: &str,
    name: &str,
) -> Result<i32, ApiError> {
    let found = get(env, region, name).await?;
    Ok(found.as_ref().and_then(reserved).unwrap_or(0))
}

fn reserved(function: &GetFunctionOutput) -> Option<i32> {
    function.concurrency()?.reserved_concurrent_executions()
}

fn told(reserved: Option<i32>) -> String {
    reserved.map_or_else(|| "none".into(), |runs| runs.to_string())
}

/// Whom a function belongs to; `None` if there is none.
pub(super) async fn owner(env: &Env, region: &str, name: &str) -> Result<Option<Owner>, ApiError> {
    let found = get(env, region, name).await?;
    Ok(found.map(|function| env.scope.owner(&tags_of(&function))))
}

/// What becomes of runs that nobody waits for: retries, and seconds.
async fn events(env: &Env, region: &str, name: &str) -> Result<String, ApiError> {
    let regional = env.region(region);
    let api = regional.api("lambda", "GetFunctionEventInvokeConfig");
    let call = || regional.lambda.get_function_event_invoke_config().function_name(name).send();
    let answer = env.session.find(api, call).await?;
    let told = answer.map(|one| {
        let (retries, age) = (one.maximum_retry_attempts(), one.maximum_event_age_in_seconds());
        unattended(retries.unwrap_or(2), age.unwrap_or(21_600))
    });
    Ok(told.unwrap_or_else(|| unattended(2, 21_600)))
}

fn unattended(retries: i32, seconds: i32) -> String {
    format!("{retries} retries within {seconds} s")
}

/// Waits until a function can be changed, whatever became of the last change.
async fn idle(env: &Env, region: &str, name: &str) -> Result<(), Failure> {
    let wait = env.session.wait(|| async {
        let found = look(env, region, name).await?.and_then(|one| one.configuration);
        let is_busy = found.is_some_and(|one| {
            one.state() == Some(&State::Pending)
                || one.last_update_status() == Some(&LastUpdateStatus::InProgress)
        });
        let busy = || Progress::Pending("being made or updated".into());
        Ok(if is_busy { busy() } else { Progress::Done(()) })
    });
    Ok(wait.await?)
}

/// Waits until a function can run.
async fn settled(env: &Env, region: &str, name: &str) -> Result<(), Failure> {
    let wait = env.session.wait(|| async {
        let found = look(env, region, name).await?;
        let Some(one) = found.and_then(|one| one.configuration) else {
            return Ok(Progress::Pending("not visible yet".into()));
        };
        let why = |text: Option<&str>| text.unwrap_or("Lambda does not say why").to_owned();
        Ok(match (one.state(), one.last_update_status()) {
            (Some(State::Failed), _) => Progress::Failed(why(one.state_reason())),
            (_, Some(LastUpdateStatus::Failed)) => {
                Progress::Failed(why(one.last_update_status_reason()))
            }
            (Some(State::Pending), _) => Progress::Pending("pending".into()),
            (_, Some(LastUpdateStatus::InProgress)) => Progress::Pending("being updated".into()),
            _ => Progress::Done(()),
        })
    });
    Ok(wait.await?)
}

/// An archive takes longer than other calls may.
fn upload() -> aws_sdk_lambda::config::Builder {
    let limit = TimeoutConfig::builder().operation_attempt_timeout(UPLOAD).build();
    aws_sdk_lambda::config::Builder::new().timeout_config(limit)
}

fn archive(env: &Env) -> Result<Blob, Failure> {
    let missing = || Failure::Obstacle("there is no archive of the agent to run".into());
    let archive = env.archive.as_ref().ok_or_else(missing)?;
    Ok(Blob::new(archive.bytes.to_vec()))
}

impl Primitive for LambdaFunction {
    const KIND: &'static str = LambdaFunction::KIND;

    fn fields(&self) -> Vec<Field> {
        let mut all = vec![
            Field::new("code", &*self.code).digest(),
            Field::new("runtime", format!("{} {HANDLER} x86_64", RUNTIME.as_str())),
            Field::new("role", self.role.clone()),
            Field::new("key", self.key.clone()),
            Field::new("memory_mib", self.memory.to_string()),
            Field::new("timeout_seconds", self.timeout.to_string()),
            Field::new("description", &*self.description).digest(),
            Field::new("last_update", "done"),
        ];
        if self.is_scheduled {
            all.push(Field::new("unattended", unattended(RETRIES, OLDEST)));
        }
        let reserved = Field::new("reserved_concurrency", told(self.reserved.runs));
        all.push(reserved.from(self.reserved.argument));
        let argument = self.place.as_ref().map_or("", |place| place.argument);
        all.push(Field::new("subnets", self.network()).from(argument));
        if let Some(place) = &self.place {
            all.push(Field::new("security_group", place.group.clone()));
        }
        for one in &self.variables {
            let field = Field::new(one.field, one.value.clone()).from(one.argument);
            let is_plain = matches!(&one.value, Text::Known(text) if !text.starts_with('{'));
            all.push(if is_plain { field } else { field.json() });
        }
        all.push(Field::new("other_variables", ""));
        all
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        each(wanted, |wanted| async move {
            let name = &wanted.name;
            let events = async {
                let asks = wanted.settings.is_scheduled;
                if asks { events(env, region, name).await } else { Ok(String::new()) }
            };
            let (function, unattended) = futures::join!(get(env, region, name), events);
            let Some(function) = function? else { return Ok(None) };
            Ok(Some(observed(env, wanted, &function, unattended?)))
        })
        .await
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let (role, key) = (env.resolve(&settings.role)?, env.resolve(&settings.key)?);
        let (variables, vpc) = (settings.variables(env)?, settings.vpc(env)?);
        let code = FunctionCode::builder().zip_file(archive(env)?).build();
        let regional = env.region(&wanted.region);
        let api = regional.api("lambda", "CreateFunction");
        let call = || {
            let call = regional.lambda.create_function().function_name(&wanted.name);
            let call = call.runtime(RUNTIME).handler(HANDLER).code(code.clone());
            let call = call.architectures(Architecture::X8664).description(&settings.description);
            let call = call.role(&role).kms_key_arn(&key).memory_size(settings.memory);
            let call = call.timeout(settings.timeout).environment(variables.clone());
            let tags = Some(wanted.tags.clone().into_iter().collect());
            let call = call.set_vpc_config(settings.place.is_some().then(|| vpc.clone()));
            call.set_tags(tags).customize().config_override(upload()).send()
        };
        let answer = env.session.call_once(api, call).await?;
        settled(env, &wanted.region, &wanted.name).await?;
        attend(env, wanted).await?;
        if settings.reserved.runs.is_some() {
            reserve(env, wanted).await?;
        }
        Ok(Outputs::from([(ARN, answer.function_arn().unwrap_or_default().to_owned())]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let (region, name, settings) = (&wanted.region, &wanted.name, &wanted.settings);
        let regional = env.region(region);
        if differing.is_empty() {
            settled(env, region, name).await?;
        }
        idle(env, region, name).await?;
        let apart = ["code", "unattended", "reserved_concurrency", "tags"];
        if differing.iter().any(|one| !apart.contains(one)) {
            let (role, key) = (env.resolve(&settings.role)?, env.resolve(&settings.key)?);
            let (variables, vpc) = (settings.variables(env)?, settings.vpc(env)?);
            let api = regional.api("lambda", "UpdateFunctionConfiguration");
            let call = || {
                let call = regional.lambda.update_function_configuration().function_name(name);
                let call = call.runtime(RUNTIME).handler(HANDLER).role(&role).kms_key_arn(&key);
                let call = call.description(&settings.description).memory_size(settings.memory);
                let call = call.timeout(settings.timeout).environment(variables.clone());
                call.vpc_config(vpc.clone()).send()
            };
            env.session.call(api, call).await?;
            settled(env, region, name).await?;
        }
        if differing.contains(&"code") || differing.contains(&"runtime") {
            let code = archive(env)?;
            let api = regional.api("lambda", "UpdateFunctionCode");
            let call = || {
                let call = regional.lambda.update_function_code().function_name(name);
                let call = call.zip_file(code.clone()).architectures(Architecture::X8664);
                call.customize().config_override(upload()).send()
            };
            env.session.call(api, call).await?;
            settled(env, region, name).await?;
        }
        if differing.contains(&"unattended") {
            attend(env, wanted).await?;
        }
        if differing.contains(&"reserved_concurrency") {
            reserve(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            let (set, gone) = retag(&found.tags, &wanted.tags);
            if !set.is_empty() {
                let api = regional.api("lambda", "TagResource");
                let call = || {
                    let call = regional.lambda.tag_resource().resource(&arn);
                    call.set_tags(Some(set.clone().into_iter().collect())).send()
                };
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("lambda", "UntagResource");
                let call = || {
                    let call = regional.lambda.untag_resource().resource(&arn);
                    call.set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    /// Its network interfaces outlive it for up to an hour, and hold its security group (aws-facts 8). Out of
    /// the VPC before it goes, it lets Lambda begin to remove them; should that fail, they go later, unless it is
    /// a right that is missing: who is told so need not wait for an hour.
    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (region, name) = (&found.region, &found.id);
        let regional = env.region(region);
        let function = look(env, region, name).await?.and_then(|one| one.configuration);
        let vpc = function.and_then(|one| one.vpc_config);
        if vpc.is_some_and(|one| one.vpc_id().is_some_and(|id| !id.is_empty())) {
            idle(env, region, name).await?;
            let none = || Some(Vec::new());
            let nowhere = VpcConfig::builder().set_subnet_ids(none());
            let nowhere = nowhere.set_security_group_ids(none()).build();
            let api = regional.api("lambda", "UpdateFunctionConfiguration");
            let call = regional.lambda.update_function_configuration().function_name(name);
            let call = call.vpc_config(nowhere).send();
            match env.session.attempt(api, OUT_OF_VPC, call).await {
                Ok(_) => idle(env, region, name).await?,
                Err(error) if error.class == ErrorClass::Denied => return Err(error.into()),
                Err(error) => tracing::info!("{name} goes as it is: {error}"),
            }
        }
        let api = regional.api("lambda", "DeleteFunction");
        let call = || regional.lambda.delete_function().function_name(name).send();
        Ok(env.session.remove(api, call).await?)
    }
}

fn observed(
    env: &Env,
    wanted: &Wanted<LambdaFunction>,
    function: &GetFunctionOutput,
    unattended: String,
) -> Observation {
    let settings = &wanted.settings;
    let tags = tags_of(function);
    let Some(one) = function.configuration() else {
        return Observation::new(wanted.address.clone(), &wanted.region, &wanted.name);
    };
    let processor: Vec<_> = one.architectures().iter().map(Architecture::as_str).collect();
    let runtime = format!(
        "{} {} {}",
        one.runtime().map_or("", Runtime::as_str),
        one.handler().unwrap_or_default(),
        processor.join(",")
    );
    let mut variables: BTreeMap<String, String> = one
        .environment()
        .and_then(|one| one.variables())
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let (mut subnets, groups) = one.vpc_config().map_or_else(Default::default, |vpc| {
        (vpc.subnet_ids().to_vec(), vpc.security_group_ids().join(","))
    });
    subnets.sort();
    let subnets = if subnets.is_empty() { "none".into() } else { subnets.join(",") };
    let has_failed = one.last_update_status() == Some(&LastUpdateStatus::Failed)
        || one.state() == Some(&State::Failed);
    let readiness = match (one.state(), one.last_update_status()) {
        (Some(State::Pending), _) => Readiness::Busy("pending".into()),
        (_, Some(LastUpdateStatus::InProgress)) => Readiness::Busy("being updated".into()),
        (Some(State::Inactive), _) => Readiness::Broken("inactive".into()),
        _ => Readiness::Ready,
    };
    let mut seen = Observation::new(wanted.address.clone(), &wanted.region, &wanted.name)
        .with("code", one.code_sha256().unwrap_or_default())
        .with("runtime", runtime)
        .with("role", one.role().unwrap_or_default())
        .with("key", one.kms_key_arn().unwrap_or_default())
        .with("memory_mib", one.memory_size().unwrap_or_default().to_string())
        .with("timeout_seconds", one.timeout().unwrap_or_default().to_string())
        .with("unattended", unattended)
        .with("reserved_concurrency", told(reserved(function)))
        .with("description", one.description().unwrap_or_default())
        .with("last_update", if has_failed { "failed" } else { "done" })
        .with("subnets", subnets)
        .with("security_group", groups)
        .output(ARN, one.function_arn().unwrap_or_default())
        .readiness(readiness);
    for variable in &settings.variables {
        seen = seen.with(variable.field, variables.remove(variable.name).unwrap_or_default());
    }
    let others: Vec<_> = variables.into_keys().collect();
    seen.with("other_variables", others.join(",")).tagged(tags, env)
}

async fn attend(env: &Env, wanted: &Wanted<LambdaFunction>) -> Result<(), ApiError> {
    if !wanted.settings.is_scheduled {
        return Ok(());
    }
    let regional = env.region(&wanted.region);
    let api = regional.api("lambda", "PutFunctionEventInvokeConfig");
    let call = || {
        let call = regional.lambda.put_function_event_invoke_config().function_name(&wanted.name);
        call.maximum_retry_attempts(RETRIES).maximum_event_age_in_seconds(OLDEST).send()
    };
    env.session.call(api, call).await.map(|_| ())
}

/// Reserves runs for it, or gives them back.
async fn reserve(env: &Env, wanted: &Wanted<LambdaFunction>) -> Result<(), Failure> {
    let (regional, name) = (env.region(&wanted.region), &wanted.name);
    let Some(runs) = wanted.settings.reserved.runs else {
        let api = regional.api("lambda", "DeleteFunctionConcurrency");
        let call = || regional.lambda.delete_function_concurrency().function_name(name).send();
        return Ok(env.session.remove(api, call).await?);
    };
    let api = regional.api("lambda", "PutFunctionConcurrency");
    let call = || {
        let call = regional.lambda.put_function_concurrency().function_name(name);
        call.reserved_concurrent_executions(runs).send()
    };
    match env.session.call(api, call).await {
        Ok(_) => Ok(()),
        // Somebody else has reserved it since the plan.
        Err(error) if error.class == ErrorClass::Refused => Err(Failure::Obstacle(format!(
            "{runs} runs cannot be reserved for it: {error}. {} = false goes on without",
            wanted.settings.reserved.argument
        ))),
        Err(error) => Err(error.into()),
    }
}
