//! Networks that somebody changes while a cluster is in them.

use aws_sandbox::{Effect, Fault, Rule};
use aws_sdk_ec2::types::Filter;
use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, PROBE_GROUP, WEST},
    aws::{connect, simulate},
    user::{User, configuration, errors, lines},
};

/// Ids of a region's network.
fn ids(user: &User, region: &str, what: &str) -> Vec<String> {
    let found = user.sandbox.with(|world| world.network())[region][what].clone();
    serde_json::from_value(found).unwrap()
}

fn record(user: &User, region: &str, kind: &str, id: &str) -> Json {
    user.sandbox.with(|world| world.record(region, kind, id))
}

fn drift(user: &User, region: &str, kind: &str, id: &str, change: &Json) {
    user.sandbox.with(|world| world.drift(region, kind, id, Some(change))).unwrap();
}

/// Gives a table a route to an internet gateway; returns its routes before.
fn publish(user: &User, region: &str, table: &str) -> Json {
    let routes = record(user, region, "route-table", table)["routeSet"].clone();
    let mut more = routes.clone();
    more["item"].as_array_mut().unwrap().push(json!({
        "destinationCidrBlock": "0.0.0.0/0", "gatewayId": "igw-0new", "state": "active",
        "origin": "CreateRoute", "_account": true,
    }));
    drift(user, region, "route-table", table, &json!({"routeSet": more}));
    routes
}

fn publish_all(user: &User, region: &str) {
    for table in ids(user, region, "private_route_table_ids") {
        publish(user, region, &table);
    }
}

/// The subnets that a table routes.
fn routed_by(user: &User, region: &str, table: &str) -> Vec<String> {
    let found = record(user, region, "route-table", table);
    let all = found["associationSet"]["item"].as_array().unwrap().iter();
    all.filter_map(|one| one["subnetId"].as_str().map(str::to_owned)).collect()
}

/// Which subnets a plan says are public; it changes nothing besides these components.
async fn warned(user: &mut User, config: &Json, changed: &[String]) -> Vec<String> {
    let planned = user.plan(config).await;
    assert_eq!(errors(&planned.diagnostics), Vec::<String>::new());
    assert_eq!(user.changed_components(planned.state.as_ref().unwrap()), changed);
    let all = lines(&planned.diagnostics);
    all.into_iter().filter(|one| one.contains("Subnets of a database are public")).collect()
}

