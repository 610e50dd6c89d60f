use serde_json::{Value, json};

use super::{Caller, EAST, WEST, refused};

/// aws-facts 7.
#[test]
fn a_key_that_is_pending_deletion_keeps_its_alias_and_does_nothing() {
    let mut caller = Caller::new();
    let key = caller.key(EAST);
    let alias = json!({"AliasName": "alias/db", "TargetKeyId": key});
    caller.must(EAST, "kms", "CreateAlias", alias);
    let soon = json!({"KeyId": key, "PendingWindowInDays": 3});
    refused(caller.call(EAST, "kms", "ScheduleKeyDeletion", soon), "ValidationException", "");
    caller.must(
        EAST,
        "kms",
        "ScheduleKeyDeletion",
        json!({"KeyId": key, "PendingWindowInDays": 7}),
    );
    let state = caller.must(EAST, "kms", "DescribeKey", json!({"KeyId": "alias/db"}));
    assert_eq!(state["KeyMetadata"]["KeyState"], "PendingDeletion");
    let other = caller.key(EAST);
    let taken = json!({"AliasName": "alias/db", "TargetKeyId": other});
    refused(caller.call(EAST, "kms", "CreateAlias", taken), "AlreadyExistsException", "alias/db");
    refused(
        caller.call(EAST, "kms", "EnableKeyRotation", json!({"KeyId": key})),
        "KMSInvalidStateException",
        "pending deletion",
    );
    let again = json!({"KeyId": key, "PendingWindowInDays": 7});
    refused(
        caller.call(EAST, "kms", "ScheduleKeyDeletion", again),
        "KMSInvalidStateException",
        "pending deletion",
    );
    caller.pass(8 * 86_400);
    refused(
        caller.call(EAST, "kms", "DescribeKey", json!({"KeyId": key})),
        "NotFoundException",
        "",
    );
}

/// aws-facts 7.
#[test]
fn an_instance_without_its_key_is_inaccessible_until_it_is_back() {
    let mut caller = Caller::new();
    caller.instance(json!({}));
    let key = caller.described(EAST, "db")["KmsKeyId"].clone();
    caller.must(EAST, "kms", "DisableKey", json!({"KeyId": key}));
    assert_eq!(caller.status(EAST, "db"), "inaccessible-encryption-credentials-recoverable");
}

/// aws-facts 7: a key of another region, or one that the caller may not grant, is no key.
#[test]
fn rds_takes_only_keys_of_its_region_that_may_be_granted() {
    let mut caller = Caller::new();
    let source = caller.instance(json!({}));
    let mut params = caller.replica_of(&source);
    params["KmsKeyId"] = caller.described(EAST, "db")["KmsKeyId"].clone();
    refused(
        caller.rds(WEST, "CreateDBInstanceReadReplica", params.clone()),
        "KMSKeyNotAccessibleFault",
        "does not exist, is not enabled",
    );
    params["KmsKeyId"] = json!(caller.key(WEST));
    caller.allow(json!([
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "kms:CreateGrant", "Resource": "*"},
    ]));
    let reply = caller.restricted(WEST, "rds", "CreateDBInstanceReadReplica", params);
    refused(reply, "KMSKeyNotAccessibleFault", "do not have permissions");
}

/// aws-facts 7: a policy that would lock its writer out is refused.
#[test]
fn a_key_policy_must_leave_the_caller_in() {
    let mut caller = Caller::new();
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "logs.us-east-1.amazonaws.com"}, "Action": "kms:*", "Resource": "*"}]});
    let params = json!({"Policy": policy.to_string()});
    refused(caller.call(EAST, "kms", "CreateKey", params), "MalformedPolicyDocumentException", "");
}

