//! As whom the provider calls: by a token of a CI system, by keys of a session, by IAM Identity Center.

use aws_sandbox::{ACCESS_KEY, SECRET_KEY};
use serde_json::{Value as Json, json};

use super::configuration::{Company, arn, planned, refused, role, trust};
use crate::support::{
    aws::connect,
    proxy::{DESK, SIGNED_IN},
    terraform::{Served, Workspace},
};

const READ_ALL: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";

/// A policy for a session that only goes on to another role.
fn may_assume() -> String {
    let statement = json!({"Effect": "Allow", "Action": "sts:*", "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

#[test]
fn a_ci_systems_token_stands_for_a_role() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, "");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        workspace.variable(name, "");
    }
    let issuer = "token.actions.githubusercontent.com";
    let provider = json!({"ClientIDList": ["sts.amazonaws.com"], "_account": true});
    served.sandbox.with(|world| world.place("global", "oidc-provider", issuer, provider));
    let federated = json!({
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("arn:aws:iam::123456789012:oidc-provider/{issuer}")},
        "Condition": {"StringEquals": {format!("{issuer}:sub"): "repo:bank/dr"}},
    });
    role(&served, "ci", federated);
    role(&served, "deployer", trust());
    let token = |subject: &str| {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let claims = json!({"iss": format!("https://{issuer}"), "aud": "sts.amazonaws.com", "sub": subject, "exp": 4_000_000_000_u64});
        let part = |value: &Json| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(&claims))
    };
    let given = |token: &str, more: &str| {
        format!(
            "  assume_role_with_web_identity = {{ role_arn = {:?}, session_name = \"run-7\", {token} }}\n{more}",
            arn("ci")
        )
    };
    let everything =
        json!({"_document": {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}});
    served.sandbox.with(|world| world.place("global", "policy", READ_ALL, everything));
    let file = workspace.path("token");
    std::fs::write(&file, token("repo:bank/dr") + "\n").unwrap();
    let in_file = format!("web_identity_token_file = {file:?}");
    let direct = format!(
        "web_identity_token = {:?}, duration = \"15m\", policy = {:?}, policy_arns = [{READ_ALL:?}]",
        token("repo:bank/dr"),
        may_assume()
    );
    for token in [&in_file, &direct] {
        served.sandbox.forget_calls();
        let more = format!("  assume_role = [{{ role_arn = {:?} }}]\n", arn("deployer"));
        let ran = planned(&served, &workspace, &given(token, &more));
        assert_eq!(ran.code, 2, "{}", ran.err);
        let calls = served.sandbox.calls();
        let first = &calls[0];
        assert_eq!((first.operation.as_str(), &first.error), ("AssumeRoleWithWebIdentity", &None));
        assert_eq!(first.parameters["RoleSessionName"], "run-7");
        assert_eq!(calls[1].operation, "AssumeRole");
        assert_eq!(calls[1].caller, "arn:aws:sts::123456789012:assumed-role/ci/run-7");
        let session = "arn:aws:sts::123456789012:assumed-role/deployer/";
        // Terraform starts the provider more than once.
        let made = calls.iter().filter(|call| !call.operation.starts_with("AssumeRole"));
        let others: Vec<_> = made.filter(|call| !call.caller.starts_with(session)).collect();
        assert!(calls.len() > 30 && others.is_empty(), "{others:#?}");
        if token == &direct {
            assert_eq!(first.parameters["DurationSeconds"], "900");
            assert_eq!(first.parameters["Policy"], may_assume());
            assert_eq!(first.parameters["PolicyArns"], json!([{"arn": READ_ALL}]));
        }
    }
    let stranger = token("repo:thief/dr");
    let cases = [
        (
            given(&format!("web_identity_token = {stranger:?}"), ""),
            "Not authorized to perform sts:AssumeRoleWithWebIdentity (role arn:aws:iam::123456789012:role/ci)",
        ),
        (given("web_identity_token = \"opaque\"", ""), "not a valid JWT"),
        (
            given("web_identity_token_file = \"/nowhere/token\"", ""),
            "There is no file /nowhere/token",
        ),
        (given(&format!("web_identity_token = \"a\", {in_file}"), ""), "The token is given once"),
        (given("duration = \"1h\"", ""), "The token is given once"),
        (
            given(&in_file, "  profile = \"desk\"\n"),
            "Either assume_role_with_web_identity or profile",
        ),
        (
            given(
                &in_file,
                &format!(
                    "  assume_role = [{{ role_arn = {:?}, duration = \"2h\" }}]\n",
                    arn("deployer")
                ),
            ),
            "A chained session lasts one hour at most",
        ),
    ];
    for (configuration, told) in cases {
        let err = refused(&served, &workspace, &configuration, told);
        assert!(!err.contains(&stranger), "{err}");
    }
}

