# The stack that `trading_dr_cluster` makes, written as separate resources of hashicorp/aws: a client that nobody
# here wrote, on the simulated AWS. tests/peer/mod.rs runs it.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "suffix" {
  type    = string
  default = "peer"
}

variable "network" {
  description = "The account's network, as the simulated AWS tells it."
  type = map(object({
    vpc_id                        = string
    vpc_cidr                      = string
    private_subnet_ids            = list(string)
    private_route_table_ids       = list(string)
    application_security_group_id = string
  }))
}

variable "function_zip" {
  type = string
}

variable "cpu_percent" {
  type    = number
  default = 80
}

provider "aws" {
  region = "us-east-1"

  default_tags {
    tags = { stack = "peer" }
  }
}

provider "aws" {
  alias  = "dr"
  region = "us-west-2"

  default_tags {
    tags = { stack = "peer" }
  }
}

provider "aws" {
  alias  = "witness"
  region = "us-east-2"
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

data "aws_vpc" "primary" {
  id = local.primary.vpc_id
}

data "aws_subnets" "primary" {
  filter {
    name   = "vpc-id"
    values = [local.primary.vpc_id]
  }
}

locals {
  primary = var.network["us-east-1"]
  dr      = var.network["us-west-2"]
  account = data.aws_caller_identity.this.account_id
}

# Peering

resource "aws_vpc_peering_connection" "this" {
  vpc_id      = local.primary.vpc_id
  peer_vpc_id = local.dr.vpc_id
  peer_region = "us-west-2"
  tags        = { Name = "trading-db-peering-${var.suffix}" }
}

resource "aws_vpc_peering_connection_accepter" "this" {
  provider                  = aws.dr
  vpc_peering_connection_id = aws_vpc_peering_connection.this.id
  auto_accept               = true
}

resource "aws_vpc_peering_connection_options" "primary" {
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id

  requester {
    allow_remote_vpc_dns_resolution = true
  }
}

resource "aws_vpc_peering_connection_options" "dr" {
  provider                  = aws.dr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id

  accepter {
    allow_remote_vpc_dns_resolution = true
  }
}

resource "aws_route" "primary" {
  for_each                  = toset(local.primary.private_route_table_ids)
  route_table_id            = each.value
  destination_cidr_block    = local.dr.vpc_cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id
}

resource "aws_route" "dr" {
  provider                  = aws.dr
  for_each                  = toset(local.dr.private_route_table_ids)
  route_table_id            = each.value
  destination_cidr_block    = local.primary.vpc_cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id
}

# Keys

data "aws_iam_policy_document" "key" {
  statement {
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.this.partition}:iam::${local.account}:root"]
    }
  }

  statement {
    actions   = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.us-east-1.amazonaws.com", "logs.us-west-2.amazonaws.com", "cloudwatch.amazonaws.com", "events.rds.amazonaws.com"]
    }
  }
}

