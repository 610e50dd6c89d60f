//! What watches the databases and whom it tells: topics, subscriptions, RDS's events, alarms.

use super::{Plan, instance_name, policies};
use crate::{
    cluster::{
        names::{Name, alarm},
        parameters::{evaluate, merged},
        spec::Site,
    },
    components::{
        ARN, Address, Alarm, SnsTopic, Tags, Text,
        alarm::{Comparison, MINUTE, Missing},
        db_event_subscription::DbEventSubscription,
        db_instance::DbInstance,
        kms_key::KmsKey,
        sns_subscription::{PROTOCOLS, SnsSubscription},
    },
};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// The namespace of RDS's metrics.
const RDS: &str = "AWS/RDS";
/// Shares of the storage at which WAL that is held back is told. Half of it is where a slot is given up
/// (parameters: `max_slot_wal_keep_size`).
const SLOT_SHARE: f64 = 0.25;
const WAL_SHARE: f64 = 0.4;

/// How long a lag must last. On an idle writer it climbs for up to five minutes without any fault (aws-facts
/// 0.10): of these, three in a row are above a minute and four above half of one.
const LAG_MINUTES: i32 = 4;

/// What an alarm on one of RDS's metrics is set to.
struct Row {
    what: &'static str,
    description: String,
    metric: &'static str,
    statistic: &'static str,
    comparison: Comparison,
    threshold: f64,
    argument: &'static str,
    minutes: i32,
    missing: Missing,
}

