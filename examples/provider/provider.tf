terraform {
  required_version = ">= 1.11"

  required_providers {
    trading = {
      source = "tradingdr/trading"
    }
  }
}

provider "trading" {
  default_tags = {
    tags = {
      owner = "platform"
    }
  }
}
