use serde_json::{Value, json};

use super::{Caller, EAST, WEST, refused};

fn content(description: &str) -> String {
    json!({
        "schemaVersion": "0.3", "description": description,
        "mainSteps": [{
            "name": "Look", "action": "aws:executeAwsApi",
            "inputs": {"Service": "rds", "Api": "DescribeDBInstances"},
        }],
    })
    .to_string()
}

fn document(name: &str) -> Value {
    json!({
        "Name": name, "Content": content("one"), "DocumentType": "Automation", "DocumentFormat": "JSON",
        "VersionName": "first", "Tags": [{"Key": "team", "Value": "trading"}],
    })
}

/// aws-facts 1.5 (ssm/document.go) and 9; Systems Manager API, CreateDocument and UpdateDocument.
#[test]
fn a_document_is_checked_and_each_of_its_versions_stays_as_it_is() {
    let mut caller = Caller::new();
    let mut bad = document("book");
    bad["Content"] = json!("{\"schemaVersion\": \"2.2\"}");
    let reply = caller.call(EAST, "ssm", "CreateDocument", bad);
    refused(reply, "InvalidDocumentSchemaVersion", "isn't supported");
    let mut bad = document("book");
    bad["Content"] = content("one").replace("DescribeDBInstances", "DescribeInstances").into();
    refused(
        caller.call(EAST, "ssm", "CreateDocument", bad),
        "InvalidDocumentContent",
        "there is not",
    );
    let mut bad = document("book");
    bad["Content"] = content(&"x".repeat(65_536)).into();
    let reply = caller.call(EAST, "ssm", "CreateDocument", bad);
    refused(reply, "MaxDocumentSizeExceeded", "64 KB");
    let reply = caller.call(EAST, "ssm", "CreateDocument", document("aws-book"));
    refused(reply, "ValidationException", "constraint");
    caller.must(EAST, "ssm", "CreateDocument", document("book"));
    let reply = caller.call(EAST, "ssm", "CreateDocument", document("book"));
    refused(reply, "DocumentAlreadyExists", "already exists");
    caller.pass(5);
    let update = |text: &str, name: &str| json!({"Name": "book", "Content": content(text), "VersionName": name, "DocumentVersion": "$LATEST"});
    let reply = caller.call(EAST, "ssm", "UpdateDocument", update("one", "second"));
    refused(reply, "DuplicateDocumentContent", "matches another document");
    let reply = caller.call(EAST, "ssm", "UpdateDocument", update("two", "first"));
    refused(reply, "DuplicateDocumentVersionName", "already been used");
    caller.must(EAST, "ssm", "UpdateDocument", update("two", "second"));
    let listed = |caller: &mut Caller| {
        let all = json!({"Filters": [{"Key": "Owner", "Values": ["Self"]}]});
        caller.must(EAST, "ssm", "ListDocuments", all)["DocumentIdentifiers"][0].clone()
    };
    let one = listed(&mut caller);
    assert_eq!(one["VersionName"], "first", "the default version stays until it is changed");
    assert_eq!(one["Tags"], json!([{"Key": "team", "Value": "trading"}]));
    let default = json!({"Name": "book", "DocumentVersion": "2"});
    caller.must(EAST, "ssm", "UpdateDocumentDefaultVersion", default);
    assert_eq!(listed(&mut caller)["VersionName"], "second");
    let versions = caller.must(EAST, "ssm", "ListDocumentVersions", json!({"Name": "book"}));
    assert_eq!(versions["DocumentVersions"][0]["VersionName"], "first");
    let old = json!({"Name": "book", "DocumentVersion": "1"});
    let old = caller.must(EAST, "ssm", "GetDocument", old);
    assert_eq!(old["Content"], content("one"));
    caller.must(EAST, "ssm", "DeleteDocument", json!({"Name": "book"}));
    let reply = caller.call(EAST, "ssm", "DeleteDocument", json!({"Name": "book"}));
    refused(reply, "InvalidDocument", "does not exist");
}

