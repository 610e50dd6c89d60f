use serde_json::json;

use super::{Caller, EAST, WEST, refused};

#[test]
fn who_is_allowed_nothing_can_do_nothing_but_ask_who_they_are() {
    let mut caller = Caller::new();
    let identity = caller.restricted(EAST, "sts", "GetCallerIdentity", json!({})).unwrap();
    assert!(identity["Arn"].as_str().unwrap().ends_with(":user/restricted"));
    refused(
        caller.restricted(EAST, "kms", "CreateKey", json!({})),
        "AccessDeniedException",
        "not authorized to perform: kms:CreateKey",
    );
    refused(
        caller.restricted(EAST, "ec2", "DescribeVpcs", json!({})),
        "UnauthorizedOperation",
        "ec2:DescribeVpcs",
    );
    refused(
        caller.restricted(EAST, "rds", "DescribeDBInstances", json!({})),
        "AccessDenied",
        "rds:DescribeDBInstances",
    );
}

/// aws-facts 1.1: on the replica and on its source.
#[test]
fn a_replica_needs_the_permission_on_both_instances_and_in_both_regions() {
    let mut caller = Caller::new();
    let source = caller.instance(json!({}));
    let params = caller.replica_of(&source);
    let own = "arn:aws:rds:us-west-2:123456789012:*";
    caller.allow(json!([
        {"Effect": "Allow", "Action": "rds:CreateDBInstanceReadReplica", "Resource": own},
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
    ]));
    let reply = caller.restricted(WEST, "rds", "CreateDBInstanceReadReplica", params.clone());
    refused(reply, "AccessDenied", &format!("on resource: {source}"));
    caller.allow(json!([
        {"Effect": "Allow", "Action": "rds:CreateDBInstanceReadReplica", "Resource": [own, source]},
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
    ]));
    caller.restricted(WEST, "rds", "CreateDBInstanceReadReplica", params).unwrap();
}

/// aws-facts 1.5: what was just made is not known everywhere.
#[test]
fn a_new_role_is_used_only_after_a_while_and_needs_to_be_passed() {
    let mut caller = Caller::new();
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "monitoring.rds.amazonaws.com"}, "Action": "sts:AssumeRole"}]});
    let role = caller.must(
        EAST,
        "iam",
        "CreateRole",
        json!({"RoleName": "monitor", "AssumeRolePolicyDocument": trust.to_string()}),
    );
    let policy = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole";
    caller.must(
        EAST,
        "iam",
        "AttachRolePolicy",
        json!({"RoleName": "monitor", "PolicyArn": policy}),
    );
    refused(
        caller.call(EAST, "iam", "DeleteRole", json!({"RoleName": "monitor"})),
        "DeleteConflict",
        "",
    );
    caller.subnets(EAST);
    let key = caller.key(EAST);
    let params = json!({
        "DBInstanceIdentifier": "db", "Engine": "postgres", "DBInstanceClass": "db.t3.medium",
        "AllocatedStorage": "20", "StorageType": "gp3", "MasterUsername": "boss",
        "MasterUserPassword": "correct-horse", "StorageEncrypted": "true", "KmsKeyId": key,
        "DBSubnetGroupName": "subnets", "MonitoringInterval": "60", "MonitoringRoleArn": role["Role"]["Arn"],
    });
    refused(
        caller.rds(EAST, "CreateDBInstance", params.clone()),
        "InvalidParameterValue",
        "ENHANCED_MONITORING",
    );
    caller.pass(15);
    caller.allow(json!([
        {"Effect": "Allow", "Action": ["rds:*", "kms:*"], "Resource": "*"},
    ]));
    refused(
        caller.restricted(EAST, "rds", "CreateDBInstance", params.clone()),
        "AccessDenied",
        "iam:PassRole",
    );
    caller.must(EAST, "rds", "CreateDBInstance", params);
}

/// aws-facts 12b.
#[test]
fn the_tagging_api_lags_behind() {
    let mut caller = Caller::new();
    caller.must(EAST, "kms", "CreateKey", json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}));
    let found = |caller: &mut Caller| {
        let params = json!({"TagFilters": [{"Key": "a", "Values": ["b"]}]});
        let answer = caller.must(EAST, "tagging", "GetResources", params);
        answer["ResourceTagMappingList"].as_array().unwrap().len()
    };
    assert_eq!(found(&mut caller), 0);
    caller.pass(30);
    assert_eq!(found(&mut caller), 1);
}
