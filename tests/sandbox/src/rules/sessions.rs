//! Becoming a role (STS reference, AssumeRole and AssumeRoleWithWebIdentity; IAM guide, "Pass session tags in AWS STS",
//! "Monitor and control actions taken with assumed roles", "Methods to assume a role": chains).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Caller, EAST, refused};
use crate::{dispatch, request::Reply};

const ROOT: &str = "arn:aws:iam::123456789012:root";
const SESSION: [&str; 3] = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];

impl Caller {
    /// A role that a trust policy of one statement stands for, and that may do something.
    fn role(&mut self, name: &str, trust: Value, may: &str) -> String {
        let trust = json!({"Version": "2012-10-17", "Statement": [trust]});
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": may, "Resource": "*"}]});
        let params = json!({"RoleName": name, "AssumeRolePolicyDocument": trust.to_string(), "MaxSessionDuration": "43200"});
        let role = self.must(EAST, "iam", "CreateRole", params);
        let put =
            json!({"RoleName": name, "PolicyName": "own", "PolicyDocument": policy.to_string()});
        self.must(EAST, "iam", "PutRolePolicy", put);
        self.pass(15);
        role["Role"]["Arn"].as_str().unwrap().to_owned()
    }

    fn assume(&mut self, role: &str, more: Value) -> Reply {
        self.call(EAST, "sts", "AssumeRole", asked(role, more))
    }

    fn with_key(&mut self, key: &str, service: &str, operation: &str, params: Value) -> Reply {
        dispatch::call(&mut self.world, key, EAST, service, operation, &params)
    }
}

