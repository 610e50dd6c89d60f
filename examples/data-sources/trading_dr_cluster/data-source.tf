# A cluster that another team manages.
data "trading_dr_cluster" "orders" {
  environment_suffix = "prod"
}

output "database_url" {
  value = format(
    "postgresql://%s:%d/%s?sslmode=verify-ca",
    data.trading_dr_cluster.orders.endpoint,
    data.trading_dr_cluster.orders.port,
    data.trading_dr_cluster.orders.db_name,
  )
}

output "alarms" {
  value = data.trading_dr_cluster.orders.alarms
}

# Warns where the standby is behind, and where nobody says how far, which is null.
check "standby" {
  assert {
    condition     = try(data.trading_dr_cluster.orders.heartbeat_age_seconds <= 60, false)
    error_message = "A failover would lose more than a minute of writes, or nobody knows how many."
  }
}
