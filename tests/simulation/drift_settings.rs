//! A drift of every setting that can change, for [`super::drift`].

use serde_json::{Value as Json, json};

use super::drift::{Case, id_of};
use crate::support::{
    agent::{EAST, LEDGER, WEST},
    aws::{connect, simulate},
    user::{User, differences},
};

const GLOBAL: &str = "global";

/// What AWS offers no way to change: a thing with another value would be another thing.
pub const FIXED: &[(&str, &str)] = &[
    ("db-automated-backup", "source"),
    ("db-automated-backup", "key"),
    ("db-instance", "db_name"),
    ("db-instance", "extended_support"),
    ("db-instance", "key"),
    ("db-instance", "username"),
    ("db-parameter-group", "family"),
    ("dns-record", "dns_name"),
    ("dns-record", "zone"),
    ("dynamodb-table", "keys"),
    ("hosted-zone-association", "vpc_region"),
    ("security-group", "vpc"),
    ("sns-subscription", "endpoint"),
    // Refused, with the way out: on an instance that holds data there is none.
    ("db-instance", "subnet_group"),
    ("ssm-document", "type"),
    ("vpc-peering", "peer_region"),
    ("vpc-peering", "peer_vpc"),
    ("vpc-peering", "vpc"),
    ("vpc-peering-accepter", "peering"),
];

/// What other tests change, because more than a line changes with it.
pub const ELSEWHERE: &[(&str, &str)] = &[
    // What leads to something of somebody else's is refused by name: ownership.
    ("kms-alias", "key"),
    ("route", "peering"),
    // Growing storage: drift.
    ("db-instance", "storage_gib"),
    // Another version: drift_database.
    ("db-instance", "engine_version"),
    // Promotions: failover.
    ("db-instance", "role"),
    ("db-instance", "source"),
    // Parameters that wait for a restart: drift_database.
    ("db-instance", "static_parameters"),
    // Lost secrets, drift, and secrets without their replica, here.
    ("db-instance", "master_secret"),
    ("secret", "replica"),
];

/// Something of somebody else's, by kind and name, changed like that; it shows at the address.
fn case(
    region: &'static str,
    kind: &'static str,
    id: &str,
    change: Json,
    line: &'static str,
) -> Case {
    (region, kind, id.to_owned(), Some(change), line)
}

/// Of the instance of a region.
fn of_the_instance(user: &User, region: &'static str) -> Vec<Case> {
    let group =
        user.sandbox.with(|world| world.network())[region]["application_security_group_id"].clone();
    let groups = json!([{"VpcSecurityGroupId": group, "Status": "active"}]);
    let parameters =
        json!([{"DBParameterGroupName": "default.postgres15", "ParameterApplyStatus": "in-sync"}]);
    let changes = [
        json!({"PreferredBackupWindow": "01:00-02:00"}),
        json!({"PreferredMaintenanceWindow": "mon:09:00-mon:10:00"}),
        json!({"CACertificateIdentifier": "rds-ca-rsa4096-g1"}),
        json!({"CopyTagsToSnapshot": false}),
        json!({"DeletionProtection": true}),
        json!({"StorageType": "io2", "Iops": 3000}),
        json!({"EnabledCloudwatchLogsExports": {"member": ["postgresql"]}}),
        json!({"MaxAllocatedStorage": 500}),
        json!({"MonitoringInterval": 5}),
        json!({"MonitoringRoleArn": "arn:aws:iam::123456789012:role/other"}),
        json!({"MultiAZ": region == WEST}),
        json!({"DBParameterGroups": {"DBParameterGroup": parameters}}),
        json!({"PerformanceInsightsEnabled": false}),
        json!({"Endpoint": {"Port": 6000}, "_port": 6000}),
        json!({"VpcSecurityGroups": {"VpcSecurityGroupMembership": groups}}),
        json!({"_tags": {"team": "x"}}),
    ];
    let (name, line) = match region {
        EAST => ("trading-db-primary-prod", "us-east-1/db-instance"),
        _ => ("trading-db-replica-prod", "us-west-2/db-instance"),
    };
    changes.map(|change| case(region, "db-instance", name, change, line)).into()
}

