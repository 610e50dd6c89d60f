//! The sandbox's own endpoints, under `/_sandbox/`; the crate's documentation describes them.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Source, faults::Fault, server::Sandbox, services, world::World};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    scale: Option<f64>,
    advance_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultChange {
    #[serde(default)]
    faults: Vec<Fault>,
    #[serde(default)]
    down: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drift {
    region: String,
    kind: String,
    id: String,
    /// A merge patch; without one the record is removed.
    set: Option<Value>,
}

fn parsed<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    region: String,
    vpc: Option<String>,
    groups: Option<Vec<String>>,
}

/// Where a client at a place finds the databases: the seeded network's application, where no other is named.
async fn place(sandbox: &Sandbox, body: &Bytes) -> Result<Option<Value>, String> {
    let asked: Place = parsed(body)?;
    let laboratory = sandbox.laboratory().ok_or("no databases are run: POST databases first")?;
    let network = sandbox.with(|world| world.network())[&asked.region].clone();
    let usual = |name: &str| network[name].as_str().unwrap_or_default().to_owned();
    let from = Source {
        vpc: asked.vpc.unwrap_or_else(|| usual("vpc_id")),
        groups: asked.groups.unwrap_or_else(|| vec![usual("application_security_group_id")]),
        region: asked.region,
    };
    let address = laboratory.place(&from).await.map_err(|error| error.to_string())?;
    let conninfo = format!(
        "hostaddr={} port={} sslmode=verify-ca sslrootcert={}",
        address.ip(),
        address.port(),
        laboratory.bundle().display()
    );
    Ok(Some(json!({"conninfo": conninfo})))
}

pub(crate) async fn handle(sandbox: &Sandbox, request: &Request<Bytes>) -> Response<Bytes> {
    let path = request.uri().path().trim_start_matches("/_sandbox/");
    let answered = match (request.method(), path) {
        (&Method::POST, "places") => place(sandbox, request.body()).await,
        (method, path) => answer(sandbox, method, path, request.body()),
    };
    let (status, body) = match answered {
        Ok(Some(body)) => (200, body),
        Ok(None) => (404, json!({"error": format!("there is no {} {path}", request.method())})),
        Err(error) => (400, json!({"error": error})),
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Bytes::from(format!("{body:#}\n"))).unwrap_or_default()
}

fn answer(
    sandbox: &Sandbox,
    method: &Method,
    path: &str,
    body: &Bytes,
) -> Result<Option<Value>, String> {
    let mut inner = sandbox.lock();
    Ok(Some(match (method, path) {
        (&Method::GET, "network") => inner.world.network(),
        (&Method::GET, "operations") => services::operations(),
        (&Method::GET, "inventory") => inner.present().inventory(),
        (&Method::GET, "leftovers") => json!(inner.present().leftovers()),
        (&Method::GET, "calls") => json!(inner.world.calls),
        (&Method::DELETE, "calls") => {
            inner.world.calls.clear();
            json!([])
        }
        (&Method::GET, "clock") => clock(sandbox_clock(&mut inner)),
        (&Method::POST, "clock") => {
            let change: ClockChange = parsed(body)?;
            if let Some(scale) = change.scale {
                if !(scale > 0.0 && scale <= 100_000.0) {
                    return Err("scale must be above 0 and at most 100000".into());
                }
                inner.clock.rescale(scale);
            }
            if let Some(seconds) = change.advance_seconds {
                inner.clock.advance(seconds);
            }
            sandbox.clock_is_set();
            clock(sandbox_clock(&mut inner))
        }
        (&Method::GET, "faults") => json!({"faults": inner.world.faults, "down": inner.world.down}),
        (&Method::POST, "faults") => {
            let change: FaultChange = parsed(body)?;
            inner.world.faults.extend(change.faults);
            inner.world.down.extend(change.down);
            json!({"faults": inner.world.faults, "down": inner.world.down})
        }
        (&Method::DELETE, "faults") => {
            inner.world.faults.clear();
            inner.world.down.clear();
            json!({"faults": [], "down": []})
        }
        (&Method::POST, "functions") => {
            let variables: BTreeMap<String, String> =
                if body.is_empty() { BTreeMap::new() } else { parsed(body)? };
            drop(inner);
            sandbox.keep_running(variables.into_iter().collect())?;
            json!({})
        }
        (&Method::POST, "databases") => {
            drop(inner);
            sandbox.keep_databases()?;
            json!({})
        }
        (&Method::GET, "logs") => inner.present().logs(),
        (&Method::GET, "names") => inner.present().names(),
        (&Method::POST, "regions") => {
            for (region, lost) in parsed::<BTreeMap<String, bool>>(body)? {
                inner.present().set_lost(&region, lost);
            }
            json!({"down": inner.world.down, "dark": inner.world.dark})
        }
        (&Method::POST, "drift") => {
            let drift: Drift = parsed(body)?;
            let world = inner.present();
            world.drift(&drift.region, &drift.kind, &drift.id, drift.set.as_ref())?;
            json!({})
        }
        (&Method::POST, "reset") => {
            let now = inner.clock.now();
            inner.world = World::seeded(now);
            json!({})
        }
        _ => return Ok(None),
    }))
}

type ClockView = (String, f64, Option<String>);

fn sandbox_clock(inner: &mut crate::server::Inner) -> ClockView {
    let next = inner.present().next_event().map(|at| at.to_string());
    (inner.clock.now().to_string(), inner.clock.scale(), next)
}

fn clock((now, scale, next): ClockView) -> Value {
    json!({"now": now, "scale": scale, "next_event": next})
}
