//! The provider's configuration between it and AWS, by its effect: through which proxy, trusting whom, under which
//! name, at which endpoints, as whom, and how often.

use aws_sandbox::{ACCESS_KEY, Effect, Fault, Rule, SECRET_KEY, SESSION_SECRET};
use serde_json::{Value as Json, json};

use crate::support::{
    proxy::Proxy,
    terraform::{Ran, Served, Workspace, cluster},
};

/// A workspace whose way to AWS is AWS's own, and that has a proxy to take.
pub(super) struct Company {
    pub(super) served: Served,
    pub(super) proxy: Proxy,
    pub(super) workspace: Workspace,
}

impl Company {
    pub(super) fn new() -> Self {
        let served = Served::new();
        let proxy = Proxy::of(&served);
        let mut workspace = Workspace::new(&served, "");
        workspace.variable("AWS_ENDPOINT_URL", "");
        workspace.variable("TRADING_CLOCK_SCALE", "");
        std::fs::write(workspace.path("ca.pem"), &proxy.authority).unwrap();
        Self { served, proxy, workspace }
    }

    pub(super) fn bundle(&self) -> String {
        format!("  custom_ca_bundle = {:?}\n", self.workspace.path("ca.pem"))
    }

    pub(super) fn url(&self, login: &str) -> String {
        format!("http://{login}127.0.0.1:{}", self.proxy.port)
    }

    pub(super) fn plan(&self, provider: &str) -> Ran {
        planned(&self.served, &self.workspace, provider)
    }

    /// The hosts that were asked for through the proxy.
    pub(super) fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<_> = self.proxy.passed().into_iter().map(|one| one.host).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// A plan with a provider configured like that.
pub(super) fn planned(served: &Served, workspace: &Workspace, configuration: &str) -> Ran {
    let body = cluster(served, "prod", "");
    workspace.write(&format!("provider \"trading\" {{\n{configuration}\n}}\n{body}"));
    workspace.plan()
}

/// The same, which is refused with that text.
#[track_caller]
pub(super) fn refused(
    served: &Served,
    workspace: &Workspace,
    configuration: &str,
    told: &str,
) -> String {
    let ran = planned(served, workspace, configuration);
    assert_eq!(ran.code, 1, "{configuration}\n{}", ran.out);
    assert!(ran.message().contains(told), "{configuration}\n{}", ran.err);
    ran.err
}

/// A client that never reached a server of its own: retried for as long as the defaults say, a plan takes a minute.
const ONCE: &str = "  max_retries = 0\n";

#[test]
fn requests_leave_through_the_companys_proxy_and_trust_its_authority() {
    let mut company = Company::new();
    let proxy = format!("  https_proxy = {:?}\n", company.url("anna:pass%20word@"));
    let ran = company.plan(&format!("{proxy}{}", company.bundle()));
    assert_eq!(ran.code, 2, "{}", ran.err);
    let passed = company.proxy.passed();
    for host in ["sts.us-west-2.amazonaws.com", "iam.amazonaws.com", "rds.us-east-1.amazonaws.com"]
    {
        assert!(passed.iter().any(|one| one.host == host), "{host}: {passed:#?}");
    }
    let tunnels = company.proxy.tunnels();
    let as_anna = |login: &Option<String>| login.as_deref() == Some("anna:pass word");
    assert!(!tunnels.is_empty() && tunnels.iter().all(|(_, login)| as_anna(login)), "{tunnels:#?}");

    // Without the bundle, nobody vouches for the proxy.
    let ran = company.plan(&format!("{proxy}{ONCE}"));
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.message().contains("UnknownIssuer"), "{}", ran.err);
    assert_eq!(company.proxy.passed(), []);

    // The environment's choice counts where there is no other one; an empty one is one.
    let url = company.url("");
    company.workspace.variable("HTTPS_PROXY", &url);
    company.workspace.variable("AWS_CA_BUNDLE", "ca.pem");
    let ran = company.plan("");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(company.hosts().len() > 10);
    company.proxy.tunnels();
    let ran = company.plan(&format!("  https_proxy = \"\"\n{ONCE}"));
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert_eq!((company.proxy.tunnels(), company.hosts()), (Vec::new(), Vec::new()));
}

