//! Whose a thing is: what is not ours is never touched, and what is ours is found whatever happened.

use serde_json::{Value as Json, json};
use trading::plugin::{Context, PlanInput, Planned, Value, from_json};

use crate::support::{
    aws::{connect, pass, simulate},
    user::{State, User, configuration, errors, lines},
};

/// Kinds whose tags do not decide whose they are: RDS makes log groups anew, replicated backups follow our instance,
/// what Route 53 has was made with a reference that nobody can change, which names the cluster, and so does the path
/// of the bookkeeping's parameters.
const OURS_WHATEVER_TAGS_SAY: [&str; 5] =
    ["log-group", "db-automated-backup", "health-check", "hosted-zone", "ssm-parameter"];

/// The kinds whose tags do.
const OURS_BY_TAGS: [&str; 15] = [
    "alarm",
    "db-event-subscription",
    "db-instance",
    "db-parameter-group",
    "db-subnet-group",
    "dynamodb-table",
    "event-rule",
    "function",
    "kms-key",
    "role",
    "secret",
    "security-group",
    "sns-topic",
    "ssm-document",
    "vpc-peering-connection",
];

#[test]
fn whatever_carries_somebody_elses_tags_is_refused_by_name() {
    simulate(async || {
        let (user, config) = User::with_cluster().await;
        let inventory = user.sandbox.with(|world| world.inventory());
        let arns = user.state.value.as_ref().unwrap().get("arns").clone();
        let mut tried = std::collections::BTreeSet::new();
        for (region, kinds) in inventory.as_object().unwrap() {
            for (kind, records) in kinds.as_object().unwrap() {
                let tagged = records.as_object().unwrap().iter().filter(|(_, record)| {
                    !record["Tags"]["trading-dr:environment-suffix"].is_null()
                        && !OURS_WHATEVER_TAGS_SAY.contains(&kind.as_str())
                });
                for (id, _) in tagged {
                    // The other side of the peering, and the secret's replica, are ours through the first.
                    if region == "us-west-2"
                        && ["vpc-peering-connection", "secret"].contains(&kind.as_str())
                    {
                        continue;
                    }
                    // Its own message, with its own address.
                    let addresses = addresses(&arns, region, kind, id);
                    assert!(!addresses.is_empty(), "{region} {kind} {id}: no ARN is its");
                    for (forged, message) in forgeries() {
                        let world = aws_sandbox::Sandbox::with_world(user.sandbox.world(), 1.0);
                        let mut other = User::of(world).await;
                        other.state = user.state.clone();
                        let forged = json!({"_tags": forged});
                        other
                            .sandbox
                            .with(|world| world.drift(region, kind, id, Some(&forged)))
                            .unwrap();
                        // From here on it takes its time until all look at it.
                        other.sandbox.with(|_| ());
                        pass(60).await;
                        let found = errors(&other.plan(&config).await.diagnostics);
                        let named = found.iter().any(|one| {
                            one.contains(message)
                                && addresses.iter().any(|address| one.contains(address))
                        });
                        assert!(named, "{region} {kind} {id} {forged}: {found:#?}");
                    }
                    tried.insert(kind.clone());
                }
            }
        }
        assert_eq!(Vec::from_iter(tried), OURS_BY_TAGS);
    });
}

