"""Holds the sandbox against AWS's own service models, as botocore carries them.

Every operation and parameter that it implements must be one of AWS's; every answer may hold only members
that AWS's model has. boto3, which nobody here wrote, drives all of its operations.

Usage: contract.py <path of the aws-sandbox program> <files of what the tests have kept of their traffic, in JSON>
"""

import base64
import datetime
import json
import re
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import errors
import others
import runbooks
import sessions
import traffic
from shapes import (
    NAMES, check_error, check_error_body, check_json, check_xml, local, model_of, problems, wire_names,
)

EAST, WEST = "us-east-1", "us-west-2"
# Sent outside of the body: in the path or the query of the request.
ROUTE53_QUERY = {"maxitems": "MaxItems", "marker": "Marker"}


def check_operations(operations):
    for service, table in operations.items():
        model = model_of(service)
        for operation, members in table.items():
            if operation not in model.operation_names:
                problems.append(f"{service} has no operation {operation}")
                continue
            shape = model.operation_model(operation).input_shape
            known = wire_names(shape, model.metadata["protocol"]) if shape else set()
            for member in members:
                if ROUTE53_QUERY.get(member, member) not in known and member not in known:
                    problems.append(f"{service}:{operation} has no parameter {member}")


def check_answer(operation_model, response_dict, **_):
    service = operation_model.service_model
    place = f"{service.service_name}:{operation_model.name}"
    protocol, body = service.resolved_protocol, response_dict["body"]
    if response_dict["status_code"] >= 300:
        check_error_body(body, protocol, place)
        return
    called.add((service.service_name, operation_model.name))
    shape = operation_model.output_shape
    if shape is None:
        return
    if protocol == "rest-json":
        payload = shape.serialization.get("payload")
        if not payload and body:
            check_json(json.loads(body), shape, place)
        return
    if protocol == "json":
        check_json(json.loads(body or "{}"), shape, place)
        return
    root = ElementTree.fromstring(body)
    if protocol == "query":
        wrapper = shape.serialization.get("resultWrapper")
        for child in root:
            if local(child.tag) == wrapper:
                check_xml(child, shape, place)
    else:
        check_xml(root, shape, place)


called = set()


class Account:
    def __init__(self, url):
        self.url = url
        self.config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=10)
        self.session = boto3.Session("AKIASANDBOX000000001", "sandbox")

    def client(self, service, region=EAST):
        client = self.session.client(service, region, endpoint_url=self.url, config=self.config)
        client.meta.events.register("before-parse", check_answer)
        return client

    def get(self, name):
        with urllib.request.urlopen(f"{self.url}/_sandbox/{name}") as answer:
            return json.load(answer)

    def post(self, name, body):
        body = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/{name}", body, method="POST")
        urllib.request.urlopen(request).read()

    def advance(self, seconds):
        self.post("clock", {"advance_seconds": seconds})

    def now(self):
        return datetime.datetime.fromisoformat(self.get("clock")["now"].replace("Z", "+00:00"))


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        if got != code:
            problems.append(f"{call.__name__}: {got} instead of {code}")
        client = call.__self__
        operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[call.__name__])
        check_error(operation, got, call.__name__)
        return
    problems.append(f"{call.__name__} was taken instead of {code}")


def drive_identity(account):
    account.client("sts").get_caller_identity()
    iam = account.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "monitoring.rds.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}]})
    policy = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
    role = iam.create_role(RoleName="monitor", AssumeRolePolicyDocument=trust, Tags=[{"Key": "a", "Value": "b"}])
    iam.get_role(RoleName="monitor")
    iam.attach_role_policy(RoleName="monitor", PolicyArn=policy)
    iam.list_attached_role_policies(RoleName="monitor")
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "rds:*", "Resource": "*"}]})
    iam.put_role_policy(RoleName="monitor", PolicyName="more", PolicyDocument=document)
    iam.get_role_policy(RoleName="monitor", PolicyName="more")
    iam.list_role_policies(RoleName="monitor")
    iam.delete_role_policy(RoleName="monitor", PolicyName="more")
    iam.update_assume_role_policy(RoleName="monitor", PolicyDocument=trust)
    iam.update_role(RoleName="monitor", Description="x")
    iam.tag_role(RoleName="monitor", Tags=[{"Key": "c", "Value": "d"}])
    iam.list_role_tags(RoleName="monitor")
    iam.untag_role(RoleName="monitor", TagKeys=["c"])
    iam.list_instance_profiles_for_role(RoleName="monitor")
    account.advance(20)
    account.client("sts").assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="contract")
    refused("NoSuchEntity", iam.get_role, RoleName="nobody")
    refused("InvalidInput", iam.create_service_linked_role, AWSServiceName="rds.amazonaws.com")
    # As in an account that never had a database.
    account.post("drift", {"region": "global", "kind": "role", "id": "AWSServiceRoleForRDS"})
    iam.create_service_linked_role(AWSServiceName="rds.amazonaws.com")
    return iam, role["Role"]["Arn"], policy


