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

/// Whoever makes something with tags may tag it: in EC2 for that action (EC2 guide, "Grant permission to tag Amazon
/// EC2 resources during creation"), elsewhere as ever.
#[test]
fn what_is_made_with_tags_needs_the_permission_to_tag() {
    let mut caller = Caller::new();
    let tags = json!([{"Key": "team", "Value": "x"}]);
    let vpc = caller.network(EAST)["vpc_id"].clone();
    let group = json!({
        "GroupName": "g", "GroupDescription": "d", "VpcId": vpc,
        "TagSpecification": [{"ResourceType": "security-group", "Tag": tags}],
    });
    let make = json!({"Effect": "Allow", "Action": "ec2:CreateSecurityGroup", "Resource": "*"});
    let tag = |action: &str| json!({"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": {"StringEquals": {"ec2:CreateAction": action}}});
    for statements in [json!([make]), json!([make, tag("RunInstances")])] {
        caller.allow(statements);
        let reply = caller.restricted(EAST, "ec2", "CreateSecurityGroup", group.clone());
        refused(reply, "UnauthorizedOperation", "ec2:CreateTags");
    }
    caller.allow(json!([make, tag("CreateSecurityGroup")]));
    caller.restricted(EAST, "ec2", "CreateSecurityGroup", group).unwrap();

    let topic = json!({"Name": "t", "Tags": tags});
    caller.allow(json!([{"Effect": "Allow", "Action": "sns:CreateTopic", "Resource": "*"}]));
    let reply = caller.restricted(EAST, "sns", "CreateTopic", topic.clone());
    refused(reply, "AuthorizationError", "sns:TagResource");
    caller.allow(
        json!([{"Effect": "Allow", "Action": ["sns:CreateTopic", "sns:TagResource"], "Resource": "*"}]),
    );
    caller.restricted(EAST, "sns", "CreateTopic", topic).unwrap();
}

/// KMS goes by a key's tags up to five minutes after they were set, and asks a new key's maker whether they may
/// replace its policy, unless told not to.
#[test]
fn a_keys_tags_count_after_a_while() {
    let mut caller = Caller::new();
    let ours = json!({"StringEquals": {"aws:ResourceTag/team": "x"}});
    caller.allow(json!([
        {"Effect": "Allow", "Action": ["kms:CreateKey", "kms:TagResource"], "Resource": "*"},
        {"Effect": "Allow", "Action": ["kms:EnableKeyRotation", "kms:PutKeyPolicy"], "Resource": "*", "Condition": ours},
    ]));
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"}]});
    let mut params =
        json!({"Policy": policy.to_string(), "Tags": [{"TagKey": "team", "TagValue": "x"}]});
    let reply = caller.restricted(EAST, "kms", "CreateKey", params.clone());
    refused(reply, "MalformedPolicyDocumentException", "will not allow you to update");
    params["BypassPolicyLockoutSafetyCheck"] = json!(true);
    let key = caller.restricted(EAST, "kms", "CreateKey", params).unwrap();
    let key = json!({"KeyId": key["KeyMetadata"]["KeyId"]});
    let early = caller.restricted(EAST, "kms", "EnableKeyRotation", key.clone());
    refused(early, "AccessDeniedException", "kms:EnableKeyRotation");
    caller.pass(301);
    caller.restricted(EAST, "kms", "EnableKeyRotation", key.clone()).unwrap();
    let put = json!({"KeyId": key["KeyId"], "PolicyName": "default", "Policy": policy.to_string()});
    caller.restricted(EAST, "kms", "PutKeyPolicy", put).unwrap();
}

/// RDS asks for the groups that an instance gets unasked as well (RDS guide, "Permission policies to create, modify
/// and delete resources"), and for a final snapshot as if it were asked for alone.
#[test]
fn an_instance_needs_the_permission_on_its_default_groups_and_on_its_final_snapshot() {
    let mut caller = Caller::new();
    let source = caller.instance(json!({}));
    let params = caller.replica_of(&source);
    let base = "arn:aws:rds:us-west-2:123456789012";
    let named = [format!("{base}:db:copy"), format!("{base}:subgrp:subnets"), source];
    let kms = json!({"Effect": "Allow", "Action": "kms:*", "Resource": "*"});
    let given = [format!("{base}:og:default:postgres-15"), format!("{base}:pg:default.postgres15")];
    for count in 0..=given.len() {
        let all: Vec<_> = named.iter().chain(&given[..count]).collect();
        caller.allow(json!([
            {"Effect": "Allow", "Action": "rds:CreateDBInstanceReadReplica", "Resource": all}, kms,
        ]));
        let reply = caller.restricted(WEST, "rds", "CreateDBInstanceReadReplica", params.clone());
        match given.get(count) {
            Some(missing) => refused(reply, "AccessDenied", missing),
            None => assert!(reply.is_ok()),
        }
    }
    caller.pass(1300);
    let end = json!({"DBInstanceIdentifier": "db", "SkipFinalSnapshot": false, "FinalDBSnapshotIdentifier": "last"});
    let instance = caller.described(EAST, "db")["DBInstanceArn"].clone();
    let delete = json!({"Effect": "Allow", "Action": "rds:DeleteDBInstance", "Resource": "*"});
    caller.allow(json!([delete]));
    let reply = caller.restricted(EAST, "rds", "DeleteDBInstance", end.clone());
    refused(reply, "AccessDenied", "rds:CreateDBSnapshot");
    let snapshot = "arn:aws:rds:us-east-1:123456789012:snapshot:last";
    caller.allow(json!([delete, {"Effect": "Allow", "Action": "rds:CreateDBSnapshot", "Resource": [instance, snapshot]}]));
    caller.restricted(EAST, "rds", "DeleteDBInstance", end).unwrap();
}
