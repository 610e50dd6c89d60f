//! Bad input is answered at plan, at its argument, with what to do.

use aws_sandbox::{Effect, Fault, RESTRICTED_KEY, Rule};
use serde_json::{Value as Json, json};

use crate::support::{
    aws::{Way, connect, simulate},
    user::{User, configuration, errors, set},
};

async fn refused(user: &mut User, config: &Json) -> Vec<String> {
    errors(&user.plan(config).await.diagnostics)
}

/// The argument, its bad value, and what the answer must hold.
type Case = (&'static str, Json, &'static [&'static str]);

#[test]
fn what_is_wrong_by_itself_is_said_before_aws_is_asked() {
    simulate(async || {
        let mut user = User::new().await;
        let cases: &[Case] = &[
            (
                "environment_suffix",
                json!("Prod_1"),
                &["environment_suffix: ", "\"Prod_1\"", "lower-case letters"],
            ),
            ("environment_suffix", json!(""), &["environment_suffix: ", "empty"]),
            ("environment_suffix", json!("a-suffix-that-is-too-long"), &["20 characters"]),
            (
                "primary.region",
                json!("us-west-2"),
                &["dr.region: Both sites are in the same region"],
            ),
            ("primary.region", json!("Virginia"), &["primary.region: ", "written as us-east-1"]),
            ("primary.vpc_id", json!("10.0.0.0/16"), &["primary.vpc_id: ", "begins with vpc-"]),
            (
                "dr.allowed_cidr_blocks",
                json!(["10.0.0.1/8"]),
                &["dr.allowed_cidr_blocks", "10.0.0.0/8"],
            ),
            (
                "dr.allowed_cidr_blocks",
                json!(["0.0.0.0/0"]),
                &["dr.allowed_cidr_blocks: 0.0.0.0/0 lets everybody in"],
            ),
            (
                "dr.allowed_security_group_ids",
                Json::Null,
                &["dr: Nobody may connect to the database in us-west-2"],
            ),
            (
                "database.engine_version",
                json!("14.9"),
                &["database.engine_version: ", "PostgreSQL 15"],
            ),
            ("database.engine_version", json!("15.x"), &["database.engine_version: ", "15.14"]),
            (
                "database.instance_class",
                json!("db.t3.micro"),
                &["database.instance_class: ", "db.t3.medium"],
            ),
            ("database.instance_class", json!("t3.medium"), &["db.<family>.<size>"]),
            ("database.dr_instance_class", json!("db.t3.small"), &["database.dr_instance_class: "]),
            (
                "database.allocated_storage",
                json!(10),
                &["database.allocated_storage: ", "from 20 to 65536"],
            ),
            (
                "database.max_allocated_storage",
                json!(105),
                &["database.max_allocated_storage: It leaves no room to grow"],
            ),
            (
                "database.storage_type",
                json!("magnetic"),
                &["database.storage_type: ", "gp3, io1, io2"],
            ),
            (
                "database.storage_type",
                json!("io2"),
                &["database.iops: Storage of type io2 needs it"],
            ),
            ("database.iops", json!(5000), &["database.iops: gp3 storage below 400 GiB"]),
            (
                "database",
                json!({"allocated_storage": 500, "iops": 5000}),
                &["database.iops: 500 GiB of gp3 storage cannot have 5000", "12000 to 64000"],
            ),
            (
                "database",
                json!({"storage_type": "io1", "iops": 6000}),
                &["database.iops: 100 GiB of io1 storage cannot have 6000", "1000 to 5000"],
            ),
            (
                "database",
                json!({"storage_type": "io2", "iops": 1999, "allocated_storage": 4000}),
                &["database.iops: 4000 GiB of io2 storage cannot have 1999", "2000 to 256000"],
            ),
            ("database.db_name", json!("1st"), &["database.db_name: "]),
            ("database.username", json!("rdsadmin"), &["database.username: "]),
            ("database.port", json!(80), &["database.port: ", "1150"]),
            ("database.monitoring_interval", json!(7), &["database.monitoring_interval: "]),
            ("database.maintenance_window", json!("sunday"), &["database.maintenance_window: "]),
            (
                "database.maintenance_window",
                json!("sun:03:00-sun:04:00"),
                &["overlaps with the backups at 03:00-04:00"],
            ),
            (
                "database.parameters",
                json!({"rds.force_ssl": "0"}),
                &["database.parameters[\"rds.force_ssl\"]: ", "TLS"],
            ),
            ("backup.retention_days", json!(3), &["backup.retention_days: ", "from 7 to 35"]),
            ("backup.window", json!("3-4"), &["backup.window: ", "hh:mm-hh:mm"]),
            ("backup.window", json!("09:00-14:00"), &["backup.window: ", "less than four hours"]),
            (
                "failover.witness_region",
                json!("us-east-1"),
                &["failover.witness_region: us-east-1 is the region that is watched"],
            ),
            (
                "failover.witness_region",
                json!("us-west-2"),
                &[
                    "failover.witness_region: us-west-2 is one of the two",
                    "accept_split_brain_risk",
                ],
            ),
            (
                "failover.region_detection",
                json!(120),
                &["failover.region_detection: The RTO of a lost region would be 315 s", "300"],
            ),
            (
                "failover.max_data_loss",
                json!(55),
                &["failover.max_data_loss: The RPO of a failover would be 65 s", "60"],
            ),
            ("timeouts.create", json!("soon"), &["timeouts.create: ", "90m"]),
            ("tags", json!({"aws:x": "y"}), &["tags: The tag aws:x"]),
            ("tags", json!({"AWS:x": "y"}), &["tags: The tag AWS:x"]),
            ("tags", json!({"name": "y"}), &["tags: The tag name"]),
            (
                "tags",
                json!({"Team": "a", "team": "b"}),
                &["tags: The tags Team and team differ in case only"],
            ),
            ("tags", json!({"a": "b*"}), &["tags[\"a\"]: "]),
        ];
        for (argument, value, expected) in cases {
            let mut config = configuration(&user.sandbox);
            for object in ["database", "backup", "failover", "timeouts"] {
                config[object] = json!({});
            }
            set(&mut config, argument, value.clone());
            let found = refused(&mut user, &config).await;
            assert_eq!(found.len(), 1, "{argument} = {value}: {found:#?}");
            for text in *expected {
                assert!(found[0].contains(text), "{argument} = {value}: {found:#?} lacks {text:?}");
            }
            assert_eq!(user.sandbox.calls().len(), 0, "{argument} = {value} asked AWS");
        }
    });
}

#[test]
fn what_does_not_fit_the_account_is_said_at_plan() {
    simulate(async || {
        let mut user = User::new().await;
        let network = user.sandbox.with(|world| world.network());
        let (east, west) = (&network["us-east-1"], &network["us-west-2"]);
        let cases: &[(&str, Json, &[&str])] = &[
            (
                "primary.vpc_id",
                json!("vpc-0nowhere"),
                &["primary.vpc_id: There is no VPC vpc-0nowhere in us-east-1", "Neither"],
            ),
            (
                "primary.vpc_id",
                west["vpc_id"].clone(),
                &["primary.vpc_id: There is no VPC", "It is in us-west-2", "swapped"],
            ),
            (
                "primary.subnet_ids",
                json!([east["private_subnet_ids"][0]]),
                &["primary.subnet_ids: ", "two availability zones", "(us-east-1a)"],
            ),
            (
                "dr.subnet_ids",
                json!(["subnet-0nowhere"]),
                &["dr.subnet_ids: ", "has no subnet subnet-0nowhere"],
            ),
            (
                "dr.route_table_ids",
                json!(["rtb-0nowhere"]),
                &["dr.route_table_ids: ", "has no route table rtb-0nowhere"],
            ),
            (
                "dr.allowed_security_group_ids",
                json!([east["application_security_group_id"]]),
                &[
                    "dr.allowed_security_group_ids: us-west-2 has no security group",
                    "allowed_cidr_blocks",
                ],
            ),
            (
                "database.ca_certificate_identifier",
                json!("rds-ca-2019"),
                &["database.ca_certificate_identifier", "RDS offers: rds-ca-rsa2048-g1"],
            ),
            (
                "database.engine_version",
                json!("15.99"),
                &["database.engine_version: RDS has no PostgreSQL 15.99"],
            ),
            (
                "database.parameters",
                json!({"max_conections": "5"}),
                &["database.parameters[\"max_conections\"]: There is no parameter max_conections"],
            ),
            (
                "database.parameters",
                json!({"max_connections": "5"}),
                &[
                    "database.parameters[\"max_connections\"]: max_connections cannot be 5",
                    "RDS allows 6-",
                ],
            ),
        ];
        for (argument, value, expected) in cases {
            let mut config = configuration(&user.sandbox);
            config["database"] = json!({});
            set(&mut config, argument, value.clone());
            let found = refused(&mut user, &config).await;
            assert_eq!(found.len(), 1, "{argument} = {value}: {found:#?}");
            for text in *expected {
                assert!(found[0].contains(text), "{argument} = {value}: {found:#?} lacks {text:?}");
            }
        }
    });
}

#[test]
fn networks_that_cannot_carry_a_cluster_are_refused() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let vpc = config["dr"]["vpc_id"].as_str().unwrap().to_owned();
        let blocks = |block: &str| json!({"cidrBlock": block, "cidrBlockAssociationSet": {"item": [{"cidrBlock": block, "cidrBlockState": {"state": "associated"}}]}});
        for (change, back, expected) in [
            (
                blocks("10.10.128.0/17"),
                blocks("10.20.0.0/16"),
                "dr.vpc_id: The two VPCs' address blocks overlap",
            ),
            (
                json!({"_dns_hostnames": false}),
                json!({"_dns_hostnames": true}),
                "has no DNS hostnames",
            ),
            (
                json!({"_dns_support": false, "_dns_hostnames": false}),
                json!({"_dns_support": true, "_dns_hostnames": true}),
                "has no DNS support and no DNS hostnames",
            ),
        ] {
            user.sandbox
                .with(|world| world.drift("us-west-2", "vpc", &vpc, Some(&change)))
                .unwrap();
            let found = refused(&mut user, &config).await;
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].contains(expected), "{found:#?}");
            user.sandbox.with(|world| world.drift("us-west-2", "vpc", &vpc, Some(&back))).unwrap();
        }
    });
}

