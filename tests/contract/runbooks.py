"""Drives the operations that runbooks are made of: documents, their executions, restores."""

import json


def content(description):
    look = {"name": "Look", "action": "aws:executeAwsApi",
            "inputs": {"Service": "rds", "Api": "DescribeDBInstances"}}
    return json.dumps({"schemaVersion": "0.3", "description": description, "mainSteps": [look]})


def drive_documents(account, refused):
    ssm = account.client("ssm")
    made = dict(Name="contract", DocumentType="Automation", DocumentFormat="JSON", VersionName="first",
                Tags=[{"Key": "a", "Value": "b"}])
    refused("InvalidDocumentContent", ssm.create_document, Content='{"schemaVersion": "0.3"}', **made)
    ssm.create_document(Content=content("one"), **made)
    refused("DocumentAlreadyExists", ssm.create_document, Content=content("one"), **made)
    account.advance(5)
    ssm.describe_document(Name="contract")
    ssm.update_document(Name="contract", Content=content("two"), VersionName="second", DocumentFormat="JSON",
                        DocumentVersion="$LATEST")
    account.advance(5)
    ssm.list_document_versions(Name="contract")
    ssm.update_document_default_version(Name="contract", DocumentVersion="2")
    ssm.get_document(Name="contract", DocumentVersion="1")
    ssm.list_documents(Filters=[{"Key": "Owner", "Values": ["Self"]}], MaxResults=50)
    tagged = dict(ResourceType="Document", ResourceId="contract")
    ssm.add_tags_to_resource(Tags=[{"Key": "c", "Value": "d"}], **tagged)
    ssm.list_tags_for_resource(**tagged)
    ssm.remove_tags_from_resource(TagKeys=["c"], **tagged)
    run = ssm.start_automation_execution(DocumentName="contract", DocumentVersion="$DEFAULT")
    account.advance(30)
    ssm.get_automation_execution(AutomationExecutionId=run["AutomationExecutionId"])
    ssm.delete_document(Name="contract")
    refused("InvalidDocument", ssm.describe_document, Name="contract")


def drive_restores(account, rds, backup, snapshot):
    """Restores a moment and a snapshot into instances that are removed again."""
    placed = dict(DBSubnetGroupName="contract", MultiAZ=False, PubliclyAccessible=False)
    if backup:
        rds.restore_db_instance_to_point_in_time(
            SourceDBInstanceAutomatedBackupsArn=backup, TargetDBInstanceIdentifier="contract-moment",
            UseLatestRestorableTime=True, **placed)
        name = "contract-moment"
    else:
        rds.restore_db_instance_from_db_snapshot(
            DBSnapshotIdentifier=snapshot, DBInstanceIdentifier="contract-snapshot", **placed)
        name = "contract-snapshot"
    account.advance(1500)
    rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=name)
    rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    account.advance(600)