/// Of records, checks and the zone.
fn of_the_name(user: &User) -> Vec<Case> {
    let zone = id_of(user, GLOBAL, "hosted-zone");
    let check = id_of(user, GLOBAL, "health-check");
    // Either of the two may be the first one.
    let record = user.sandbox.with(|world| world.record(GLOBAL, "health-check", &check));
    let is_inverted = record["HealthCheckConfig"]["Inverted"] == true;
    let records = |change: Json| {
        let mut all =
            user.sandbox.with(|world| world.record(GLOBAL, "hosted-zone", &zone))["_records"]
                .clone();
        let its = all[0].as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            its.insert(name.clone(), value.clone());
        }
        case(GLOBAL, "hosted-zone", &zone, json!({"_records": all}), "global/dns-record/")
    };
    let of_check =
        |change: Json| case(GLOBAL, "health-check", &check, change, "global/health-check/");
    vec![
        case(
            GLOBAL,
            "hosted-zone",
            &zone,
            json!({"Config": {"Comment": "Mine"}}),
            "global/hosted-zone",
        ),
        records(json!({"TTL": 300})),
        records(json!({"Weight": 7})),
        records(json!({"HealthCheckId": "other"})),
        records(json!({"ResourceRecords": [{"Value": "elsewhere.example.com"}]})),
        of_check(json!({"HealthCheckConfig": {"Inverted": !is_inverted}})),
        of_check(json!({"HealthCheckConfig": {"InsufficientDataHealthStatus": "Healthy"}})),
        of_check(json!({"CloudWatchAlarmConfiguration": {"Threshold": 9.0}})),
        of_check(json!({"HealthCheckConfig": {"AlarmIdentifier": {"Name": "other"}}})),
        of_check(json!({"_tags": {"team": "x"}})),
    ]
}

/// Of the functions and what runs them.
fn of_functions(user: &User) -> Vec<Case> {
    let (monitor, probe) = ("trading-db-monitor-prod", "trading-db-probe-prod");
    let line = "us-west-2/lambda-function/monitor";
    let of_monitor = |change: Json| case(WEST, "function", monitor, change, line);
    let of_probe =
        |change: Json| case(WEST, "function", probe, change, "us-west-2/lambda-function/probe");
    let mut policy =
        user.sandbox.with(|world| world.record(WEST, "function", monitor))["_policy"].clone();
    policy[0]["Principal"]["Service"] = json!("s3.amazonaws.com");
    let mut source =
        user.sandbox.with(|world| world.record(WEST, "function", monitor))["_policy"].clone();
    source[0]["Condition"]["ArnLike"]["AWS:SourceArn"] = json!("arn:aws:events:us-west-2:1:rule/x");
    let permission = "us-west-2/lambda-permission/monitor";
    let rule = "us-west-2/event-rule/monitor";
    vec![
        of_monitor(json!({"Description": "Mine"})),
        of_monitor(json!({"Runtime": "provided.al2"})),
        of_monitor(json!({"Role": "arn:aws:iam::123456789012:role/other"})),
        of_monitor(json!({"LastUpdateStatus": "Failed"})),
        of_monitor(json!({"Timeout": 3})),
        of_monitor(json!({"Environment": {"Variables": {"TRADING_DR_FUNCTION": "drill"}}})),
        of_monitor(json!({"Environment": {"Variables": {"TRADING_DR_ASSIGNMENT": "{}"}}})),
        of_monitor(json!({"_tags": {"team": "x"}})),
        of_probe(json!({"VpcConfig": {"SubnetIds": ["subnet-1"]}})),
        of_probe(json!({"VpcConfig": {"SecurityGroupIds": ["sg-1"]}})),
        case(WEST, "function", monitor, json!({"_policy": policy}), permission),
        case(WEST, "function", monitor, json!({"_policy": source}), permission),
        case(WEST, "event-rule", monitor, json!({"Description": "Mine"}), rule),
        case(WEST, "event-rule", monitor, json!({"_tags": {"team": "x"}}), rule),
    ]
}

