//! How long AWS takes, in seconds. Sources: aws-facts 1.3, 1.4 and 5 for RDS, the services' documents for
//! the rest; where AWS publishes nothing, what its own acceptance tests and users see.

/// From CreateDBInstance to `available`, Multi-AZ.
pub const DB_CREATE_MULTI_AZ: u64 = 720;
/// The same in a single zone.
pub const DB_CREATE: u64 = 420;
/// From CreateDBInstanceReadReplica in another region to `available`.
pub const REPLICA_CREATE: u64 = 1200;
/// The same in the source's own region.
pub const LOCAL_REPLICA_CREATE: u64 = 600;
/// How long its source is `modifying` for the snapshot that it starts from.
pub const REPLICA_SOURCE_BUSY: u64 = 240;
/// From the call until the status says anything else than `available`.
pub const DB_STATUS_LAG: u64 = 5;
/// A modification, once it began.
pub const DB_MODIFY: u64 = 180;
/// A change of the instance class: both sides of a Multi-AZ pair, one after the other.
pub const DB_MODIFY_CLASS: u64 = 600;
/// Between attaching a parameter group and its status `pending-reboot`.
pub const PARAMETER_GROUP_APPLYING: u64 = 30;
/// Until a dynamic parameter took effect.
pub const PARAMETER_DYNAMIC: u64 = 15;
/// RebootDBInstance to `available`.
pub const DB_REBOOT: u64 = 60;
/// From a restore to `available`.
pub const DB_RESTORE: u64 = 600;
/// DeleteDBInstance to gone.
pub const DB_DELETE: u64 = 300;
/// A final snapshot, before that.
pub const DB_FINAL_SNAPSHOT: u64 = 180;
/// PromoteReadReplica to `available`.
pub const DB_PROMOTE: u64 = 120;
/// Until a copy of a snapshot in another region is available.
pub const SNAPSHOT_COPY: u64 = 900;
/// Until a replicated backup is `replicating`.
pub const BACKUP_REPLICATION_START: u64 = 300;
/// How long the source is busy after its backup replication was stopped.
pub const BACKUP_REPLICATION_STOP: u64 = 60;
/// Until a key's tags, those that it was made with included, count for conditions: "up to five minutes" (KMS guide,
/// "ABAC for AWS KMS").
pub const KEY_TAGS: u64 = 300;
/// Until a new role, user or policy is known everywhere.
pub const IAM_PROPAGATION: u64 = 10;
/// Until the tagging API knows of a change.
pub const TAGGING_LAG: u64 = 20;
/// Between CreateVpcPeeringConnection and `pending-acceptance`.
pub const PEERING_PENDING: u64 = 3;
/// Between its acceptance and `active`.
pub const PEERING_ACTIVE: u64 = 5;
/// How long a deleted or failed peering is still described.
pub const PEERING_GONE: u64 = 3600;
/// Until a secret's replica is in sync.
pub const SECRET_REPLICATION: u64 = 5;
/// Until a replica that is to be removed is gone: 40 to 90 seconds were seen.
pub const SECRET_REMOVAL: u64 = 60;
/// Until a deleted secret's name is free again, without a recovery window.
pub const SECRET_DELETE: u64 = 5;
/// Until a change of Route 53's is in sync (aws-facts 1.5).
pub const ROUTE53_CHANGE: u64 = 30;
/// By how much a health check on a metric lags behind it (failover.md, "The budgets").
pub const HEALTH_CHECK_LAG: u64 = 60;
/// Until an event subscription is active.
pub const EVENT_SUBSCRIPTION: u64 = 15;
/// Until a table can be used, and until a deleted one is gone.
pub const TABLE_CREATE: u64 = 10;
/// Until a new function can be invoked.
pub const FUNCTION_CREATE: u64 = 10;
/// A change of a function's code or configuration.
pub const FUNCTION_UPDATE: u64 = 5;
/// How long the interface of a function in a VPC outlives it (aws-facts 8).
pub const ENI_LINGERS: u64 = 1200;