/// What somebody may do to the tags of something of ours, and what a plan says then.
fn forgeries() -> [(Json, &'static str); 3] {
    let tags = |suffix: Json, id: Json| json!({"trading-dr:environment-suffix": suffix, "trading-dr:cluster-id": id, "team": null, "Name": null});
    [
        (tags(json!("other"), Json::Null), "its tag trading-dr:environment-suffix says other"),
        (tags(json!("prod"), json!("0000")), "it belongs to the cluster 0000, not to"),
        (tags(Json::Null, Json::Null), "it does not carry the tag trading-dr:environment-suffix"),
    ]
}

/// The addresses of what has this id, by its ARNs.
fn addresses(arns: &Value, region: &str, kind: &str, id: &str) -> Vec<String> {
    let is_its = |(address, arn): &(&str, &Value)| {
        let arn = arn.as_str().unwrap_or_default();
        let end = arn.rsplit(['/', ':']).next().unwrap_or_default();
        // Secrets Manager adds six characters.
        let is_secret = kind == "secret" && end.starts_with(&format!("{id}-"));
        address.starts_with(region) && (arn.ends_with(id) || is_secret)
    };
    arns.entries().filter(is_its).map(|(address, _)| address.to_owned()).collect()
}

/// Kinds whose names AWS chooses, so that there is nothing of somebody else's that would be in the way; groups of logs and
/// replicated backups, which RDS makes by itself; aliases, which lead somewhere and have no tags.
const IN_NOBODYS_WAY: [&str; 5] =
    ["db-automated-backup", "health-check", "kms-alias", "kms-key", "log-group"];

/// Without tags, a state or a claim that speak of it, it is of somebody else.
#[test]
fn whatever_has_a_name_of_ours_already_is_refused_before_a_create() {
    simulate(async || {
        let (user, config) = User::with_cluster().await;
        let arns = user.state.value.as_ref().unwrap().get("arns").clone();
        let all = user.leftovers();
        let mut looked = std::collections::BTreeSet::new();
        let (mut tried, mut wrong) = (std::collections::BTreeSet::new(), Vec::new());
        for one in &all {
            let mut parts = one.splitn(3, '/');
            let [region, kind, id] = std::array::from_fn(|_| parts.next().unwrap());
            // The replicas of secrets are theirs.
            let home = if kind == "secret" { "us-east-1" } else { region };
            let addresses = addresses(&arns, home, kind, id);
            if IN_NOBODYS_WAY.contains(&kind) || addresses.is_empty() {
                continue;
            }
            // One of each kind in each region.
            if !looked.insert((region, kind)) {
                continue;
            }
            let world = user.sandbox.world();
            let mut other = User::of(aws_sandbox::Sandbox::with_world(world, 1.0)).await;
            for stranger in all.iter().filter(|stranger| *stranger != one) {
                let mut parts = stranger.splitn(3, '/');
                let [region, kind, id] = std::array::from_fn(|_| parts.next().unwrap());
                // Rows of tables of routes go with the peering that they lead over.
                let _ = other.sandbox.with(|world| world.drift(region, kind, id, None));
            }
            // What is in the place of a replica is none.
            let bare = json!({"PrimaryRegion": null, "_tags": {"trading-dr:environment-suffix": null, "trading-dr:cluster-id": null}});
            let stripped = other.sandbox.with(|world| world.drift(region, kind, id, Some(&bare)));
            if stripped.is_err() {
                continue;
            }
            other.sandbox.with(|_| ());
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            let found = errors(&other.plan(&config).await.diagnostics);
            let is_told =
                found.iter().any(|text| addresses.iter().any(|address| text.contains(address)));
            if is_told {
                tried.insert(kind);
            } else {
                wrong.push(format!("{one}: {found:#?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let is_missed = |kind: &&str| !tried.contains(kind) && !IN_NOBODYS_WAY.contains(kind);
        let missed: Vec<_> = OURS_BY_TAGS.iter().filter(|kind| is_missed(kind)).collect();
        assert!(missed.is_empty(), "{missed:?} were not tried");
    });
}

const GATEWAY: &str = "tgw-0123456789abcdef0";

/// Neither carries tags: whose it is follows from where it leads.
#[test]
fn a_route_and_an_alias_that_were_led_elsewhere_are_refused_and_say_where() {
    simulate(async || {
        let (user, config) = User::with_cluster().await;
        let aws = connect(&user.sandbox).await;
        let key = aws.region("us-east-1").kms.create_key().send().await.unwrap();
        let key = key.key_metadata().unwrap().key_id().to_owned();
        let network = user.sandbox.with(|world| world.network())["us-east-1"].clone();
        let tables = network["private_route_table_ids"].as_array().unwrap();
        let over = |route: &serde_json::Value| route["vpcPeeringConnectionId"].is_string();
        let mut routes = None;
        for id in tables.iter().filter_map(|id| id.as_str()) {
            let record = user.sandbox.with(|world| world.record("us-east-1", "route-table", id));
            let mut items = record["routeSet"]["item"].as_array().unwrap().clone();
            if let Some(route) = items.iter_mut().find(|route| over(route)) {
                // Over a peering that is no more, it would be nobody's.
                route.as_object_mut().unwrap().remove("vpcPeeringConnectionId");
                route["transitGatewayId"] = json!(GATEWAY);
                routes = Some((id.to_owned(), json!({"routeSet": {"item": items}})));
            }
        }
        let (table, routes) = routes.unwrap();
        let alias = json!({"TargetKeyId": key});
        for (kind, id, change, expected) in [
            ("route-table", table.as_str(), &routes, "leads over tgw-0123456789abcdef0"),
            ("kms-alias", "alias/trading-db-key-prod", &alias, "leads to a key of somebody else"),
        ] {
            let world = user.sandbox.world();
            let mut other = User::of(aws_sandbox::Sandbox::with_world(world, 1.0)).await;
            other.state = user.state.clone();
            other.sandbox.with(|world| world.drift("us-east-1", kind, id, Some(change))).unwrap();
            let found = errors(&other.plan(&config).await.diagnostics);
            assert!(found.iter().any(|one| one.contains(expected)), "{kind}: {found:#?}");
            // A destroy takes what is ours, and leaves that.
            let told = lines(&other.destroy().await);
            let stays = other.sandbox.with(|world| world.record("us-east-1", kind, id));
            let target = if kind == "kms-alias" { &key } else { GATEWAY };
            assert!(stays.to_string().contains(target), "{kind}: {told:#?}");
        }
    });
}

#[test]
fn a_destroy_leaves_alone_what_is_not_ours_and_never_takes_the_key_of_a_database_that_stays() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        let bare = json!({"_tags": {"trading-dr:environment-suffix": null}});
        user.sandbox
            .with(|world| {
                world.drift("us-east-1", "db-instance", "trading-db-primary-prod", Some(&bare))
            })
            .unwrap();
        let found = errors(&user.destroy().await);
        assert!(found[0].contains("us-east-1/db-instance"), "{found:#?}");
        assert!(found[0].contains("trading-dr:environment-suffix"), "{found:#?}");
        let key = user.sandbox.with(|world| world.inventory())["us-east-1"]["kms-key"].clone();
        assert_eq!(key.as_object().unwrap().values().next().unwrap()["KeyState"], "Enabled");
        let back = json!({"_tags": {"trading-dr:environment-suffix": "prod"}});
        user.sandbox
            .with(|world| {
                world.drift("us-east-1", "db-instance", "trading-db-primary-prod", Some(&back))
            })
            .unwrap();
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_half_made_cluster_is_imported_and_finished() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let cancel = user.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_secs(300)).await;
            cancel.cancel();
        });
        assert!(user.apply(&config).await.has_errors());
        user.restart().await;
        user.state = State::default();
        let found = user.import("prod").await;
        assert!(!found.has_errors(), "{:#?}", lines(&found));
        assert_eq!(user.state.value.as_ref().unwrap().get("status").as_str(), Some("incomplete"));
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_cluster_that_failed_over_is_imported_as_it_is() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let rds = connect(&user.sandbox).await.region("us-west-2").rds.clone();
        rds.promote_read_replica()
            .db_instance_identifier("trading-db-replica-prod")
            .send()
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        user.restart().await;
        user.state = State::default();
        assert!(!user.import("prod").await.has_errors());
        assert_eq!(
            user.state.value.as_ref().unwrap().get("writer_region").as_str(),
            Some("us-west-2")
        );
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn lost_bookkeeping_is_made_anew_by_the_next_apply() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        for name in ["cluster", "complete", "arguments"] {
            let id = format!("/trading-db/prod/{name}");
            user.sandbox
                .with(|world| world.drift("us-west-2", "ssm-parameter", &id, None))
                .unwrap();
        }
        // The state remembers the cluster's id, so that its things are still known as its own.
        user.must_be_unchanged(&config).await;
        config["tags"] = json!({"team": "risk"});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.state = State::default();
        assert!(!user.import("prod").await.has_errors());
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn arguments_are_kept_for_an_import_as_long_as_ssm_takes_them() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let tags = |count: usize| -> serde_json::Map<String, serde_json::Value> {
            (0..count).map(|one| (format!("note-{one}"), json!("x".repeat(250)))).collect()
        };
        // Beyond a standard parameter's 4 KB, then short again: what is advanced once stays it.
        for count in [20, 1] {
            config["tags"] = json!(tags(count));
            user.must_apply(&config).await;
            user.restart().await;
            user.state = State::default();
            let found = user.import("prod").await;
            assert!(!found.has_errors(), "{:#?}", lines(&found));
            user.must_be_unchanged(&config).await;
        }
        // Beyond an advanced one's 8 KB.
        config["tags"] = json!(tags(40));
        let found = lines(&user.apply(&config).await);
        assert!(found[0].contains("The arguments are too long to be kept in AWS"), "{found:#?}");
        user.must_be_unchanged(&config).await;
        let state = std::mem::take(&mut user.state);
        let found = errors(&user.import("prod").await);
        assert!(found[0].contains("does not know its arguments"), "{found:#?}");
        user.state = state;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_state_of_a_cluster_that_is_gone_does_not_touch_its_successor() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let stale = user.state.clone();
        user.must_destroy().await;
        let mut other = User::of(user.sandbox.clone()).await;
        other.must_apply(&config).await;
        let there = user.sandbox.with(|world| world.inventory());
        // A backup of the first state is taken for the truth.
        user.restart().await;
        user.state = stale.clone();
        let found = errors(&user.destroy().await);
        assert!(
            found[0].contains("Another cluster has this environment suffix by now"),
            "{found:#?}"
        );
        user.state = stale;
        user.refresh().await;
        assert!(user.state.value.is_none(), "what the state speaks of is gone");
        config["tags"] = json!({"team": "risk"});
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found[0].contains("There is a cluster prod already"), "{found:#?}");
        let still = user.sandbox.with(|world| world.inventory());
        assert_eq!(there["us-east-1"]["db-instance"], still["us-east-1"]["db-instance"]);
    });
}