#[test]
fn what_needs_no_proxy_goes_around_it() {
    let mut company = Company::new();
    let url = company.url("");
    let both = format!("  http_proxy = {url:?}\n  https_proxy = {url:?}\n{}", company.bundle());
    let ran = company
        .plan(&format!("{both}{ONCE}  no_proxy = \".us-west-2.amazonaws.com, 10.0.0.0/8\"\n"));
    assert_eq!(ran.code, 1, "{}", ran.out);
    // Who calls, the primary region tells by way of the proxy; the cluster's record is in the other one.
    assert!(ran.message().contains("in us-west-2 did not answer"), "{}", ran.err);
    let hosts = company.hosts();
    assert!(hosts.contains(&"sts.us-east-1.amazonaws.com".to_owned()), "{hosts:#?}");
    assert!(!hosts.iter().any(|host| host.contains("us-west-2")), "{hosts:#?}");
    company.proxy.tunnels();
    // Endpoints on the way there are spoken to in clear text, through a proxy of their own.
    let endpoint = "  endpoints = { \"sts.us-west-2\" = \"http://sts.corp.example\", ec2 = \"http://ec2.corp.example\" }\n";
    let ran = company.plan(&format!("{both}{endpoint}"));
    assert_eq!(ran.code, 2, "{}", ran.err);
    let hosts = company.hosts();
    let has = |name: &str| hosts.iter().any(|host| host == name);
    assert!(has("sts.corp.example") && has("ec2.corp.example"), "{hosts:#?}");
    assert!(
        !has("sts.us-west-2.amazonaws.com") && !has("ec2.us-east-1.amazonaws.com"),
        "{hosts:#?}"
    );
    let tunnels = company.proxy.tunnels();
    assert!(tunnels.iter().all(|(host, _)| host.ends_with(".amazonaws.com")), "{tunnels:#?}");
    // What is on this machine is never asked for through a proxy.
    company.workspace.variable("AWS_ENDPOINT_URL", &company.served.url);
    let ran = company.plan(&both);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert_eq!(company.hosts(), Vec::<String>::new());
}

#[test]
fn special_endpoints_are_called_where_they_are_wanted() {
    let company = Company::new();
    let way = format!("  https_proxy = {:?}\n{}", company.url(""), company.bundle());
    let ran = company.plan(&format!(
        "{way}  use_fips_endpoint = true\n  endpoints = {{ ec2 = \"https://ec2.corp.example\" }}\n"
    ));
    assert_eq!(ran.code, 2, "{}", ran.err);
    let hosts = company.hosts();
    let has = |name: &str| hosts.iter().any(|host| host == name);
    for host in
        ["sts-fips.us-west-2.amazonaws.com", "rds-fips.us-east-1.amazonaws.com", "ec2.corp.example"]
    {
        assert!(has(host), "{host}: {hosts:#?}");
    }
    // The tagging API has none.
    let is_known = |host: &str| host == "ec2.corp.example" || host.starts_with("tagging.us-");
    let plain: Vec<_> = hosts.iter().filter(|host| !host.contains("fips")).collect();
    assert!(plain.iter().all(|host| is_known(host)), "{plain:#?}");
    let ran = company.plan(&format!("{way}  use_dualstack_endpoint = true\n"));
    assert_eq!(ran.code, 2, "{}", ran.err);
    let hosts = company.hosts();
    assert!(hosts.contains(&"rds.us-east-1.api.aws".to_owned()), "{hosts:#?}");
    let ran = company.plan(&format!("{way}  sts_region = \"eu-west-1\"\n"));
    assert_eq!(ran.code, 2, "{}", ran.err);
    let hosts = company.hosts();
    assert!(hosts.contains(&"sts.eu-west-1.amazonaws.com".to_owned()), "{hosts:#?}");
    assert!(!hosts.contains(&"sts.us-west-2.amazonaws.com".to_owned()), "{hosts:#?}");
}