def drive_keys(account, region):
    kms = account.client("kms", region)
    key = kms.create_key(Description="x", Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]
    kms.create_alias(AliasName="alias/contract", TargetKeyId=key["KeyId"])
    kms.update_alias(AliasName="alias/contract", TargetKeyId=key["KeyId"])
    kms.describe_key(KeyId="alias/contract")
    kms.list_keys()
    kms.list_aliases()
    policy = json.loads(kms.get_key_policy(KeyId=key["KeyId"])["Policy"])
    policy["Statement"].append({
        "Effect": "Allow", "Principal": {"Service": f"logs.{region}.amazonaws.com"},
        "Action": ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
        "Resource": "*"})
    kms.put_key_policy(KeyId=key["KeyId"], Policy=json.dumps(policy))
    kms.enable_key_rotation(KeyId=key["KeyId"])
    kms.get_key_rotation_status(KeyId=key["KeyId"])
    kms.disable_key_rotation(KeyId=key["KeyId"])
    kms.disable_key(KeyId=key["KeyId"])
    kms.enable_key(KeyId=key["KeyId"])
    kms.update_key_description(KeyId=key["KeyId"], Description="contract")
    kms.tag_resource(KeyId=key["KeyId"], Tags=[{"TagKey": "c", "TagValue": "d"}])
    kms.list_resource_tags(KeyId=key["KeyId"])
    kms.untag_resource(KeyId=key["KeyId"], TagKeys=["c"])
    refused("NotFoundException", kms.describe_key, KeyId="alias/nothing")
    return kms, key["Arn"]


