//! What others have in the account: it is left alone, and where it is in the way, a plan says so.

use aws_sandbox::{Effect, Fault, Rule};
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use aws_sdk_kms::types::Tag as KeyTag;
use serde_json::json;

use crate::support::{
    agent::{EAST, WEST},
    aws::{connect, pass, simulate},
    user::{User, configuration, errors},
};

/// What no name leads to is found by its tags: a key that is not named yet, a peering with a VPC of before.
#[test]
fn what_somebody_else_gave_the_tag_of_the_suffix_is_left_alone() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let vpc = "vpc-0123456789abcdef0";
        let record = json!({"vpcId": vpc, "cidrBlock": "10.99.0.0/16", "state": "available", "_account": true});
        user.sandbox.with(|world| world.place(EAST, "vpc", vpc, record));
        let peer = user.sandbox.with(|world| world.network())[WEST]["vpc_id"].clone();
        let peer = peer.as_str().unwrap();
        let aws = connect(&user.sandbox).await;
        let (kms, ec2) = (aws.region(EAST).kms.clone(), aws.region(EAST).ec2.clone());
        let mut keys = Vec::new();
        for id in [None, Some("0000")] {
            let all =
                [("trading-dr:environment-suffix", Some("prod")), ("trading-dr:cluster-id", id)];
            let mut key = kms.create_key();
            for (name, value) in all.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                let tag = KeyTag::builder().tag_key(name).tag_value(value).build().unwrap();
                key = key.tags(tag);
            }
            let made = key.send().await.unwrap();
            keys.push(made.key_metadata().unwrap().key_id().to_owned());
        }
        let tag = Tag::builder().key("trading-dr:environment-suffix").value("prod").build();
        let tags = TagSpecification::builder().tags(tag.clone());
        let tags = tags.resource_type(ResourceType::VpcPeeringConnection).build();
        let peering = ec2.create_vpc_peering_connection().vpc_id(vpc).peer_vpc_id(peer);
        let made = peering.peer_region(WEST).tag_specifications(tags).send().await.unwrap();
        let id = made.vpc_peering_connection().unwrap().vpc_peering_connection_id().unwrap();
        pass(60).await;
        // It carries traffic of the standby's VPC.
        let west = aws.region(WEST).ec2.clone();
        west.create_tags().resources(id).tags(tag).send().await.unwrap();
        let accepted = west.accept_vpc_peering_connection().vpc_peering_connection_id(id);
        accepted.send().await.unwrap();
        pass(60).await;
        let tables =
            user.sandbox.with(|world| world.network())[WEST]["private_route_table_ids"].clone();
        let table = tables[0].as_str().unwrap();
        let route = west.create_route().route_table_id(table).vpc_peering_connection_id(id);
        route.destination_cidr_block("10.99.0.0/16").send().await.unwrap();
        let must_stay = |user: &User, when: &str| {
            let table = user.sandbox.with(|world| world.record(WEST, "route-table", table));
            let mut routes = table["routeSet"]["item"].as_array().unwrap().iter();
            let is_there = routes.any(|one| one["vpcPeeringConnectionId"] == id);
            assert!(is_there, "{when}: its route is gone");
        };
        let status = |user: &User| {
            user.sandbox.with(|world| {
                world.record(EAST, "vpc-peering-connection", id)["status"]["code"].clone()
            })
        };
        assert_eq!(status(&user), "active");
        user.must_be_unchanged(&config).await;
        let mut other = config.clone();
        other["tags"] = json!({"team": "risk"});
        user.must_apply(&other).await;
        must_stay(&user, "updated");
        user.must_destroy().await;
        must_stay(&user, "destroyed");
        // The next cluster takes none of it over, and an unfinished one neither.
        user.sandbox.add_fault(Fault::new(
            Rule { operation: Some("CreateAlias".into()), times: Some(1), ..Rule::default() },
            Effect::Fail { code: "ValidationError".into(), message: "no".into(), status: 400 },
        ));
        assert!(user.apply(&config).await.has_errors());
        user.state.tainted = false;
        user.restart().await;
        user.must_apply(&config).await;
        must_stay(&user, "made again");
        user.must_destroy().await;
        must_stay(&user, "destroyed again");
        for key in &keys {
            let key = user.sandbox.with(|world| world.record(EAST, "kms-key", key));
            assert_eq!(key["KeyState"], "Enabled");
        }
        assert_eq!(status(&user), "active");
    });
}

