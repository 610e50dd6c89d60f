import {
  to = trading_dr_cluster.orders
  id = "prod"
}