/// A profile's role is assumed by the SDK: the same way out, and from the same region.
#[test]
fn a_profiles_role_is_reached_like_everything_else() {
    let mut company = Company::new();
    role(&company.served, "deployer", trust());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        company.workspace.variable(name, "");
    }
    let (keys, config) = (company.workspace.path("keys"), company.workspace.path("config"));
    let text =
        format!("[base]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    std::fs::write(&keys, text).unwrap();
    let text = format!("[profile desk]\nrole_arn = {}\nsource_profile = base\n", arn("deployer"));
    std::fs::write(&config, text).unwrap();
    let files =
        format!("  shared_config_files = [{config:?}]\n  shared_credentials_files = [{keys:?}]\n");
    let way = format!("  https_proxy = {:?}\n{}{files}", company.url(""), company.bundle());
    let failing = Rule { operation: Some("AssumeRole".into()), times: Some(1), ..Rule::default() };
    for (chosen, by_variable) in [("  profile = \"desk\"\n", ""), ("", "desk")] {
        company.workspace.variable("AWS_PROFILE", by_variable);
        company.served.sandbox.clear_faults();
        company.served.sandbox.forget_calls();
        // Nobody but the SDK repeats what the credentials need.
        let effect =
            Effect::Fail { code: "InternalFailure".into(), message: "no".into(), status: 500 };
        company.served.sandbox.add_fault(Fault::new(failing.clone(), effect));
        let ran = company.plan(&format!("{way}{chosen}"));
        assert_eq!(ran.code, 2, "{}", ran.err);
        let calls = company.served.sandbox.calls();
        let assumed: Vec<_> = calls.iter().filter(|one| one.operation == "AssumeRole").collect();
        assert!(assumed.len() > 1 && assumed.iter().all(|one| one.region == "us-west-2"));
        assert!(company.hosts().contains(&"sts.us-west-2.amazonaws.com".to_owned()));
    }
}

#[test]
fn the_user_agent_says_who_calls() {
    let mut company = Company::new();
    company.workspace.variable("TF_APPEND_USER_AGENT", "bank/42 (dr; prod)");
    let way = format!("  https_proxy = {:?}\n{}", company.url(""), company.bundle());
    let ran = company.plan(&way);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let version = env!("CARGO_PKG_VERSION");
    let passed = company.proxy.passed();
    for one in &passed {
        let text = &one.user_agent;
        let ours = format!(
            " terraform-provider-trading/{version} (+https://registry.terraform.io/providers/tradingdr/trading) aws-sdk-rust/"
        );
        assert!(text.starts_with("Terraform/1."), "{text}");
        assert!(text.contains(&ours) && text.ends_with(" bank/42 (dr; prod)"), "{text}");
    }
    assert!(passed.len() > 50);
}

#[test]
fn what_is_wrong_with_the_way_is_said_before_anything_is_called() {
    let company = Company::new();
    std::fs::write(company.workspace.path("empty.pem"), "").unwrap();
    for (configuration, told) in [
        (
            "  https_proxy = \"socks5://anna:secret@proxy:1080\"",
            "A proxy's URL is written as http://proxy.example.com:3128",
        ),
        ("  http_proxy = \"http://\"", "http_proxy cannot be used"),
        ("  custom_ca_bundle = \"/nowhere/ca.pem\"", "/nowhere/ca.pem cannot be read"),
        ("  custom_ca_bundle = \"empty.pem\"", "empty.pem holds no certificate"),
        (
            "  endpoints = { rds = \"rds.corp.example\" }",
            "endpoints[\"rds\"] cannot be \"rds.corp.example\"",
        ),
        (
            "  endpoints = { \"s3.us-east-1\" = \"https://s3.corp.example\" }",
            "there is no service \"s3.us-east-1\"",
        ),
        (
            "  endpoints = { \"rds.Oregon\" = \"https://rds.corp.example\" }",
            "endpoints[\"rds.Oregon\"] cannot be \"Oregon\"",
        ),
        (
            "  endpoints = { rds = \"https://anna:x@rds.corp.example\" }",
            "An endpoint's URL holds neither a user nor a password",
        ),
        (
            "  default_tags = { tags = { cost = \"1\" } }\n  ignore_tags = { keys = [\"cost\"] }",
            "cost is among default_tags, and covered here",
        ),
        ("  sts_region = \"Oregon\"", "sts_region cannot be \"Oregon\""),
        ("  max_retries = -1", "It is a whole number from 0 to 1000"),
        ("  retry_mode = \"eager\"", "It is one of standard, adaptive"),
        (
            "  ignore_tags = { key_prefixes = [\"trading\"] }",
            "Tags of the provider's own cannot be ignored",
        ),
    ] {
        let err = refused(&company.served, &company.workspace, configuration, told);
        let place = "in provider \"trading\":";
        assert!(err.contains(place), "{err}");
    }
    assert_eq!(company.served.sandbox.calls().len(), 0);
}