def drive_network(account, network):
    east, west = account.client("ec2", EAST), account.client("ec2", WEST)
    vpc, peer = network[EAST]["vpc_id"], network[WEST]["vpc_id"]
    east.describe_vpcs(VpcIds=[vpc])
    for attribute in ("enableDnsSupport", "enableDnsHostnames"):
        east.describe_vpc_attribute(VpcId=vpc, Attribute=attribute)
    east.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    east.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    east.describe_network_interfaces()
    made = east.create_vpc_peering_connection(VpcId=vpc, PeerVpcId=peer, PeerRegion=WEST)
    peering = made["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    account.advance(10)
    west.accept_vpc_peering_connection(VpcPeeringConnectionId=peering)
    account.advance(10)
    east.describe_vpc_peering_connections(VpcPeeringConnectionIds=[peering])
    options = {"AllowDnsResolutionFromRemoteVpc": True}
    east.modify_vpc_peering_connection_options(VpcPeeringConnectionId=peering, RequesterPeeringConnectionOptions=options)
    table = network[EAST]["private_route_table_ids"][0]
    route = {"RouteTableId": table, "DestinationCidrBlock": "10.20.0.0/16", "VpcPeeringConnectionId": peering}
    east.create_route(**route)
    refused("RouteAlreadyExists", east.create_route, **route)
    east.replace_route(**route)
    east.delete_route(RouteTableId=table, DestinationCidrBlock="10.20.0.0/16")
    group = east.create_security_group(GroupName="contract", Description="x", VpcId=vpc)["GroupId"]
    rule = [{"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "x"}]}]
    east.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    east.authorize_security_group_egress(GroupId=group, IpPermissions=rule)
    east.describe_security_groups(GroupIds=[group])
    east.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
    east.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    east.revoke_security_group_egress(GroupId=group, IpPermissions=rule)
    east.create_tags(Resources=[group], Tags=[{"Key": "a", "Value": "b"}])
    east.delete_tags(Resources=[group], Tags=[{"Key": "a"}])
    return east, peering, group


def drive_rest(account, network, key):
    logs = account.client("logs")
    logs.create_log_group(logGroupName="/contract/x", kmsKeyId=key, tags={"a": "b"})
    logs.put_retention_policy(logGroupName="/contract/x", retentionInDays=30)
    group = logs.describe_log_groups(logGroupNamePrefix="/contract/")["logGroups"][0]
    arn = group["arn"].removesuffix(":*")
    logs.tag_resource(resourceArn=arn, tags={"c": "d"})
    logs.list_tags_for_resource(resourceArn=arn)
    logs.untag_resource(resourceArn=arn, tagKeys=["c"])
    logs.disassociate_kms_key(logGroupName="/contract/x")
    logs.associate_kms_key(logGroupName="/contract/x", kmsKeyId=key)
    logs.delete_retention_policy(logGroupName="/contract/x")
    logs.delete_log_group(logGroupName="/contract/x")
    ssm = account.client("ssm")
    ssm.put_parameter(Name="/contract/a", Value="1", Type="String", Tags=[{"Key": "a", "Value": "b"}])
    refused("ParameterAlreadyExists", ssm.put_parameter, Name="/contract/a", Value="1", Type="String")
    ssm.put_parameter(Name="/contract/a", Value="2", Type="String", Overwrite=True)
    ssm.get_parameter(Name="/contract/a")
    ssm.get_parameters_by_path(Path="/contract", Recursive=True)
    ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId="/contract/a", Tags=[{"Key": "c", "Value": "d"}])
    ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/contract/a")
    ssm.delete_parameters(Names=["/contract/a", "/contract/b"])
    refused("ParameterNotFound", ssm.delete_parameter, Name="/contract/a")
    runbooks.drive_documents(account, refused)
    secrets = account.client("secretsmanager")
    secrets.create_secret(Name="contract", SecretString="{}", KmsKeyId=key, Tags=[{"Key": "a", "Value": "b"}])
    secrets.replicate_secret_to_regions(SecretId="contract", AddReplicaRegions=[{"Region": WEST}])
    account.advance(10)
    secrets.describe_secret(SecretId="contract")
    secrets.get_resource_policy(SecretId="contract")
    secrets.get_secret_value(SecretId="contract")
    secrets.put_secret_value(SecretId="contract", SecretString="{}")
    secrets.update_secret(SecretId="contract", Description="x")
    secrets.tag_resource(SecretId="contract", Tags=[{"Key": "c", "Value": "d"}])
    secrets.untag_resource(SecretId="contract", TagKeys=["c"])
    secrets.remove_regions_from_replication(SecretId="contract", RemoveReplicaRegions=[WEST])
    account.advance(100)
    secrets.delete_secret(SecretId="contract")
    secrets.restore_secret(SecretId="contract")
    secrets.delete_secret(SecretId="contract", ForceDeleteWithoutRecovery=True)
    refused("InvalidRequestException", secrets.restore_secret, SecretId="contract")
    route53 = account.client("route53")
    route53.list_hosted_zones()
    route53.get_hosted_zone(Id=network["hosted_zone"]["id"])
    account.advance(30)
    account.client("resourcegroupstaggingapi").get_resources(TagFilters=[{"Key": "a", "Values": ["b"]}])


def drive_databases(account, network, keys, role):
    east, west = account.client("rds", EAST), account.client("rds", WEST)
    east.describe_db_engine_versions(Engine="postgres", EngineVersion="15", DefaultOnly=True)
    east.describe_orderable_db_instance_options(Engine="postgres", DBInstanceClass="db.t3.medium")
    east.describe_engine_default_parameters(DBParameterGroupFamily="postgres15")
    for rds, region in ((east, EAST), (west, WEST)):
        subnets = network[region]["private_subnet_ids"]
        rds.create_db_subnet_group(DBSubnetGroupName="contract", DBSubnetGroupDescription="x", SubnetIds=subnets)
        rds.modify_db_subnet_group(DBSubnetGroupName="contract", SubnetIds=subnets)
        rds.describe_db_subnet_groups(DBSubnetGroupName="contract")
    east.create_db_parameter_group(DBParameterGroupName="contract", DBParameterGroupFamily="postgres15", Description="x")
    change = [{"ParameterName": "work_mem", "ParameterValue": "65536", "ApplyMethod": "immediate"}]
    east.modify_db_parameter_group(DBParameterGroupName="contract", Parameters=change)
    east.describe_db_parameter_groups(DBParameterGroupName="contract")
    east.describe_db_parameters(DBParameterGroupName="contract")
    east.reset_db_parameter_group(DBParameterGroupName="contract", Parameters=change)
    made = east.create_db_instance(
        DBInstanceIdentifier="contract", DBInstanceClass="db.t3.medium", Engine="postgres", EngineVersion="15",
        AllocatedStorage=50, StorageType="gp3", MasterUsername="boss", MasterUserPassword="correct-horse",
        DBName="x", MultiAZ=True, StorageEncrypted=True, KmsKeyId=keys[EAST], DBSubnetGroupName="contract",
        DBParameterGroupName="contract", BackupRetentionPeriod=7, MonitoringInterval=60, MonitoringRoleArn=role,
        EnablePerformanceInsights=True, PerformanceInsightsKMSKeyId=keys[EAST],
        EnableCloudwatchLogsExports=["postgresql", "upgrade"], Tags=[{"Key": "a", "Value": "b"}])
    arn = made["DBInstance"]["DBInstanceArn"]
    account.advance(800)
    east.get_waiter("db_instance_available").wait(DBInstanceIdentifier="contract")
    east.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "c", "Value": "d"}])
    east.list_tags_for_resource(ResourceName=arn)
    east.remove_tags_from_resource(ResourceName=arn, TagKeys=["c"])
    west.create_db_instance_read_replica(
        DBInstanceIdentifier="contract-2", SourceDBInstanceIdentifier=arn, KmsKeyId=keys[WEST],
        DBSubnetGroupName="contract", DBInstanceClass="db.t3.medium")
    account.advance(1300)
    west.describe_db_instances(DBInstanceIdentifier="contract-2")
    west.start_db_instance_automated_backups_replication(SourceDBInstanceArn=arn, KmsKeyId=keys[WEST])
    account.advance(400)
    backups = west.describe_db_instance_automated_backups(DBInstanceIdentifier="contract")
    backup = backups["DBInstanceAutomatedBackups"][0]["DBInstanceAutomatedBackupsArn"]
    runbooks.drive_restores(account, west, backup=backup, snapshot=None)
    east.modify_db_instance(DBInstanceIdentifier="contract", DBInstanceClass="db.t3.large", ApplyImmediately=True)
    east.describe_db_instances(DBInstanceIdentifier="contract")
    account.advance(700)
    east.reboot_db_instance(DBInstanceIdentifier="contract")
    account.advance(100)
    drive_watching(account, network, keys[EAST])
    west.promote_read_replica(DBInstanceIdentifier="contract-2", BackupRetentionPeriod=7)
    account.advance(300)
    west.delete_db_instance(DBInstanceIdentifier="contract-2", SkipFinalSnapshot=True)
    west.stop_db_instance_automated_backups_replication(SourceDBInstanceArn=arn)
    west.delete_db_instance_automated_backup(DBInstanceAutomatedBackupsArn=backup)
    account.advance(100)
    east.delete_db_instance(DBInstanceIdentifier="contract", FinalDBSnapshotIdentifier="last")
    account.advance(600)
    last = east.describe_db_snapshots(DBSnapshotIdentifier="last")["DBSnapshots"][0]["DBSnapshotArn"]
    west.copy_db_snapshot(SourceDBSnapshotIdentifier=last, TargetDBSnapshotIdentifier="contract-copy",
                          KmsKeyId=keys[WEST], Tags=[{"Key": "a", "Value": "b"}])
    account.advance(1000)
    runbooks.drive_restores(account, west, backup=None, snapshot="contract-copy")
    west.delete_db_snapshot(DBSnapshotIdentifier="contract-copy")
    east.delete_db_snapshot(DBSnapshotIdentifier="last")
    refused("DBInstanceNotFound", east.describe_db_instances, DBInstanceIdentifier="contract")
    east.delete_db_parameter_group(DBParameterGroupName="contract")
    for rds in (east, west):
        rds.delete_db_subnet_group(DBSubnetGroupName="contract")