/// Of what is around the database.
fn of_the_rest(user: &User) -> Vec<Case> {
    let tags = || json!({"_tags": {"team": "x"}});
    let described = || json!({"Description": "Mine"});
    let key = id_of(user, EAST, "kms-key");
    let peering = id_of(user, EAST, "vpc-peering-connection");
    let backup = id_of(user, WEST, "db-automated-backup");
    let group = user.sandbox.with(|world| world.group_id(EAST, "trading-db-sg-prod"));
    let (log, cpu) =
        ("/aws/rds/instance/trading-db-primary-prod/postgresql", "trading-db-cpu-prod");
    let (secret, role) = ("trading-db-master-prod", "trading-db-monitoring-role-prod");
    let mut rules =
        user.sandbox.with(|world| world.record(EAST, "security-group", &group))["_rules"].clone();
    for rule in rules.as_array_mut().unwrap() {
        (rule["from"], rule["to"]) = (json!(22), json!(22));
    }
    let options =
        json!({"requesterVpcInfo": {"peeringOptions": {"allowDnsResolutionFromRemoteVpc": false}}});
    let failed = json!({"ReplicationStatus": [{"Region": "us-west-2", "Status": "Failed", "KmsKeyId": "other"}]});
    let trust = json!({"_trust": {"Statement": []}});
    let subnets = json!({"Subnets": {"Subnet": [{"SubnetIdentifier": "subnet-1"}, {"SubnetIdentifier": "subnet-2"}]}});
    vec![
        case(EAST, "alarm", cpu, json!({"AlarmDescription": "Mine"}), "us-east-1/alarm/cpu"),
        case(EAST, "alarm", cpu, json!({"TreatMissingData": "breaching"}), "us-east-1/alarm/cpu"),
        case(EAST, "alarm", cpu, json!({"Period": 300}), "us-east-1/alarm/cpu"),
        case(EAST, "alarm", cpu, json!({"Unit": "Count"}), "us-east-1/alarm/cpu"),
        case(
            EAST,
            "sns-subscription",
            &id_of(user, EAST, "sns-subscription"),
            json!({"_left": true}),
            "us-east-1/sns-subscription/",
        ),
        case(
            WEST,
            "alarm",
            "trading-db-snapshot-copy-age-prod",
            json!({"InsufficientDataActions": []}),
            "us-west-2/alarm/snapshot-copy-age",
        ),
        case(
            WEST,
            "db-automated-backup",
            &backup,
            json!({"BackupRetentionPeriod": 3}),
            "us-west-2/db-automated-backup",
        ),
        case(WEST, "db-automated-backup", &backup, tags(), "us-west-2/db-automated-backup"),
        case(
            EAST,
            "db-event-subscription",
            "trading-db-events-prod",
            json!({"EventCategoriesList": ["backup"]}),
            "us-east-1/db-event-subscription",
        ),
        case(
            EAST,
            "db-event-subscription",
            "trading-db-events-prod",
            tags(),
            "us-east-1/db-event-subscription",
        ),
        case(
            EAST,
            "db-parameter-group",
            "trading-db-params-prod",
            tags(),
            "us-east-1/db-parameter-group",
        ),
        case(
            EAST,
            "db-subnet-group",
            "trading-db-subnet-group-prod",
            subnets,
            "us-east-1/db-subnet-group",
        ),
        case(
            EAST,
            "dynamodb-table",
            LEDGER,
            json!({"BillingModeSummary": {"BillingMode": "PROVISIONED"}}),
            "us-east-1/dynamodb-table/ledger",
        ),
        case(EAST, "dynamodb-table", LEDGER, tags(), "us-east-1/dynamodb-table/ledger"),
        case(GLOBAL, "role", role, tags(), "global/iam-role/monitoring"),
        case(GLOBAL, "role", role, described(), "global/iam-role/monitoring"),
        case(GLOBAL, "role", role, trust, "global/iam-role/monitoring"),
        case(
            EAST,
            "kms-alias",
            "alias/trading-db-key-prod",
            json!({"TargetKeyId": "other"}),
            "us-east-1/kms-alias",
        ),
        case(
            EAST,
            "kms-key",
            &key,
            json!({"Enabled": false, "KeyState": "Disabled"}),
            "us-east-1/kms-key",
        ),
        case(EAST, "kms-key", &key, tags(), "us-east-1/kms-key"),
        case(EAST, "kms-key", &key, described(), "us-east-1/kms-key"),
        case(
            EAST,
            "log-group",
            log,
            json!({"kmsKeyId": "other"}),
            "us-east-1/log-group/postgresql",
        ),
        case(EAST, "log-group", log, tags(), "us-east-1/log-group/postgresql"),
        case(EAST, "secret", secret, json!({"KmsKeyId": "other"}), "us-east-1/secret/master"),
        case(EAST, "secret", secret, failed, "us-east-1/secret/master"),
        case(EAST, "secret", secret, tags(), "us-east-1/secret/master"),
        case(EAST, "secret", secret, described(), "us-east-1/secret/master"),
        case(EAST, "security-group", &group, tags(), "us-east-1/security-group"),
        case(
            EAST,
            "security-group",
            &group,
            json!({"_rules": rules}),
            "us-east-1/security-group-rule",
        ),
        case(EAST, "sns-topic", "trading-db-alerts-prod", tags(), "us-east-1/sns-topic"),
        case(EAST, "vpc-peering-connection", &peering, tags(), "us-east-1/vpc-peering"),
        case(WEST, "vpc-peering-connection", &peering, tags(), "us-west-2/vpc-peering-accepter"),
        case(EAST, "vpc-peering-connection", &peering, options, "us-east-1/vpc-peering-options"),
    ]
}

