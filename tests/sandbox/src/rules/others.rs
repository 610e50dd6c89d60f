//! What other clients than the provider ask for (`make peer`).

use serde_json::{Value, json};

use super::{Caller, EAST, WEST, refused};

fn table(definitions: &[&str]) -> Value {
    let defined =
        definitions.iter().map(|name| json!({"AttributeName": name, "AttributeType": "S"}));
    json!({
        "TableName": "others", "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "AttributeDefinitions": defined.collect::<Vec<_>>(),
    })
}

#[test]
fn a_tables_keys_are_defined_in_any_order_and_nothing_else_is() {
    let mut caller = Caller::new();
    for wrong in [&["pk"][..], &["pk", "other"], &["pk", "sk", "other"]] {
        let reply = caller.call(WEST, "dynamodb", "CreateTable", table(wrong));
        refused(reply, "ValidationException", "not defined in AttributeDefinitions");
    }
    caller.must(WEST, "dynamodb", "CreateTable", table(&["sk", "pk"]));
}

#[test]
fn a_tables_moments_are_kept_and_its_items_expire_only_when_that_is_turned_on() {
    let mut caller = Caller::new();
    let named = json!({"TableName": "others"});
    let reply = caller.call(WEST, "dynamodb", "DescribeContinuousBackups", named.clone());
    refused(reply, "TableNotFoundException", "others");
    caller.must(WEST, "dynamodb", "CreateTable", table(&["pk", "sk"]));
    let status = |answer: &Value| {
        let of = &answer["ContinuousBackupsDescription"];
        assert_eq!(of["ContinuousBackupsStatus"], "ENABLED");
        of["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"].clone()
    };
    let found = caller.must(WEST, "dynamodb", "DescribeContinuousBackups", named.clone());
    assert_eq!(status(&found), "DISABLED");
    let wanted = |days: u64| {
        json!({"TableName": "others", "PointInTimeRecoverySpecification":
            {"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": days}})
    };
    let reply = caller.call(WEST, "dynamodb", "UpdateContinuousBackups", wanted(7));
    refused(reply, "ContinuousBackupsUnavailableException", "retry");
    caller.pass(60);
    let reply = caller.call(WEST, "dynamodb", "UpdateContinuousBackups", wanted(36));
    refused(reply, "ValidationException", "1 to 35");
    caller.must(WEST, "dynamodb", "UpdateContinuousBackups", wanted(7));
    let found = caller.must(WEST, "dynamodb", "DescribeContinuousBackups", named.clone());
    assert_eq!(status(&found), "ENABLED");

    let expire = |on: bool, name: &str| json!({"TableName": "others", "TimeToLiveSpecification": {"Enabled": on, "AttributeName": name}});
    let reply = caller.call(WEST, "dynamodb", "UpdateTimeToLive", expire(false, "end"));
    refused(reply, "ValidationException", "already disabled");
    caller.must(WEST, "dynamodb", "UpdateTimeToLive", expire(true, "end"));
    let reply = caller.call(WEST, "dynamodb", "UpdateTimeToLive", expire(false, "end"));
    refused(reply, "ValidationException", "multiple times");
    caller.pass(3600);
    let reply = caller.call(WEST, "dynamodb", "UpdateTimeToLive", expire(true, "end"));
    refused(reply, "ValidationException", "already enabled");
    let reply = caller.call(WEST, "dynamodb", "UpdateTimeToLive", expire(true, "other"));
    refused(reply, "ValidationException", "different AttributeName");
    let reply = caller.call(WEST, "dynamodb", "UpdateTimeToLive", expire(false, "other"));
    refused(reply, "ValidationException", "different AttributeName");
    let found = caller.must(WEST, "dynamodb", "DescribeTimeToLive", named);
    assert_eq!(found["TimeToLiveDescription"]["AttributeName"], "end");
}

#[test]
fn a_topic_takes_its_attributes_with_values_that_they_can_have() {
    let mut caller = Caller::new();
    let arn =
        caller.must(EAST, "sns", "CreateTopic", json!({"Name": "others"}))["TopicArn"].clone();
    let set = |name: &str, value: &str| json!({"TopicArn": arn, "AttributeName": name, "AttributeValue": value});
    for (name, value) in [
        ("HTTPSuccessFeedbackSampleRate", "101"),
        ("SignatureVersion", "3"),
        ("TracingConfig", "On"),
        ("DeliveryPolicy", "{"),
    ] {
        let reply = caller.call(EAST, "sns", "SetTopicAttributes", set(name, value));
        refused(reply, "InvalidParameter", name);
    }
    for name in ["ArchivePolicy", "HTTPDelay", "SQS"] {
        let reply = caller.call(EAST, "sns", "SetTopicAttributes", set(name, "1"));
        refused(reply, "InvalidParameter", "AttributeName");
    }
    caller.must(EAST, "sns", "SetTopicAttributes", set("SQSSuccessFeedbackSampleRate", "100"));
}