/// Systems Manager guide, "Running automations": parameters are checked before anything runs; a role that is
/// assumed has to be passed.
#[test]
fn an_automation_takes_parameters_that_its_document_has() {
    let mut caller = Caller::new();
    let mut book = document("book");
    let mut text: Value = serde_json::from_str(&content("one")).unwrap();
    text["parameters"] = json!({
        "When": {"type": "String", "allowedPattern": "^[0-9]+$"},
        "From": {"type": "String", "default": "here", "allowedValues": ["here", "there"]},
        "AutomationAssumeRole": {"type": "String", "default": ""},
    });
    book["Content"] = text.to_string().into();
    caller.must(EAST, "ssm", "CreateDocument", book);
    caller.pass(5);
    let start = |parameters: Value| json!({"DocumentName": "book", "Parameters": parameters});
    let code = "InvalidAutomationExecutionParametersException";
    for (parameters, words) in [
        (json!({}), "requires a value"),
        (json!({"When": ["now"]}), "does not match"),
        (json!({"When": ["1"], "From": ["nowhere"]}), "not allowed"),
        (json!({"When": ["1"], "Who": ["me"]}), "not defined"),
    ] {
        refused(
            caller.call(EAST, "ssm", "StartAutomationExecution", start(parameters)),
            code,
            words,
        );
    }
    caller.must(EAST, "ssm", "StartAutomationExecution", start(json!({"When": ["1"]})));
    let starts = json!([{
        "Effect": "Allow", "Action": "ssm:StartAutomationExecution",
        "Resource": "arn:aws:ssm:us-east-1:*:automation-definition/book:*",
    }]);
    caller.allow(starts);
    let role = format!("arn:aws:iam::{}:role/other", crate::ACCOUNT);
    let passed = start(json!({"When": ["1"], "AutomationAssumeRole": [role]}));
    let reply = caller.restricted(EAST, "ssm", "StartAutomationExecution", passed);
    refused(reply, "AccessDeniedException", "iam:PassRole");
}

/// aws-facts 0.8, 1.2; RDS API, RestoreDBInstanceToPointInTime and RestoreDBInstanceFromDBSnapshot.
#[test]
fn instances_are_restored_from_backups_and_never_from_a_replicas_moments() {
    let mut caller = Caller::new();
    let source = caller.pair();
    let restore = |more: Value| {
        let mut all = json!({
            "TargetDBInstanceIdentifier": "back", "DBSubnetGroupName": "subnets", "PubliclyAccessible": "false",
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let latest =
        |id: &str| json!({"SourceDBInstanceIdentifier": id, "UseLatestRestorableTime": "true"});
    let api = "RestoreDBInstanceToPointInTime";
    let reply = caller.rds(WEST, api, restore(latest("copy")));
    refused(reply, "InvalidDBInstanceState", "read replica");
    let both = json!({
        "SourceDBInstanceIdentifier": "db", "UseLatestRestorableTime": "true", "RestoreTime": "2026-01-05T00:10:00Z",
    });
    refused(
        caller.rds(EAST, api, restore(both)),
        "InvalidParameterCombination",
        "can't be specified",
    );
    let neither = json!({"SourceDBInstanceIdentifier": "db"});
    refused(
        caller.rds(EAST, api, restore(neither)),
        "InvalidParameterCombination",
        "must be specified",
    );
    let later = json!({"SourceDBInstanceIdentifier": "db", "RestoreTime": "2030-01-01T00:00:00Z"});
    refused(caller.rds(EAST, api, restore(later)), "InvalidParameterValue", "later than");
    let earlier =
        json!({"SourceDBInstanceIdentifier": "db", "RestoreTime": "2020-01-01T00:00:00Z"});
    refused(caller.rds(EAST, api, restore(earlier)), "InvalidParameterValue", "earlier than");
    caller.must(EAST, "rds", api, restore(latest("db")));
    caller.pass(700);
    let (old, new) = (caller.described(EAST, "db"), caller.described(EAST, "back"));
    assert_eq!(new["DBInstanceStatus"], "available");
    for member in ["KmsKeyId", "AllocatedStorage", "DBInstanceClass", "MasterUsername"] {
        assert_eq!(new[member], old[member], "{member}");
    }
    // The other region restores from what was replicated there.
    let key = caller.key(WEST);
    let start =
        json!({"SourceDBInstanceArn": source, "KmsKeyId": key, "BackupRetentionPeriod": "7"});
    let answer = caller.must(WEST, "rds", "StartDBInstanceAutomatedBackupsReplication", start);
    let arn = answer["DBInstanceAutomatedBackup"]["DBInstanceAutomatedBackupsArn"].clone();
    let there = json!({
        "SourceDBInstanceAutomatedBackupsArn": arn, "UseLatestRestorableTime": "true",
    });
    let reply = caller.rds(WEST, api, restore(there.clone()));
    refused(reply, "InvalidDBInstanceAutomatedBackupState", "nothing to restore yet");
    caller.pass(400);
    caller.must(WEST, "rds", api, restore(there));
    caller.pass(700);
    assert_eq!(caller.described(WEST, "back")["KmsKeyId"], key);
    let all = json!({"DBInstanceIdentifier": "db", "SnapshotType": "automated"});
    let found = caller.must(EAST, "rds", "DescribeDBSnapshots", all);
    let name = found["DBSnapshots"]["DBSnapshot"][0]["DBSnapshotIdentifier"].clone();
    let from = json!({
        "DBInstanceIdentifier": "again", "DBSnapshotIdentifier": name, "DBSubnetGroupName": "subnets",
    });
    caller.must(EAST, "rds", "RestoreDBInstanceFromDBSnapshot", from);
    caller.pass(700);
    assert_eq!(caller.status(EAST, "again"), "available");
}
