//! Functions that the sandbox's program answers for by itself. It runs no code: of the agent's functions, the
//! probe is modelled, on the model database engine, so that an apply can have a role made. Monitors are run by
//! whoever embeds the sandbox.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{Invocation, Sandbox, SessionView, Visitor};

impl Sandbox {
    /// Lets probes answer as the model database engine does; all other functions fail.
    pub fn model_functions(&self) {
        let run = |sandbox: Self, invocation: Invocation| {
            let answer = match invocation.environment["TRADING_DR_FUNCTION"].as_str() {
                Some("probe") => Ok(probe(&sandbox, &invocation)),
                _ => Err("the sandbox does not run this function".to_owned()),
            };
            Box::pin(std::future::ready(answer)) as _
        };
        self.set_runtime(Arc::new(run));
    }
}

fn probe(sandbox: &Sandbox, invocation: &Invocation) -> Value {
    let question = &invocation.payload;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let visitor = |login: &Value| (text(&login["username"]), text(&login["password"]));
    let visit = |place: &Value, login: &Value| {
        let (username, password) = visitor(login);
        let visitor = Visitor {
            region: &invocation.region,
            vpc: &invocation.vpc,
            groups: &invocation.groups,
            username: &username,
            password: &password,
        };
        shown(&sandbox.with(|world| world.visit(&text(&place["host"]), &visitor)))
    };
    match question["action"].as_str() {
        Some("look") => {
            let look = |side: &str| visit(&question[side], &question["login"]);
            json!({"looked": {"here": look("here"), "there": look("there")}})
        }
        Some("prepare") => {
            let (username, password) = visitor(&question["master"]);
            let master = Visitor {
                region: &invocation.region,
                vpc: &invocation.vpc,
                groups: &invocation.groups,
                username: &username,
                password: &password,
            };
            let (role, secret) = visitor(&question["login"]);
            let host = text(&question["here"]["host"]);
            match sandbox.with(|world| world.make_role(&host, &master, &role, &secret)) {
                Ok(()) => json!("done"),
                Err(why) => json!({"failed": why}),
            }
        }
        Some("end_sessions") => json!("done"),
        _ => json!({"failed": "this is nothing that a probe can be asked"}),
    }
}

fn shown(view: &SessionView) -> Value {
    match view {
        SessionView::Closed => json!("closed"),
        SessionView::Denied => json!({"broken": "password authentication failed"}),
        SessionView::Writer(at) => json!({"writer": {"acknowledged": at.0}}),
        SessionView::Standby(at, age) => {
            json!({"standby": {"replayed": at.0, "receiver_age": age}})
        }
    }
}
