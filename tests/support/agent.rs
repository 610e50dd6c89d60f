//! The agent in a sandbox: its tables, functions and schedules, and a runtime that runs it in this process.

use std::{collections::HashMap, sync::Arc};

use aws_sandbox::{Invocation, Sandbox, SessionView, Visitor};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_ec2::types::{Filter, IpPermission, UserIdGroupPair};
use aws_sdk_eventbridge::types::Target;
use aws_sdk_lambda::{
    primitives::Blob,
    types::{Environment, FunctionCode, Runtime, VpcConfig},
};
use serde_json::{Value as Json, json};
use trading::{
    agent::{
        Session,
        aws::{Assignment, Region},
        handler::{self, Settings},
        probe::{self, Database, Login, Place},
    },
    aws::Aws,
};

use super::{
    aws::{Way, connect, connect_like},
    user::User,
};

pub const EAST: &str = "us-east-1";
pub const WEST: &str = "us-west-2";
pub const WITNESS: &str = "us-east-2";
/// The password of the role that looks.
const PASSWORD: &str = "only-for-looking";
const ROLE: &str = "trading_dr_probe";
/// An empty archive: what runs is in this process.
const ZIP: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The databases of a sandbox, as a function in a VPC reaches them.
struct Model {
    sandbox: Sandbox,
    invocation: Invocation,
}

impl Model {
    fn visit(&self, place: &Place, login: &Login) -> SessionView {
        let visitor = Visitor {
            region: &self.invocation.region,
            vpc: &self.invocation.vpc,
            groups: &self.invocation.groups,
            username: &login.username,
            password: &login.password,
        };
        self.sandbox.with(|world| world.visit(&place.host, &visitor))
    }
}

impl Database for Model {
    async fn look(&self, place: &Place, _: &str, login: &Login) -> Session {
        match self.visit(place, login) {
            SessionView::Closed => {
                // Nobody answers: that takes its time.
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                Session::Closed
            }
            SessionView::Denied => Session::Broken("password authentication failed".into()),
            SessionView::Writer(at) => Session::Writer { acknowledged: at.0 },
            SessionView::Standby(at, age) => Session::Standby { replayed: at.0, receiver_age: age },
        }
    }

    async fn prepare(
        &self,
        place: &Place,
        _: &str,
        _: &Login,
        login: &Login,
    ) -> Result<(), String> {
        let made = self
            .sandbox
            .with(|world| world.make_role(&place.host, &login.username, &login.password));
        if made { Ok(()) } else { Err("no such host".into()) }
    }

    async fn end_sessions(&self, _: &Place, _: &str, _: &Login) -> Result<(), String> {
        Ok(())
    }
}

fn region_of(name: &str) -> &'static str {
    if name == EAST { EAST } else { WEST }
}

async fn run(sandbox: Sandbox, invocation: Invocation) -> Result<Json, String> {
    let text = |name: &str| invocation.environment[name].as_str().unwrap_or("null").to_owned();
    if invocation.function.starts_with("probe") {
        let question = serde_json::from_value(invocation.payload.clone())
            .map_err(|error| error.to_string())?;
        let databases = Model { sandbox, invocation };
        let answer = probe::answer(&databases, &question).await;
        return serde_json::to_value(answer).map_err(|error| error.to_string());
    }
    let assignment: Assignment =
        serde_json::from_str(&text("ASSIGNMENT")).map_err(|error| error.to_string())?;
    let settings: Settings =
        serde_json::from_str(&text("SETTINGS")).map_err(|error| error.to_string())?;
    let way = Way { from: Some(region_of(&invocation.region)), ..Way::default() };
    let aws = Arc::new(connect_like(&sandbox, &way).await);
    handler::monitor(aws, assignment, &settings, invocation.request, invocation.payload).await
}

fn assignment(user: &User, aws: &Groups, here: &str) -> Assignment {
    let state = user.state.value.as_ref().unwrap();
    let region = |name: &str| {
        let (instance, endpoint) = if name == EAST {
            ("trading-db-primary-prod", "primary_endpoint")
        } else {
            ("trading-db-replica-prod", "replica_endpoint")
        };
        Region {
            region: name.into(),
            instance: instance.into(),
            endpoint: state.get(endpoint).as_str().unwrap().to_owned(),
            group: aws.database[name].clone(),
            probe_group: aws.probe[name].clone(),
        }
    };
    let there = if here == EAST { WEST } else { EAST };
    Assignment {
        suffix: "prod".into(),
        here: region(here),
        there: region(there),
        witness: WITNESS.into(),
        ledger: "ledger".into(),
        lease: "lease".into(),
        probe: "probe".into(),
        topic: format!("arn:aws:sns:{here}:123456789012:trading-db-alerts-prod"),
        login: "probe-login".into(),
        port: 5432,
        database: "trading".into(),
        retention_days: 7,
        backup_window: "07:00-08:00".into(),
    }
}

struct Groups {
    database: HashMap<&'static str, String>,
    probe: HashMap<&'static str, String>,
}

async fn table(aws: &Aws, region: &str, name: &str) {
    let (client, keys) = (&aws.region(region).dynamodb, ["cluster", "item"]);
    let mut call = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in keys.into_iter().zip([KeyType::Hash, KeyType::Range]) {
        let part = KeySchemaElement::builder().attribute_name(key).key_type(kind).build().unwrap();
        let kind = ScalarAttributeType::S;
        let defined = AttributeDefinition::builder().attribute_name(key).attribute_type(kind);
        call = call.key_schema(part).attribute_definitions(defined.build().unwrap());
    }
    call.send().await.unwrap();
}

