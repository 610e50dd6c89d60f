//! Dashboards. They belong to the account, not to a region, whichever region is asked (CloudWatch API reference,
//! PutDashboard).

use serde_json::{Value, json};

use super::invalid;
use crate::{
    ACCOUNT,
    iam::Need,
    request::{Failure, Reply, Request},
    world::{GLOBAL, World},
};

const DASHBOARD: &str = "dashboard";
/// Widgets of one dashboard, metrics of one widget, metrics of one dashboard (CloudWatch quotas).
const MOST_WIDGETS: usize = 500;
const MOST_IN_WIDGET: usize = 500;
const MOST_METRICS: usize = 2500;

fn arn(name: &str) -> String {
    format!("arn:aws:cloudwatch::{ACCOUNT}:dashboard/{name}")
}

pub(super) fn access(_: &World, request: &Request) -> Vec<Need> {
    let mut names = request.texts("DashboardNames");
    names.extend(request.text("DashboardName").map(str::to_owned));
    names.iter().map(|name| Need::new("", arn(name))).collect()
}

fn missing() -> Failure {
    let message = "Dashboard does not exist";
    Failure { status: 404, ..Failure::new("ResourceNotFound", message) }
}

fn unfit(message: &str) -> Failure {
    Failure::new("InvalidParameterInput", message)
}

/// CloudWatch checks a body for being JSON with widgets, each with a place and properties.
pub(super) fn put(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DashboardName")?.to_owned();
    let allowed = |one: char| one.is_ascii_alphanumeric() || one == '-' || one == '_';
    if name.len() > 255 || !name.chars().all(allowed) {
        return Err(invalid("The value of DashboardName is invalid."));
    }
    let text = request.required("DashboardBody")?.to_owned();
    let body: Value = serde_json::from_str(&text).map_err(|_| unfit("The body is no JSON"))?;
    let widgets = body["widgets"].as_array().ok_or_else(|| unfit("Should have 'widgets'"))?;
    if widgets.len() > MOST_WIDGETS {
        return Err(unfit("The dashboard has more than 500 widgets"));
    }
    let metrics = |widget: &Value| widget["properties"]["metrics"].as_array().map_or(0, Vec::len);
    let all: usize = widgets.iter().map(metrics).sum();
    if all > MOST_METRICS || widgets.iter().any(|widget| metrics(widget) > MOST_IN_WIDGET) {
        return Err(unfit("A widget has more than 500 metrics, or the dashboard more than 2500"));
    }
    for widget in widgets {
        let kind = widget["type"].as_str().unwrap_or_default();
        let placed = ["x", "y", "width", "height"].iter().all(|side| widget[*side].is_u64());
        let wide = widget["x"].as_u64().unwrap_or(0) + widget["width"].as_u64().unwrap_or(0);
        if !["metric", "text", "alarm", "log"].contains(&kind) || !placed || wide > 24 {
            return Err(unfit("A widget has no type, no place, or is wider than the dashboard"));
        }
        if kind == "metric" && widget["properties"]["region"].as_str().is_none() {
            return Err(unfit("A widget of metrics has no region"));
        }
    }
    let record = json!({"DashboardName": name, "DashboardBody": text, "DashboardArn": arn(&name)});
    world.put(GLOBAL, DASHBOARD, &name, record);
    Ok(json!({"DashboardValidationMessages": []}))
}

pub(super) fn get(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DashboardName")?;
    world.get(GLOBAL, DASHBOARD, name).cloned().ok_or_else(missing)
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let names = request.texts("DashboardNames");
    let table = world.table_mut(GLOBAL, DASHBOARD);
    if names.iter().any(|name| !table.contains_key(name)) {
        return Err(missing());
    }
    table.retain(|name, _| !names.contains(name));
    Ok(Value::Null)
}