def drive_watching(account, network, key):
    topic = f"arn:aws:sns:{EAST}:123456789012:contract"
    kms = account.client("kms")
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"Service": "events.rds.amazonaws.com"},
         "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*"}]}))
    sns = account.client("sns")
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "events.rds.amazonaws.com"}, "Action": "sns:Publish",
        "Resource": topic}]})
    tags = [{"Key": "a", "Value": "b"}]
    sns.create_topic(Name="contract", Attributes={"KmsMasterKeyId": key}, Tags=tags)
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    sns.get_topic_attributes(TopicArn=topic)
    sns.tag_resource(ResourceArn=topic, Tags=tags)
    sns.untag_resource(ResourceArn=topic, TagKeys=["a"])
    sns.list_tags_for_resource(ResourceArn=topic)
    queue = f"arn:aws:sqs:{EAST}:123456789012:alerts"
    one = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, ReturnSubscriptionArn=True)
    sns.list_subscriptions_by_topic(TopicArn=topic)
    sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
    sns.publish(TopicArn=topic, Subject="contract", Message="hello")
    rds = account.client("rds")
    rds.create_event_subscription(SubscriptionName="contract", SnsTopicArn=topic, SourceType="db-instance",
                                  SourceIds=["contract"], EventCategories=["failover"], Enabled=True, Tags=tags)
    account.advance(20)
    rds.describe_event_subscriptions(SubscriptionName="contract")
    rds.add_source_identifier_to_subscription(SubscriptionName="contract", SourceIdentifier="contract")
    rds.remove_source_identifier_from_subscription(SubscriptionName="contract", SourceIdentifier="contract")
    rds.modify_event_subscription(SubscriptionName="contract", Enabled=False)
    rds.delete_event_subscription(SubscriptionName="contract")
    rds.describe_events(SourceIdentifier="contract", SourceType="db-instance", Duration=1440)
    sns.delete_topic(TopicArn=topic)
    refused("NotFound", sns.get_topic_attributes, TopicArn=topic)
    watch = account.client("cloudwatch")
    watch.put_metric_alarm(AlarmName="contract", MetricName="PrimaryServing", Namespace="TradingDR",
                           Statistic="Minimum", Period=60, EvaluationPeriods=1, Threshold=1.0,
                           ComparisonOperator="LessThanThreshold", TreatMissingData="ignore", Tags=tags)
    arn = watch.describe_alarms(AlarmNames=["contract"])["MetricAlarms"][0]["AlarmArn"]
    watch.tag_resource(ResourceARN=arn, Tags=tags)
    watch.untag_resource(ResourceARN=arn, TagKeys=["a"])
    watch.list_tags_for_resource(ResourceARN=arn)
    watch.put_metric_data(Namespace="TradingDR", MetricData=[{"MetricName": "PrimaryServing", "Value": 1.0}])
    account.advance(120)
    state = watch.describe_alarms(AlarmNames=["contract"])["MetricAlarms"][0]["StateValue"]
    if state != "OK":
        problems.append(f"an alarm on good data is {state}")
    now = account.now()
    start, end = now - datetime.timedelta(minutes=10), now
    found = watch.get_metric_statistics(Namespace="TradingDR", MetricName="PrimaryServing", StartTime=start,
                                        EndTime=end, Period=60, Statistics=["Minimum"])
    if not found["Datapoints"]:
        problems.append("a value that was published is not found")
    metric = {"Namespace": "TradingDR", "MetricName": "PrimaryServing"}
    watch.get_metric_data(StartTime=start, EndTime=end, MetricDataQueries=[
        {"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Minimum"}}])
    body = json.dumps({"widgets": [{"type": "text", "x": 0, "y": 0, "width": 6, "height": 2,
                                    "properties": {"markdown": "contract"}}]})
    watch.put_dashboard(DashboardName="contract", DashboardBody=body)
    watch.get_dashboard(DashboardName="contract")
    watch.delete_dashboards(DashboardNames=["contract"])
    drive_names(account, network)
    watch.delete_alarms(AlarmNames=["contract"])
    refused("ResourceNotFound", watch.delete_alarms, AlarmNames=["contract"])


