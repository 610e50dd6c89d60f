//! How functions are run.

use std::{io::Write as _, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Request;
use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{Caller, EAST, WEST, refused};
use crate::{ACCESS_KEY, Answer, Host, Sandbox, dispatch::Invoke, request::arn};

/// An archive with one file.
fn archive(name: &str, text: &str) -> String {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(0o755);
    writer.start_file(name, options).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    STANDARD.encode(writer.finish().unwrap().into_inner())
}

impl Caller {
    /// A function `f`, which may write its log.
    fn installed(mut self, zip: &str, more: Value) -> Self {
        self.function_role();
        let policy =
            json!({"Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]});
        let params = json!({"RoleName": "runner", "PolicyName": "log", "PolicyDocument": policy.to_string()});
        self.must(EAST, "iam", "PutRolePolicy", params);
        self.must(EAST, "logs", "CreateLogGroup", json!({"logGroupName": "/aws/lambda/f"}));
        self.pass(11);
        let mut params = self.function(more);
        params["Code"]["ZipFile"] = zip.into();
        self.must(EAST, "lambda", "CreateFunction", params);
        self.pass(11);
        self
    }
}

/// A sandbox with the function, and what runs it; a hundred times as fast as real time.
fn running(caller: Caller) -> (Sandbox, Host) {
    let sandbox = Sandbox::with_world(caller.world, 100.0);
    let host = sandbox.run_functions(Vec::new(), None).unwrap();
    (sandbox, host)
}

async fn invoked(sandbox: &Sandbox) -> (u16, String, bool) {
    let function = arn("lambda", EAST, "function:f");
    let invoke = Invoke { function, payload: json!({"n": 1}), is_event: false };
    let invoked = sandbox.invoke(invoke).await;
    let body = String::from_utf8(invoked.body.clone()).unwrap();
    (invoked.status, body, invoked.is_answer())
}

/// Lambda guide, "Building a custom runtime": what is no runtime fails the invocation, and says how.
#[tokio::test]
async fn what_is_no_runtime_fails_as_on_lambda() {
    let cases = [
        ("readme", "", "valid bootstrap"),
        ("bootstrap", "#!/bin/sh\necho ready\nexit 3\n", "exit status: 3"),
        ("bootstrap", "#!/bin/sh\nsleep 600\n", "timed out after 3.00 seconds"),
        ("bootstrap", "no program", "Exec format error"),
    ];
    for (name, text, expected) in cases {
        let caller = Caller::new().installed(&archive(name, text), json!({}));
        let (sandbox, _host) = running(caller);
        let (status, body, is_answer) = invoked(&sandbox).await;
        assert!(status == 200 && !is_answer && body.contains(expected), "{text}: {body}");
        let lines = sandbox.with(|world| world.log_lines(EAST, "/aws/lambda/f"));
        assert!(lines.iter().any(|line| line.contains("REPORT RequestId")), "{lines:#?}");
    }
}

/// Nothing is left running, and no file, once nobody runs functions any more.
#[tokio::test]
async fn what_was_unpacked_and_started_is_gone_with_its_host() {
    let text = "#!/bin/sh\necho \"$0\"\nexit 3\n";
    let (sandbox, host) = running(Caller::new().installed(&archive("bootstrap", text), json!({})));
    invoked(&sandbox).await;
    let said = || {
        let lines = sandbox.with(|world| world.log_lines(EAST, "/aws/lambda/f"));
        assert!(!lines.iter().any(|line| line.contains("InvalidEntrypoint")), "{lines:?}");
        lines.into_iter().find(|line| line.ends_with("/bootstrap"))
    };
    // What it said comes by a pipe, a moment later.
    let line = loop {
        match said() {
            Some(line) => break line,
            None => tokio::task::yield_now().await,
        }
    };
    let program = std::path::PathBuf::from(line.split(' ').nth(1).unwrap());
    assert!(program.is_file(), "{program:?}");
    drop(host);
    assert!(!program.exists());
    let (_, body, _) = invoked(&sandbox).await;
    assert!(body.contains("nothing runs functions here any more"), "{body}");
}

/// aws-facts 12b: a new account runs ten functions at once in a region.
#[tokio::test(start_paused = true)]
async fn an_account_runs_ten_functions_at_once() {
    let mut caller = Caller::new().installed(&archive("bootstrap", ""), json!({}));
    caller.world.set_concurrency(10);
    let sandbox = Sandbox::with_world(caller.world, 1.0);
    sandbox.set_runtime(Arc::new(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(Value::Null)
        })
    }));
    let all = (0..11).map(|_| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { invoked(&sandbox).await.0 })
    });
    let mut statuses = Vec::new();
    for one in all.collect::<Vec<_>>() {
        statuses.push(one.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 1, "{statuses:?}");
    assert_eq!(invoked(&sandbox).await.0, 200);
}

/// Lambda guide, "Defined runtime environment variables".
#[test]
fn what_lambda_sets_itself_cannot_be_set() {
    let mut caller = Caller::new();
    caller.function_role();
    caller.pass(11);
    let variables = json!({"Environment": {"Variables": {"AWS_REGION": "eu-west-1", "MINE": "1"}}});
    let params = caller.function(variables);
    refused(
        caller.call(EAST, "lambda", "CreateFunction", params),
        "InvalidParameterValueException",
        "reserved keys",
    );
}

