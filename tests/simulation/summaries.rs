//! The line of a component differs exactly when one of its settings does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use trading::{
    cluster::{
        Blueprint, Site, Spec, Surroundings,
        names::Suffix,
        schedule::Schedule,
        spec::{
            BackupSpec, DatabaseSpec, DeletionSpec, DnsSpec, DrillSpec, FailoverSpec,
            InstanceClass, MonitoringSpec, NotificationsSpec, SiteSpec, Timeouts,
        },
        surroundings::{Network, Subnetwork},
        window::{MaintenanceWindow, Window},
    },
    components::Scope,
};

fn site(region: &str, blocks: &BTreeSet<u8>) -> SiteSpec {
    SiteSpec {
        region: region.into(),
        vpc_id: format!("vpc-{region}"),
        subnet_ids: None,
        route_table_ids: None,
        allowed_security_group_ids: BTreeSet::new(),
        allowed_cidr_blocks: blocks
            .iter()
            .map(|one| format!("10.{one}.0.0/16").parse().unwrap())
            .collect(),
    }
}

prop_compose! {
    fn database()(
        class in prop::sample::select(vec!["db.t3.medium", "db.r6g.large", "db.m5.xlarge"]),
        storage in 20u32..1000,
        most in prop::option::of(2000u32..3000),
        port in 1150u16..,
        parameters in prop::collection::btree_map("[a-z_]{1,8}", "[ -~]{0,12}", 0..3),
        flags in any::<[bool; 3]>(),
        interval in prop::sample::select(vec![0u32, 15, 60]),
    ) -> DatabaseSpec {
        DatabaseSpec {
            engine_version: "15".into(),
            instance_class: InstanceClass::parse(class).unwrap(),
            dr_instance_class: InstanceClass::parse(class).unwrap(),
            allocated_storage: storage,
            max_allocated_storage: most,
            storage_type: "gp3".into(),
            iops: None,
            db_name: "trading".into(),
            username: "boss".into(),
            port,
            parameters,
            performance_insights: flags[0],
            monitoring_interval: interval,
            dr_multi_az: flags[1],
            maintenance_window: MaintenanceWindow::default(),
            ca_certificate_identifier: "rds-ca-rsa2048-g1".into(),
            apply_immediately: flags[2],
        }
    }
}

prop_compose! {
    fn spec()(
        database in database(),
        blocks in prop::collection::btree_set(any::<u8>(), 1..4),
        tags in prop::collection::btree_map("[a-z]{1,6}", "[ -~]{0,8}", 0..3),
        days in 7u32..=35,
        protection in any::<bool>(),
        (ttl, lag, detection) in (1u32..300, 2u32..100, 60u32..90),
        free in prop::option::of(1u32..20),
        minute in prop::option::of(0u32..1440),
        reserve_concurrency in prop::option::of(any::<bool>()),
        emails in prop::collection::btree_set("[a-z]{1,6}@example.com", 0..3),
    ) -> Spec {
        let hour = std::time::Duration::from_secs(3600);
        Spec {
            suffix: Suffix::parse("prod").unwrap(),
            primary: site("us-east-1", &blocks),
            dr: site("us-west-2", &blocks),
            peering_connection_id: None,
            database,
            backup: BackupSpec { retention_days: days, window: Window::default(), cross_region: true, snapshot_copies: 7 },
            dns: DnsSpec { zone_id: None, name: None, ttl, additional_vpc_ids: BTreeSet::new() },
            failover: FailoverSpec {
                region_detection: detection,
                reserve_concurrency,
                ..FailoverSpec::default()
            },
            drill: DrillSpec { enabled: true, schedule: minute.map(Schedule::on_saturdays) },
            monitoring: MonitoringSpec {
                replica_lag_seconds: lag,
                cpu_percent: 80,
                free_storage_gib: free,
                connections_percent: 80,
            },
            notifications: NotificationsSpec { emails, ..NotificationsSpec::default() },
            deletion: DeletionSpec { protection, final_snapshot: false },
            tags,
            timeouts: Timeouts { create: hour, read: hour, update: hour, delete: hour },
            unknown: BTreeSet::new(),
        }
    }
}

fn blueprint(spec: &Spec) -> Blueprint {
    let network = |site: Site| Network {
        cidrs: vec![
            format!("10.{}.0.0/16", if site == Site::Primary { 10 } else { 20 }).parse().unwrap(),
        ],
        subnets: vec![Subnetwork {
            id: "subnet-1".into(),
            zone: "a".into(),
            has_lambda: true,
            is_exposed: false,
        }],
        route_tables: BTreeSet::from(["rtb-1".to_owned()]),
    };
    let surroundings = Surroundings {
        account: "123456789012".into(),
        partition: "aws".into(),
        networks: BTreeMap::from(Site::ALL.map(|site| (site, network(site)))),
        zone_name: None,
        agent: "hash".into(),
        additional_vpcs: BTreeMap::new(),
        concurrency: BTreeMap::new(),
        statics: BTreeSet::new(),
    };
    let scope = Scope {
        suffix: "prod".into(),
        cluster_id: None,
        leaving: BTreeSet::new(),
        account: "123456789012".into(),
        partition: "aws".into(),
    };
    Blueprint::new(spec, &surroundings, &scope)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_line_differs_exactly_when_a_setting_does(one in spec(), other in spec()) {
        let (one, other) = (blueprint(&one), blueprint(&other));
        for component in one.all() {
            let Some(twin) = other.get(&component.address) else { continue };
            let settings = |fields: &[trading::components::Field]| -> Vec<_> {
                fields.iter().map(|field| (field.name, field.value.clone())).collect()
            };
            prop_assert_eq!(
                settings(&component.fields) == settings(&twin.fields),
                component.summary() == twin.summary(),
                "{}:\n{}\n{}", component.address, component.summary(), twin.summary()
            );
        }
    }

    #[test]
    fn no_line_holds_an_id_that_aws_assigns(one in spec()) {
        // Ids of what the user named are no secret of AWS's: subnets, tables and VPCs exist beforehand.
        for component in blueprint(&one).all() {
            let line = component.summary();
            for prefix in ["pcx-", "sg-0", "key/", "secret:"] {
                prop_assert!(!line.contains(prefix), "{line}");
            }
        }
    }

    #[test]
    fn the_same_spec_makes_the_same_blueprint(one in spec()) {
        let lines = |blueprint: &Blueprint| -> Vec<_> {
            blueprint.all().map(|one| (one.address.clone(), one.summary(), one.depends_on.clone())).collect()
        };
        prop_assert_eq!(lines(&blueprint(&one)), lines(&blueprint(&one)));
    }
}
