//! The data source `trading_dr_cluster`: what another team needs to connect to a cluster and to watch it.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use super::{checks, cluster_schema, connect::Configured, overview, resource::configured};
use crate::{
    contract::moments::{
        ACCEPTED, DECIDED, FENCED, FIRST_FAILURE, FIRST_WRITE, LEASE_TAKEN, SESSIONS_ENDED,
    },
    plugin::{Attribute, Context, DataSource, Found, Nesting, Presence, Schema, Type, Value},
};

/// The data source; its provider tells it how AWS is reached.
pub(super) struct ClusterDataSource {
    schema: Schema,
    /// The resource's, in whose shape a cluster keeps its arguments.
    cluster: Schema,
    configured: Arc<OnceLock<Configured>>,
}

impl ClusterDataSource {
    pub(super) fn new(configured: Arc<OnceLock<Configured>>) -> Self {
        Self { schema: schema(), cluster: cluster_schema::cluster(), configured }
    }
}

#[async_trait]
impl DataSource for ClusterDataSource {
    fn type_name(&self) -> &'static str {
        "trading_dr_cluster"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, context: Context, config: Value) -> Found {
        let result = match configured(&self.configured) {
            Ok(configured) => {
                let config = self.schema.with_defaults(&config);
                let seen = overview::read(
                    configured,
                    &self.cluster,
                    &context,
                    config,
                    |_, primary, dr| {
                        format!("set primary_region to {primary} and dr_region to {dr}")
                    },
                );
                seen.await.map(|seen| seen.found)
            }
            Err(found) => Err(found),
        };
        result.unwrap_or_else(|diagnostics| Found { state: None, diagnostics })
    }
}

/// Moments of a failover, as the monitors note them, and what they are.
pub(super) const MOMENTS: [(&str, &str); 7] = [
    (
        FIRST_FAILURE,
        "When the DR region's monitor first saw a write fail, or the last sign of life where that came later.",
    ),
    (DECIDED, "When it decided to fail over."),
    (LEASE_TAKEN, "When it had taken the lease from the primary region."),
    (ACCEPTED, "When RDS accepted the promotion."),
    (FIRST_WRITE, "When the new writer took its first write."),
    (FENCED, "When the old writer was seen to keep applications out."),
    (SESSIONS_ENDED, "When the old writer was rebooted, which ended the sessions that it had."),
];

fn schema() -> Schema {
    let text = |name, description| Attribute::computed(name, Type::String, description);
    let number = |name, description| Attribute::computed(name, Type::Number, description);
    let mut moments: Vec<_> = MOMENTS.iter().map(|(name, about)| text(name, about)).collect();
    moments.push(number("seconds", "Seconds from the first failure to the first write."));
    moments.push(number(
        "data_loss_seconds",
        "Seconds of writes that were lost at most, by the heartbeats; null where that was not known.",
    ));
    let drill = vec![
        text("began", "When it was asked for."),
        text("ended", "When nothing was left of it."),
        text("failure", "Why it failed; null where it passed."),
        number(
            "promotion_seconds",
            "Seconds from the promotion of the copy to its first write; null where it was not promoted.",
        ),
        number(
            "data_loss_seconds",
            "Seconds of writes that a failover would have lost at that moment at most, by the heartbeats; null where \
             the copy was not compared.",
        ),
        number(
            "blocked_seconds",
            "For how many seconds the standby itself could not have been promoted, as RDS was making the copy.",
        ),
    ];
    Schema {
        version: 0,
        description: "A cluster that is managed elsewhere: how to connect to it, and how it is. Found by its \
                      environment suffix, with about a dozen calls that only read.",
        attributes: vec![
            Attribute::required(
                "environment_suffix",
                Type::String,
                "The cluster's environment suffix.",
            )
            .validate(checks::suffix),
            Attribute::with_default(
                "primary_region",
                Type::String,
                Value::string("us-east-1"),
                "The region of the cluster's primary site.",
            )
            .validate(checks::region),
            Attribute::with_default(
                "dr_region",
                Type::String,
                Value::string("us-west-2"),
                "The region of the cluster's DR site, where its record is.",
            )
            .validate(checks::region),
            text("id", "The environment suffix."),
            text("witness_region", "The region whose lease says which site may write."),
            text(
                "endpoint",
                "The DNS name that leads to the site that serves. The servers' certificates do not carry it: \
                 connect with `sslmode=verify-ca`, or to the other two endpoints with `verify-full`.",
            ),
            number("port", "The databases' port."),
            text("db_name", "The database that was made with the cluster."),
            text("primary_endpoint", "The DNS name of the primary site's instance."),
            text("replica_endpoint", "The DNS name of the DR site's instance."),
            Attribute::computed(
                "security_group_ids",
                Type::string_map(),
                "The ids of the databases' security groups, by region: what a rule of your own names to let \
                 connections out to them. Whom they let in, the cluster's `allowed_security_group_ids` and \
                 `allowed_cidr_blocks` say.",
            ),
            text(
                "master_secret_arn",
                "The ARN of the secret in Secrets Manager that holds the master password. The password itself is \
                 not read.",
            ),
            Attribute::computed(
                "topic_arns",
                Type::string_map(),
                "The ARNs of the topics that everything notable is told to, by region.",
            ),
            text(
                "writer_region",
                "The region whose instance takes writes, as observed; null where that is not known.",
            ),
            text(
                "status",
                "`available`, `modifying`, `incomplete`, `degraded`, `failed_over`, `diverged`, `destroying`, or `unknown` where a \
                 region does not answer.",
            ),
            text(
                "phase",
                "How far a failover to the DR region has come, by its monitors: `normal`, `promoting`, `accepted`, \
                 `promoted`, `diverged` (two instances take writes), `destroying`; null where none has run yet.",
            ),
            number(
                "replica_lag_seconds",
                "How far the replica is behind, by RDS's metric, at most in the newest minute of the last five. RDS \
                 tells -1 where replication has ended. Null where nothing was published, and after a failover.",
            ),
            number(
                "heartbeat_age_seconds",
                "How old the newest heartbeat was that the replica had, by the DR region's monitor, at most in the \
                 newest minute of the last five: what a failover would have lost then. It grows while the writer \
                 lives and nothing is heard of what it writes. Null where nothing was published, and after a \
                 failover.",
            ),
            Attribute::computed(
                "alarms",
                Type::strings(),
                "The cluster's alarms that are in alarm, each with its region, as in \
                 `us-west-2/trading-db-replica-lag-prod`.",
            ),
            Attribute::computed(
                "recovery",
                Type::string_map(),
                "What the settings come to and what drills have measured, as in the resource's `recovery`.",
            ),
            Attribute::nested(
                "last_drill",
                Nesting::Single,
                Presence::Computed,
                drill,
                "The last failover drill that is over; null where there was none, or where the DR region's record of \
                 them cannot be read. Moments are in UTC, as in `2026-01-05T09:30:00Z`.",
            ),
            Attribute::nested(
                "last_failover",
                Nesting::Single,
                Presence::Computed,
                moments,
                "The failover to the DR region that is under way, or the last one; null where there was none. Moments \
                 are in UTC, as in `2026-01-05T09:30:00Z`; null where they have not come.",
            ),
        ],
    }
}
