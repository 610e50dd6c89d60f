# The least that there is to say: two VPCs and who may connect.
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

resource "trading_dr_cluster" "orders" {
  environment_suffix = "prod"

  primary = {
    vpc_id                     = var.primary_vpc_id
    allowed_security_group_ids = [var.primary_application_security_group_id]
  }

  dr = {
    vpc_id                     = var.dr_vpc_id
    allowed_security_group_ids = [var.dr_application_security_group_id]
  }
}

output "endpoint" {
  description = "What applications connect to: it leads to whichever site writes."
  value       = trading_dr_cluster.orders.endpoint
}
