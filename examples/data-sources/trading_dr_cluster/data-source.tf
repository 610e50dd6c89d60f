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

# Fails a plan, or warns in a scheduled one, while the standby is behind.
check "standby" {
  assert {
    condition     = coalesce(data.trading_dr_cluster.orders.heartbeat_age_seconds, 0) <= 60
    error_message = "A failover would lose more than a minute of writes."
  }
}