/// Of a cluster that there is not yet: no tag tells whose an alias or a route is.
#[test]
fn an_alias_a_route_and_a_log_group_of_others_are_refused_before_anything_is_made() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let aws = connect(&user.sandbox).await;
        let east = aws.region(EAST);
        let key = east.kms.create_key().send().await.unwrap();
        let key = key.key_metadata().unwrap().key_id().to_owned();
        let alias = east.kms.create_alias().alias_name("alias/trading-db-key-prod");
        alias.target_key_id(key).send().await.unwrap();
        let group = aws.region(WEST).logs.create_log_group();
        let group = group.log_group_name("/aws/lambda/trading-db-monitor-prod");
        group.tags("trading-dr:environment-suffix", "other").send().await.unwrap();
        let (table, cidr) = user.sandbox.with(|world| {
            let network = world.network();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let table = text(&network[EAST]["private_route_table_ids"][0]);
            let peer = text(&network[WEST]["vpc_id"]);
            let cidr = text(&world.record(WEST, "vpc", &peer)["cidrBlock"]);
            let mut routes = world.record(EAST, "route-table", &table)["routeSet"].clone();
            routes["item"].as_array_mut().unwrap().push(json!({
                "destinationCidrBlock": cidr, "transitGatewayId": "tgw-0123456789abcdef0",
                "state": "active", "origin": "CreateRoute", "_account": true,
            }));
            world.drift(EAST, "route-table", &table, Some(&json!({"routeSet": routes}))).unwrap();
            (table, cidr)
        });
        let before = user.sandbox.with(|world| world.inventory());
        let found = errors(&user.apply(&config).await);
        for (address, why) in [
            ("us-east-1/kms-alias".to_owned(), "leads to a key of somebody else"),
            // To which the alias leads.
            ("us-east-1/kms-key".to_owned(), "trading-db-key-prod exists already"),
            (format!("us-east-1/route/{table}/{cidr}"), "leads over tgw-0123456789abcdef0"),
            (
                "us-west-2/log-group/monitor".to_owned(),
                "its tag trading-dr:environment-suffix says other",
            ),
        ] {
            let told = found.iter().any(|one| one.contains(&address) && one.contains(why));
            assert!(told, "{address}: {found:#?}");
        }
        assert_eq!(found.len(), 4, "{found:#?}");
        assert_eq!(user.sandbox.with(|world| world.inventory()), before);
    });
}

/// Drills make it and remove it, so that nobody would see before the first one that the name is taken.
#[test]
fn an_instance_of_others_with_the_name_of_a_drills_is_refused_and_outlives_a_destroy() {
    const NAME: &str = "trading-db-drill-prod";
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        let mut record =
            made.sandbox.with(|world| world.record(WEST, "db-instance", "trading-db-replica-prod"));
        record["DBInstanceIdentifier"] = NAME.into();
        record["_tags"] = json!({"team": "others"});
        // Nothing of the cluster's is used by it.
        let of_its_own = [
            "DBSubnetGroup",
            "_subnet_group",
            "DBParameterGroups",
            "VpcSecurityGroups",
            "KmsKeyId",
        ];
        record.as_object_mut().unwrap().retain(|name, _| {
            !of_its_own.contains(&name.as_str()) && !name.starts_with("ReadReplica")
        });
        let place = |user: &User| {
            let record = record.clone();
            user.sandbox.with(|world| world.place(WEST, "db-instance", NAME, record));
        };
        let is_there = |user: &User| {
            let all = user.sandbox.with(|world| world.inventory());
            all[WEST]["db-instance"][NAME].is_object()
        };
        let mut user = User::new().await;
        place(&user);
        let before = user.sandbox.with(|world| world.inventory());
        let found = errors(&user.apply(&configuration(&user.sandbox)).await);
        let told = |text: &str| found.iter().any(|one| one.contains(text));
        assert!(told("us-west-2/drill-instance") && told(NAME), "{found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(user.sandbox.with(|world| world.inventory()), before);

        // One that came later is nothing of a plan's, and a destroy leaves it alone.
        let mut user = made;
        place(&user);
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert!(is_there(&user));
        assert_eq!(user.leftovers().len(), 1, "{:#?}", user.leftovers());
    });
}