#[test]
fn special_endpoints_mean_nothing_beside_one_for_everything() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, "");
    let told = "Special endpoints mean nothing beside one for everything";
    refused(&served, &workspace, "  use_fips_endpoint = true", told);
    workspace.variable("AWS_USE_DUALSTACK_ENDPOINT", "true");
    refused(&served, &workspace, "", told);
}

/// A role that anybody of the account may assume, by these actions, and that may do everything.
pub(super) fn role(served: &Served, name: &str, statement: Json) {
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]});
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let role = json!({
        "RoleName": name, "Arn": arn(name), "RoleId": format!("AROA{}", name.to_uppercase()), "MaxSessionDuration": 43200,
        "_trust": trust, "_policies": {"all": policy}, "_account": true,
    });
    served.sandbox.with(|world| world.place("global", "role", name, role));
}

pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

pub(super) fn trust() -> Json {
    let actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
    json!({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": actions})
}

#[test]
fn a_chain_of_roles_is_assumed_with_everything_that_was_said() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, "");
    workspace.variable("TF_LOG", "TRACE");
    role(&served, "first", trust());
    let mut second = trust();
    second["Condition"] = json!({"StringEquals": {
        "sts:ExternalId": "4711", "aws:PrincipalTag/team": "sre", "aws:SourceIdentity": "anna",
    }});
    role(&served, "second", second);
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let first = format!(
        "{{ role_arn = {:?}, session_name = \"ci\", duration = \"12h\", source_identity = \"anna\", tags = {{ team = \"sre\", step = \"1\" }}, transitive_tag_keys = [\"team\"] }}",
        arn("first")
    );
    let second = format!(
        "{{ role_arn = {:?}, session_name = \"dr\", duration = \"30m\", external_id = \"4711\", policy = {:?}, policy_arns = [\"arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole\"] }}",
        arn("second"),
        policy.to_string()
    );
    let ran = planned(
        &served,
        &workspace,
        &format!("  assume_role = [\n    {first},\n    {second},\n  ]"),
    );
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("sts:GetCallerIdentity"), "the log shows the calls");
    for secret in [SESSION_SECRET, "session of ASIA"] {
        assert!(!ran.err.contains(secret) && !ran.out.contains(secret), "the log holds {secret}");
    }
    let calls = served.sandbox.calls();
    let of = |name: &str| {
        let asked = |one: &&aws_sandbox::CallRecord| one.parameters["RoleArn"] == arn(name);
        let call = calls.iter().find(asked).expect("the role was assumed").clone();
        assert_eq!((call.region.as_str(), &call.error), ("us-west-2", &None));
        call.parameters
    };
    let asked = of("first");
    assert_eq!(
        (&asked["RoleSessionName"], &asked["DurationSeconds"]),
        (&json!("ci"), &json!("43200"))
    );
    assert_eq!(
        (&asked["SourceIdentity"], &asked["TransitiveTagKeys"]),
        (&json!("anna"), &json!(["team"]))
    );
    let tags = json!([{"Key": "step", "Value": "1"}, {"Key": "team", "Value": "sre"}]);
    assert_eq!(asked["Tags"], tags);
    let asked = of("second");
    assert_eq!((&asked["ExternalId"], &asked["DurationSeconds"]), (&json!("4711"), &json!("1800")));
    assert_eq!(asked["Policy"], policy.to_string());
    assert_eq!(
        asked["PolicyArns"][0]["arn"],
        "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
    );
    let identity = calls.iter().find(|one| one.operation == "GetCallerIdentity");
    assert!(identity.is_some_and(|one| one.error.is_none()));

    // What AWS would refuse, or does, is said by name.
    let first = |more: &str| format!("{{ role_arn = {:?}{more} }}", arn("first"));
    for (roles, told) in [
        (first(", duration = \"5m\""), "A session lasts from 15m to 12h"),
        (first(", session_name = \"a b\""), "2 to 64 letters, digits"),
        (first(", policy = \"{\""), "A policy is a JSON object with a Statement"),
        (first(", policy_arns = [\"ReadOnlyAccess\"]"), "A policy's ARN is written as"),
        (first(", transitive_tag_keys = [\"team\"]"), "team is not among the role's tags"),
        ("{ role_arn = \"deployer\" }".into(), "assume_role[0].role_arn cannot be \"deployer\""),
        (
            format!("{}, {}", first(""), first(", duration = \"2h\"")),
            "A chained session lasts one hour at most",
        ),
        (
            format!(
                "{}, {}",
                first(", source_identity = \"anna\""),
                first(", source_identity = \"bert\"")
            ),
            "The chain began with anna",
        ),
        (
            format!(
                "{}, {}",
                first(", tags = { a = \"1\" }, transitive_tag_keys = [\"a\"]"),
                first(", tags = { a = \"2\" }")
            ),
            "a is transitive in the session of",
        ),
        (
            format!("{{ role_arn = {:?} }}", arn("nobody")),
            "AssumeRole on resource: arn:aws:iam::123456789012:role/nobody",
        ),
    ] {
        refused(&served, &workspace, &format!("  assume_role = [{roles}]"), told);
    }
}

