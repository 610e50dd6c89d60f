# For production: memory and storage for the load, people who are told, and a cluster that nobody destroys by mistake.
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

provider "trading" {
  default_tags = {
    tags = {
      owner       = "platform"
      cost_center = "4711"
    }
  }
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

  database = {
    instance_class        = "db.r6g.large"
    allocated_storage     = 500
    max_allocated_storage = 1000
    iops                  = 15000

    # A site that has lost the other one has to survive the loss of a zone as well.
    dr_multi_az = true

    # What interrupts waits for its window, parameters for the next restart.
    apply_immediately  = false
    maintenance_window = "sun:05:00-sun:06:00"

    parameters = {
      log_min_duration_statement = "500"
    }
  }

  backup = {
    retention_days  = 14
    window          = "03:00-04:00"
    snapshot_copies = 14
  }

  drill = {
    schedule = "cron(0 9 ? * SAT *)"
  }

  notifications = {
    emails = ["sre@example.com"]
  }

  deletion = {
    protection     = true
    final_snapshot = true
  }

  tags = {
    team = "trading"
  }
}

output "endpoint" {
  value = trading_dr_cluster.orders.endpoint
}

output "recovery" {
  description = "The recovery time and the loss that the settings come to, and what drills have measured."
  value       = trading_dr_cluster.orders.recovery
}
