# It tells, and promotes only when it is asked: for those who want a human between an alarm and a promotion.
terraform {
  required_version = ">= 1.11"

  required_providers {
    trading = {
      source = "tradingdr/trading"
    }
  }
}

variable "primary_vpc_id" {
  type        = string
  description = "The VPC in us-east-1."
}

variable "dr_vpc_id" {
  type        = string
  description = "The VPC in us-west-2."
}

variable "primary_application_security_group_id" {
  type        = string
  description = "Whose members connect in us-east-1."
}

variable "dr_application_security_group_id" {
  type        = string
  description = "Whose members connect in us-west-2."
}

resource "trading_dr_cluster" "ledger" {
  environment_suffix = "ledger"

  primary = {
    vpc_id                     = var.primary_vpc_id
    allowed_security_group_ids = [var.primary_application_security_group_id]
  }

  dr = {
    vpc_id                     = var.dr_vpc_id
    allowed_security_group_ids = [var.dr_application_security_group_id]
  }

  failover = {
    mode = "manual"
  }

  notifications = {
    emails = ["on-call@example.com"]
  }
}

output "how_to_fail_over" {
  value = "aws ssm start-automation-execution --region us-west-2 --document-name trading-db-failover-${trading_dr_cluster.ledger.environment_suffix}"
}
