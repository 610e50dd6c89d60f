# Several environments between the same two VPCs. AWS allows one peering between two VPCs: it exists already, and all
# of them use it.
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

variable "peering_connection_id" {
  type        = string
  description = "The active peering of the two VPCs, with routes over it."
}

locals {
  environments = {
    dev = {
      instance_class = "db.t3.medium"
      drills         = false
    }
    staging = {
      instance_class = "db.m5.large"
      drills         = true
    }
  }
}

resource "trading_dr_cluster" "orders" {
  for_each = local.environments

  environment_suffix    = each.key
  peering_connection_id = var.peering_connection_id

  primary = {
    vpc_id                     = var.primary_vpc_id
    allowed_security_group_ids = [var.primary_application_security_group_id]
  }

  dr = {
    vpc_id                     = var.dr_vpc_id
    allowed_security_group_ids = [var.dr_application_security_group_id]
  }

  database = {
    instance_class = each.value.instance_class
  }

  drill = {
    enabled = each.value.drills
  }
}

output "endpoints" {
  value = { for name, cluster in trading_dr_cluster.orders : name => cluster.endpoint }
}
