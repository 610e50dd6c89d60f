//! The DNS name, alarms, notifications and dashboards.

use serde_json::{Value as Json, json};

use crate::support::{
    agent::begin,
    aws::{pass, simulate},
    user::{User, configuration, differences, errors, lines},
};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

fn vpc(user: &User, region: &str) -> String {
    let network = user.sandbox.with(|world| world.network());
    network[region]["vpc_id"].as_str().unwrap().to_owned()
}

/// What a client in a region gets for a name.
fn resolve(user: &User, region: &str, name: &str) -> Vec<String> {
    let vpc = vpc(user, region);
    let found = user.sandbox.with(|world| world.resolve(&vpc, name));
    found.into_iter().map(|(target, _)| target).collect()
}

fn text(user: &User, name: &str) -> String {
    user.state.value.as_ref().unwrap().get(name).as_str().unwrap_or_default().to_owned()
}

async fn publish(user: &User, value: f64) {
    use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
    let aws = crate::support::aws::connect(&user.sandbox).await;
    let dimension = Dimension::builder().name("EnvironmentSuffix").value("prod").build();
    let datum =
        MetricDatum::builder().metric_name("PrimaryServing").dimensions(dimension).value(value);
    let client = &aws.region(WEST).cloudwatch;
    client
        .put_metric_data()
        .namespace("TradingDR")
        .metric_data(datum.build())
        .send()
        .await
        .unwrap();
}

#[test]
fn the_name_leads_to_the_primary_until_the_metric_says_otherwise() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let name = text(&user, "endpoint");
        assert_eq!(name, "db.trading-db-prod.internal");
        for region in [EAST, WEST] {
            assert_eq!(resolve(&user, region, &name), [text(&user, "primary_endpoint")]);
        }
        publish(&user, 1.0).await;
        pass(300).await;
        assert_eq!(resolve(&user, WEST, &name), [text(&user, "primary_endpoint")]);
        publish(&user, 0.0).await;
        pass(150).await;
        for region in [EAST, WEST] {
            assert_eq!(resolve(&user, region, &name), [text(&user, "replica_endpoint")]);
        }
        // It stays there without any more data, and an apply changes nothing about it.
        pass(7200).await;
        user.must_be_unchanged(&config).await;
        user.must_apply(&config).await;
        assert_eq!(resolve(&user, EAST, &name), [text(&user, "replica_endpoint")]);
        // Whoever subscribed has heard of it.
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        let subjects: Vec<_> = told.iter().map(|one| one["subject"].to_string()).collect();
        assert!(
            subjects.iter().any(|one| one.contains("ALARM") && one.contains("primary-serving")),
            "{subjects:?}"
        );
    });
}