def drive_names(account, network):
    dns = account.client("route53")
    vpc = lambda region: {"VPCRegion": region, "VPCId": network[region]["vpc_id"]}
    zone = dns.create_hosted_zone(Name="contract.internal", VPC=vpc(EAST), CallerReference="contract",
                                  HostedZoneConfig={"Comment": "contract", "PrivateZone": True})
    id = zone["HostedZone"]["Id"]
    dns.associate_vpc_with_hosted_zone(HostedZoneId=id, VPC=vpc(WEST))
    dns.disassociate_vpc_from_hosted_zone(HostedZoneId=id, VPC=vpc(WEST))
    dns.list_hosted_zones_by_name(DNSName="contract.internal")
    dns.update_hosted_zone_comment(Id=id, Comment="another")
    dns.get_change(Id=zone["ChangeInfo"]["Id"])
    config = {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": EAST, "Name": "contract"},
              "InsufficientDataHealthStatus": "LastKnownStatus", "Inverted": False}
    check = dns.create_health_check(CallerReference="contract", HealthCheckConfig=config)["HealthCheck"]["Id"]
    dns.get_health_check(HealthCheckId=check)
    dns.list_health_checks()
    dns.update_health_check(HealthCheckId=check, Inverted=True)
    dns.change_tags_for_resource(ResourceType="healthcheck", ResourceId=check, AddTags=[{"Key": "a", "Value": "b"}],
                                 RemoveTagKeys=["c"])
    dns.list_tags_for_resource(ResourceType="healthcheck", ResourceId=check)
    record = {"Name": "db.contract.internal", "Type": "CNAME", "SetIdentifier": "one", "Weight": 100, "TTL": 30,
              "ResourceRecords": [{"Value": "one.example"}], "HealthCheckId": check}
    for action in ("CREATE", "UPSERT", "DELETE"):
        dns.change_resource_record_sets(HostedZoneId=id, ChangeBatch={
            "Changes": [{"Action": action, "ResourceRecordSet": record}]})
        dns.list_resource_record_sets(HostedZoneId=id, StartRecordName="db.contract.internal")
    dns.delete_health_check(HealthCheckId=check)
    refused("NoSuchHealthCheck", dns.get_health_check, HealthCheckId=check)
    dns.delete_hosted_zone(Id=id)