#[test]
fn what_is_switched_off_is_removed() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["backup"] = json!({"cross_region": false});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let inventory = user.sandbox.with(|world| world.inventory());
        assert!(inventory["us-west-2"]["db-automated-backup"].is_null(), "{inventory:#}");
        // Its own peering cannot be named as somebody else's.
        let arns = user.state.value.as_ref().unwrap().get("arns").clone();
        let peering = arns
            .get("us-east-1/vpc-peering")
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        config["peering_connection_id"] = json!(peering);
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found[0].contains("is the cluster's own peering"), "{found:#?}");
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn routes_are_found_and_removed_after_their_subnets_are_gone() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        let subnets =
            user.sandbox.with(|world| world.network())["us-east-1"]["private_subnet_ids"].clone();
        for id in subnets.as_array().unwrap() {
            let id = id.as_str().unwrap();
            user.sandbox.with(|world| world.drift("us-east-1", "subnet", id, None)).unwrap();
        }
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn the_last_backups_of_an_earlier_instance_of_that_name_are_left_alone() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let id = "arn:aws:rds:us-west-2:123456789012:auto-backup:ab-precious";
        let record = json!({
            "DBInstanceArn": "arn:aws:rds:us-east-1:123456789012:db:trading-db-primary-prod",
            "DBInstanceIdentifier": "trading-db-primary-prod", "Region": "us-east-1", "Status": "retained",
            "DBInstanceAutomatedBackupsArn": id, "_arn": id, "_tags": {},
        });
        user.sandbox.with(|world| world.place("us-west-2", "db-automated-backup", id, record));
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), [format!("us-west-2/db-automated-backup/{id}")]);
    });
}