#[test]
fn a_subscription_waits_for_its_owner_unless_that_is_a_queue_of_the_account() {
    let mut caller = Caller::new();
    let topic =
        caller.must(EAST, "sns", "CreateTopic", json!({"Name": "others"}))["TopicArn"].clone();
    for (protocol, endpoint, pending) in
        [("sqs", "arn:aws:sqs:us-east-1:123456789012:q", "false"), ("email", "a@b.example", "true")]
    {
        let asked = json!({
            "TopicArn": topic, "Protocol": protocol, "Endpoint": endpoint, "ReturnSubscriptionArn": true,
        });
        let arn = caller.must(EAST, "sns", "Subscribe", asked)["SubscriptionArn"].clone();
        let asked = json!({"SubscriptionArn": arn});
        let found = caller.must(EAST, "sns", "GetSubscriptionAttributes", asked);
        let entries = found["Attributes"]["entry"].as_array().unwrap().clone();
        let of = |name: &str| {
            entries.iter().find(|one| one["key"] == name).map(|one| one["value"].clone())
        };
        assert_eq!(of("PendingConfirmation").unwrap(), pending);
    }
    let gone = json!({"SubscriptionArn": format!("{}:gone", topic.as_str().unwrap())});
    let reply = caller.call(EAST, "sns", "GetSubscriptionAttributes", gone);
    refused(reply, "NotFound", "does not exist");
    let gone = format!("{}-gone", topic.as_str().unwrap());
    let by_topic = caller.call(EAST, "sns", "GetTopicAttributes", json!({"TopicArn": gone}));
    refused(by_topic, "NotFound", "Topic");
    let by_resource = caller.call(EAST, "sns", "ListTagsForResource", json!({"ResourceArn": gone}));
    refused(by_resource, "ResourceNotFound", "Resource");
}

#[test]
fn rules_are_on_the_one_bus_that_there_is() {
    let mut caller = Caller::new();
    let rule = |bus: &str| json!({"Name": "others", "ScheduleExpression": "rate(1 minute)", "EventBusName": bus});
    let reply = caller.call(EAST, "events", "PutRule", rule("trading"));
    refused(reply, "ResourceNotFoundException", "Event bus trading");
    caller.must(EAST, "events", "PutRule", rule("default"));
    let gone = json!({"Name": "others", "EventBusName": "trading"});
    let reply = caller.call(EAST, "events", "DeleteRule", gone);
    refused(reply, "ResourceNotFoundException", "Event bus trading");
}

#[test]
fn zones_and_parameters_are_listed_without_what_others_see() {
    let mut caller = Caller::new();
    let (east, west) =
        (caller.network(EAST)["vpc_id"].clone(), caller.network(WEST)["vpc_id"].clone());
    let made = json!({"Name": "others.internal", "CallerReference": "1", "VPC": {"VPCRegion": EAST, "VPCId": east}});
    caller.must(EAST, "route53", "CreateHostedZone", made);
    let mut seen = |region: &str, vpc: &Value| {
        let asked = json!({"vpcid": vpc, "vpcregion": region});
        let found = caller.must(EAST, "route53", "ListHostedZonesByVPC", asked);
        let all = found["HostedZoneSummaries"]["HostedZoneSummary"].as_array().unwrap().clone();
        all.iter().filter(|one| one["Name"] == "others.internal.").count()
    };
    assert_eq!((seen(EAST, &east), seen(WEST, &west)), (1, 0));
    let reply = caller.call(
        EAST,
        "route53",
        "ListHostedZonesByVPC",
        json!({"vpcid": east, "vpcregion": WEST}),
    );
    refused(reply, "InvalidInput", "us-west-2");

    let made =
        json!({"Name": "/others", "Value": "x", "Type": "String", "Description": "About it"});
    caller.must(EAST, "ssm", "PutParameter", made);
    let filters = json!({"ParameterFilters": [{"Key": "Name", "Values": ["/others"]}]});
    let found = caller.must(EAST, "ssm", "DescribeParameters", filters);
    assert_eq!(found["Parameters"][0]["Description"], "About it");
    assert!(found["Parameters"][0].get("Value").is_none(), "descriptions hold no values");
}

#[test]
fn a_rule_of_a_security_group_has_tags_of_its_own() {
    let mut caller = Caller::new();
    let group = caller.network(EAST)["application_security_group_id"].clone();
    let asked = json!({
        "GroupId": group,
        "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}],
        "TagSpecification": [{"ResourceType": "security-group-rule", "Tag": [{"Key": "a", "Value": "b"}]}],
    });
    let made = caller.must(EAST, "ec2", "AuthorizeSecurityGroupIngress", asked);
    let id = made["securityGroupRuleSet"]["item"][0]["securityGroupRuleId"].clone();
    let found = caller.must(
        EAST,
        "ec2",
        "DescribeSecurityGroupRules",
        json!({"SecurityGroupRuleId": [id]}),
    );
    assert_eq!(found["securityGroupRuleSet"]["item"][0]["tagSet"]["item"][0]["key"], "a");
}

#[test]
fn nothing_that_a_function_does_not_have_is_found() {
    let mut caller = Caller::new();
    for operation in [
        "ListVersionsByFunction",
        "GetFunctionCodeSigningConfig",
        "DeleteFunctionEventInvokeConfig",
    ] {
        let reply = caller.call(EAST, "lambda", operation, json!({"FunctionName": "gone"}));
        refused(reply, "ResourceNotFoundException", "gone");
    }
    caller.function_role();
    caller.pass(20);
    let wanted = caller.function(json!({}));
    caller.must(EAST, "lambda", "CreateFunction", wanted);
    caller.pass(20);
    let named = json!({"FunctionName": "f"});
    let gone = |caller: &mut Caller| {
        let reply = caller.call(EAST, "lambda", "DeleteFunctionEventInvokeConfig", named.clone());
        refused(reply, "ResourceNotFoundException", "EventInvokeConfig");
    };
    gone(&mut caller);
    let config = json!({"FunctionName": "f", "MaximumRetryAttempts": 0});
    caller.must(EAST, "lambda", "PutFunctionEventInvokeConfig", config);
    caller.must(EAST, "lambda", "DeleteFunctionEventInvokeConfig", named.clone());
    gone(&mut caller);
}
