use serde_json::{Value, json};

use super::{Caller, EAST, WEST, refused};

const GLOBAL: &str = "us-east-1";

impl Caller {
    fn dns(&mut self, operation: &str, params: Value) -> Result<Value, crate::request::Failure> {
        self.call(GLOBAL, "route53", operation, params)
    }

    fn vpc(&self, region: &str) -> Value {
        json!({"VPCRegion": region, "VPCId": self.network(region)["vpc_id"]})
    }

    /// A private zone in the primary VPC; its id.
    fn zone(&mut self, name: &str) -> String {
        let params =
            json!({"Name": name, "VPC": self.vpc(EAST), "CallerReference": format!("for {name}")});
        let answer = self.must(GLOBAL, "route53", "CreateHostedZone", params);
        answer["HostedZone"]["Id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    fn check(&mut self, reference: &str, inverted: bool) -> String {
        let config = json!({
            "Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": WEST, "Name": "serving"},
            "InsufficientDataHealthStatus": "LastKnownStatus", "Inverted": inverted.to_string(),
        });
        let params = json!({"CallerReference": reference, "HealthCheckConfig": config});
        let answer = self.must(GLOBAL, "route53", "CreateHealthCheck", params);
        answer["HealthCheck"]["Id"].as_str().unwrap().to_owned()
    }

    fn serving_alarm(&mut self, threshold: f64) {
        let params = json!({
            "AlarmName": "serving", "Namespace": "TradingDR", "MetricName": "PrimaryServing", "Statistic": "Minimum",
            "Period": 60, "EvaluationPeriods": 1, "Threshold": threshold, "ComparisonOperator": "LessThanThreshold",
        });
        self.must(WEST, "cloudwatch", "PutMetricAlarm", params);
    }

    fn serve(&mut self, value: f64) {
        let data = json!([{"MetricName": "PrimaryServing", "Value": value}]);
        self.must(
            WEST,
            "cloudwatch",
            "PutMetricData",
            json!({"Namespace": "TradingDR", "MetricData": data}),
        );
    }

    fn answers(&self, name: &str) -> Vec<String> {
        let vpc = self.network(EAST)["vpc_id"].as_str().unwrap().to_owned();
        self.world.resolve(&vpc, name).into_iter().map(|(target, _)| target).collect()
    }
}

fn record(identifier: &str, weight: i64, check: &str) -> Value {
    json!({
        "Name": "db.a.internal", "Type": "CNAME", "SetIdentifier": identifier, "Weight": weight, "TTL": 30,
        "ResourceRecords": [{"Value": format!("{identifier}.rds")}], "HealthCheckId": check,
    })
}

fn change(zone: &str, action: &str, set: &Value) -> Value {
    json!({"Id": zone, "ChangeBatch": {"Changes": [{"Action": action, "ResourceRecordSet": set}]}})
}

/// Route 53 API reference: CreateHostedZone, AssociateVPCWithHostedZone, DeleteHostedZone.
#[test]
fn a_vpc_sees_one_zone_of_a_name_and_a_zone_keeps_its_last_vpc() {
    let mut caller = Caller::new();
    let zone = caller.zone("a.internal");
    let again = json!({"Name": "a.internal.", "VPC": caller.vpc(EAST), "CallerReference": "other"});
    refused(caller.dns("CreateHostedZone", again), "ConflictingDomainExists", "a.internal.");
    let same =
        json!({"Name": "b.internal", "VPC": caller.vpc(EAST), "CallerReference": "for a.internal"});
    refused(caller.dns("CreateHostedZone", same), "HostedZoneAlreadyExists", "");
    let nowhere = json!({"Name": "b.internal", "VPC": {"VPCRegion": WEST, "VPCId": "vpc-0"}, "CallerReference": "b"});
    refused(caller.dns("CreateHostedZone", nowhere), "InvalidVPCId", "vpc-0");
    let east = json!({"Id": zone, "VPC": caller.vpc(EAST)});
    let west = json!({"Id": zone, "VPC": caller.vpc(WEST)});
    refused(
        caller.dns("DisassociateVPCFromHostedZone", west.clone()),
        "VPCAssociationNotFound",
        "",
    );
    refused(caller.dns("DisassociateVPCFromHostedZone", east.clone()), "LastVPCAssociation", "");
    caller.must(GLOBAL, "route53", "AssociateVPCWithHostedZone", west);
    refused(caller.dns("AssociateVPCWithHostedZone", east.clone()), "ConflictingDomainExists", "");
    caller.must(GLOBAL, "route53", "DisassociateVPCFromHostedZone", east);
    caller.serving_alarm(1.0);
    let check = caller.check("x", false);
    caller.must(
        GLOBAL,
        "route53",
        "ChangeResourceRecordSets",
        change(&zone, "CREATE", &record("one", 1, &check)),
    );
    refused(caller.dns("DeleteHostedZone", json!({"Id": zone})), "HostedZoneNotEmpty", "");
}

