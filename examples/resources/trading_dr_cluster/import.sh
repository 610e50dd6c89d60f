# By the environment suffix, where the regions are us-east-1 and us-west-2:
terraform import trading_dr_cluster.orders prod

# Otherwise with the primary and the DR region:
terraform import trading_dr_cluster.orders prod/eu-west-1/eu-central-1
