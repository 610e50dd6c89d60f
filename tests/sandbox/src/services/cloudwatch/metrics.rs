//! Metrics: what was published, minute by minute.

use serde_json::{Value, json};

use super::{decimal, invalid};
use crate::{
    clock::Time,
    request::{Failure, Reply, Request},
    world::World,
};

/// Metrics are nobody's to delete: they are not part of an inventory.
const METRIC: &str = "metric";
/// How many values of a metric are kept; AWS keeps them for 15 months.
const KEPT: usize = 200;

/// A metric in one text.
pub(super) fn key(namespace: &str, name: &str, dimensions: &Value) -> String {
    let all = dimensions.as_array().into_iter().flatten();
    let mut all: Vec<_> = all
        .map(|one| {
            let text = |member: &str| one[member].as_str().unwrap_or_default().to_owned();
            format!("{}={}", text("Name"), text("Value"))
        })
        .collect();
    all.sort();
    format!("{namespace}|{name}|{}", all.join(","))
}

/// Adds a value of a metric, as a service or a call does.
pub(crate) fn publish(
    world: &mut World,
    region: &str,
    namespace: &str,
    name: &str,
    dimensions: &Value,
    at: Time,
    value: f64,
) {
    let key = key(namespace, name, dimensions);
    let table = world.table_mut(region, METRIC);
    let record = table.entry(key).or_insert_with(|| json!({"_account": true, "values": []}));
    if let Some(all) = record["values"].as_array_mut() {
        let place = all.partition_point(|one| moment_of(one) <= at.0);
        all.insert(place, json!([at.0, value]));
        if all.len() > KEPT {
            all.remove(0);
        }
    }
}

/// When a value was measured.
fn moment_of(value: &Value) -> u64 {
    value[0].as_u64().unwrap_or(0)
}

/// The values of a metric in a span of time.
pub(crate) fn values(world: &World, region: &str, key: &str, from: Time, to: Time) -> Vec<f64> {
    let Some(record) = world.get(region, METRIC, key) else { return Vec::new() };
    let all = record["values"].as_array().map_or(&[][..], Vec::as_slice);
    // Kept in order of time, and looked for by every alarm in every minute.
    let place = |moment: Time| all.partition_point(|one| moment_of(one) < moment.0);
    all[place(from)..place(to)].iter().filter_map(|one| one[1].as_f64()).collect()
}

/// A statistic of values; nothing of none.
#[allow(clippy::cast_precision_loss)]
pub(super) fn statistic(name: &str, values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    if values.is_empty() {
        return None;
    }
    Some(match name {
        "Minimum" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "Maximum" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "Sum" => sum,
        "SampleCount" => values.len() as f64,
        _ => sum / values.len() as f64,
    })
}

pub(super) fn put(world: &mut World, request: &Request) -> Reply {
    let namespace = request.required("Namespace")?.to_owned();
    if namespace.starts_with("AWS/") {
        return Err(invalid("The value AWS/ for parameter Namespace is invalid."));
    }
    for one in request.items("MetricData") {
        let name = one["MetricName"].as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::new("MissingParameter", "The parameter MetricName is required."));
        }
        let odd = one.as_object().into_iter().flatten().find(|(name, _)| {
            !["MetricName", "Dimensions", "Timestamp", "Value", "Unit", "StorageResolution"]
                .contains(&name.as_str())
        });
        if let Some((member, _)) = odd {
            let message = format!("the sandbox does not implement {member} of PutMetricData");
            return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
        }
        let value = decimal(&one["Value"]).filter(|value| value.is_finite());
        let value = value
            .ok_or_else(|| invalid("The parameter MetricData.member.1.Value must be a number."))?;
        let at = moment(&one["Timestamp"]).unwrap_or(request.now);
        publish(world, &request.region, &namespace, name, &one["Dimensions"], at, value);
    }
    Ok(Value::Null)
}

/// A moment, as seconds or in ISO 8601.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn moment(value: &Value) -> Option<Time> {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    if let Some(seconds) = value.as_f64() {
        return Some(Time((seconds * 1000.0) as u64));
    }
    let parsed = OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()?;
    u64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok().map(Time)
}

fn span(request: &Request) -> Result<(Time, Time), Failure> {
    let both = moment(request.get("StartTime")).zip(moment(request.get("EndTime")));
    both.filter(|(from, to)| from < to)
        .ok_or_else(|| invalid("The parameter StartTime must be less than the parameter EndTime."))
}

/// The whole periods of a span.
fn periods((from, to): (Time, Time), period: i64) -> Result<Vec<Time>, Failure> {
    let period = u64::try_from(period).ok().filter(|one| *one > 0 && one % 60 == 0);
    let period = period.ok_or_else(|| invalid("The parameter Period must be a multiple of 60."))?;
    let step = period * 1000;
    let first = from.0 / step * step;
    Ok((first..to.0).step_by(usize::try_from(step).unwrap_or(60_000)).map(Time).collect())
}

pub(super) fn statistics(world: &mut World, request: &Request) -> Reply {
    let key = key(
        request.required("Namespace")?,
        request.required("MetricName")?,
        request.get("Dimensions"),
    );
    let period = request.number("Period").unwrap_or(0);
    let mut points = Vec::new();
    for start in periods(span(request)?, period)? {
        let end = start.plus_seconds(u64::try_from(period).unwrap_or(60));
        let values = values(world, &request.region, &key, start, end);
        if values.is_empty() {
            continue;
        }
        let mut point = json!({"Timestamp": start.as_seconds(), "Unit": "None"});
        for name in request.texts("Statistics") {
            point[&name] = json!(statistic(&name, &values));
        }
        points.push(point);
    }
    Ok(json!({"Label": request.get("MetricName"), "Datapoints": points}))
}

pub(super) fn data(world: &mut World, request: &Request) -> Reply {
    let span = span(request)?;
    let mut results = Vec::new();
    for query in request.items("MetricDataQueries") {
        let stat = &query["MetricStat"];
        if stat.is_null() {
            let message = "the sandbox implements no expressions over metrics";
            return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
        }
        let metric = &stat["Metric"];
        let text = |member: &str| metric[member].as_str().unwrap_or_default();
        let key = key(text("Namespace"), text("MetricName"), &metric["Dimensions"]);
        let period = crate::request::integer(&stat["Period"]).unwrap_or(0);
        let name = stat["Stat"].as_str().unwrap_or("Average");
        let mut points = Vec::new();
        for start in periods(span, period)? {
            let end = start.plus_seconds(u64::try_from(period).unwrap_or(60));
            let found = values(world, &request.region, &key, start, end);
            points.extend(statistic(name, &found).map(|value| (start.as_seconds(), value)));
        }
        if request.text("ScanBy") != Some("TimestampAscending") {
            points.reverse();
        }
        let (times, numbers): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        results.push(json!({
            "Id": query["Id"], "Label": metric["MetricName"], "StatusCode": "Complete",
            "Timestamps": times, "Values": numbers,
        }));
    }
    Ok(json!({"MetricDataResults": results}))
}
