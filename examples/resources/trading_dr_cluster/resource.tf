# PostgreSQL 15 in us-east-1, with a replica that can take over in us-west-2.
variable "primary_vpc_id" {
  type = string
}

variable "dr_vpc_id" {
  type = string
}

variable "primary_application_security_group_id" {
  type = string
}

variable "dr_application_security_group_id" {
  type = string
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
    instance_class    = "db.r6g.large"
    allocated_storage = 200
  }

  tags = {
    team = "trading"
  }
}

output "primary_endpoint" {
  value = trading_dr_cluster.orders.primary_endpoint
}

output "replica_endpoint" {
  value = trading_dr_cluster.orders.replica_endpoint
}

output "master_secret_arn" {
  value = trading_dr_cluster.orders.master_secret_arn
}