/// What functions send from a region that is lost, or to one that theirs is cut off from, arrives nowhere.
#[tokio::test(start_paused = true)]
async fn regions_that_are_cut_off_hear_nothing_of_each_other() {
    let sandbox = Sandbox::with_world(Caller::new().world, 1.0);
    let ask = async |to: &str| {
        let header =
            format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260105/{to}/sts/aws4_request");
        let request = Request::post("/").header("authorization", header);
        let body = "Action=GetCallerIdentity&Version=2011-06-15";
        let answer = sandbox.answer_from(EAST, request.body(body.into()).unwrap()).await;
        matches!(answer, Answer::Response(response) if response.status() == 200)
    };
    assert!(ask(EAST).await && ask(WEST).await);
    sandbox.with(|world| world.set_cut(WEST, EAST, true));
    assert!(ask(EAST).await && !ask(WEST).await);
    sandbox.with(|world| world.set_cut(EAST, WEST, false));
    assert!(ask(WEST).await);
    sandbox.with(|world| world.set_lost(EAST, true));
    assert!(!ask(WEST).await);
}

/// Lambda guide, "Configuring reserved concurrency"; aws-facts 12b: 100 are left to functions without a reservation.
#[test]
fn what_is_reserved_leaves_enough_for_all_other_functions() {
    let mut caller = Caller::new().installed(&archive("bootstrap", ""), json!({}));
    let limits = |caller: &mut Caller| {
        let told = caller.must(EAST, "lambda", "GetAccountSettings", json!({}));
        let limit = &told["AccountLimit"];
        let (all, free) =
            (&limit["ConcurrentExecutions"], &limit["UnreservedConcurrentExecutions"]);
        (all.as_u64().unwrap(), free.as_u64().unwrap())
    };
    let put = |caller: &mut Caller, runs: i64| {
        let params = json!({"FunctionName": "f", "ReservedConcurrentExecutions": runs});
        caller.call(EAST, "lambda", "PutFunctionConcurrency", params)
    };
    assert_eq!(limits(&mut caller), (1000, 1000));
    refused(put(&mut caller, 901), "InvalidParameterValueException", "below its minimum value");
    refused(put(&mut caller, -1), "ValidationException", "");
    put(&mut caller, 900).unwrap();
    put(&mut caller, 10).unwrap();
    assert_eq!(limits(&mut caller), (1000, 990));
    let named = json!({"FunctionName": "f"});
    let found = caller.must(EAST, "lambda", "GetFunction", named.clone());
    assert_eq!(found["Concurrency"]["ReservedConcurrentExecutions"], 10);
    caller.world.set_concurrency(109);
    refused(put(&mut caller, 10), "InvalidParameterValueException", "");
    caller.must(EAST, "lambda", "DeleteFunctionConcurrency", named.clone());
    assert_eq!(limits(&mut caller), (109, 109));
    assert!(caller.must(EAST, "lambda", "GetFunction", named)["Concurrency"].is_null());
    // While it is changed, and where there is none.
    caller.world.set_concurrency(1000);
    let change = json!({"FunctionName": "f", "Timeout": 80});
    caller.must(EAST, "lambda", "UpdateFunctionConfiguration", change);
    refused(put(&mut caller, 10), "ResourceConflictException", "in progress");
    caller.pass(11);
    put(&mut caller, 10).unwrap();
    let gone = json!({"FunctionName": "gone"});
    let reply = caller.call(EAST, "lambda", "DeleteFunctionConcurrency", gone);
    refused(reply, "ResourceNotFoundException", "gone");
    // It goes with its function.
    caller.must(EAST, "lambda", "DeleteFunction", json!({"FunctionName": "f"}));
    assert_eq!(limits(&mut caller), (1000, 1000));
}

/// Lambda guide, "Configuring reserved concurrency": nobody else can use it, and the function no more than it.
#[tokio::test(start_paused = true)]
async fn what_is_reserved_is_there_whatever_the_others_run() {
    let mut caller = Caller::new().installed(&archive("bootstrap", ""), json!({}));
    let mut other = caller.function(json!({"FunctionName": "g"}));
    other["Code"]["ZipFile"] = archive("bootstrap", "").into();
    caller.must(EAST, "lambda", "CreateFunction", other);
    caller.pass(11);
    let params = json!({"FunctionName": "f", "ReservedConcurrentExecutions": 2});
    caller.must(EAST, "lambda", "PutFunctionConcurrency", params);
    caller.world.set_concurrency(12);
    let sandbox = Sandbox::with_world(caller.world, 1.0);
    sandbox.set_runtime(Arc::new(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(Value::Null)
        })
    }));
    let refused = async |name: &str, times: usize| {
        let one = || {
            let function = arn("lambda", EAST, &format!("function:{name}"));
            let invoke = Invoke { function, payload: json!({}), is_event: false };
            let sandbox = sandbox.clone();
            tokio::spawn(async move { sandbox.invoke(invoke).await.status })
        };
        let all: Vec<_> = (0..times).map(|_| one()).collect();
        let mut refused = 0;
        for one in all {
            refused += usize::from(one.await.unwrap() == 429);
        }
        refused
    };
    let (mine, others) = tokio::join!(refused("f", 3), refused("g", 11));
    assert_eq!((mine, others), (1, 1));
}