/// aws-facts 1.5: batches are all or nothing, a deletion names the whole record.
#[test]
fn records_are_checked() {
    let mut caller = Caller::new();
    let zone = caller.zone("a.internal");
    caller.serving_alarm(1.0);
    let check = caller.check("x", false);
    let good = record("one", 1, &check);
    let with = |member: &str, value: Value| {
        let mut set = good.clone();
        set[member] = value;
        set
    };
    for (set, code, words) in [
        (with("Name", json!("db.b.internal")), "InvalidChangeBatch", "not permitted in zone"),
        (with("Name", json!("a.internal")), "InvalidChangeBatch", "apex"),
        (with("Weight", json!(256)), "InvalidChangeBatch", "Weight"),
        (with("HealthCheckId", json!("none")), "NoSuchHealthCheck", "none"),
        (with("SetIdentifier", Value::Null), "InvalidChangeBatch", "set identifier"),
    ] {
        refused(caller.dns("ChangeResourceRecordSets", change(&zone, "CREATE", &set)), code, words);
    }
    let answer =
        caller.must(GLOBAL, "route53", "ChangeResourceRecordSets", change(&zone, "CREATE", &good));
    let id =
        json!({"Id": answer["ChangeInfo"]["Id"].as_str().unwrap().rsplit('/').next().unwrap()});
    let status = |caller: &mut Caller| {
        caller.must(GLOBAL, "route53", "GetChange", id.clone())["ChangeInfo"]["Status"].clone()
    };
    assert_eq!(status(&mut caller), "PENDING");
    caller.pass(31);
    assert_eq!(status(&mut caller), "INSYNC");
    refused(
        caller.dns("ChangeResourceRecordSets", change(&zone, "CREATE", &good)),
        "InvalidChangeBatch",
        "already exists",
    );
    let other = with("TTL", json!(60));
    refused(
        caller.dns("ChangeResourceRecordSets", change(&zone, "DELETE", &other)),
        "InvalidChangeBatch",
        "do not match",
    );
    caller.must(GLOBAL, "route53", "ChangeResourceRecordSets", change(&zone, "DELETE", &good));
    refused(
        caller.dns("ChangeResourceRecordSets", change(&zone, "DELETE", &good)),
        "InvalidChangeBatch",
        "not found",
    );
}

/// aws-facts 0.9, 4: a check follows the data with the settings that it copied, a minute late; without data
/// it keeps its last status; an inverted one is unhealthy at first.
#[test]
fn weighted_records_follow_the_metric_and_stay() {
    let mut caller = Caller::new();
    let zone = caller.zone("a.internal");
    refused(
        caller.dns(
            "CreateHealthCheck",
            json!({"CallerReference": "x", "HealthCheckConfig": {
            "Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": WEST, "Name": "serving"}}}),
        ),
        "InvalidInput",
        "does not exist",
    );
    caller.serving_alarm(1.0);
    let (plain, inverted) = (caller.check("plain", false), caller.check("inverted", true));
    for (identifier, weight, check) in [("one", 100, &plain), ("two", 0, &inverted)] {
        let set = record(identifier, weight, check);
        caller.must(GLOBAL, "route53", "ChangeResourceRecordSets", change(&zone, "CREATE", &set));
    }
    assert_eq!(caller.answers("db.a.internal"), ["one.rds"]);
    caller.serve(1.0);
    caller.pass(180);
    assert_eq!(caller.answers("db.a.internal"), ["one.rds"]);
    caller.serve(0.0);
    caller.pass(60);
    assert_eq!(
        caller.answers("db.a.internal"),
        ["one.rds"],
        "not before the minute is over and was seen"
    );
    caller.pass(90);
    assert_eq!(caller.answers("db.a.internal"), ["two.rds"]);
    // Silence moves nothing, and neither does the alarm's state.
    caller.pass(7200);
    assert_eq!(caller.answers("db.a.internal"), ["two.rds"]);
    // The settings are those of the time when the check was made.
    caller.serving_alarm(-1.0);
    assert_eq!(caller.answers("db.a.internal"), ["two.rds"]);
    for check in [&plain, &inverted] {
        let params =
            json!({"HealthCheckId": check, "AlarmIdentifier": {"Region": WEST, "Name": "serving"}});
        caller.must(GLOBAL, "route53", "UpdateHealthCheck", params);
    }
    assert_eq!(caller.answers("db.a.internal"), ["one.rds"]);
    // A VPC that is not associated sees nothing.
    let other = caller.network(WEST)["vpc_id"].as_str().unwrap().to_owned();
    assert!(caller.world.resolve(&other, "db.a.internal").is_empty());
}

/// Route 53 API reference, CreateHealthCheck: a caller reference is used up for good.
#[test]
fn a_reference_of_a_health_check_cannot_be_used_again() {
    let mut caller = Caller::new();
    caller.serving_alarm(1.0);
    let check = caller.check("x", false);
    assert_eq!(caller.check("x", false), check, "the same is the same");
    caller.must(GLOBAL, "route53", "DeleteHealthCheck", json!({"HealthCheckId": check}));
    let config = json!({"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": WEST, "Name": "serving"}});
    let params = json!({"CallerReference": "x", "HealthCheckConfig": config});
    refused(caller.dns("CreateHealthCheck", params), "HealthCheckAlreadyExists", "");
    refused(
        caller.dns("DeleteHealthCheck", json!({"HealthCheckId": check})),
        "NoSuchHealthCheck",
        "",
    );
}