#[test]
fn a_subnet_that_becomes_public_stays_and_a_plan_warns_of_it() {
    simulate(async || {
        for (region, argument) in [(EAST, "primary"), (WEST, "dr")] {
            let (mut user, mut config) = User::with_cluster().await;
            let table = ids(&user, region, "private_route_table_ids").remove(0);
            let routes = publish(&user, region, &table);
            let found = warned(&mut user, &config, &[]).await;
            assert_eq!(found.len(), 1, "{found:#?}");
            let (told, rest) = found[0].split_once(" lead to ").unwrap();
            assert!(told.contains(region), "{told}");
            let public = routed_by(&user, region, &table);
            let private = ids(&user, region, "private_subnet_ids");
            for one in &private {
                assert_eq!(told.contains(one), public.contains(one), "{one}: {told}");
                assert!(rest.contains(one), "{one}: {rest}");
            }
            assert!(rest.contains(&format!("{argument}.subnet_ids")), "{rest}");
            // Both ways that the warning names end it.
            config[argument]["subnet_ids"] = json!(private);
            assert_eq!(warned(&mut user, &config, &[]).await, Vec::<String>::new());
            config[argument].as_object_mut().unwrap().remove("subnet_ids");
            drift(&user, region, "route-table", &table, &json!({"routeSet": routes}));
            assert_eq!(warned(&mut user, &config, &[]).await, Vec::<String>::new());
            // With all of them, there would be no private ones left to choose.
            publish_all(&user, region);
            user.must_be_unchanged(&config).await;
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_subnet_that_is_routed_by_a_public_table_gets_its_routes_there() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let table = ids(&user, EAST, "private_route_table_ids").remove(0);
        let moved = routed_by(&user, EAST, &table).remove(0);
        let public = ids(&user, EAST, "public_subnet_ids").remove(0);
        let ec2 = connect(&user.sandbox).await.region(EAST).ec2.clone();
        let of_it = Filter::builder().name("association.subnet-id").values(public).build();
        let found = ec2.describe_route_tables().filters(of_it).send().await.unwrap();
        let other = found.route_tables()[0].route_table_id().unwrap().to_owned();
        let association = |subnet: &str| json!({"main": false, "subnetId": subnet, "associationState": {"state": "associated"}});
        let all = |table: &str| routed_by(&user, EAST, table);
        let left: Vec<_> =
            all(&table).iter().filter(|one| **one != moved).map(|one| association(one)).collect();
        let more: Vec<_> = all(&other).iter().chain([&moved]).map(|one| association(one)).collect();
        drift(&user, EAST, "route-table", &table, &json!({"associationSet": {"item": left}}));
        drift(&user, EAST, "route-table", &other, &json!({"associationSet": {"item": more}}));
        user.refresh().await;
        let planned = user.must_plan(&config).await;
        let changed = user.changed_components(&planned);
        assert!(
            !changed.is_empty() && changed.iter().all(|one| one.contains("/route/")),
            "{changed:#?}"
        );
        assert!(changed.iter().any(|one| one.contains(&other)), "{changed:#?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_database_goes_into_no_public_subnet_that_nobody_named() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        let refused = |found: &[String]| {
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].starts_with("dr.subnet_ids: "), "{}", found[0]);
        };
        publish_all(&user, WEST);
        refused(&errors(&user.plan(&config).await.diagnostics));
        config["dr"]["subnet_ids"] = json!(ids(&user, WEST, "private_subnet_ids"));
        user.must_apply(&config).await;
        // Made anew, it would have to find private ones: that is told before anything goes.
        config["dr"].as_object_mut().unwrap().remove("subnet_ids");
        assert_eq!(warned(&mut user, &config, &[]).await.len(), 1);
        user.state.tainted = true;
        let before = user.sandbox.with(|world| world.inventory());
        refused(&errors(&user.apply(&config).await));
        assert_eq!(user.sandbox.with(|world| world.inventory()), before);
    });
}

#[test]
fn a_new_group_lets_nothing_out_although_its_own_rule_shows_late() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let operation = Some("RevokeSecurityGroupEgress".into());
        let rule = Rule { operation, times: Some(6), ..Rule::default() };
        let code = "InvalidPermission.NotFound".into();
        let message = "The specified rule does not exist in this security group.".into();
        user.sandbox.add_fault(Fault::new(rule, Effect::Fail { code, message, status: 400 }));
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

/// How often a group's way out was closed, and opened.
fn turns(user: &User) -> [usize; 2] {
    let calls = user.sandbox.calls();
    ["RevokeSecurityGroupEgress", "AuthorizeSecurityGroupEgress"]
        .map(|name| calls.iter().filter(|call| call.operation == name).count())
}

#[test]
fn the_way_to_the_databases_stays_open_while_a_group_is_put_back() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let group = user.sandbox.with(|world| world.group_id(WEST, PROBE_GROUP));
        let rules = record(&user, WEST, "security-group", &group)["_rules"].clone();
        let mut more = rules.clone();
        more.as_array_mut().unwrap().push(json!({
            "id": "sgr-0more", "egress": true, "protocol": "-1", "cidr": "0.0.0.0/0",
        }));
        let mut less = rules.clone();
        less.as_array_mut().unwrap().pop().unwrap();
        for (changed, wanted) in [(more, [1, 0]), (less, [0, 1])] {
            drift(&user, WEST, "security-group", &group, &json!({"_rules": changed}));
            user.refresh().await;
            let planned = user.must_plan(&config).await;
            assert_eq!(user.changed_components(&planned), ["us-west-2/security-group/probe"]);
            user.sandbox.forget_calls();
            user.must_apply(&config).await;
            assert_eq!(turns(&user), wanted);
            user.must_be_unchanged(&config).await;
        }
    });
}
