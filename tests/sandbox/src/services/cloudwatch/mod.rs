//! CloudWatch: metrics, alarms that are evaluated, dashboards.

mod alarms;
mod dashboards;
mod metrics;

pub(crate) use alarms::{ALARM, breaches, copied, recent};
pub(crate) use metrics::publish;

use serde_json::{Value, json};

use super::{Operation, Service, any, op};
use crate::{
    iam::Need,
    request::{Failure, Request, arn},
    wire::Protocol,
    world::{World, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "cloudwatch",
    protocol: Protocol::Three,
    namespace: "http://monitoring.amazonaws.com/doc/2010-08-01/",
    global: false,
    operations: OPERATIONS,
};

const OPERATIONS: &[Operation] = &[
    op(
        "PutMetricAlarm",
        "AlarmName AlarmDescription ActionsEnabled OKActions AlarmActions InsufficientDataActions MetricName Namespace Statistic Dimensions Period EvaluationPeriods DatapointsToAlarm Threshold ComparisonOperator TreatMissingData Tags",
        |world, request| {
            let name = request.text("AlarmName").unwrap_or_default();
            let record = world.get(&request.region, ALARM, name);
            vec![Need::new("", request.arn("cloudwatch", &format!("alarm:{name}"))).on(record)]
        },
        alarms::put,
    ),
    op(
        "DescribeAlarms",
        "AlarmNames AlarmNamePrefix AlarmTypes StateValue MaxRecords NextToken",
        any,
        alarms::describe,
    ),
    op(
        "DeleteAlarms",
        "AlarmNames",
        |_, request| {
            let names = request.texts("AlarmNames");
            let arn = |name: &String| request.arn("cloudwatch", &format!("alarm:{name}"));
            names.iter().map(|name| Need::new("", arn(name))).collect()
        },
        alarms::delete,
    ),
    op(
        "PutMetricData",
        "Namespace MetricData",
        |_, request| {
            let namespace = request.text("Namespace").unwrap_or_default();
            vec![Need::new("", "*").with("cloudwatch:namespace", namespace)]
        },
        metrics::put,
    ),
    op(
        "GetMetricStatistics",
        "Namespace MetricName Dimensions StartTime EndTime Period Statistics",
        any,
        metrics::statistics,
    ),
    op(
        "GetMetricData",
        "MetricDataQueries StartTime EndTime ScanBy MaxDatapoints NextToken",
        any,
        metrics::data,
    ),
    op("PutDashboard", "DashboardName DashboardBody Tags", dashboards::access, dashboards::put),
    op("GetDashboard", "DashboardName", dashboards::access, dashboards::get),
    op("DeleteDashboards", "DashboardNames", dashboards::access, dashboards::delete),
    op("TagResource", "ResourceARN Tags", on_arn, |world, request| {
        let new = tag_map(request.get("Tags"), "Key", "Value");
        let alarm = alarm_mut(world, request)?;
        let mut all = tags(alarm);
        all.extend(new);
        alarm["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagResource", "ResourceARN TagKeys", on_arn, |world, request| {
        let gone = request.texts("TagKeys");
        let alarm = alarm_mut(world, request)?;
        let mut all = tags(alarm);
        all.retain(|key, _| !gone.contains(key));
        alarm["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("ListTagsForResource", "ResourceARN", on_arn, |world, request| {
        let alarm = alarm_mut(world, request)?;
        Ok(json!({"Tags": tag_list(alarm, "Key", "Value")}))
    }),
];

fn on_arn(_: &World, request: &Request) -> Vec<Need> {
    vec![Need::new("", request.text("ResourceARN").unwrap_or_default())]
}

fn alarm_mut<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let wanted = request.required("ResourceARN")?;
    let name = wanted.rsplit(":alarm:").next().unwrap_or_default();
    if arn("cloudwatch", &request.region, &format!("alarm:{name}")) != wanted {
        return Err(invalid("Invalid resource ARN"));
    }
    world.get_mut(&request.region, ALARM, name).ok_or_else(|| {
        let code = "ResourceNotFoundException";
        Failure { status: 404, ..Failure::new(code, format!("Unknown resource {wanted}")) }
    })
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("InvalidParameterValue", message)
}

/// A number with a fraction; forms send it as text.
pub(crate) fn decimal(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}
