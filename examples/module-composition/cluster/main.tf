# What every cluster of this company has in common.
terraform {
  required_providers {
    trading = {
      source = "tradingdr/trading"
    }
  }
}

variable "environment_suffix" {
  type = string
}

variable "primary" {
  type = object({
    vpc_id            = string
    security_group_id = string
  })
}

variable "dr" {
  type = object({
    vpc_id            = string
    security_group_id = string
  })
}

resource "trading_dr_cluster" "this" {
  environment_suffix = var.environment_suffix

  primary = {
    vpc_id                     = var.primary.vpc_id
    allowed_security_group_ids = [var.primary.security_group_id]
  }

  dr = {
    vpc_id                     = var.dr.vpc_id
    allowed_security_group_ids = [var.dr.security_group_id]
  }

  backup = {
    retention_days = 14
  }
}

output "endpoint" {
  value = trading_dr_cluster.this.endpoint
}

output "master_secret_arn" {
  value = trading_dr_cluster.this.master_secret_arn
}
