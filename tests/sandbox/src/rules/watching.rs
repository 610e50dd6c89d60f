use serde_json::{Value, json};

use super::{Caller, EAST, WEST, refused};
use crate::clock::Time;

fn alarm(more: Value) -> Value {
    let mut params = json!({
        "AlarmName": "low", "Namespace": "TradingDR", "MetricName": "PrimaryServing", "Statistic": "Minimum",
        "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "ignore",
    });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

impl Caller {
    fn publish(&mut self, value: f64) {
        let data = json!([{"MetricName": "PrimaryServing", "Value": value}]);
        let params = json!({"Namespace": "TradingDR", "MetricData": data});
        self.must(WEST, "cloudwatch", "PutMetricData", params);
    }

    fn state(&mut self, name: &str) -> String {
        let params = json!({"AlarmNames": [name]});
        let answer = self.must(WEST, "cloudwatch", "DescribeAlarms", params);
        answer["MetricAlarms"][0]["StateValue"].as_str().unwrap_or_default().to_owned()
    }

    /// A topic with a key, which alarms and RDS may use.
    fn topic(&mut self, region: &str, services: &[&str]) -> String {
        let key = self.key(region);
        let policy = json!({"Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Allow", "Principal": {"Service": services}, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*"},
        ]});
        self.must(
            region,
            "kms",
            "PutKeyPolicy",
            json!({"KeyId": key, "PolicyName": "default", "Policy": policy.to_string()}),
        );
        let arn = format!("arn:aws:sns:{region}:123456789012:alerts");
        let policy = json!({"Statement": [{"Effect": "Allow", "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"]}, "Action": "sns:Publish", "Resource": arn}]});
        let attributes = json!({"entry": [{"key": "KmsMasterKeyId", "value": key}, {"key": "Policy", "value": policy.to_string()}]});
        self.must(
            region,
            "sns",
            "CreateTopic",
            json!({"Name": "alerts", "Attributes": attributes}),
        );
        arn
    }
}

/// CloudWatch guide, "Alarm evaluation": a state changes with the data, missing ones count as they are set
/// to, and actions are taken on a change only (aws-facts 8).
#[test]
fn an_alarm_follows_its_metric_and_acts_on_changes_only() {
    let mut caller = Caller::new();
    let topic = caller.topic(WEST, &["cloudwatch.amazonaws.com"]);
    let actions = json!({"AlarmActions": [topic], "OKActions": [topic]});
    caller.must(WEST, "cloudwatch", "PutMetricAlarm", alarm(actions));
    assert_eq!(caller.state("low"), "INSUFFICIENT_DATA");
    caller.publish(1.0);
    caller.pass(61);
    assert_eq!(caller.state("low"), "OK");
    for _ in 0..3 {
        caller.publish(0.0);
        caller.pass(60);
    }
    assert_eq!(caller.state("low"), "ALARM");
    // Nothing comes any more: `ignore` keeps the state for ever.
    caller.pass(3600);
    assert_eq!(caller.state("low"), "ALARM");
    let told: Vec<Value> = caller
        .world
        .messages(WEST, "alerts")
        .iter()
        .map(|one| one["message"]["NewStateValue"].clone())
        .collect();
    assert_eq!(told, ["OK", "ALARM"]);
}

/// CloudWatch guide, "Configuring how alarms treat missing data".
#[test]
fn missing_data_count_as_they_are_set_to() {
    for (treatment, state) in [
        ("breaching", "ALARM"),
        ("notBreaching", "OK"),
        ("missing", "INSUFFICIENT_DATA"),
        ("ignore", "OK"),
    ] {
        let mut caller = Caller::new();
        let params = alarm(json!({"TreatMissingData": treatment, "EvaluationPeriods": 2}));
        caller.must(WEST, "cloudwatch", "PutMetricAlarm", params);
        for _ in 0..2 {
            caller.publish(1.0);
            caller.pass(60);
        }
        assert_eq!(caller.state("low"), "OK", "{treatment}");
        // The one real value in the range is filled up by a single missing one, and that is not enough.
        caller.pass(180);
        assert_eq!(caller.state("low"), "OK", "{treatment}");
        caller.pass(600);
        assert_eq!(caller.state("low"), state, "{treatment}");
    }
}

#[test]
fn some_of_the_last_minutes_are_enough_where_an_alarm_says_so() {
    let mut caller = Caller::new();
    let params = alarm(json!({"EvaluationPeriods": 3, "DatapointsToAlarm": 2}));
    caller.must(WEST, "cloudwatch", "PutMetricAlarm", params);
    for value in [0.0, 1.0, 0.0] {
        caller.publish(value);
        caller.pass(60);
    }
    assert_eq!(caller.state("low"), "ALARM");
}