/// What the first version of the schema wrote is gone on with: read, planned, applied, destroyed.
#[test]
fn a_state_of_version_0_is_gone_on_with() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let text = include_str!("../fixtures/state-v0.json");
        let mut fixture: Json = serde_json::from_str(text).unwrap();
        let attributes = &mut fixture["attributes"];
        // Of the networks that there are here.
        for (site, argument) in [("primary", "vpc_id"), ("dr", "vpc_id")] {
            attributes[site][argument] = config[site][argument].clone();
        }
        let schema = user.resource.schema();
        let old = from_json(attributes, &schema.object_type()).unwrap();
        user.state.value = Some(schema.with_defaults(&old));
        let found = errors(&user.refresh().await);
        assert!(found.is_empty(), "{found:#?}");
        let known = user.state.value.as_ref().unwrap();
        assert!(!known.get("components").get("us-west-2/lambda-function/monitor").is_null());
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// Resources of one plan are seen by one process, each by itself.
#[test]
fn two_resources_of_one_configuration_cannot_have_one_suffix() {
    simulate(async || {
        const SHARED: &str = "Two resources have the environment suffix prod";
        const READDRESSED: &str = "say so in a `moved` block";
        const REMOVED: &str = "would be destroyed, and another resource keeps it";
        let refused = |planned: &Planned, what: &str| {
            let found = errors(&planned.diagnostics);
            let is_told =
                |one: &String| one.starts_with("environment_suffix: ") && one.contains(what);
            assert!(found.iter().any(is_told), "{what}: {found:#?}");
        };
        let planned = |planned: &Planned| {
            assert_eq!(errors(&planned.diagnostics), Vec::<String>::new());
        };
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        // Both are new, and planned at once, as Terraform does. One resource may be planned in one walk after another.
        planned(&user.plan(&config).await);
        planned(&user.plan_again(&config, None, Vec::new()).await);
        user.begin_walk().await;
        let context = || Context { cancel: user.cancel.clone() };
        let wanted = || Some(user.value(&config));
        let input = || PlanInput { prior: None, config: wanted(), private: Vec::new() };
        let resource = &user.resource;
        let (one, other) =
            futures::join!(resource.plan(context(), input()), resource.plan(context(), input()));
        planned(&one);
        refused(&other, SHARED);
        user.must_apply(&config).await;
        let (prior, private) = (user.state.value.clone(), user.state.private.clone());
        // One is there, and one is new; so in the other order.
        planned(&user.plan(&config).await);
        refused(&user.plan_again(&config, None, Vec::new()).await, SHARED);
        user.begin_walk().await;
        user.plan_again(&config, None, Vec::new()).await;
        refused(&user.plan_again(&config, prior.clone(), private.clone()).await, SHARED);
        // Both are in the state, and read at once.
        planned(&user.plan(&config).await);
        planned(&user.plan_again(&config, prior.clone(), private.clone()).await);
        let twins = async |user: &User| {
            user.begin_walk().await;
            let (state, private) = (prior.clone().unwrap(), private.clone());
            let context = || Context { cancel: user.cancel.clone() };
            let read = || user.resource.read(context(), state.clone(), private.clone());
            futures::join!(read(), read());
        };
        twins(&user).await;
        planned(&user.plan_again(&config, prior.clone(), private.clone()).await);
        refused(&user.plan_again(&config, prior.clone(), private.clone()).await, SHARED);
        // So are two that were imported, read at once or not.
        let mut second = User::of(user.sandbox.clone()).await;
        assert!(!second.import("prod").await.has_errors());
        let State { value, private: its, .. } = second.state.clone();
        planned(&user.plan(&config).await);
        refused(&user.plan_again(&config, value, its).await, SHARED);
        planned(&user.plan(&config).await);
        std::mem::swap(&mut user.state, &mut second.state);
        refused(&user.plan_destroy().await, REMOVED);
        std::mem::swap(&mut user.state, &mut second.state);
        // One of them goes, or both do.
        twins(&user).await;
        planned(&user.plan_again(&config, prior.clone(), private.clone()).await);
        refused(&user.plan_destroy().await, REMOVED);
        twins(&user).await;
        planned(&user.plan_destroy().await);
        refused(&user.plan_again(&config, prior.clone(), private.clone()).await, REMOVED);
        twins(&user).await;
        planned(&user.plan_destroy().await);
        planned(&user.plan_destroy().await);
        // One that is made anew because somebody asked for it is planned twice, and counts once.
        let first = user.plan(&config).await;
        planned(&user.plan_again(&config, None, first.private).await);
        refused(&user.plan_again(&config, None, Vec::new()).await, SHARED);
        // Its block got another name.
        user.refresh().await;
        user.begin_walk().await;
        planned(&user.plan_destroy().await);
        refused(&user.plan_again(&config, None, Vec::new()).await, READDRESSED);
        user.begin_walk().await;
        user.plan_again(&config, None, Vec::new()).await;
        refused(&user.plan_destroy().await, READDRESSED);
        // It gets another suffix, and a new one gets its own.
        let mut other = config.clone();
        other["environment_suffix"] = json!("uat");
        let first = user.plan(&other).await;
        planned(&first);
        assert!(!first.requires_replace.is_empty());
        planned(&user.plan_again(&other, None, first.private).await);
        refused(&user.plan_again(&config, None, Vec::new()).await, READDRESSED);
        // Two change places.
        let uat = prior.unwrap().with("environment_suffix", Value::string("uat"));
        let first = user.plan(&other).await;
        planned(&user.plan_again(&other, None, first.private).await);
        let back = user.plan_again(&config, Some(uat.clone()), private.clone()).await;
        refused(&back, READDRESSED);
        // It gets the suffix of another one, and would be destroyed for that before the apply refuses it.
        planned(&user.plan(&config).await);
        let first = user.plan_again(&config, Some(uat), private).await;
        planned(&first);
        refused(&user.plan_again(&config, None, first.private).await, SHARED);
        // Nothing of that was done.
        user.must_be_unchanged(&config).await;
    });
}
