# The networks are another team's, in a state of their own; the cluster is a module of yours.
terraform {
  required_version = ">= 1.11"

  required_providers {
    trading = {
      source = "tradingdr/trading"
    }
  }
}

variable "network_state" {
  type        = string
  description = "Where the network team's state is. With a backend of yours, its settings."
}

data "terraform_remote_state" "network" {
  backend = "local"

  config = {
    path = var.network_state
  }
}

module "orders" {
  source = "./cluster"

  environment_suffix = "prod"

  primary = {
    vpc_id            = data.terraform_remote_state.network.outputs.primary_vpc_id
    security_group_id = data.terraform_remote_state.network.outputs.primary_application_security_group_id
  }

  dr = {
    vpc_id            = data.terraform_remote_state.network.outputs.dr_vpc_id
    security_group_id = data.terraform_remote_state.network.outputs.dr_application_security_group_id
  }
}

output "endpoint" {
  value = module.orders.endpoint
}