#[test]
fn cloudwatch_refuses_odd_alarms() {
    let mut caller = Caller::new();
    for (more, words) in [
        (json!({"Period": 45}), "Period"),
        (json!({"EvaluationPeriods": 1441}), "more than a day"),
        (json!({"DatapointsToAlarm": 2}), "DatapointsToAlarm"),
        (json!({"TreatMissingData": "maybe"}), "TreatMissingData"),
        (json!({"AlarmActions": ["arn:aws:sns:us-east-1:123456789012:x"]}), "Invalid region"),
        (json!({"AlarmActions": ["x"]}), "Invalid arn"),
    ] {
        let reply = caller.call(WEST, "cloudwatch", "PutMetricAlarm", alarm(more));
        refused(reply, "ValidationError", words);
    }
    let reply = caller.call(WEST, "cloudwatch", "DeleteAlarms", json!({"AlarmNames": ["none"]}));
    refused(reply, "ResourceNotFound", "");
    let params = json!({"Namespace": "AWS/RDS", "MetricData": []});
    refused(
        caller.call(WEST, "cloudwatch", "PutMetricData", params),
        "InvalidParameterValue",
        "AWS/",
    );
}

/// aws-facts 7, 8: a service that the key's or the topic's policy does not let in is not heard, silently.
#[test]
fn a_topic_hears_a_service_only_if_key_and_policy_let_it() {
    let mut caller = Caller::new();
    let topic = caller.topic(WEST, &["events.rds.amazonaws.com"]);
    let params = alarm(json!({"AlarmActions": [topic], "TreatMissingData": "breaching"}));
    caller.must(WEST, "cloudwatch", "PutMetricAlarm", params);
    caller.pass(120);
    assert_eq!(caller.state("low"), "ALARM");
    assert!(caller.world.messages(WEST, "alerts").is_empty());
}

/// aws-facts 1.5: SNSNoAuthorization, and events reach who subscribed.
#[test]
fn rds_tells_a_topic_that_lets_it() {
    let mut caller = Caller::new();
    let deaf = caller.topic(EAST, &["cloudwatch.amazonaws.com"]);
    caller.instance(json!({"MultiAZ": "true"}));
    let params = |topic: &str| {
        json!({"SubscriptionName": "events", "SnsTopicArn": topic, "SourceType": "db-instance",
            "SourceIds": ["db"], "EventCategories": ["failover"], "Enabled": "true"})
    };
    refused(caller.rds(EAST, "CreateEventSubscription", params(&deaf)), "SNSNoAuthorization", "");
    let missing = params("arn:aws:sns:us-east-1:123456789012:none");
    refused(caller.rds(EAST, "CreateEventSubscription", missing), "SNSTopicArnNotFound", "");
    caller.must(EAST, "sns", "DeleteTopic", json!({"TopicArn": deaf}));
    let topic = caller.topic(EAST, &["events.rds.amazonaws.com"]);
    caller.must(EAST, "rds", "CreateEventSubscription", params(&topic));
    refused(
        caller.rds(
            EAST,
            "ModifyEventSubscription",
            json!({"SubscriptionName": "events", "Enabled": "false"}),
        ),
        "InvalidEventSubscriptionState",
        "",
    );
    caller.pass(20);
    let before = caller.described(EAST, "db")["AvailabilityZone"].clone();
    let reboot = json!({"DBInstanceIdentifier": "db", "ForceFailover": "true"});
    caller.must(EAST, "rds", "RebootDBInstance", reboot);
    caller.pass(100);
    assert_ne!(caller.described(EAST, "db")["AvailabilityZone"], before);
    // The failover's beginning and end, not the restart: that is of another category.
    assert_eq!(caller.world.messages(EAST, "alerts").len(), 2);
    let events = caller.must(
        EAST,
        "rds",
        "DescribeEvents",
        json!({"SourceIdentifier": "db", "SourceType": "db-instance"}),
    );
    assert_eq!(events["Events"]["Event"].as_array().unwrap().len(), 3);
}

