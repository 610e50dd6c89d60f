"""Drives what the provider and the agent never call, and other clients do (`make peer`)."""

import base64
import json

EAST = "us-east-1"


def drive(account, network):
    vpc = network[EAST]["vpc_id"]
    account.client("ec2").describe_vpc_attribute(VpcId=vpc, Attribute="enableNetworkAddressUsageMetrics")
    account.client("route53").list_hosted_zones_by_vpc(VPCId=vpc, VPCRegion=EAST, MaxItems="10")

    ssm = account.client("ssm")
    ssm.put_parameter(Name="/others", Value="x", Type="String", Description="About it")
    ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": ["/others"]}], MaxResults=5)
    ssm.delete_parameter(Name="/others")
    content = json.dumps({"schemaVersion": "0.3", "mainSteps": [
        {"name": "wait", "action": "aws:sleep", "inputs": {"Duration": "PT1S"}, "isEnd": True}]})
    ssm.create_document(Name="others", Content=content, DocumentType="Automation", DocumentFormat="JSON")
    account.advance(11)
    ssm.get_document(Name="others", DocumentFormat="JSON")
    ssm.describe_document_permission(Name="others", PermissionType="Share")
    ssm.delete_document(Name="others")

    topic = account.client("sns").create_topic(Name="others")["TopicArn"]
    sns = account.client("sns")
    sns.set_topic_attributes(TopicArn=topic, AttributeName="HTTPSuccessFeedbackSampleRate", AttributeValue="0")
    queue = f"arn:aws:sqs:{EAST}:123456789012:others"
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]
    sns.get_subscription_attributes(SubscriptionArn=subscription)
    sns.delete_topic(TopicArn=topic)

    table = account.client("dynamodb")
    table.create_table(TableName="others", BillingMode="PAY_PER_REQUEST",
                       KeySchema=[{"AttributeName": "one", "KeyType": "HASH"}],
                       AttributeDefinitions=[{"AttributeName": "one", "AttributeType": "S"}])
    account.advance(11)
    table.describe_continuous_backups(TableName="others")
    table.update_continuous_backups(TableName="others", PointInTimeRecoverySpecification={
        "PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": 7})
    table.update_time_to_live(TableName="others", TimeToLiveSpecification={"Enabled": True, "AttributeName": "end"})
    table.describe_time_to_live(TableName="others")
    table.delete_table(TableName="others")

    iam = account.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
    role = iam.create_role(RoleName="others", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    account.advance(11)
    run = account.client("lambda")
    code = base64.b64decode("UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==")
    run.create_function(FunctionName="others", Runtime="provided.al2023", Role=role, Handler="bootstrap",
                        Code={"ZipFile": code})
    account.advance(11)
    run.list_versions_by_function(FunctionName="others")
    run.get_function_code_signing_config(FunctionName="others")
    run.put_function_event_invoke_config(FunctionName="others", MaximumRetryAttempts=0)
    run.delete_function_event_invoke_config(FunctionName="others")
    run.delete_function(FunctionName="others")
    iam.delete_role(RoleName="others")
    account.advance(11)