resource "aws_kms_key" "primary" {
  description             = "Storage of ${var.suffix}"
  deletion_window_in_days = 7
  enable_key_rotation     = true
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_key" "dr" {
  provider                = aws.dr
  description             = "Storage of ${var.suffix}"
  deletion_window_in_days = 7
  enable_key_rotation     = true
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "primary" {
  name          = "alias/trading-db-key-${var.suffix}"
  target_key_id = aws_kms_key.primary.key_id
}

resource "aws_kms_alias" "dr" {
  provider      = aws.dr
  name          = "alias/trading-db-key-${var.suffix}"
  target_key_id = aws_kms_key.dr.key_id
}

# Who may connect

resource "aws_security_group" "primary" {
  name        = "trading-db-sg-${var.suffix}"
  description = "Database of ${var.suffix}"
  vpc_id      = local.primary.vpc_id
}

resource "aws_security_group" "dr" {
  provider    = aws.dr
  name        = "trading-db-sg-${var.suffix}"
  description = "Database of ${var.suffix}"
  vpc_id      = local.dr.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "primary" {
  security_group_id            = aws_security_group.primary.id
  description                  = "PostgreSQL from applications"
  referenced_security_group_id = local.primary.application_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_ingress_rule" "dr" {
  provider          = aws.dr
  security_group_id = aws_security_group.dr.id
  description       = "PostgreSQL from the other region"
  cidr_ipv4         = local.primary.vpc_cidr
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432
}

resource "aws_vpc_security_group_egress_rule" "dr" {
  provider          = aws.dr
  security_group_id = aws_security_group.dr.id
  description       = "Replication"
  cidr_ipv4         = local.primary.vpc_cidr
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432
}

# The databases

resource "aws_db_subnet_group" "primary" {
  name       = "trading-db-subnets-${var.suffix}"
  subnet_ids = local.primary.private_subnet_ids
}

resource "aws_db_subnet_group" "dr" {
  provider   = aws.dr
  name       = "trading-db-subnets-${var.suffix}"
  subnet_ids = local.dr.private_subnet_ids
}

resource "aws_db_parameter_group" "primary" {
  name   = "trading-db-params-${var.suffix}"
  family = "postgres15"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "500"
  }

  parameter {
    name         = "max_wal_senders"
    value        = "20"
    apply_method = "pending-reboot"
  }
}

resource "aws_db_parameter_group" "dr" {
  provider = aws.dr
  name     = "trading-db-params-${var.suffix}"
  family   = "postgres15"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
}

data "aws_iam_policy_document" "assume" {
  for_each = toset(["monitoring.rds", "lambda"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["${each.value}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "monitoring" {
  name               = "trading-db-monitoring-${var.suffix}"
  assume_role_policy = data.aws_iam_policy_document.assume["monitoring.rds"].json
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_secretsmanager_secret" "master" {
  name                    = "trading-db-master-${var.suffix}"
  kms_key_id              = aws_kms_key.primary.arn
  recovery_window_in_days = 0

  replica {
    region     = "us-west-2"
    kms_key_id = aws_kms_key.dr.arn
  }
}

resource "aws_secretsmanager_secret_version" "master" {
  secret_id     = aws_secretsmanager_secret.master.id
  secret_string = jsonencode({ username = "trading_admin", password = "correct-horse-battery-staple" })
}

resource "aws_cloudwatch_log_group" "database" {
  for_each          = toset(["postgresql", "upgrade"])
  name              = "/aws/rds/instance/trading-db-primary-${var.suffix}/${each.value}"
  retention_in_days = 30
  kms_key_id        = aws_kms_key.primary.arn
}

resource "aws_db_instance" "primary" {
  identifier                          = "trading-db-primary-${var.suffix}"
  engine                              = "postgres"
  engine_version                      = "15"
  instance_class                      = "db.t3.medium"
  allocated_storage                   = 100
  storage_type                        = "gp3"
  storage_encrypted                   = true
  kms_key_id                          = aws_kms_key.primary.arn
  db_name                             = "trading"
  username                            = "trading_admin"
  password                            = "correct-horse-battery-staple"
  port                                = 5432
  multi_az                            = true
  db_subnet_group_name                = aws_db_subnet_group.primary.name
  parameter_group_name                = aws_db_parameter_group.primary.name
  vpc_security_group_ids              = [aws_security_group.primary.id]
  backup_retention_period             = 7
  backup_window                       = "03:00-04:00"
  maintenance_window                  = "sun:05:00-sun:06:00"
  auto_minor_version_upgrade          = false
  copy_tags_to_snapshot               = true
  performance_insights_enabled        = true
  performance_insights_kms_key_id     = aws_kms_key.primary.arn
  monitoring_interval                 = 60
  monitoring_role_arn                 = aws_iam_role.monitoring.arn
  enabled_cloudwatch_logs_exports     = ["postgresql", "upgrade"]
  ca_cert_identifier                  = "rds-ca-rsa2048-g1"
  iam_database_authentication_enabled = false
  apply_immediately                   = true
  skip_final_snapshot                 = true
  depends_on                          = [aws_cloudwatch_log_group.database, aws_iam_role_policy_attachment.monitoring]
}

resource "aws_db_instance" "replica" {
  provider                        = aws.dr
  identifier                      = "trading-db-replica-${var.suffix}"
  replicate_source_db             = aws_db_instance.primary.arn
  instance_class                  = "db.t3.medium"
  storage_type                    = "gp3"
  storage_encrypted               = true
  kms_key_id                      = aws_kms_key.dr.arn
  db_subnet_group_name            = aws_db_subnet_group.dr.name
  parameter_group_name            = aws_db_parameter_group.dr.name
  vpc_security_group_ids          = [aws_security_group.dr.id]
  backup_retention_period         = 7
  backup_window                   = "07:00-08:00"
  auto_minor_version_upgrade      = false
  copy_tags_to_snapshot           = true
  performance_insights_enabled    = true
  performance_insights_kms_key_id = aws_kms_key.dr.arn
  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.monitoring.arn
  apply_immediately               = true
  skip_final_snapshot             = true
}

resource "aws_db_instance_automated_backups_replication" "dr" {
  provider               = aws.dr
  source_db_instance_arn = aws_db_instance.primary.arn
  kms_key_id             = aws_kms_key.dr.arn
  retention_period       = 7
}

# The name

resource "aws_route53_zone" "this" {
  name = "trading-db-${var.suffix}.internal"

  vpc {
    vpc_id = local.primary.vpc_id
  }

  lifecycle {
    ignore_changes = [vpc]
  }
}

resource "aws_route53_zone_association" "dr" {
  zone_id    = aws_route53_zone.this.zone_id
  vpc_id     = local.dr.vpc_id
  vpc_region = "us-west-2"
}

resource "aws_cloudwatch_metric_alarm" "serving" {
  provider            = aws.dr
  alarm_name          = "trading-db-primary-serving-${var.suffix}"
  alarm_description   = "Nobody says that the primary serves"
  namespace           = "TradingDR"
  metric_name         = "PrimaryServing"
  dimensions          = { Cluster = var.suffix }
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "ignore"
}

resource "aws_route53_health_check" "site" {
  for_each                        = { primary = false, dr = true }
  type                            = "CLOUDWATCH_METRIC"
  cloudwatch_alarm_name           = aws_cloudwatch_metric_alarm.serving.alarm_name
  cloudwatch_alarm_region         = "us-west-2"
  insufficient_data_health_status = "LastKnownStatus"
  invert_healthcheck              = each.value
}

resource "aws_route53_record" "site" {
  for_each        = { primary = 100, dr = 0 }
  zone_id         = aws_route53_zone.this.zone_id
  name            = "db.trading-db-${var.suffix}.internal"
  type            = "CNAME"
  ttl             = 30
  records         = [each.key == "primary" ? aws_db_instance.primary.address : aws_db_instance.replica.address]
  set_identifier  = each.key
  health_check_id = aws_route53_health_check.site[each.key].id

  weighted_routing_policy {
    weight = each.value
  }
}

# Who is told

resource "aws_sns_topic" "dr" {
  provider          = aws.dr
  name              = "trading-db-alerts-${var.suffix}"
  kms_master_key_id = aws_kms_key.dr.arn
}

data "aws_iam_policy_document" "topic" {
  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.dr.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"]
    }
  }
}

resource "aws_sns_topic_policy" "dr" {
  provider = aws.dr
  arn      = aws_sns_topic.dr.arn
  policy   = data.aws_iam_policy_document.topic.json
}

resource "aws_sns_topic_subscription" "sqs" {
  provider  = aws.dr
  topic_arn = aws_sns_topic.dr.arn
  protocol  = "sqs"
  endpoint  = "arn:${data.aws_partition.this.partition}:sqs:us-west-2:${local.account}:pages"
}

resource "aws_db_event_subscription" "dr" {
  provider         = aws.dr
  name             = "trading-db-events-${var.suffix}"
  sns_topic        = aws_sns_topic.dr.arn
  source_type      = "db-instance"
  source_ids       = [aws_db_instance.replica.identifier]
  event_categories = ["availability", "failover", "failure"]
  depends_on       = [aws_sns_topic_policy.dr]
}

resource "aws_cloudwatch_metric_alarm" "lag" {
  provider            = aws.dr
  alarm_name          = "trading-db-replica-lag-${var.suffix}"
  namespace           = "AWS/RDS"
  metric_name         = "ReplicaLag"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.replica.identifier }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 4
  datapoints_to_alarm = 3
  threshold           = 60
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.dr.arn]
  ok_actions          = [aws_sns_topic.dr.arn]
}