#[test]
fn the_name_moves_with_its_arguments_and_leaves_nothing_behind() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let zones = |user: &User| -> Vec<String> {
            let all = user.sandbox.with(|world| world.inventory());
            let zones = all["global"]["hosted-zone"].as_object().cloned().unwrap_or_default();
            zones.values().map(|one| one["Name"].as_str().unwrap().to_owned()).collect()
        };
        // Another zone of its own.
        config["dns"] = json!({"name": "orders-db.trading.example", "ttl": 10});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(zones(&user), ["trading.example."]);
        assert_eq!(text(&user, "endpoint"), "orders-db.trading.example");
        let primary = text(&user, "primary_endpoint");
        assert_eq!(
            resolve(&user, WEST, "orders-db.trading.example"),
            std::slice::from_ref(&primary)
        );
        // One of somebody else's.
        let given = user.sandbox.with(|world| world.network())["hosted_zone"].clone();
        config["dns"] = json!({"zone_id": given["id"]});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(zones(&user), Vec::<String>::new());
        assert_eq!(text(&user, "endpoint"), "trading-db-prod.trading.internal");
        assert_eq!(
            resolve(&user, EAST, "trading-db-prod.trading.internal"),
            std::slice::from_ref(&primary)
        );
        // Another name in it: the old one is gone.
        config["dns"] = json!({"zone_id": given["id"], "name": "orders.trading.internal"});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(resolve(&user, EAST, "trading-db-prod.trading.internal"), Vec::<String>::new());
        assert_eq!(resolve(&user, EAST, "orders.trading.internal"), [primary]);
        // And back: nothing is left in the zone that is not ours.
        config["dns"] = json!({});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(resolve(&user, EAST, "orders.trading.internal"), Vec::<String>::new());
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn zones_and_names_that_cannot_work_are_told_at_plan() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let given = user.sandbox.with(|world| world.network())["hosted_zone"]["id"].clone();
        let west = vpc(&user, WEST);
        let cases = [
            (json!({"zone_id": "Z0NOSUCHZONE"}), "dns.zone_id", "no hosted zone Z0NOSUCHZONE"),
            (
                json!({"zone_id": given, "name": "db.elsewhere.example"}),
                "dns.name",
                "does not lie in the zone",
            ),
            (
                json!({"zone_id": given, "additional_vpc_ids": ["vpc-1"]}),
                "dns.additional_vpc_ids",
                "is not this cluster's",
            ),
            (json!({"additional_vpc_ids": ["vpc-1"]}), "dns.additional_vpc_ids", "no VPC vpc-1"),
            (json!({"additional_vpc_ids": [west]}), "dns.additional_vpc_ids", "anyway"),
            (json!({"name": "db.example"}), "dns.name", "leaves no zone"),
            (json!({"name": "DB.example.com"}), "dns.name", "lower-case"),
            (json!({"ttl": 0}), "dns.ttl", "from 1 to 300"),
        ];
        for (dns, path, words) in cases {
            let mut config = config.clone();
            config["dns"] = dns.clone();
            let found = errors(&user.plan(&config).await.diagnostics);
            assert!(found.len() == 1 && found[0].starts_with(path), "{dns}: {found:#?}");
            assert!(found[0].contains(words), "{dns}: {found:#?}");
        }
        // A private zone that one of the VPCs does not see.
        let mut lone = config.clone();
        lone["dns"] = json!({"zone_id": given});
        let seen = json!({"_vpcs": [{"VPCRegion": EAST, "VPCId": vpc(&user, EAST)}]});
        let id = given.as_str().unwrap().to_owned();
        user.sandbox.with(|world| world.drift("global", "hosted-zone", &id, Some(&seen))).unwrap();
        let found = errors(&user.plan(&lone).await.diagnostics);
        assert!(found[0].contains("cannot see the zone"), "{found:#?}");
        assert!(found[0].contains("us-west-2"), "{found:#?}");
    });
}

#[test]
fn another_zone_of_the_same_name_or_a_record_in_the_way_is_refused_at_plan() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        // The seeded zone is seen by both VPCs already.
        config["dns"] = json!({"name": "db.trading.internal"});
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found.iter().any(|one| one.contains("global/hosted-zone")), "{found:#?}");
        let given = user.sandbox.with(|world| world.network())["hosted_zone"]["id"].clone();
        let id = given.as_str().unwrap().to_owned();
        let record = json!({"_records": [{"Name": "orders.trading.internal.", "Type": "CNAME", "TTL": 60,
            "ResourceRecords": [{"Value": "elsewhere"}]}]});
        user.sandbox
            .with(|world| world.drift("global", "hosted-zone", &id, Some(&record)))
            .unwrap();
        config["dns"] = json!({"zone_id": given, "name": "orders.trading.internal"});
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found.iter().any(|one| one.contains("global/dns-record/primary")), "{found:#?}");
        // Under another name it is in nobody's way.
        config["dns"]["name"] = json!("db.orders.trading.internal");
        user.must_apply(&config).await;
        user.must_destroy().await;
        let left =
            user.sandbox.with(|world| world.resolve(&vpc_of(world), "orders.trading.internal"));
        assert_eq!(left.len(), 1, "what is not ours stays");
    });
}

fn vpc_of(world: &aws_sandbox::World) -> String {
    world.network()[EAST]["vpc_id"].as_str().unwrap().to_owned()
}

#[test]
fn more_vpcs_see_the_name_when_they_are_named() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let other = "vpc-0123456789abcdef0";
        let record = json!({"vpcId": other, "cidrBlock": "10.99.0.0/16", "state": "available", "_account": true});
        user.sandbox.with(|world| world.place(WEST, "vpc", other, record));
        let resolves = |user: &User| {
            user.sandbox.with(|world| world.resolve(other, "db.trading-db-prod.internal")).len()
        };
        assert_eq!(resolves(&user), 0);
        config["dns"] = json!({"additional_vpc_ids": [other]});
        let before = user.state.value.clone().unwrap();
        let planned = user.must_plan(&config).await;
        let lines = differences(before.get("components"), planned.get("components"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(resolves(&user), 1);
        config["dns"] = json!({});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(resolves(&user), 0);
    });
}