#[test]
fn calls_are_repeated_as_often_as_was_said() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, "");
    // Of one region: another one would be asked who calls while it does not answer.
    let sts = "  sts_region = \"us-west-2\"\n";
    let rule = Rule { service: Some("sts".into()), ..Rule::default() };
    let mut attempts = |configuration: &str, variable: &str, effect: Effect| {
        served.sandbox.clear_faults();
        served.sandbox.forget_calls();
        served.sandbox.add_fault(Fault::new(rule.clone(), effect));
        workspace.variable("AWS_MAX_ATTEMPTS", variable);
        let ran = planned(&served, &workspace, &format!("{sts}{configuration}"));
        assert_eq!(ran.code, 1, "{}", ran.out);
        served.sandbox.calls().iter().filter(|one| one.service == "sts").count()
    };
    let failing =
        || Effect::Fail { code: "InternalFailure".into(), message: "no".into(), status: 500 };
    for (configuration, variable, throttled, failed) in [
        ("", "", 30, 8),
        ("  max_retries = 0", "", 1, 1),
        ("  max_retries = 11", "5", 12, 12),
        ("", "5", 5, 5),
    ] {
        assert_eq!(
            attempts(configuration, variable, Effect::Throttle),
            throttled,
            "{configuration} {variable}"
        );
        assert_eq!(
            attempts(configuration, variable, failing()),
            failed,
            "{configuration} {variable}"
        );
    }
    workspace.variable("AWS_MAX_ATTEMPTS", "many");
    refused(&served, &workspace, "", "AWS_MAX_ATTEMPTS=many makes no sense");
    workspace.variable("AWS_MAX_ATTEMPTS", "");
    // A profile says it too, for every tool.
    let (keys, config) = (workspace.path("keys"), workspace.path("config"));
    let text =
        format!("[desk]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    std::fs::write(&keys, text).unwrap();
    let files = format!(
        "{sts}  profile = \"desk\"\n  shared_config_files = [{config:?}]\n  shared_credentials_files = [{keys:?}]"
    );
    for (text, count) in [("max_attempts = 3", 3), ("max_attempts = 3\nretry_mode = adaptive", 3)] {
        std::fs::write(&config, format!("[profile desk]\n{text}\n")).unwrap();
        served.sandbox.forget_calls();
        let ran = planned(&served, &workspace, &files);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert_eq!(served.sandbox.calls().len(), count, "{text}");
    }
    std::fs::write(&config, "[profile desk]\nretry_mode = eager\n").unwrap();
    refused(&served, &workspace, &files, "retry_mode = eager of the profile desk makes no sense");
}

