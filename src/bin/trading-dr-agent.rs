//! The agent's entry: a function of AWS Lambda on `provided.al2023`, which its environment makes a monitor
//! or one of the others.
//!
//! - `TRADING_DR_FUNCTION`: `monitor`, `probe`, `copier` or `drill`.
//! - `TRADING_DR_ASSIGNMENT`, `TRADING_DR_SETTINGS`: what a monitor, a copier or a drill is told, in JSON.
//! - `TRADING_RDS_CA_BUNDLE`: a file of authorities in PEM that a probe trusts instead of RDS's.
//! - `TRADING_RDS_ADDRESS`: an address on the loopback interface at which a probe finds all databases.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use trading::{
    agent::{
        aws::Assignment,
        copier, drill,
        handler::{self, Settings},
        postgres::Postgres,
        probe,
    },
    aws::{Aws, Connection, Credentials, function_client},
    contract::{ASSIGNMENT, Copying, FUNCTION, SETTINGS, drill::Drilling},
};

fn variable(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| format!("the variable {name} is not set").into())
}

fn parsed<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, Error> {
    serde_json::from_str(&variable(name)?).map_err(|error| format!("{name}: {error}").into())
}

/// AWS, as the function's role.
async fn aws() -> Result<Arc<Aws>, Error> {
    let connection = Connection::from_environment(BTreeMap::new())?;
    let connection = Connection { http: Some(function_client()), ..connection };
    Ok(Arc::new(Aws::connect(connection, &Credentials::default()).await?))
}

/// Answers one question after the other, until the sandbox of the function ends.
async fn probe() -> Result<(), Error> {
    let set = |name: &str| std::env::var(name).ok();
    let (bundle, address) = (set("TRADING_RDS_CA_BUNDLE"), set("TRADING_RDS_ADDRESS"));
    let clock = Connection::from_environment(BTreeMap::new())?.clock;
    let databases = Postgres::new(bundle.as_deref(), address.as_deref(), &clock)?;
    let databases = &databases;
    let handle = |event: LambdaEvent<Value>| async move {
        let question = serde_json::from_value(event.payload)
            .map_err(|error| format!("this is nothing that a probe can be asked: {error}"))?;
        let answer = probe::answer(databases, &question).await;
        Ok::<_, Error>(serde_json::to_value(answer)?)
    };
    lambda_runtime::run(service_fn(handle)).await
}

async fn monitor() -> Result<(), Error> {
    let (assignment, settings): (Assignment, Settings) = (parsed(ASSIGNMENT)?, parsed(SETTINGS)?);
    let aws = aws().await?;
    let (aws, assignment, settings) = (&aws, &assignment, &settings);
    let handle = |event: LambdaEvent<Value>| async move {
        // Later runs have greater names: the deadline grows with the moment of the invocation.
        let run = format!("{:020}-{}", event.context.deadline, event.context.request_id);
        let answer =
            handler::monitor(Arc::clone(aws), assignment.clone(), settings, run, event.payload);
        Ok::<_, Error>(answer.await?)
    };
    lambda_runtime::run(service_fn(handle)).await
}

async fn copier() -> Result<(), Error> {
    let copying: Copying = parsed(ASSIGNMENT)?;
    let aws = aws().await?;
    let (aws, copying) = (&aws, &copying);
    let handle = |_: LambdaEvent<Value>| async move {
        Ok::<_, Error>(copier::run(Arc::clone(aws), copying).await?)
    };
    lambda_runtime::run(service_fn(handle)).await
}

async fn drill() -> Result<(), Error> {
    let drilling: Drilling = parsed(ASSIGNMENT)?;
    let aws = aws().await?;
    let (aws, drilling) = (&aws, &drilling);
    let handle = |event: LambdaEvent<Value>| async move {
        Ok::<_, Error>(drill::run(Arc::clone(aws), drilling.clone(), event.payload).await?)
    };
    lambda_runtime::run(service_fn(handle)).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    trading::plugin::init_logging(trading::plugin::level_from_environment(|name| {
        std::env::var(name).ok()
    }));
    let result = match variable(FUNCTION).as_deref() {
        Ok("monitor") => monitor().await,
        Ok("probe") => probe().await,
        Ok("copier") => copier().await,
        Ok("drill") => drill().await,
        Ok(other) => Err(format!("there is no function {other:?}").into()),
        Err(_) => {
            Err("this is a function of AWS Lambda, and TRADING_DR_FUNCTION does not say which"
                .into())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