#[test]
fn a_class_that_one_region_does_not_sell_is_refused() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["database"] = json!({"instance_class": "db.x1.16xlarge"});
        let found = refused(&mut user, &config).await;
        assert!(found.iter().any(|one| one.contains("is not on sale in")), "{found:#?}");
        config["database"] =
            json!({"instance_class": "db.r6g.xlarge", "dr_instance_class": "db.r6g.large"});
        let found = refused(&mut user, &config).await;
        assert!(
            found[0].contains("database.dr_instance_class: db.r6g.large is smaller"),
            "{found:#?}"
        );
    });
}

#[test]
fn a_name_that_somebody_else_owns_is_refused() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let ec2 = connect(&user.sandbox).await.region("us-east-1").ec2.clone();
        let vpc = config["primary"]["vpc_id"].as_str().unwrap();
        let group = ec2
            .create_security_group()
            .group_name("trading-db-sg-prod")
            .description("mine")
            .vpc_id(vpc);
        group.send().await.unwrap();
        let found = refused(&mut user, &config).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("us-east-1/security-group"), "{found:#?}");
        assert!(
            found[0].contains("is not this cluster's: it does not carry the tag"),
            "{found:#?}"
        );
        assert!(found[0].contains("another environment_suffix"), "{found:#?}");
    });
}