/// Everything that carries the cluster's tags: its region, kind and id. The replica of a secret and the cluster's record
/// have tags that nobody chooses.
fn tagged(served: &Served) -> Vec<(String, String, String)> {
    let inventory = served.sandbox.with(|world| world.inventory());
    let mut all = Vec::new();
    for (region, kinds) in inventory.as_object().unwrap() {
        for (kind, records) in kinds.as_object().unwrap() {
            for (id, record) in records.as_object().unwrap() {
                let is_replica = record["PrimaryRegion"].as_str().is_some_and(|one| one != region);
                let is_chosen = !is_replica && kind != "ssm-parameter";
                if is_chosen && !record["Tags"]["trading-dr:environment-suffix"].is_null() {
                    all.push((region.clone(), kind.clone(), id.clone()));
                }
            }
        }
    }
    all
}

#[test]
fn tags_of_somebody_else_are_neither_shown_nor_removed() {
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let provider = |ignored: &str| format!("provider \"trading\" {{\n{ignored}\n}}\n");
    let ignoring = provider("  ignore_tags = { keys = [\"cost\"], key_prefixes = [\"backup:\"] }");
    let workspace = Workspace::new(&served, &format!("{ignoring}{body}"));
    workspace.apply().must_succeed();
    let all = tagged(&served);
    let kinds: std::collections::BTreeSet<_> = all.iter().map(|(_, kind, _)| kind).collect();
    assert!(kinds.len() >= 14, "{kinds:#?}");
    let add = json!({"_tags": {"cost": "1", "backup:plan": "gold"}});
    for (region, kind, id) in &all {
        served.sandbox.with(|world| world.drift(region, kind, id, Some(&add))).unwrap();
    }
    workspace.must_be_unchanged();
    // What is ours changes, and theirs stays.
    let team = cluster(&served, "prod", "  tags = { team = \"sre\" }");
    workspace.write(&format!("{ignoring}{team}"));
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
    let inventory = served.sandbox.with(|world| world.inventory());
    for (region, kind, id) in &all {
        let tags = &inventory[region][kind][id]["Tags"];
        let seen = (&tags["cost"], &tags["backup:plan"], &tags["team"]);
        assert_eq!(seen, (&json!("1"), &json!("gold"), &json!("sre")), "{region}/{kind}/{id}");
    }
    // Whose a tag is has one answer.
    let cost = cluster(&served, "prod", "  tags = { team = \"sre\", cost = \"2\" }");
    workspace.write(&format!("{ignoring}{cost}"));
    let ran = workspace.plan();
    assert!(
        ran.code == 1 && ran.message().contains("The tag cost is chosen and ignored"),
        "{}",
        ran.err
    );
    // Nobody's tags are ours to judge again.
    workspace.write(&format!("{}{team}", provider("")));
    let ran = workspace.plan();
    assert_eq!(ran.code, 2, "{}", ran.err);
    workspace.apply().must_succeed();
    let inventory = served.sandbox.with(|world| world.inventory());
    for (region, kind, id) in &all {
        let tags = &inventory[region][kind][id]["Tags"];
        assert!(
            tags["cost"].is_null() && tags["backup:plan"].is_null(),
            "{region}/{kind}/{id}: {tags}"
        );
    }
}