resource "aws_cloudwatch_metric_alarm" "cpu" {
  provider            = aws.dr
  alarm_name          = "trading-db-cpu-${var.suffix}"
  namespace           = "AWS/RDS"
  metric_name         = "CPUUtilization"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.replica.identifier }
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 3
  threshold           = var.cpu_percent
  comparison_operator = "GreaterThanThreshold"
  alarm_actions       = [aws_sns_topic.dr.arn]
}

resource "aws_cloudwatch_dashboard" "dr" {
  provider       = aws.dr
  dashboard_name = "trading-db-${var.suffix}"
  dashboard_body = jsonencode({
    widgets = [{
      type = "metric", x = 0, y = 0, width = 12, height = 6
      properties = {
        title   = "Lag"
        region  = "us-west-2"
        metrics = [["AWS/RDS", "ReplicaLag", "DBInstanceIdentifier", aws_db_instance.replica.identifier]]
      }
    }]
  })
}

# What looks, decides and drills

resource "aws_dynamodb_table" "ledger" {
  provider     = aws.dr
  name         = "trading-db-ledger-${var.suffix}"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"
  range_key    = "sk"

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "expires"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }
}

resource "aws_dynamodb_table" "lease" {
  provider     = aws.witness
  name         = "trading-db-lease-${var.suffix}"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"

  attribute {
    name = "pk"
    type = "S"
  }
}