/// aws-facts 7, 8.
#[test]
fn a_log_group_takes_a_key_only_if_its_policy_lets_the_logs_in() {
    let mut caller = Caller::new();
    let key = caller.key(EAST);
    let params = json!({"logGroupName": "/aws/rds/instance/db/postgresql", "kmsKeyId": key});
    assert!(caller.call(EAST, "logs", "CreateLogGroup", params).is_err());
    let group = json!({"logGroupName": "/aws/rds/instance/db/postgresql"});
    caller.must(EAST, "logs", "CreateLogGroup", group.clone());
    refused(
        caller.call(EAST, "logs", "CreateLogGroup", group.clone()),
        "ResourceAlreadyExistsException",
        "",
    );
    let odd = json!({"logGroupName": "/aws/rds/instance/db/postgresql", "retentionInDays": 31});
    refused(
        caller.call(EAST, "logs", "PutRetentionPolicy", odd),
        "InvalidParameterException",
        "retentionInDays",
    );
    // What RDS still had to write makes the group again (aws-facts 8).
    caller.instance(json!({"EnableCloudwatchLogsExports": ["postgresql"]}));
    caller.must(
        EAST,
        "rds",
        "DeleteDBInstance",
        json!({"DBInstanceIdentifier": "db", "SkipFinalSnapshot": "true"}),
    );
    caller.must(EAST, "logs", "DeleteLogGroup", group.clone());
    caller.pass(400);
    refused(
        caller.call(EAST, "logs", "CreateLogGroup", group),
        "ResourceAlreadyExistsException",
        "",
    );
}

/// aws-facts 12b.
#[test]
fn a_secret_with_replicas_cannot_go_and_its_name_is_taken_for_a_while() {
    let mut caller = Caller::new();
    let params =
        json!({"Name": "master", "SecretString": "{}", "AddReplicaRegions": [{"Region": WEST}]});
    caller.must(EAST, "secretsmanager", "CreateSecret", params.clone());
    refused(
        caller.call(EAST, "secretsmanager", "CreateSecret", params.clone()),
        "ResourceExistsException",
        "master",
    );
    let delete = json!({"SecretId": "master", "ForceDeleteWithoutRecovery": true});
    refused(
        caller.call(EAST, "secretsmanager", "DeleteSecret", delete.clone()),
        "InvalidRequestException",
        "replica regions",
    );
    refused(
        caller.call(WEST, "secretsmanager", "DeleteSecret", delete.clone()),
        "InvalidRequestException",
        "replica secret",
    );
    let remove = json!({"SecretId": "master", "RemoveReplicaRegions": [WEST]});
    caller.must(EAST, "secretsmanager", "RemoveRegionsFromReplication", remove);
    // With a window for recovery, it can be had back, and does not go then.
    let named = json!({"SecretId": "master"});
    let later = json!({"SecretId": "master", "RecoveryWindowInDays": 7});
    caller.must(EAST, "secretsmanager", "DeleteSecret", later);
    refused(
        caller.call(EAST, "secretsmanager", "GetSecretValue", named.clone()),
        "InvalidRequestException",
        "marked for deletion",
    );
    caller.must(EAST, "secretsmanager", "RestoreSecret", named.clone());
    caller.pass(8 * 86_400);
    caller.must(EAST, "secretsmanager", "GetSecretValue", named.clone());
    caller.must(EAST, "secretsmanager", "DeleteSecret", delete);
    refused(
        caller.call(EAST, "secretsmanager", "RestoreSecret", named),
        "InvalidRequestException",
        "marked for deletion",
    );
    refused(
        caller.call(EAST, "secretsmanager", "CreateSecret", params.clone()),
        "InvalidRequestException",
        "scheduled for deletion",
    );
    caller.pass(10);
    caller.must(EAST, "secretsmanager", "CreateSecret", params);
}

/// aws-facts 12b: the only atomic act.
#[test]
fn of_two_that_make_a_parameter_one_succeeds() {
    let mut caller = Caller::new();
    let params = json!({"Name": "/x/lease/1", "Value": "a", "Type": "String"});
    caller.must(EAST, "ssm", "PutParameter", params.clone());
    refused(
        caller.call(EAST, "ssm", "PutParameter", params),
        "ParameterAlreadyExists",
        "overwrite",
    );
    let tagged = json!({"Name": "/x/lease/1", "Value": "b", "Overwrite": true, "Tags": [{"Key": "a", "Value": "b"}]});
    refused(
        caller.call(EAST, "ssm", "PutParameter", tagged),
        "ValidationException",
        "tags and overwrite",
    );
    let odd = json!({"Name": "/x/lease/1", "Value": "b", "Overwrite": true, "Policies": "[]"});
    refused(caller.call(EAST, "ssm", "PutParameter", odd), "NotImplemented", "Policies");
}

