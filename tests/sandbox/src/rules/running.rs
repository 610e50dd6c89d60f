use serde_json::{Value, json};

use super::{Caller, EAST, refused};
use crate::{World, durations::ENI_LINGERS};

const ZIP: &str = "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==";

impl Caller {
    /// A role that Lambda may become, with what a function in a VPC needs.
    pub(super) fn function_role(&mut self) -> String {
        let trust = json!({"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]});
        let params = json!({"RoleName": "runner", "AssumeRolePolicyDocument": trust.to_string()});
        let answer = self.must(EAST, "iam", "CreateRole", params);
        let policy = json!({"Statement": [{"Effect": "Allow", "Action": ["ec2:*NetworkInterface*", "ec2:*PrivateIpAddresses", "ec2:DescribeSubnets"], "Resource": "*"}]});
        let params = json!({"RoleName": "runner", "PolicyName": "vpc", "PolicyDocument": policy.to_string()});
        self.must(EAST, "iam", "PutRolePolicy", params);
        answer["Role"]["Arn"].as_str().unwrap().to_owned()
    }

    pub(super) fn function(&mut self, more: Value) -> Value {
        let mut params = json!({
            "FunctionName": "f", "Runtime": "provided.al2023", "Handler": "bootstrap", "Code": {"ZipFile": ZIP},
            "Role": "arn:aws:iam::123456789012:role/runner",
        });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    }

    fn table(&mut self) {
        let params = json!({
            "TableName": "ledger", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "cluster", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
            "AttributeDefinitions": [{"AttributeName": "cluster", "AttributeType": "S"}, {"AttributeName": "item", "AttributeType": "S"}],
        });
        self.must(EAST, "dynamodb", "CreateTable", params);
    }

    fn put(&mut self, version: u64, condition: Option<u64>) -> crate::request::Reply {
        let mut params = json!({
            "TableName": "ledger",
            "Item": {"cluster": {"S": "prod"}, "item": {"S": "ledger"}, "version": {"N": version.to_string()}},
        });
        match condition {
            Some(version) => {
                params["ConditionExpression"] = json!("#v = :v");
                params["ExpressionAttributeNames"] = json!({"#v": "version"});
                params["ExpressionAttributeValues"] = json!({":v": {"N": version.to_string()}});
            }
            None => params["ConditionExpression"] = json!("attribute_not_exists(item)"),
        }
        self.call(EAST, "dynamodb", "PutItem", params)
    }
}

/// aws-facts 12b: conditional writes are atomic; of two that expect the same, one succeeds.
#[test]
fn an_item_is_written_under_its_condition_only() {
    let mut caller = Caller::new();
    caller.table();
    refused(caller.put(1, None), "ResourceNotFoundException", "ledger");
    caller.pass(11);
    caller.put(1, None).unwrap();
    refused(caller.put(1, None), "ConditionalCheckFailedException", "");
    caller.put(2, Some(1)).unwrap();
    refused(caller.put(2, Some(1)), "ConditionalCheckFailedException", "");
    let params = json!({
        "TableName": "ledger", "KeyConditionExpression": "#c = :c", "ExpressionAttributeNames": {"#c": "cluster"},
        "ExpressionAttributeValues": {":c": {"S": "prod"}},
    });
    let found = caller.must(EAST, "dynamodb", "Query", params);
    assert_eq!(found["Items"][0]["version"]["N"], "2");
    let odd = json!({"TableName": "ledger", "Item": {"cluster": {"S": "prod"}}});
    refused(caller.call(EAST, "dynamodb", "PutItem", odd), "ValidationException", "key");
    caller.must(EAST, "dynamodb", "DeleteTable", json!({"TableName": "ledger"}));
    let again = caller.call(EAST, "dynamodb", "DeleteTable", json!({"TableName": "ledger"}));
    refused(again, "ResourceInUseException", "");
    caller.pass(11);
    assert!(!caller.world.leftovers().iter().any(|one| one.contains("dynamodb")));
}

/// aws-facts 1.5 (lambda/function.go): a role that is not known yet, or may not have interfaces.
#[test]
fn a_function_waits_for_its_role() {
    let mut caller = Caller::new();
    caller.function_role();
    let params = caller.function(json!({}));
    refused(
        caller.call(EAST, "lambda", "CreateFunction", params.clone()),
        "InvalidParameterValueException",
        "cannot be assumed",
    );
    caller.pass(11);
    caller.must(EAST, "lambda", "CreateFunction", params.clone());
    refused(
        caller.call(EAST, "lambda", "CreateFunction", params),
        "ResourceConflictException",
        "exist",
    );
    let invoke = json!({"FunctionName": "f"});
    refused(caller.call(EAST, "lambda", "Invoke", invoke), "ResourceConflictException", "Pending");
    let change = json!({"FunctionName": "f", "Timeout": 80});
    refused(
        caller.call(EAST, "lambda", "UpdateFunctionConfiguration", change.clone()),
        "ResourceConflictException",
        "in progress",
    );
    caller.pass(11);
    caller.must(EAST, "lambda", "UpdateFunctionConfiguration", change.clone());
    let code = json!({"FunctionName": "f", "ZipFile": ZIP});
    refused(
        caller.call(EAST, "lambda", "UpdateFunctionCode", code),
        "ResourceConflictException",
        "",
    );
    let bad = caller.function(json!({"FunctionName": "g", "Code": {"ZipFile": "bm8gemlw"}}));
    refused(
        caller.call(EAST, "lambda", "CreateFunction", bad),
        "InvalidParameterValueException",
        "unzip",
    );
    let event =
        json!({"FunctionName": "f", "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 30});
    let reply = caller.call(EAST, "lambda", "PutFunctionEventInvokeConfig", event);
    refused(reply, "InvalidParameterValueException", "60 to 21600");
}

/// aws-facts 8: the interface of a function in a VPC outlives it, and holds its security group.
#[test]
fn a_function_in_a_vpc_holds_its_security_group_for_a_while() {
    let mut caller = Caller::new();
    caller.function_role();
    caller.pass(11);
    let network = caller.network(EAST);
    let group = json!({"GroupName": "probe", "GroupDescription": "x", "VpcId": network["vpc_id"]});
    let group = caller.must(EAST, "ec2", "CreateSecurityGroup", group)["groupId"].clone();
    let vpc = |groups: Value| json!({"VpcConfig": {"SubnetIds": network["private_subnet_ids"], "SecurityGroupIds": groups}});
    let params = caller.function(vpc(json!([group])));
    caller.must(EAST, "lambda", "CreateFunction", params);
    caller.pass(11);
    let name = json!({"FunctionName": "f"});
    let remove = json!({"GroupId": group});
    refused(caller.ec2(EAST, "DeleteSecurityGroup", remove.clone()), "DependencyViolation", "");
    caller.must(EAST, "lambda", "DeleteFunction", name.clone());
    refused(caller.ec2(EAST, "DeleteSecurityGroup", remove.clone()), "DependencyViolation", "");
    caller.pass(ENI_LINGERS + 1);
    caller.must(EAST, "ec2", "DeleteSecurityGroup", remove);
    // Moved into another group before, it holds that one.
    let group = json!({"GroupName": "probe", "GroupDescription": "x", "VpcId": network["vpc_id"]});
    let group = caller.must(EAST, "ec2", "CreateSecurityGroup", group)["groupId"].clone();
    let params = caller.function(vpc(json!([group])));
    caller.must(EAST, "lambda", "CreateFunction", params);
    caller.pass(11);
    let mut change = vpc(json!([network["application_security_group_id"]]));
    change["FunctionName"] = json!("f");
    caller.must(EAST, "lambda", "UpdateFunctionConfiguration", change);
    caller.pass(6);
    caller.must(EAST, "lambda", "DeleteFunction", name);
    caller.must(EAST, "ec2", "DeleteSecurityGroup", json!({"GroupId": group}));
}

/// How many functions are called in the minute that begins now.
fn fired(world: &mut World) -> usize {
    use crate::services::events::{due, fire};
    due(world).into_iter().filter_map(|firing| fire(world, firing)).count()
}

/// aws-facts 12b: anywhere in the minute, and now and then twice.
#[test]
fn a_schedule_fires_within_its_minute_and_sometimes_twice() {
    let mut caller = Caller::new();
    let rule = json!({"Name": "r", "ScheduleExpression": "rate(1 minute)"});
    caller.must(EAST, "events", "PutRule", rule);
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
    let targets = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": arn}]});
    caller.must(EAST, "events", "PutTargets", targets);
    let mut moments = Vec::new();
    let mut times = Vec::new();
    for _ in 0..20 {
        let due = crate::services::events::due(&mut caller.world);
        times.push(due.len());
        moments.extend(due.iter().map(|firing| firing.late));
        caller.pass(60);
    }
    assert!(moments.iter().all(|late| *late < 60_000), "{moments:?}");
    assert!(moments.iter().any(|late| *late < 15_000) && moments.iter().any(|late| *late > 45_000));
    assert_eq!((times.iter().min(), times.iter().max()), (Some(&1), Some(&2)), "{times:?}");
}

/// EventBridge guide: a rule runs a function only if the function's policy lets it; a rule with targets stays.
#[test]
fn a_schedule_fires_what_lets_it() {
    let mut caller = Caller::new();
    caller.function_role();
    caller.pass(11);
    let params = caller.function(json!({}));
    let arn = caller.must(EAST, "lambda", "CreateFunction", params)["FunctionArn"].clone();
    caller.pass(11);
    for bad in ["rate(1 minutes)", "rate(0 minutes)", "every minute"] {
        let params = json!({"Name": "r", "ScheduleExpression": bad});
        refused(
            caller.call(EAST, "events", "PutRule", params),
            "ValidationException",
            "ScheduleExpression",
        );
    }
    let rule = caller.must(
        EAST,
        "events",
        "PutRule",
        json!({"Name": "r", "ScheduleExpression": "rate(1 minute)"}),
    );
    let targets = json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": arn}]});
    caller.must(EAST, "events", "PutTargets", targets);
    let listed = caller.must(EAST, "events", "ListRules", json!({"NamePrefix": "r"}));
    assert_eq!(listed["Rules"][0]["ScheduleExpression"], "rate(1 minute)");
    let others = caller.must(EAST, "events", "ListRules", json!({"NamePrefix": "rr"}));
    assert_eq!(others["Rules"], json!([]));
    let elsewhere = json!({"Rule": "r", "Targets": [{"Id": "2", "Arn": "arn:aws:lambda:us-west-2:123456789012:function:f"}]});
    let answer = caller.must(EAST, "events", "PutTargets", elsewhere);
    assert_eq!(answer["FailedEntryCount"], 1, "answered with 200 all the same (aws-facts 1.5)");
    assert_eq!(fired(&mut caller.world), 0);
    let permission = json!({
        "FunctionName": "f", "StatementId": "schedule", "Action": "lambda:InvokeFunction",
        "Principal": "events.amazonaws.com", "SourceArn": rule["RuleArn"],
    });
    caller.must(EAST, "lambda", "AddPermission", permission.clone());
    refused(
        caller.call(EAST, "lambda", "AddPermission", permission),
        "ResourceConflictException",
        "",
    );
    assert!(fired(&mut caller.world) > 0);
    caller.world.down.insert(EAST.into());
    assert_eq!(fired(&mut caller.world), 0);
    caller.world.down.clear();
    refused(
        caller.call(EAST, "events", "DeleteRule", json!({"Name": "r"})),
        "ValidationException",
        "targets",
    );
    caller.must(EAST, "events", "RemoveTargets", json!({"Rule": "r", "Ids": ["1"]}));
    caller.must(EAST, "events", "DeleteRule", json!({"Name": "r"}));
}

/// DynamoDB guide, encryption at rest: with a key of the account's, whoever reads or writes items has to be
/// allowed to decrypt with it.
#[test]
fn items_under_a_key_need_the_key_too() {
    let mut caller = Caller::new();
    let key = caller.key(EAST);
    let params = json!({
        "TableName": "ledger", "BillingMode": "PAY_PER_REQUEST",
        "SSESpecification": {"Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": key},
        "KeySchema": [{"AttributeName": "cluster", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
        "AttributeDefinitions": [{"AttributeName": "cluster", "AttributeType": "S"}, {"AttributeName": "item", "AttributeType": "S"}],
    });
    caller.must(EAST, "dynamodb", "CreateTable", params);
    caller.pass(11);
    let tables = json!({"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"});
    caller.allow(json!([tables]));
    let item = json!({"cluster": {"S": "prod"}, "item": {"S": "ledger"}});
    let put = json!({"TableName": "ledger", "Item": item});
    let get = json!({"TableName": "ledger", "Key": item});
    for (operation, params) in [("PutItem", &put), ("GetItem", &get)] {
        let reply = caller.restricted(EAST, "dynamodb", operation, params.clone());
        refused(reply, "AccessDeniedException", "kms:Decrypt");
    }
    let via = json!({"StringEquals": {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}});
    let decrypt =
        json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key, "Condition": via});
    caller.allow(json!([tables, decrypt]));
    for (operation, params) in [("PutItem", put), ("GetItem", get)] {
        caller.restricted(EAST, "dynamodb", operation, params).unwrap();
    }
}

/// Lambda guide, securing environment variables: with a key of the account's, whoever sets them encrypts, and
/// lets Lambda decrypt.
#[test]
fn variables_under_a_key_need_a_key_that_the_caller_may_use() {
    let mut caller = Caller::new();
    caller.function_role();
    let key = caller.key(EAST);
    caller.pass(11);
    let params = caller.function(json!({"KMSKeyArn": key}));
    let functions =
        json!({"Effect": "Allow", "Action": ["lambda:*", "iam:PassRole"], "Resource": "*"});
    caller.allow(json!([functions]));
    let reply = caller.restricted(EAST, "lambda", "CreateFunction", params.clone());
    refused(reply, "AccessDeniedException", "kms:Encrypt");
    let use_key =
        json!({"Effect": "Allow", "Action": ["kms:Encrypt", "kms:CreateGrant"], "Resource": key});
    caller.allow(json!([functions, use_key]));
    caller.restricted(EAST, "lambda", "CreateFunction", params).unwrap();
    let gone = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000";
    let params = caller.function(json!({"FunctionName": "g", "KMSKeyArn": gone}));
    let reply = caller.call(EAST, "lambda", "CreateFunction", params);
    refused(reply, "InvalidParameterValueException", "KMS key");
}

/// IAM quotas: a role's own policies have 10,240 characters together; and like roles, they are known everywhere
/// only after a while (aws-facts 1.5).
#[test]
fn a_roles_own_policies_are_limited_and_take_a_while() {
    let mut caller = Caller::new();
    caller.function_role();
    let long = json!({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "x".repeat(10_200)}]});
    let params =
        json!({"RoleName": "runner", "PolicyName": "long", "PolicyDocument": long.to_string()});
    refused(caller.call(EAST, "iam", "PutRolePolicy", params), "LimitExceeded", "10240");
    caller.pass(11);
    let policy = json!({"Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]});
    let params =
        json!({"RoleName": "runner", "PolicyName": "vpc", "PolicyDocument": policy.to_string()});
    caller.must(EAST, "iam", "PutRolePolicy", params);
    let network = caller.network(EAST);
    let vpc = json!({"VpcConfig": {
        "SubnetIds": network["private_subnet_ids"],
        "SecurityGroupIds": [network["application_security_group_id"]],
    }});
    let params = caller.function(vpc);
    let early = caller.call(EAST, "lambda", "CreateFunction", params.clone());
    refused(early, "InvalidParameterValueException", "CreateNetworkInterface");
    caller.pass(11);
    caller.must(EAST, "lambda", "CreateFunction", params);
}

/// The model database engine: a role is made by the master user, on a writer.
#[test]
fn a_role_is_made_by_the_master_user_only() {
    let mut caller = Caller::new();
    let network = caller.network(EAST);
    let vpc = network["vpc_id"].as_str().unwrap().to_owned();
    let group = network["application_security_group_id"].as_str().unwrap().to_owned();
    let rule = json!({"GroupId": group, "IpPermissions": [{
        "IpProtocol": "tcp", "FromPort": "5432", "ToPort": "5432", "Groups": [{"GroupId": group}],
    }]});
    caller.must(EAST, "ec2", "AuthorizeSecurityGroupIngress", rule);
    caller.instance(json!({"VpcSecurityGroupIds": [group]}));
    let host = caller.described(EAST, "db")["Endpoint"]["Address"].as_str().unwrap().to_owned();
    let from = crate::Source { region: EAST.into(), vpc, groups: vec![group] };
    let as_user = |username, password| crate::Visitor { from: &from, username, password };
    let make = |caller: &mut Caller, who: &crate::Visitor<'_>| {
        caller.world.make_role(&host, who, "probe", "hush")
    };
    let wrong = make(&mut caller, &as_user("boss", "guess")).unwrap_err();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    make(&mut caller, &as_user("boss", "correct-horse")).unwrap();
    assert!(matches!(
        caller.world.visit(&host, &as_user("probe", "hush")),
        crate::SessionView::Writer(_)
    ));
}

/// DynamoDB's API reference, UpdateItem: attributes that are not named stay, an item that is missing is made.
#[test]
fn an_update_of_an_item_leaves_the_rest() {
    let mut caller = Caller::new();
    caller.table();
    caller.pass(11);
    let key = json!({"cluster": {"S": "prod"}, "item": {"S": "intent"}});
    let update = |caller: &mut Caller, expression: &str, names: Value, values: Value| {
        let params = json!({
            "TableName": "ledger", "Key": key, "UpdateExpression": expression,
            "ExpressionAttributeNames": names, "ExpressionAttributeValues": values,
        });
        caller.must(EAST, "dynamodb", "UpdateItem", params);
        let params = json!({"TableName": "ledger", "Key": key});
        caller.must(EAST, "dynamodb", "GetItem", params)["Item"].clone()
    };
    let names = json!({"#a": "hold_until", "#b": "held_by"});
    let values = json!({":a": {"N": "5"}, ":b": {"S": "apply"}});
    let made = update(&mut caller, "SET #a = :a, #b = :b", names, values);
    assert_eq!((&made["hold_until"]["N"], &made["item"]["S"]), (&json!("5"), &json!("intent")));
    let names = json!({"#a": "destroying", "#b": "held_by"});
    let values = json!({":a": {"BOOL": true}});
    let changed = update(&mut caller, "SET #a = :a REMOVE #b", names, values);
    assert_eq!(changed["hold_until"]["N"], "5");
    assert_eq!(changed["destroying"]["BOOL"], true);
    assert!(changed["held_by"].is_null());
}

/// Lambda guide, "Lambda and VPCs": a function that leaves its VPC leaves an interface for a while, which goes
/// by the function's role; without the role it stays for good.
#[test]
fn an_interface_goes_while_its_functions_role_is_there() {
    for keeps_role in [true, false] {
        let mut caller = Caller::new();
        caller.function_role();
        caller.pass(11);
        let network = caller.network(EAST);
        let group =
            json!({"GroupName": "probe", "GroupDescription": "x", "VpcId": network["vpc_id"]});
        let group = caller.must(EAST, "ec2", "CreateSecurityGroup", group)["groupId"].clone();
        let vpc = json!({"VpcConfig": {"SubnetIds": network["private_subnet_ids"], "SecurityGroupIds": [group]}});
        let params = caller.function(vpc);
        caller.must(EAST, "lambda", "CreateFunction", params);
        caller.pass(11);
        let leave =
            json!({"FunctionName": "f", "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}});
        caller.must(EAST, "lambda", "UpdateFunctionConfiguration", leave);
        caller.pass(6);
        let remove = json!({"GroupId": group});
        refused(caller.ec2(EAST, "DeleteSecurityGroup", remove.clone()), "DependencyViolation", "");
        caller.must(EAST, "lambda", "DeleteFunction", json!({"FunctionName": "f"}));
        if !keeps_role {
            let policy = json!({"RoleName": "runner", "PolicyName": "vpc"});
            caller.must(EAST, "iam", "DeleteRolePolicy", policy);
            caller.must(EAST, "iam", "DeleteRole", json!({"RoleName": "runner"}));
        }
        caller.pass(ENI_LINGERS + 1);
        let reply = caller.ec2(EAST, "DeleteSecurityGroup", remove);
        if keeps_role {
            reply.unwrap();
        } else {
            refused(reply, "DependencyViolation", "");
        }
    }
}
