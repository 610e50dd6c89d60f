//! Functions that the sandbox answers for by itself, without running any code: of the agent's functions, the
//! probe is modelled, on the model database engine, so that an apply can have a role made.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{Invocation, Sandbox, SessionView, Visitor};

impl Sandbox {
    /// Lets probes answer as the model database engine does; all other functions fail.
    pub fn model_functions(&self) {
        let run = |sandbox: Self, invocation: Invocation| {
            Box::pin(std::future::ready(answer(&sandbox, &invocation))) as _
        };
        self.set_runtime(Arc::new(run));
    }
}

/// What a probe answers.
pub(super) fn answer(sandbox: &Sandbox, invocation: &Invocation) -> Result<Value, String> {
    match invocation.environment["TRADING_DR_FUNCTION"].as_str() {
        Some("probe") => Ok(probe(sandbox, invocation)),
        _ => Err("the sandbox does not run this function".to_owned()),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn probe(sandbox: &Sandbox, invocation: &Invocation) -> Value {
    let question = &invocation.payload;
    let visitor = |login: &'_ str| Visitor {
        from: &invocation.place,
        username: text(&question[login]["username"]),
        password: text(&question[login]["password"]),
    };
    match question["action"].as_str() {
        Some("look") => {
            let look = |side: &str| {
                let host = text(&question[side]["host"]);
                shown(&sandbox.with(|world| world.visit(host, &visitor("login"))))
            };
            json!({"looked": {"here": look("here"), "there": look("there")}})
        }
        Some("prepare") => {
            let (host, login) = (text(&question["here"]["host"]), &question["login"]);
            let (role, password) = (text(&login["username"]), text(&login["password"]));
            let made =
                sandbox.with(|world| world.make_role(host, &visitor("master"), role, password));
            made.map_or_else(|why| json!({"failed": why}), |()| json!("done"))
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
        SessionView::Standby { row, heard, committed } => {
            let (replayed, committed) = (row.0, committed.0);
            json!({"standby": {"replayed": replayed, "receiver_age": heard, "committed": committed}})
        }
    }
}