#[test]
fn who_is_told_is_who_is_named() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["notifications"] = json!({
            "emails": ["oncall@example.com"],
            "sqs_queue_arns": ["arn:aws:sqs:us-east-1:123456789012:alerts"],
        });
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        // What waits for somebody is said, and no difference.
        let waits = user.state.value.as_ref().unwrap().get("pending_changes").clone();
        assert!(format!("{waits:?}").contains("waits for its owner"), "{waits:?}");
        user.sandbox.with(|world| {
            for region in [EAST, WEST] {
                world.confirm_subscription(region, "oncall@example.com");
            }
        });
        user.must_apply(&config).await;
        assert!(!lines_of(&user).contains("waits for"), "{}", lines_of(&user));
        config["notifications"] = json!({"emails": ["desk@example.com"]});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let all = user.sandbox.with(|world| world.inventory());
        let told: Vec<&str> = all[WEST]["sns-subscription"]
            .as_object()
            .unwrap()
            .values()
            .map(|one| one["Endpoint"].as_str().unwrap())
            .collect();
        assert_eq!(told, ["desk@example.com"]);
        // Nobody at all, while that one never answered: there is nothing to remove, and nothing to plan.
        config["notifications"] = json!({});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

fn lines_of(user: &User) -> String {
    format!("{:?}", user.state.value.as_ref().unwrap().get("pending_changes"))
}

#[test]
fn addresses_that_cannot_be_told_are_refused() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        for (told, path) in [
            (json!({"emails": ["nobody"]}), "notifications.emails"),
            (json!({"https_urls": ["http://example.com"]}), "notifications.https_urls"),
            (
                json!({"https_urls": ["https://me:secret@example.com/x"]}),
                "notifications.https_urls",
            ),
            (json!({"sqs_queue_arns": ["alerts"]}), "notifications.sqs_queue_arns"),
        ] {
            let mut config = config.clone();
            config["notifications"] = told;
            let found = errors(&user.plan(&config).await.diagnostics);
            assert!(found.len() == 1 && found[0].starts_with(path), "{found:#?}");
        }
    });
}

/// A metric of an instance from now on.
fn measure(user: &User, region: &str, id: &str, name: &str, value: f64) {
    let change = json!({"_metrics": {name: value}});
    user.sandbox.with(|world| world.drift(region, "db-instance", id, Some(&change))).unwrap();
}

fn states(user: &User, region: &str) -> std::collections::BTreeMap<String, String> {
    let all = user.sandbox.with(|world| world.inventory());
    let alarms = all[region]["alarm"].as_object().cloned().unwrap_or_default();
    let state = |(name, one): (&String, &Json)| {
        (name.clone(), one["StateValue"].as_str().unwrap_or_default().to_owned())
    };
    alarms.iter().map(state).collect()
}

#[test]
fn each_alarm_goes_off_at_what_it_is_for_and_at_nothing_else() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let (primary, replica) = ("trading-db-primary-prod", "trading-db-replica-prod");
        begin(&user.sandbox);
        measure(&user, WEST, replica, "ReplicaLag", 1.0);
        pass(600).await;
        for region in [EAST, WEST] {
            let quiet = states(&user, region);
            // Copies are measured once an hour only, and drills once a week.
            let loud: Vec<_> = quiet
                .iter()
                .filter(|(name, state)| {
                    let is_rare = ["snapshot-cop", "drill"].iter().any(|one| name.contains(one));
                    *state != "OK" && !is_rare
                })
                .collect();
            assert!(loud.is_empty(), "{region}: {loud:?}");
        }
        let gib = f64::from(1u32 << 30);
        for (region, id, metric, value, expected) in [
            (EAST, primary, "CPUUtilization", 85.0, vec!["cpu"]),
            (WEST, replica, "FreeStorageSpace", 5.0 * gib, vec!["free-storage"]),
            (EAST, primary, "DatabaseConnections", 370.0, vec!["connections"]),
            (EAST, primary, "OldestReplicationSlotLag", 26.0 * gib, vec!["slot-lag"]),
            (EAST, primary, "TransactionLogsDiskUsage", 41.0 * gib, vec!["wal-disk"]),
            (WEST, replica, "ReplicaLag", 45.0, vec!["replica-lag-warning"]),
            (WEST, replica, "ReplicaLag", 90.0, vec!["replica-lag", "replica-lag-warning"]),
            (WEST, replica, "ReplicaLag", -1.0, vec!["replica-lag-unknown"]),
        ] {
            measure(&user, region, id, metric, value);
            pass(480).await;
            let loud: Vec<_> = states(&user, region)
                .into_iter()
                .filter(|(name, state)| state == "ALARM" && !name.contains("serving"))
                .map(|(name, _)| name.replace("trading-db-", "").replace("-prod", ""))
                .collect();
            assert_eq!(loud, expected, "{metric} {value}");
            let clear = json!({"_metrics": {metric: if metric == "ReplicaLag" { json!(1.0) } else { Json::Null }}});
            user.sandbox
                .with(|world| world.drift(region, "db-instance", id, Some(&clear)))
                .unwrap();
            pass(480).await;
        }
    });
}