/// What somebody removed.
fn gone(user: &User) -> Vec<Case> {
    let gone = |region, kind, id: &str, line| (region, kind, id.to_owned(), None, line);
    let role = "trading-db-monitor-role-prod";
    let dashboard = id_of(user, GLOBAL, "dashboard");
    let zone = id_of(user, GLOBAL, "hosted-zone");
    let subscription = id_of(user, EAST, "sns-subscription");
    vec![
        gone(GLOBAL, "dashboard", &dashboard, "us-"),
        gone(EAST, "sns-subscription", &subscription, "us-east-1/sns-subscription"),
        gone(GLOBAL, "role", role, "global/iam-role/monitor"),
        gone(GLOBAL, "hosted-zone", &zone, "global/hosted-zone"),
        gone(WEST, "dynamodb-table", LEDGER, "us-west-2/dynamodb-table/ledger"),
        gone(WEST, "function", "trading-db-probe-prod", "us-west-2/lambda-function/probe"),
    ]
}

pub fn cases(user: &User) -> Vec<Case> {
    let all = [
        of_the_instance(user, EAST),
        of_the_instance(user, WEST),
        of_the_name(user),
        of_functions(user),
        of_the_rest(user),
        gone(user),
    ];
    all.concat()
}

#[test]
fn a_peering_that_somebody_deleted_is_made_anew_with_its_routes() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let id = id_of(&user, EAST, "vpc-peering-connection");
        let ec2 = connect(&user.sandbox).await.region(EAST).ec2.clone();
        ec2.delete_vpc_peering_connection().vpc_peering_connection_id(&id).send().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let before = user.state.value.clone().unwrap();
        user.must_plan(&config).await;
        let lines = differences(&before, user.state.value.as_ref().unwrap());
        assert!(lines.iter().any(|one| one.contains("us-east-1/vpc-peering")), "{lines:#?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(
            differences(
                before.get("components"),
                user.state.value.as_ref().unwrap().get("components")
            ),
            Vec::<String>::new()
        );
        for region in [EAST, WEST] {
            let routes = user.sandbox.with(|world| {
                let tables = world.network()[region]["private_route_table_ids"].clone();
                let tables = tables.as_array().unwrap().iter().filter_map(Json::as_str);
                tables
                    .map(|id| world.record(region, "route-table", id).to_string())
                    .collect::<String>()
            });
            assert!(!routes.contains(&id) && routes.contains("pcx-"), "{region}: {routes}");
        }
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// Which costs money, and has no argument of its own.
#[test]
fn a_throughput_above_what_the_storage_comes_with_is_shown_and_taken_back() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = crate::support::user::configuration(&user.sandbox);
        config["database"] = json!({"allocated_storage": 500});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let name = "trading-db-primary-prod";
        let change = json!({"StorageThroughput": 1000});
        user.sandbox.with(|world| world.drift(EAST, "db-instance", name, Some(&change))).unwrap();
        let before = user.state.value.clone().unwrap();
        user.must_plan(&config).await;
        let lines = differences(&before, user.state.value.as_ref().unwrap());
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(
            lines[0].contains("us-east-1/db-instance") && lines[0].contains("1000 MiB/s"),
            "{lines:#?}"
        );
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let record = user.sandbox.with(|world| world.record(EAST, "db-instance", name));
        assert_eq!(record["StorageThroughput"], 500);
        // What it has anyway may be said as well, and what is more comes with that throughput.
        for iops in [12_000, 20_000] {
            config["database"]["iops"] = json!(iops);
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
        }
        user.sandbox.with(|world| world.drift(EAST, "db-instance", name, Some(&change))).unwrap();
        user.must_apply(&config).await;
        let record = user.sandbox.with(|world| world.record(EAST, "db-instance", name));
        assert_eq!(
            (record["StorageThroughput"].as_i64(), record["Iops"].as_i64()),
            (Some(500), Some(20_000))
        );
    });
}

#[test]
fn a_secret_whose_replica_was_removed_is_replicated_again() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let secrets = connect(&user.sandbox).await.region(EAST).secrets.clone();
        let remove = secrets.remove_regions_from_replication().secret_id("trading-db-master-prod");
        remove.remove_replica_regions(WEST).send().await.unwrap();
        let before = user.state.value.clone().unwrap();
        user.must_plan(&config).await;
        let drifted = differences(&before, user.state.value.as_ref().unwrap());
        let line = drifted.iter().find(|one| one.starts_with("components us-east-1/secret/master"));
        assert!(line.is_some_and(|line| line.contains("replica=us-west-2")), "{drifted:#?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let replica =
            user.sandbox.with(|world| world.record(WEST, "secret", "trading-db-master-prod"));
        assert!(replica.is_object());
    });
}