#[test]
fn keys_of_a_session_count_with_its_token_only() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, "");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        workspace.variable(name, "");
    }
    role(&served, "deployer", trust());
    let session = served.block_on(async {
        let sts = connect(&served.sandbox).await.region("us-west-2").sts.clone();
        let call = sts.assume_role().role_arn(arn("deployer")).role_session_name("by-hand");
        call.send().await.unwrap().credentials.unwrap()
    });
    let keys = format!(
        "  access_key = {:?}\n  secret_key = {:?}\n",
        session.access_key_id, session.secret_access_key
    );
    served.sandbox.forget_calls();
    let with_token = format!("{keys}  token = {:?}\n", session.session_token);
    let ran = planned(&served, &workspace, &with_token);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let who = "arn:aws:sts::123456789012:assumed-role/deployer/by-hand";
    let calls = served.sandbox.calls();
    assert!(calls.iter().all(|call| call.caller == who), "{:#?}", calls[0]);
    for wrong in [keys.clone(), format!("{keys}  token = \"another\"\n")] {
        let told = "security token included in the request is invalid";
        let err = refused(&served, &workspace, &wrong, told);
        assert!(!err.contains(&session.session_token), "{err}");
    }
    // What would not be read is not accepted.
    let file = workspace.path("keys");
    let text =
        format!("[desk]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    std::fs::write(&file, text).unwrap();
    let both = format!("{with_token}  shared_credentials_files = [{file:?}]\n");
    refused(&served, &workspace, &both, "Keys and files of keys are both given");
}

#[test]
fn a_profile_of_iam_identity_center_is_signed_in_through_the_companys_proxy() {
    let mut company = Company::new();
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        company.workspace.variable(name, "");
    }
    let who = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_OnCall_0123456789abcdef/anna";
    let session = json!({
        "_arn": who, "_kind": "role", "_name": "AWSReservedSSO_OnCall_0123456789abcdef",
        "_id": "AROADESK:anna", "_token": DESK.1,
    });
    let served = &company.served;
    role(served, "AWSReservedSSO_OnCall_0123456789abcdef", trust());
    served.sandbox.with(|world| world.place("global", "access-key", DESK.0, session));
    let home = company.workspace.path("home");
    // Named by the SHA-1 of the session's name, as `aws sso login` does.
    let cache = home.join(".aws/sso/cache/bdd240c8fe7174e6ac1cfdd5282de76eb7ad6815.json");
    std::fs::create_dir_all(cache.parent().unwrap()).unwrap();
    let config = "[profile oncall]\nsso_session = bank\nsso_account_id = 123456789012\n\
                  sso_role_name = OnCall\nregion = us-west-2\n\n[sso-session bank]\n\
                  sso_region = us-east-1\nsso_start_url = https://bank.awsapps.com/start\n";
    std::fs::write(home.join(".aws/config"), config).unwrap();
    company.workspace.variable("HOME", home.to_str().unwrap());
    let sign_in = |token: &str| {
        let signed_in: Json = json!({
            "accessToken": token, "expiresAt": "2099-01-01T00:00:00Z", "region": "us-east-1",
            "startUrl": "https://bank.awsapps.com/start",
        });
        std::fs::write(&cache, signed_in.to_string()).unwrap();
    };
    let provider = format!(
        "  profile = \"oncall\"\n  https_proxy = {:?}\n{}",
        company.url(""),
        company.bundle()
    );
    sign_in(SIGNED_IN);
    let ran = company.plan(&provider);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let hosts = company.hosts();
    assert!(hosts.iter().any(|one| one == "portal.sso.us-east-1.amazonaws.com"), "{hosts:#?}");
    let calls = company.served.sandbox.calls();
    let others: Vec<_> = calls.iter().filter(|call| call.caller != who).collect();
    assert!(calls.len() > 30 && others.is_empty(), "{others:#?}");

    // Who has signed out is told so, and no token is shown.
    sign_in("signed-out");
    let ran = company.plan(&provider);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.message().contains("There are no credentials that AWS takes"), "{}", ran.err);
    assert!(!ran.err.contains("signed-out"), "{}", ran.err);
}