#[test]
fn limits_of_alarms_follow_the_arguments_and_the_check_follows_its_alarm() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let before = user.state.value.clone().unwrap();
        config["monitoring"] = json!({"replica_lag_seconds": 40, "cpu_percent": 90});
        let planned = user.must_plan(&config).await;
        let changed = differences(before.get("components"), planned.get("components"));
        let names: Vec<_> = changed.iter().map(|one| one.split(':').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "us-east-1/alarm/cpu",
                "us-west-2/alarm/cpu",
                "us-west-2/alarm/heartbeat-age",
                "us-west-2/alarm/replica-lag",
                "us-west-2/alarm/replica-lag-warning",
            ]
        );
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        // Somebody changes the alarm, and both checks copy that: all three lines show, and are put back.
        let other = json!({"Threshold": 0.5});
        user.sandbox
            .with(|world| {
                world.drift(WEST, "alarm", "trading-db-primary-serving-prod", Some(&other))
            })
            .unwrap();
        let ids = user.sandbox.with(|world| world.inventory())["global"]["health-check"].clone();
        for id in ids.as_object().unwrap().keys() {
            let copy = json!({"CloudWatchAlarmConfiguration": {"Threshold": 0.5}});
            user.sandbox
                .with(|world| world.drift("global", "health-check", id, Some(&copy)))
                .unwrap();
        }
        let planned = user.must_plan(&config).await;
        let changed = differences(
            user.state.value.as_ref().unwrap().get("components"),
            planned.get("components"),
        );
        assert_eq!(changed.len(), 3, "{changed:#?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_dashboard_of_that_name_that_shows_something_else_is_not_overwritten() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let body = r#"{"widgets":[]}"#;
        let record = json!({"DashboardName": "trading-db-dashboard-dr-prod", "DashboardBody": body, "DashboardArn": "x"});
        user.sandbox.with(|world| {
            world.place("global", "dashboard", "trading-db-dashboard-dr-prod", record);
        });
        let found = lines(&user.plan(&config).await.diagnostics);
        assert!(found.iter().any(|one| one.contains("us-west-2/dashboard")), "{found:#?}");
    });
}

#[test]
fn a_zone_that_one_vpc_sees_is_removed_and_a_record_without_its_check_is_still_ours() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let zones = user.sandbox.with(|world| world.inventory())["global"]["hosted-zone"].clone();
        let id = zones.as_object().unwrap().keys().next().unwrap().clone();
        let given = user.sandbox.with(|world| world.network())["hosted_zone"]["id"].clone();
        // The cluster's own zone is not somebody else's.
        config["dns"] = json!({"zone_id": id});
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found[0].contains("is the cluster's own zone"), "{found:#?}");
        config["dns"] = json!({"zone_id": given});
        user.must_apply(&config).await;
        let checks = user.sandbox.with(|world| world.inventory())["global"]["health-check"].clone();
        for check in checks.as_object().unwrap().keys() {
            user.sandbox.with(|world| world.drift("global", "health-check", check, None)).unwrap();
        }
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        config["dns"] = json!({});
        user.must_apply(&config).await;
        let zones = user.sandbox.with(|world| world.inventory())["global"]["hosted-zone"].clone();
        let id = zones.as_object().unwrap().keys().next().unwrap().clone();
        let only = json!({"_vpcs": [{"VPCRegion": WEST, "VPCId": vpc(&user, WEST)}]});
        user.sandbox.with(|world| world.drift("global", "hosted-zone", &id, Some(&only))).unwrap();
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}