def drive_running(account, key):
    tags = [{"Key": "a", "Value": "b"}]
    table = account.client("dynamodb")
    keys = [{"AttributeName": "cluster", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}]
    kinds = [{"AttributeName": one["AttributeName"], "AttributeType": "S"} for one in keys]
    arn = table.create_table(TableName="contract", BillingMode="PAY_PER_REQUEST", KeySchema=keys,
                             AttributeDefinitions=kinds, Tags=tags,
                             SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
                             DeletionProtectionEnabled=False)["TableDescription"]["TableArn"]
    account.advance(11)
    table.describe_table(TableName="contract")
    item = {"cluster": {"S": "prod"}, "item": {"S": "lease"}, "beat": {"N": "1"}}
    table.put_item(TableName="contract", Item=item, ConditionExpression="attribute_not_exists(#i)",
                   ExpressionAttributeNames={"#i": "item"})
    refused("ConditionalCheckFailedException", table.put_item, TableName="contract", Item=item,
            ConditionExpression="beat = :b", ExpressionAttributeValues={":b": {"N": "2"}})
    table.update_item(TableName="contract", Key={"cluster": {"S": "prod"}, "item": {"S": "intent"}},
                      UpdateExpression="SET #h = :h REMOVE #b", ExpressionAttributeValues={":h": {"N": "5"}},
                      ExpressionAttributeNames={"#h": "hold_until", "#b": "held_by"})
    table.update_table(TableName="contract", BillingMode="PAY_PER_REQUEST")
    account.advance(11)
    table.get_item(TableName="contract", Key={"cluster": {"S": "prod"}, "item": {"S": "lease"}}, ConsistentRead=True)
    table.query(TableName="contract", KeyConditionExpression="#c = :c", ConsistentRead=True,
                ExpressionAttributeNames={"#c": "cluster"}, ExpressionAttributeValues={":c": {"S": "prod"}})
    table.tag_resource(ResourceArn=arn, Tags=tags)
    table.untag_resource(ResourceArn=arn, TagKeys=["a"])
    table.list_tags_of_resource(ResourceArn=arn)
    table.delete_table(TableName="contract")
    iam = account.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
    role = iam.create_role(RoleName="runner", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    account.advance(11)
    run = account.client("lambda")
    code = base64.b64decode("UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==")
    function = run.create_function(FunctionName="contract", Runtime="provided.al2023", Role=role, Handler="bootstrap",
                                   Code={"ZipFile": code}, Timeout=80, MemorySize=128, Architectures=["x86_64"],
                                   Environment={"Variables": {"KEY": "b"}}, Tags={"a": "b"})["FunctionArn"]
    account.advance(11)
    run.get_function(FunctionName="contract")
    run.update_function_configuration(FunctionName="contract", Timeout=90)
    account.advance(6)
    run.update_function_code(FunctionName="contract", ZipFile=code)
    account.advance(6)
    run.put_function_event_invoke_config(FunctionName="contract", MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60)
    run.get_function_event_invoke_config(FunctionName="contract")
    run.get_account_settings()
    run.put_function_concurrency(FunctionName="contract", ReservedConcurrentExecutions=10)
    refused("InvalidParameterValueException", run.put_function_concurrency, FunctionName="contract",
            ReservedConcurrentExecutions=901)
    run.delete_function_concurrency(FunctionName="contract")
    events = account.client("events")
    rule = events.put_rule(Name="contract", ScheduleExpression="rate(1 minute)", State="ENABLED", Tags=tags)["RuleArn"]
    events.describe_rule(Name="contract")
    events.list_rules(NamePrefix="contract", Limit=10)
    events.put_targets(Rule="contract", Targets=[{"Id": "1", "Arn": function}])
    events.list_targets_by_rule(Rule="contract")
    events.tag_resource(ResourceARN=rule, Tags=tags)
    events.untag_resource(ResourceARN=rule, TagKeys=["a"])
    events.list_tags_for_resource(ResourceARN=rule)
    run.add_permission(FunctionName="contract", StatementId="schedule", Action="lambda:InvokeFunction",
                       Principal="events.amazonaws.com", SourceArn=rule)
    run.get_policy(FunctionName="contract")
    run.remove_permission(FunctionName="contract", StatementId="schedule")
    answer = run.invoke(FunctionName="contract", Payload=b"{}")
    if "FunctionError" not in answer:
        problems.append("a function ran although nothing runs functions")
    run.tag_resource(Resource=function, Tags={"c": "d"})
    run.untag_resource(Resource=function, TagKeys=["c"])
    run.list_tags(Resource=function)
    events.remove_targets(Rule="contract", Ids=["1"])
    events.delete_rule(Name="contract")
    run.delete_function(FunctionName="contract")
    refused("ResourceNotFoundException", run.get_function, FunctionName="contract")
    iam.delete_role(RoleName="runner")
    account.advance(1300)


def drive(account):
    network = account.get("network")
    iam, role, policy = drive_identity(account)
    clients = {region: drive_keys(account, region) for region in (EAST, WEST)}
    keys = {region: key for region, (_, key) in clients.items()}
    ec2, peering, group = drive_network(account, network)
    drive_rest(account, network, keys[EAST])
    drive_running(account, keys[EAST])
    drive_databases(account, network, keys, role)
    others.drive(account, network)
    sessions.drive(account, refused)
    ec2.delete_security_group(GroupId=group)
    ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=peering)
    iam.detach_role_policy(RoleName="monitor", PolicyArn=policy)
    iam.delete_role(RoleName="monitor")
    for region, (kms, key) in clients.items():
        kms.delete_alias(AliasName="alias/contract")
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        kms.cancel_key_deletion(KeyId=key)
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    left = [one for one in account.get("leftovers") if "log-group" not in one]
    if left:
        problems.append(f"left behind: {left}")


def main():
    sandbox = subprocess.Popen([sys.argv[1], "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+?(?=,| )", sandbox.stdout.readline()).group().rstrip(",")
        account = Account(url)
        operations = account.get("operations")
        check_operations(operations)
        errors.check(operations, model_of, problems)
        drive(account)
        every = {(NAMES.get(service, service), name) for service, table in operations.items() for name in table}
        for service, name in sorted(every - called):
            problems.append(f"{service}:{name} was not driven")
        count = sum(len(table) for table in operations.values())
        exchanged = traffic.check(sys.argv[2:])
    finally:
        sandbox.kill()
        sandbox.wait()
    for problem in sorted(set(problems)):
        print(f"  {problem}")
    print(f"{exchanged} calls of the provider, the functions and the data source, with their answers")
    print(f"{count} operations, {len(set(problems))} contradictions to AWS's models")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
