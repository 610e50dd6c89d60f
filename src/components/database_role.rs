//! The role that probes log in with, in the database itself: made through the probe, as nothing else of ours
//! reaches into the VPC.
//!
//! Databases carry no tags, so that the secret with the role's login says in which instance it was made.

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_secretsmanager::types::Tag;

use super::{
    Address, Env, Failure, Field, Observation, Outputs, PREPARED_TAG, Primitive, Text, Wanted,
    secret::{described, value_of},
};
use crate::{
    aws::{ApiError, WaitError},
    contract::{Answer, Login, Place, Question},
};

/// A role in a database, and how it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRole {
    /// The role's name.
    pub role: &'static str,
    /// The name of the secret with its login.
    pub secret: String,
    /// The ARN of the secret with the master user's login.
    pub master: Text,
    /// The probe's name.
    pub probe: String,
    /// The instance's DNS name.
    pub host: Text,
    /// What no other instance has.
    pub instance: Text,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
}

/// How often the probe is asked: its interfaces and the database's network may need a moment.
const ATTEMPTS: u32 = 8;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(15);

impl DatabaseRole {
    /// The kind's name.
    pub const KIND: &str = "database-role";

    /// The address of a role in a region's instance.
    pub fn address(region: &str, role: &str) -> Address {
        Address::with(region, Self::KIND, role)
    }
}

async fn login(env: &Env, region: &str, secret: &str) -> Result<Login, Failure> {
    let (api, value) = value_of(env, region, secret).await?;
    serde_json::from_str(&value)
        .map_err(|_| ApiError::unusable(api, "the secret holds no login").into())
}

/// Asks the probe once; what it could not do comes back as text.
async fn ask(
    env: &Env,
    region: &str,
    probe: &str,
    question: &Question,
) -> Result<Result<(), String>, Failure> {
    let regional = env.region(region);
    let api = regional.api("lambda", "Invoke");
    let payload =
        serde_json::to_vec(question).map_err(|error| Failure::Obstacle(error.to_string()))?;
    let call = || {
        let call = regional.lambda.invoke().function_name(probe);
        call.payload(Blob::new(payload.clone())).send()
    };
    let answer = env.session.call_on_new(api, call).await?;
    let body = answer.payload().map(|blob| blob.as_ref()).unwrap_or_default();
    if answer.function_error().is_some() {
        return Ok(Err(String::from_utf8_lossy(body).into_owned()));
    }
    Ok(match serde_json::from_slice(body) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Failed(why)) => Err(why),
        Ok(Answer::Looked(_)) | Err(_) => Err("its answer cannot be read".into()),
    })
}

async fn make(env: &Env, wanted: &Wanted<DatabaseRole>) -> Result<(), Failure> {
    let (region, settings) = (&wanted.region, &wanted.settings);
    let instance = env.resolve(&settings.instance)?;
    let master = env.resolve(&settings.master)?;
    let question = Question::Prepare {
        here: Place { host: env.resolve(&settings.host)?, port: settings.port },
        database: settings.database.clone(),
        master: login(env, region, &master).await?,
        login: login(env, region, &settings.secret).await?,
    };
    let mut attempt = 1;
    while let Err(why) = ask(env, region, &settings.probe, &question).await? {
        if attempt == ATTEMPTS {
            return Err(Failure::Obstacle(format!(
                "{} could not be made by the probe {}, asked {ATTEMPTS} times: {why}",
                wanted.name, settings.probe
            )));
        }
        attempt += 1;
        let state = format!("not there: {why}");
        let paused = env.session.pause(PAUSE).await;
        paused.map_err(|reason| WaitError::Stopped { reason, state })?;
    }
    let regional = env.region(region);
    let api = regional.api("secretsmanager", "TagResource");
    let tag = Tag::builder().key(PREPARED_TAG).value(instance).build();
    let call = || {
        let call = regional.secrets.tag_resource().secret_id(&settings.secret);
        call.tags(tag.clone()).send()
    };
    env.session.call(api, call).await?;
    Ok(())
}

impl Primitive for DatabaseRole {
    const KIND: &'static str = DatabaseRole::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("instance", self.instance.clone())]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let secret = described(env, region, &wanted.settings.secret).await?;
            let Some(secret) = secret.filter(|one| !one.is_deleted) else { continue };
            let Some(instance) = secret.tags.get(PREPARED_TAG) else { continue };
            let mut seen = Observation::new(wanted.address.clone(), region, &wanted.name)
                .with("instance", instance);
            seen.owner = env.scope.owner(&secret.tags);
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        make(env, wanted).await.map(|()| Outputs::new())
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.is_empty() { Ok(Outputs::new()) } else { Self::create(env, wanted).await }
    }

    /// It goes with its database.
    async fn delete(_: &Env, _: &Observation) -> Result<(), Failure> {
        Ok(())
    }
}