resource "aws_iam_role" "monitor" {
  name               = "trading-db-monitor-${var.suffix}"
  description        = "Looks and decides"
  assume_role_policy = data.aws_iam_policy_document.assume["lambda"].json
}

data "aws_iam_policy_document" "monitor" {
  statement {
    actions   = ["rds:DescribeDBInstances"]
    resources = ["*"]
  }

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.monitor.arn}:*"]
  }

  statement {
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem"]
    resources = [aws_dynamodb_table.ledger.arn, aws_dynamodb_table.lease.arn]
  }
}

resource "aws_iam_role_policy" "monitor" {
  name   = "monitor"
  role   = aws_iam_role.monitor.id
  policy = data.aws_iam_policy_document.monitor.json
}

resource "aws_cloudwatch_log_group" "monitor" {
  provider          = aws.dr
  name              = "/aws/lambda/trading-db-monitor-${var.suffix}"
  retention_in_days = 30
  kms_key_id        = aws_kms_key.dr.arn
}

resource "aws_lambda_function" "monitor" {
  provider         = aws.dr
  function_name    = "trading-db-monitor-${var.suffix}"
  role             = aws_iam_role.monitor.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  filename         = var.function_zip
  source_code_hash = filebase64sha256(var.function_zip)
  timeout          = 55
  memory_size      = 256

  reserved_concurrent_executions = 10

  environment {
    variables = { SUFFIX = var.suffix }
  }

  depends_on = [aws_iam_role_policy.monitor]
}

resource "aws_lambda_function_event_invoke_config" "monitor" {
  provider                     = aws.dr
  function_name                = aws_lambda_function.monitor.function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}

resource "aws_cloudwatch_event_rule" "monitor" {
  provider            = aws.dr
  name                = "trading-db-monitor-${var.suffix}"
  schedule_expression = "rate(1 minute)"
  state               = "ENABLED"
}

resource "aws_cloudwatch_event_target" "monitor" {
  provider  = aws.dr
  rule      = aws_cloudwatch_event_rule.monitor.name
  target_id = "monitor"
  arn       = aws_lambda_function.monitor.arn
  input     = jsonencode({ action = "look" })
}

resource "aws_lambda_permission" "monitor" {
  provider      = aws.dr
  statement_id  = "schedule"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.monitor.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.monitor.arn
}

# What people run

resource "aws_ssm_document" "failover" {
  provider        = aws.dr
  name            = "trading-db-failover-${var.suffix}"
  document_type   = "Automation"
  document_format = "JSON"
  content = jsonencode({
    schemaVersion = "0.3"
    description   = "Asks the monitor for a failover."
    mainSteps = [{
      name   = "ask"
      action = "aws:executeAwsApi"
      inputs = {
        Service      = "lambda"
        Api          = "Invoke"
        FunctionName = aws_lambda_function.monitor.function_name
        Payload      = "{\"action\":\"failover\"}"
      }
      isEnd = true
    }]
  })
}

resource "aws_ssm_parameter" "claim" {
  provider = aws.dr
  name     = "/trading/dr/${var.suffix}/claim"
  type     = "String"
  value    = jsonencode({ owner = "peer" })
}