fn asked(role: &str, more: Value) -> Value {
    let mut params = json!({"RoleArn": role, "RoleSessionName": "ci"});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

fn key(reply: Reply) -> String {
    let answer = reply.unwrap_or_else(|failure| panic!("{} {}", failure.code, failure.message));
    answer["Credentials"]["AccessKeyId"].as_str().unwrap().to_owned()
}

fn trust(actions: &[&str]) -> Value {
    json!({"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": actions})
}

#[test]
fn a_trust_policy_allows_tags_and_a_source_identity_by_themselves() {
    let mut caller = Caller::new();
    let tags = json!({"Tags": [{"Key": "team", "Value": "x"}]});
    let source = json!({"SourceIdentity": "anna"});
    let plain = caller.role("plain", trust(&SESSION[..1]), "*");
    key(caller.assume(&plain, json!({})));
    refused(caller.assume(&plain, tags.clone()), "AccessDenied", "sts:TagSession");
    refused(caller.assume(&plain, source.clone()), "AccessDenied", "sts:SetSourceIdentity");
    let open = caller.role("open", trust(&SESSION), "*");
    key(caller.assume(&open, tags.clone()));
    key(caller.assume(&open, source.clone()));
    // Whoever assumes it needs the same rights.
    caller.allow(json!([{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": open}]));
    for (more, action) in [(tags, "sts:TagSession"), (source, "sts:SetSourceIdentity")] {
        let reply = caller.restricted(EAST, "sts", "AssumeRole", asked(&open, more));
        refused(reply, "AccessDenied", action);
    }
}

#[test]
fn a_trust_policy_asks_for_an_external_id() {
    let mut caller = Caller::new();
    let mut wanted = trust(&SESSION);
    wanted["Condition"] = json!({"StringEquals": {"sts:ExternalId": "4711"}});
    let role = caller.role("partner", wanted, "*");
    for more in [json!({}), json!({"ExternalId": "4712"})] {
        refused(caller.assume(&role, more), "AccessDenied", "sts:AssumeRole");
    }
    key(caller.assume(&role, json!({"ExternalId": "4711"})));
}

#[test]
fn a_session_policy_narrows_and_several_add_up() {
    let mut caller = Caller::new();
    let role = caller.role("wide", trust(&SESSION), "*");
    let managed = "arn:aws:iam::123456789012:policy/keys";
    let document = json!({"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]});
    caller.world.put("global", "policy", managed, json!({"Arn": managed, "_document": document}));
    let inline = json!({"Statement": [{"Effect": "Allow", "Action": "rds:*", "Resource": "*"}]});
    let arns = json!([{"arn": managed}]);
    let mut can = |more: Value| {
        let key = key(caller.assume(&role, more));
        let keys = caller.with_key(&key, "kms", "ListKeys", json!({})).is_ok();
        let databases = caller.with_key(&key, "rds", "DescribeDBInstances", json!({})).is_ok();
        (keys, databases)
    };
    assert_eq!(can(json!({})), (true, true));
    assert_eq!(can(json!({"Policy": inline.to_string()})), (false, true));
    assert_eq!(can(json!({"PolicyArns": arns})), (true, false));
    assert_eq!(can(json!({"PolicyArns": arns, "Policy": inline.to_string()})), (true, true));
    let reply = caller.assume(&role, json!({"Policy": "{"}));
    refused(reply, "MalformedPolicyDocument", "JSON");
}

#[test]
fn a_chain_lasts_an_hour_and_hands_on_transitive_tags_and_the_source_identity() {
    let mut caller = Caller::new();
    let first = caller.role("first", trust(&SESSION), "*");
    let second = caller.role("second", trust(&SESSION), "*");
    let tags = json!([{"Key": "team", "Value": "x"}, {"Key": "step", "Value": "1"}]);
    let more = json!({
        "Tags": tags, "TransitiveTagKeys": ["team"], "SourceIdentity": "anna", "DurationSeconds": "43200",
    });
    let first = key(caller.assume(&first, more));
    let mut follow =
        |more: Value| caller.with_key(&first, "sts", "AssumeRole", asked(&second, more));
    refused(follow(json!({"DurationSeconds": "3601"})), "ValidationError", "role chaining");
    let conflict = json!({"Tags": [{"Key": "Team", "Value": "y"}]});
    refused(follow(conflict), "InvalidParameterValue", "transitive");
    refused(follow(json!({"SourceIdentity": "bert"})), "AccessDenied", "SetSourceIdentity");
    let second = key(follow(json!({"DurationSeconds": "3600"})));
    let policy = json!({"Statement": [{
        "Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*",
        "Condition": {
            "StringEquals": {"aws:PrincipalTag/team": "x", "aws:SourceIdentity": "anna"},
            "Null": {"aws:PrincipalTag/step": "true"},
        },
    }]});
    let change = json!({"_policies": {"own": policy}});
    caller.world.drift("global", "role", "second", Some(&change)).unwrap();
    caller.with_key(&second, "kms", "ListKeys", json!({})).unwrap();
    caller.pass(3601);
    let reply = caller.with_key(&second, "kms", "ListKeys", json!({}));
    refused(reply, "ExpiredToken", "expired");
    let more = json!({"Tags": [], "TransitiveTagKeys": ["team"]});
    let role = "arn:aws:iam::123456789012:role/second";
    refused(caller.assume(role, more), "InvalidParameterValue", "transitive tag key");
}

#[test]
fn names_and_durations_have_bounds() {
    let mut caller = Caller::new();
    let role = caller.role("role", trust(&SESSION), "*");
    for more in [
        json!({"RoleSessionName": "x"}),
        json!({"RoleSessionName": "with blank"}),
        json!({"SourceIdentity": "a"}),
        json!({"DurationSeconds": "899"}),
        json!({"DurationSeconds": "43201"}),
    ] {
        refused(caller.assume(&role, more), "ValidationError", "");
    }
    caller.must(
        EAST,
        "iam",
        "UpdateRole",
        json!({"RoleName": "role", "MaxSessionDuration": "3600"}),
    );
    let reply = caller.assume(&role, json!({"DurationSeconds": "7200"}));
    refused(reply, "ValidationError", "MaxSessionDuration");
}

/// A token as an identity provider makes it, save for the signature.
fn token(issuer: &str, audience: &str, subject: &str, expires: u64) -> String {
    let claims = json!({"iss": issuer, "aud": audience, "sub": subject, "exp": expires});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({"alg": "RS256"})), part(&claims), part(&json!("signature")))
}

#[test]
fn a_token_is_turned_into_credentials_by_whoever_has_none() {
    let mut caller = Caller::new();
    let issuer = "token.actions.githubusercontent.com";
    let federated = format!("arn:aws:iam::123456789012:oidc-provider/{issuer}");
    let statement = json!({
        "Effect": "Allow", "Principal": {"Federated": federated}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {
            format!("{issuer}:aud"): "sts.amazonaws.com", format!("{issuer}:sub"): "repo:bank/dr",
        }},
    });
    let role = caller.role("ci", statement, "*");
    let now = caller.world.now.0 / 1000;
    let url = format!("https://{issuer}");
    let good = token(&url, "sts.amazonaws.com", "repo:bank/dr", now + 300);
    let mut come = |token: &str| {
        let params = asked(&role, json!({"WebIdentityToken": token}));
        caller.with_key("", "sts", "AssumeRoleWithWebIdentity", params)
    };
    refused(come("opaque"), "InvalidIdentityToken", "not a valid JWT");
    refused(come(&good), "InvalidIdentityToken", "No OpenIDConnect provider found");
    let made = json!({"Url": url, "ClientIDList": ["sts.amazonaws.com"]});
    let answer = caller.must(EAST, "iam", "CreateOpenIDConnectProvider", made.clone());
    assert_eq!(answer["OpenIDConnectProviderArn"], federated);
    let twice = caller.call(EAST, "iam", "CreateOpenIDConnectProvider", made);
    refused(twice, "EntityAlreadyExists", &url);
    let mut come = |token: &str| {
        let params = asked(&role, json!({"WebIdentityToken": token}));
        caller.with_key("", "sts", "AssumeRoleWithWebIdentity", params)
    };
    let other = token(&url, "elsewhere", "repo:bank/dr", now + 300);
    refused(come(&other), "InvalidIdentityToken", "Incorrect token audience");
    let late = token(&url, "sts.amazonaws.com", "repo:bank/dr", now);
    refused(come(&late), "ExpiredTokenException", "Token expired");
    let stranger = token(&url, "sts.amazonaws.com", "repo:thief/dr", now + 300);
    refused(come(&stranger), "AccessDenied", "Not authorized to perform");
    let key = key(come(&good));
    caller.with_key(&key, "kms", "ListKeys", json!({})).unwrap();
    let gone = json!({"OpenIDConnectProviderArn": federated});
    caller.must(EAST, "iam", "DeleteOpenIDConnectProvider", gone);
    let params = asked(&role, json!({"WebIdentityToken": good}));
    let reply = caller.with_key("", "sts", "AssumeRoleWithWebIdentity", params);
    refused(reply, "InvalidIdentityToken", "No OpenIDConnect provider found");
}