#[test]
fn a_denied_action_is_named_with_its_resource() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let everything = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        let allow = |user: &User, statements: Json| {
            let policies =
                json!({"_policies": {"test": {"Version": "2012-10-17", "Statement": statements}}});
            user.sandbox
                .with(|world| world.drift("global", "user", "restricted", Some(&policies)))
                .unwrap();
        };
        allow(
            &user,
            json!([everything, {"Effect": "Deny", "Action": "secretsmanager:CreateSecret", "Resource": "*"}]),
        );
        let sandbox = user.sandbox.clone();
        let mut restricted = User::by(sandbox.clone(), Way::of(RESTRICTED_KEY)).await;
        let found = errors(&restricted.apply(&config).await);
        let of_secret = |one: &String| one.contains("us-east-1/secret/");
        assert!(!found.is_empty() && found.iter().all(of_secret), "{found:#?}");
        let texts = [
            "is not authorized to perform: secretsmanager:CreateSecret on resource: arn:aws:secretsmanager:us-east-1:",
            "secret:trading-db-",
            "request ",
            "terraform untaint",
            "Not finished: ",
        ];
        for text in texts {
            assert!(found[0].contains(text), "{found:#?} lacks {text:?}");
        }
        // Following the advice goes on where it stopped.
        allow(&user, json!([everything]));
        assert!(restricted.state.tainted);
        restricted.state.tainted = false;
        let before = restricted.state.value.as_ref().unwrap().get("arns").clone();
        assert!(before.entries().count() > 3, "{before:?}");
        restricted.must_apply(&config).await;
        let after = restricted.state.value.as_ref().unwrap().get("arns").clone();
        for (address, arn) in before.entries() {
            assert_eq!(arn, after.get(address), "{address} was made anew");
        }
        restricted.must_be_unchanged(&config).await;
        // Nothing may be done at all: the plan says so.
        allow(&user, json!([]));
        user.state = restricted.state.clone();
        let mut nobody = User::by(sandbox.clone(), Way::of(RESTRICTED_KEY)).await;
        let found = errors(&nobody.plan(&config).await.diagnostics);
        assert!(found[0].contains("Permission denied while planning"), "{found:#?}");
        assert!(found[0].contains("is not authorized to perform: "), "{found:#?}");
    });
}

#[test]
fn credentials_and_endpoints_that_do_not_work_are_told_apart() {
    simulate(async || {
        let user = User::new().await;
        let config = configuration(&user.sandbox);
        let sandbox = user.sandbox.clone();
        let mut stranger = User::by(sandbox.clone(), Way::of("AKIANOBODY")).await;
        let found = errors(&stranger.plan(&config).await.diagnostics);
        assert!(found[0].contains("There are no credentials that AWS takes"), "{found:#?}");
        assert!(found[0].contains("aws sts get-caller-identity"), "{found:#?}");
        let mut user = user;
        sandbox.add_fault(Fault::new(
            Rule { service: Some("rds".into()), ..Rule::default() },
            Effect::DropBefore,
        ));
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found[0].contains("rds in us-"), "{found:#?}");
        assert!(found[0].contains("did not answer while planning"), "{found:#?}");
    });
}