/// aws-facts 1.5: who has not confirmed cannot be removed, and goes with the topic.
#[test]
fn a_subscription_that_nobody_confirmed_stays_until_its_topic_goes() {
    let mut caller = Caller::new();
    let topic = caller.topic(EAST, &[]);
    let mail = json!({"TopicArn": topic, "Protocol": "email", "Endpoint": "a@example.com", "ReturnSubscriptionArn": "true"});
    let answer = caller.must(EAST, "sns", "Subscribe", mail.clone());
    let arn = json!({"SubscriptionArn": answer["SubscriptionArn"]});
    refused(
        caller.call(EAST, "sns", "Unsubscribe", arn.clone()),
        "InvalidParameter",
        "pending confirmation",
    );
    let list = json!({"TopicArn": topic});
    let seen = caller.must(EAST, "sns", "ListSubscriptionsByTopic", list.clone());
    assert_eq!(seen["Subscriptions"]["member"][0]["SubscriptionArn"], "PendingConfirmation");
    caller.world.confirm_subscription(EAST, "a@example.com");
    caller.must(EAST, "sns", "Unsubscribe", arn);
    caller.must(EAST, "sns", "Subscribe", mail);
    caller.must(EAST, "sns", "DeleteTopic", list);
    assert!(!caller.world.leftovers().iter().any(|one| one.contains("sns")));
}

/// An alarm on the lag of a copy. Metrics are measured where there are alarms.
fn on_the_lag() -> Value {
    alarm(json!({
        "Namespace": "AWS/RDS", "MetricName": "ReplicaLag", "Threshold": 60.0, "Statistic": "Maximum",
        "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 2,
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "copy"}],
    }))
}

/// aws-facts 3, 0.10: an idle source makes its replica's lag climb and fall, without any fault.
#[test]
fn the_lag_of_an_idle_pair_climbs() {
    let mut caller = Caller::new();
    caller.pair();
    caller.must(WEST, "cloudwatch", "PutMetricAlarm", on_the_lag());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        caller.pass(60);
        seen.insert(caller.state("low"));
    }
    assert!(seen.contains("ALARM") && seen.contains("OK"), "{seen:?}");
    let span = (Time(caller.world.now.0 - 300_000), caller.world.now);
    let query = json!({
        "Namespace": "AWS/RDS", "MetricName": "ReplicaLag", "Period": 60, "Statistics": ["Maximum"],
        "StartTime": span.0.as_seconds(), "EndTime": span.1.as_seconds(),
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "copy"}],
    });
    let points = caller.must(WEST, "cloudwatch", "GetMetricStatistics", query);
    assert!(points["Datapoints"].as_array().unwrap().len() >= 4, "{points}");
}

/// aws-facts 3: the lag is the age of the last commit that was replayed. Where nothing arrives, it does not fall.
#[test]
fn the_lag_of_a_pair_that_is_cut_off_only_climbs() {
    let mut caller = Caller::new();
    caller.pair();
    caller.must(WEST, "cloudwatch", "PutMetricAlarm", on_the_lag());
    caller.world.set_cut(EAST, WEST, true);
    let begun = caller.world.now;
    caller.pass(1200);
    let query = json!({
        "Namespace": "AWS/RDS", "MetricName": "ReplicaLag", "Period": 60, "Statistics": ["Maximum"],
        "StartTime": begun.as_seconds(), "EndTime": caller.world.now.as_seconds(),
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "copy"}],
    });
    let points =
        caller.must(WEST, "cloudwatch", "GetMetricStatistics", query)["Datapoints"].clone();
    let mut lags: Vec<_> = points.as_array().unwrap().iter().collect();
    lags.sort_by(|one, other| one["Timestamp"].to_string().cmp(&other["Timestamp"].to_string()));
    let lags: Vec<_> = lags.iter().map(|one| one["Maximum"].as_f64().unwrap()).collect();
    assert!(lags.len() >= 18 && lags.windows(2).all(|pair| pair[1] > pair[0]), "{lags:?}");
    assert!(lags.last().is_some_and(|lag| (1140.0..=1202.0).contains(lag)), "{lags:?}");
}

#[test]
fn a_dashboard_is_checked() {
    let mut caller = Caller::new();
    for (body, words) in [
        ("no json", "no JSON"),
        ("{}", "widgets"),
        (
            r#"{"widgets":[{"type":"metric","x":20,"y":0,"width":12,"height":6,"properties":{"region":"us-west-2"}}]}"#,
            "wider",
        ),
        (
            r#"{"widgets":[{"type":"metric","x":0,"y":0,"width":12,"height":6,"properties":{}}]}"#,
            "region",
        ),
    ] {
        let params = json!({"DashboardName": "d", "DashboardBody": body});
        refused(
            caller.call(WEST, "cloudwatch", "PutDashboard", params),
            "InvalidParameterInput",
            words,
        );
    }
    refused(
        caller.call(WEST, "cloudwatch", "GetDashboard", json!({"DashboardName": "d"})),
        "ResourceNotFound",
        "",
    );
    // One name is one dashboard in all regions.
    let params = json!({"DashboardName": "d", "DashboardBody": r#"{"widgets":[]}"#});
    caller.must(WEST, "cloudwatch", "PutDashboard", params);
    caller.must(EAST, "cloudwatch", "GetDashboard", json!({"DashboardName": "d"}));
}