impl Plan<'_> {
    /// The ARN of a region's topic.
    pub(super) fn topic(&self, region: &str) -> Text {
        Text::Ref(SnsTopic::address(region), ARN)
    }

    pub(super) fn notifications(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let name = Name::Topic.of(&spec.suffix);
        let subscription = Name::EventSubscription.of(&spec.suffix);
        let settings = SnsTopic {
            key: Text::Ref(KmsKey::address(&region), ARN),
            policy: policies::topic(
                self.surroundings,
                &region,
                &name,
                &alarm("*", &spec.suffix),
                &subscription,
                &instance_name(spec, site),
            ),
        };
        self.add_tagged(SnsTopic::address(&region), &region, name.clone(), settings, &[]);
        let told = &spec.notifications;
        let wanted = [
            (PROTOCOLS[0], &told.emails, "notifications.emails"),
            (PROTOCOLS[1], &told.https_urls, "notifications.https_urls"),
            (PROTOCOLS[2], &told.sqs_queue_arns, "notifications.sqs_queue_arns"),
        ];
        let after = [SnsTopic::address(&region)];
        for (protocol, endpoints, argument) in wanted {
            for endpoint in endpoints {
                let settings = SnsSubscription {
                    topic: name.clone(),
                    protocol,
                    endpoint: endpoint.clone(),
                    argument,
                };
                let address = SnsSubscription::address(&region, protocol, endpoint);
                self.add(address, &region, protocol.into(), Tags::new(), settings, &after);
            }
        }
        // So that subscriptions are looked for where none is wanted any more.
        let nobody = SnsSubscription::address(&region, "none", "");
        let settings = SnsSubscription {
            topic: name,
            protocol: PROTOCOLS[0],
            endpoint: String::new(),
            argument: "",
        };
        self.add(nobody.clone(), &region, String::new(), Tags::new(), settings, &after);
        self.rest(&nobody);
        let settings =
            DbEventSubscription { topic: self.topic(&region), source: instance_name(spec, site) };
        let address = DbEventSubscription::address(&region);
        let after = [DbInstance::address(&region)];
        self.add_tagged(address, &region, subscription, settings, &after);
    }

    /// Makes an alarm wanted.
    pub(super) fn add_alarm(&mut self, region: &str, what: &str, settings: Alarm) -> Address {
        self.add_alarm_after(region, what, settings, &[])
    }

    /// The same once something else is there.
    pub(super) fn add_alarm_after(
        &mut self,
        region: &str,
        what: &str,
        settings: Alarm,
        after: &[Address],
    ) -> Address {
        let address = Alarm::address(region, what);
        let name = alarm(what, &self.spec.suffix);
        self.add_tagged(address.clone(), region, name, settings, after);
        address
    }

    pub(super) fn alarms(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let instance = instance_name(spec, site);
        let mut rows = self.machine(site, &instance);
        if site == Self::writer() {
            rows.extend(self.writing(&instance));
        } else {
            rows.extend(self.following(&instance));
        }
        for row in rows {
            let settings = Alarm {
                description: row.description,
                namespace: RDS.into(),
                metric: row.metric.into(),
                dimensions: vec![("DBInstanceIdentifier".into(), instance.clone())],
                statistic: row.statistic,
                comparison: row.comparison,
                threshold: row.threshold,
                argument: row.argument,
                period: MINUTE,
                periods: row.minutes,
                bad_periods: row.minutes,
                missing: row.missing,
                topic: self.topic(&region),
            };
            self.add_alarm(&region, row.what, settings);
        }
    }

    /// What any database runs out of.
    fn machine(&self, site: Site, instance: &str) -> Vec<Row> {
        let (database, limits) = (&self.spec.database, &self.spec.monitoring);
        let class = match site {
            Site::Primary => &database.instance_class,
            Site::Dr => &database.dr_instance_class,
        };
        let memory = u64::from(class.memory_gib()) << 30;
        let parameters = merged(&database.parameters, database.allocated_storage);
        let formula = parameters.get("max_connections").map(String::as_str);
        // Without a value of ours or the user's, RDS's own formula holds.
        let most = formula.and_then(|text| evaluate(text, memory));
        let most = most.unwrap_or_else(|| (memory / 9_531_392).min(5000));
        let free =
            limits.free_storage_gib.unwrap_or_else(|| (database.allocated_storage / 10).max(2));
        vec![
            Row {
                what: "cpu",
                description: format!(
                    "{instance}: processors busy above {} % for 5 minutes",
                    limits.cpu_percent
                ),
                metric: "CPUUtilization",
                statistic: "Average",
                comparison: Comparison::Above,
                threshold: f64::from(limits.cpu_percent),
                argument: "monitoring.cpu_percent",
                minutes: 5,
                missing: Missing::Unknown,
            },
            Row {
                what: "free-storage",
                description: format!(
                    "{instance}: less than {free} GiB free; a full disk stops the database"
                ),
                metric: "FreeStorageSpace",
                statistic: "Minimum",
                comparison: Comparison::Below,
                threshold: f64::from(free) * GIB,
                argument: "monitoring.free_storage_gib",
                minutes: 3,
                missing: Missing::Unknown,
            },
            Row {
                what: "connections",
                description: format!(
                    "{instance}: more than {} % of about {most} connections in use",
                    limits.connections_percent
                ),
                metric: "DatabaseConnections",
                statistic: "Maximum",
                comparison: Comparison::Above,
                threshold: share(most, limits.connections_percent),
                argument: "monitoring.connections_percent",
                minutes: 3,
                missing: Missing::Unknown,
            },
        ]
    }

    /// What a replica falls behind by. Its metric ends when it is promoted, which is no fault: minutes
    /// without data are good ones.
    fn following(&self, instance: &str) -> Vec<Row> {
        let limit = self.spec.monitoring.replica_lag_seconds;
        let row = |what, description, comparison, threshold, minutes| Row {
            what,
            description,
            metric: "ReplicaLag",
            statistic: if comparison == Comparison::Above { "Maximum" } else { "Minimum" },
            comparison,
            threshold,
            argument: "monitoring.replica_lag_seconds",
            minutes,
            missing: Missing::Good,
        };
        let (above, below) = (Comparison::Above, Comparison::Below);
        let late = format!(
            "{instance} lags more than {limit} s behind: a failover now would lose that much"
        );
        let warning = format!("{instance} lags more than {} s behind for 5 minutes", limit / 2);
        let unknown = format!("{instance} does not replicate: its lag is unknown");
        vec![
            row("replica-lag", late, above, f64::from(limit), LAG_MINUTES),
            row("replica-lag-warning", warning, above, f64::from(limit / 2), LAG_MINUTES + 1),
            Row { argument: "", ..row("replica-lag-unknown", unknown, below, 0.0, 3) },
        ]
    }

    /// What a writer holds back for a replica that does not keep up.
    fn writing(&self, instance: &str) -> Vec<Row> {
        let storage = f64::from(self.spec.database.allocated_storage) * GIB;
        let row = |what, description, metric, threshold| Row {
            what,
            description,
            metric,
            statistic: "Maximum",
            comparison: Comparison::Above,
            threshold,
            argument: "database.allocated_storage",
            minutes: 3,
            missing: Missing::Unknown,
        };
        vec![
            row(
                "slot-lag",
                format!(
                    "{instance} keeps a quarter of its storage for a replica that does not keep up; at half \
                     of it the replica is given up and has to be rebuilt"
                ),
                "OldestReplicationSlotLag",
                storage * SLOT_SHARE,
            ),
            row(
                "wal-disk",
                format!("{instance}: transaction logs take more than 40 % of the storage"),
                "TransactionLogsDiskUsage",
                storage * WAL_SHARE,
            ),
        ]
    }
}

/// A share of a count, in whole ones.
fn share(count: u64, percent: u32) -> f64 {
    f64::from(u32::try_from(count * u64::from(percent) / 100).unwrap_or(u32::MAX))
}