/// Systems Manager guide, "Managing parameter tiers": 4 KB and 8 KB; there is no way back from the second.
#[test]
fn a_long_parameter_needs_the_advanced_tier_and_stays_in_it() {
    let mut caller = Caller::new();
    let mut put = |length: usize, tier: &str| {
        let value = "a".repeat(length);
        let params = json!({"Name": "/x/arguments", "Value": value, "Type": "String", "Overwrite": true, "Tier": tier});
        caller.call(EAST, "ssm", "PutParameter", params)
    };
    refused(put(4097, "Standard"), "ValidationException", "4096 characters");
    assert_eq!(put(4096, "Intelligent-Tiering").unwrap()["Tier"], "Standard");
    refused(put(8193, "Intelligent-Tiering"), "ValidationException", "8192 characters");
    assert_eq!(put(8192, "Intelligent-Tiering").unwrap()["Tier"], "Advanced");
    refused(put(1, "Standard"), "ValidationException", "can't downgrade");
    assert_eq!(put(1, "Intelligent-Tiering").unwrap()["Tier"], "Advanced");
    refused(put(1, "Gold"), "ValidationException", "tier");
    let secret = json!({"Name": "/x/secret", "Value": "a", "Type": "SecureString"});
    refused(caller.call(EAST, "ssm", "PutParameter", secret), "NotImplemented", "plain text");
}

/// RDS guide: an automated snapshot is part of a creation and taken every day, kept for the retention, and goes
/// with its instance; a copy in another region needs a key there, is nobody's but its maker's, and stays.
#[test]
fn snapshots_are_taken_every_day_and_copied_with_a_key_of_the_other_region() {
    let mut caller = Caller::new();
    caller.instance(json!({}));
    let automated = json!({"DBInstanceIdentifier": "db", "SnapshotType": "automated"});
    let list = |caller: &mut Caller, region, params: &Value| {
        let answer = caller.must(region, "rds", "DescribeDBSnapshots", params.clone());
        answer["DBSnapshots"]["DBSnapshot"].as_array().unwrap().clone()
    };
    let first = list(&mut caller, EAST, &automated);
    assert_eq!(first.len(), 1);
    caller.pass(3 * 24 * 3600);
    assert_eq!(list(&mut caller, EAST, &automated).len(), 4);
    caller.pass(10 * 24 * 3600);
    let kept = list(&mut caller, EAST, &automated);
    assert!((7..=8).contains(&kept.len()), "kept for seven days: {}", kept.len());
    let newest = kept.last().unwrap()["DBSnapshotArn"].clone();
    let delete = json!({"DBSnapshotIdentifier": kept[0]["DBSnapshotIdentifier"]});
    refused(caller.rds(EAST, "DeleteDBSnapshot", delete), "InvalidDBSnapshotState", "automated");

    let mut copy =
        json!({"SourceDBSnapshotIdentifier": newest, "TargetDBSnapshotIdentifier": "copy-1"});
    refused(caller.rds(WEST, "CopyDBSnapshot", copy.clone()), "InvalidParameterValue", "KmsKeyId");
    let key = caller.key(EAST);
    copy["KmsKeyId"] = json!(key);
    refused(caller.rds(WEST, "CopyDBSnapshot", copy.clone()), "KMSKeyNotAccessibleFault", "");
    let key = caller.key(WEST);
    copy["KmsKeyId"] = json!(key);
    caller.rds(WEST, "CopyDBSnapshot", copy.clone()).unwrap();
    refused(caller.rds(WEST, "CopyDBSnapshot", copy), "DBSnapshotAlreadyExists", "copy-1");
    let name = json!({"DBSnapshotIdentifier": "copy-1"});
    refused(caller.rds(WEST, "DeleteDBSnapshot", name.clone()), "InvalidDBSnapshotState", "");
    caller.pass(1000);
    assert_eq!(list(&mut caller, WEST, &name)[0]["Status"], "available");

    let remove = json!({"DBInstanceIdentifier": "db", "SkipFinalSnapshot": "true"});
    caller.rds(EAST, "DeleteDBInstance", remove).unwrap();
    caller.pass(400);
    assert_eq!(list(&mut caller, EAST, &automated), Vec::<Value>::new());
    assert!(caller.world.leftovers().iter().any(|one| one.contains("copy-1")));
    caller.rds(WEST, "DeleteDBSnapshot", name).unwrap();
}