async fn groups(aws: &Aws, vpcs: &Json) -> Groups {
    let mut all = Groups { database: HashMap::new(), probe: HashMap::new() };
    for region in [EAST, WEST] {
        let ec2 = &aws.region(region).ec2;
        let by_name = Filter::builder().name("group-name").values("trading-db-sg-prod").build();
        let found = ec2.describe_security_groups().filters(by_name).send().await.unwrap();
        let database = found.security_groups()[0].group_id().unwrap().to_owned();
        let vpc = vpcs[region]["vpc_id"].as_str().unwrap();
        let made = ec2.create_security_group().group_name("probe").description("x").vpc_id(vpc);
        let probe = made.send().await.unwrap().group_id().unwrap().to_owned();
        let pair = UserIdGroupPair::builder().group_id(&probe).build();
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(5432).to_port(5432);
        let rule = rule.user_id_group_pairs(pair).build();
        let open = ec2.authorize_security_group_ingress().group_id(&database).ip_permissions(rule);
        open.send().await.unwrap();
        all.database.insert(region, database);
        all.probe.insert(region, probe);
    }
    all
}

async fn function(
    aws: &Aws,
    region: &str,
    name: &str,
    vpc: Option<(&Json, &str)>,
    variables: HashMap<String, String>,
) -> String {
    let lambda = &aws.region(region).lambda;
    let code = FunctionCode::builder().zip_file(Blob::new(ZIP)).build();
    let mut call = lambda.create_function().function_name(name).runtime(Runtime::Providedal2023);
    call = call.handler("bootstrap").role("arn:aws:iam::123456789012:role/runner").code(code);
    call = call.environment(Environment::builder().set_variables(Some(variables)).build());
    if let Some((subnets, group)) = vpc {
        let ids = subnets.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
        let config = VpcConfig::builder().set_subnet_ids(Some(ids.collect()));
        call = call.vpc_config(config.security_group_ids(group).build());
    }
    call.send().await.unwrap().function_arn().unwrap().to_owned()
}

/// Sets the agent up beside a cluster, and lets its schedules begin.
pub async fn install(user: &User) {
    let aws = connect(&user.sandbox).await;
    let network = user.sandbox.with(|world| world.network());
    for (region, name) in [(EAST, "ledger"), (WEST, "ledger"), (WITNESS, "lease")] {
        table(&aws, region, name).await;
    }
    let groups = groups(&aws, &network).await;
    let iam = &aws.region(EAST).iam;
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"Service": "lambda.amazonaws.com"}}]});
    let role = iam.create_role().role_name("runner").assume_role_policy_document(trust.to_string());
    role.send().await.unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]});
    let put = iam.put_role_policy().role_name("runner").policy_name("vpc");
    put.policy_document(policy.to_string()).send().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    let login = json!({"username": ROLE, "password": PASSWORD}).to_string();
    for region in [EAST, WEST] {
        let regional = aws.region(region);
        let secret = regional.secrets.create_secret().name("probe-login").secret_string(&login);
        secret.send().await.unwrap();
        let place = (&network[region]["private_subnet_ids"], groups.probe[region].as_str());
        function(&aws, region, "probe", Some(place), HashMap::new()).await;
        let settings = json!({"automatic": true, "region_detection": 60, "instance_detection": 105, "max_data_loss": 50});
        let assignment = serde_json::to_string(&assignment(user, &groups, region)).unwrap();
        let variables = HashMap::from([
            ("ASSIGNMENT".to_owned(), assignment),
            ("SETTINGS".to_owned(), settings.to_string()),
        ]);
        let monitor = function(&aws, region, "monitor", None, variables).await;
        let rule = regional.events.put_rule().name("watch").schedule_expression("rate(1 minute)");
        let rule = rule.send().await.unwrap().rule_arn().unwrap().to_owned();
        let allow = regional.lambda.add_permission().function_name("monitor").statement_id("watch");
        let allow = allow.action("lambda:InvokeFunction").principal("events.amazonaws.com");
        allow.source_arn(&rule).send().await.unwrap();
        let target = Target::builder().id("monitor").arn(&monitor).input(r#"{"action":"watch"}"#);
        let put = regional.events.put_targets().rule("watch").targets(target.build().unwrap());
        put.send().await.unwrap();
    }
    let state = user.state.value.as_ref().unwrap();
    let primary = state.get("primary_endpoint").as_str().unwrap().to_owned();
    user.sandbox.with(|world| world.make_role(&primary, ROLE, PASSWORD));
    begin(&user.sandbox);
}

/// Lets what is installed run: functions in this process, and schedules.
pub fn begin(sandbox: &Sandbox) {
    let inner = sandbox.clone();
    sandbox.set_runtime(Arc::new(move |invocation| Box::pin(run(inner.clone(), invocation))));
    tokio::spawn(sandbox.clone().run_schedules());
}

/// What a region's ledger says.
pub fn ledger(sandbox: &Sandbox, region: &str) -> Json {
    let item = sandbox.with(|world| world.item(region, "ledger", "prod", "ledger"));
    let body = item["body"]["S"].as_str().unwrap_or("null").to_owned();
    serde_json::from_str(&body).unwrap()
}

/// The lease at the witness.
pub fn lease(sandbox: &Sandbox) -> Json {
    sandbox.with(|world| world.item(WITNESS, "lease", "prod", "lease"))
}

/// Takes a whole region away, with what is changed there for all of them, or brings it back.
pub fn set_lost(sandbox: &Sandbox, region: &str, lost: bool) {
    sandbox.set_down(region, lost);
    sandbox.set_down("global", lost);
    sandbox.with(|world| world.set_dark(region, lost));
}
