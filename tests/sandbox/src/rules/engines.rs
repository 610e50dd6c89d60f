//! Both database engines live through the same script: what the model says under virtual time is held to what
//! PostgreSQL does in real time.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Caller, EAST, WEST};
use crate::{
    ACCESS_KEY, Laboratory, Programs, Sandbox, SessionView, Source, Visitor, clock::Time, dispatch,
};

const MASTER: (&str, &str) = ("boss", "correct-horse");
/// How many times as fast as real time it all happens, where time is real.
const SCALE: f64 = 100.0;

/// What a visit shows: whoever gets to a writer leaves a row, whoever gets to a standby sees the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Closed,
    Denied,
    Wrote(u64),
    Read(u64),
}

/// An account with a database group that lets the application in, and an engine.
struct Stage {
    sandbox: Sandbox,
    laboratory: Option<Arc<Laboratory>>,
    network: Value,
    group: String,
}

const LOOK: &str = "\
SELECT pg_is_in_recovery() AS standby \\gset
\\if :standby
SELECT 'read', coalesce(max(at), 0) FROM beat;
\\else
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS beat (at bigint);
INSERT INTO beat VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint) RETURNING 'wrote', at;
\\endif
";

impl Stage {
    fn new(scale: f64, programs: Option<Programs>) -> Self {
        let mut caller = Caller::new();
        caller.subnets(EAST);
        caller.subnets(WEST);
        let network = caller.network(EAST);
        let params =
            json!({"GroupName": "db", "GroupDescription": "db", "VpcId": network["vpc_id"]});
        let made = caller.must(EAST, "ec2", "CreateSecurityGroup", params);
        let group = made["groupId"].as_str().unwrap().to_owned();
        let sandbox = Sandbox::with_world(caller.world, scale);
        let laboratory = programs.map(|programs| sandbox.run_databases(programs).unwrap());
        let this = Self { sandbox, laboratory, network, group };
        this.rule("AuthorizeSecurityGroupIngress");
        this
    }

    #[track_caller]
    fn must(&self, region: &str, service: &str, operation: &str, params: &Value) -> Value {
        let reply = self
            .sandbox
            .with(|world| dispatch::call(world, ACCESS_KEY, region, service, operation, params));
        reply.unwrap_or_else(|failure| panic!("{operation}: {} {}", failure.code, failure.message))
    }

    /// The rule that lets the application in, made or revoked.
    fn rule(&self, operation: &str) {
        let application = &self.network["application_security_group_id"];
        let permission = json!({
            "IpProtocol": "tcp", "FromPort": "5432", "ToPort": "5432",
            "Groups": [{"GroupId": application}],
        });
        let params = json!({"GroupId": self.group, "IpPermissions": [permission]});
        self.must(EAST, "ec2", operation, &params);
    }

    fn application(&self) -> Source {
        Source {
            region: EAST.into(),
            vpc: self.network["vpc_id"].as_str().unwrap().into(),
            groups: vec![self.network["application_security_group_id"].as_str().unwrap().into()],
        }
    }

    fn endpoint(&self, region: &str, id: &str) -> String {
        let params = json!({"DBInstanceIdentifier": id});
        let found = self.must(region, "rds", "DescribeDBInstances", &params);
        found["DBInstances"]["DBInstance"][0]["Endpoint"]["Address"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    async fn see(&self, from: &Source, endpoint: &str, login: (&str, &str)) -> Seen {
        let Some(laboratory) = &self.laboratory else {
            let visitor = Visitor { from, username: login.0, password: login.1 };
            return match self.sandbox.with(|world| world.visit(endpoint, &visitor)) {
                SessionView::Closed => Seen::Closed,
                SessionView::Denied => Seen::Denied,
                SessionView::Writer(Time(at)) => Seen::Wrote(at),
                SessionView::Standby { row: Time(at), .. } => Seen::Read(at),
            };
        };
        let psql = laboratory.psql(from, endpoint, "postgres", login, "verify-full").await.unwrap();
        let mut psql = tokio::process::Command::from(psql);
        // A busy machine takes seconds to answer; whoever is kept out is told so at once, or never.
        psql.env("PGCONNECT_TIMEOUT", "8").kill_on_drop(true);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // One that could not connect has read nothing, and says so below.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut input, LOOK.as_bytes()).await;
        drop(input);
        let done = tokio::time::timeout(Duration::from_secs(10), child.wait_with_output()).await;
        let Ok(done) = done else { return Seen::Closed };
        let done = done.unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let number = |text: &str| text.trim().parse::<u64>().ok();
        match out.trim().split_once('|') {
            Some(("wrote", at)) => Seen::Wrote(number(at).unwrap()),
            Some(("read", at)) => Seen::Read(number(at).unwrap()),
            _ if err.contains("password authentication failed") => Seen::Denied,
            // A standby that has not replayed the table yet.
            _ if err.contains("\"beat\" does not exist") => Seen::Read(0),
            _ => Seen::Closed,
        }
    }

    /// What SQL says, where there is any.
    async fn ask(&self, endpoint: &str, sql: &str) -> Option<String> {
        let laboratory = self.laboratory.as_ref()?;
        let from = self.application();
        let psql =
            laboratory.psql(&from, endpoint, "postgres", MASTER, "verify-full").await.unwrap();
        let done = tokio::process::Command::from(psql).args(["-c", sql]).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Looks until it is so, for ten minutes of the account's time at most; the last look.
    async fn until(&self, endpoint: &str, what: &str, is_so: impl Fn(Seen) -> bool) -> Seen {
        self.until_as(MASTER, endpoint, what, is_so).await
    }

    /// The same as somebody else.
    async fn until_as(
        &self,
        login: (&str, &str),
        endpoint: &str,
        what: &str,
        is_so: impl Fn(Seen) -> bool,
    ) -> Seen {
        let from = self.application();
        let mut seen = Seen::Closed;
        for _ in 0..120 {
            seen = self.see(&from, endpoint, login).await;
            if is_so(seen) {
                return seen;
            }
            self.sandbox.pass(5000).await;
        }
        let trouble = self.sandbox.with(|world| {
            [(EAST, "db"), (EAST, "near"), (EAST, "then"), (EAST, "back"), (WEST, "copy")]
                .map(|(region, id)| world.engine_trouble(region, id))
        });
        panic!("{what}: {seen:?}; {trouble:?}");
    }

    async fn available(&self, region: &str, id: &str) {
        let came = self.sandbox.until(4000, |world| {
            world
                .get(region, "db-instance", id)
                .is_none_or(|one| one["DBInstanceStatus"] == "available")
        });
        assert!(came.await, "{:?}", self.sandbox.with(|world| world.engine_trouble(region, id)));
    }
}

fn wrote(seen: Seen) -> Option<u64> {
    if let Seen::Wrote(at) = seen { Some(at) } else { None }
}

/// Create, replicate, lag behind, catch up, reboot, fence, promote, snapshot, restore.
async fn script(stage: Stage) {
    let key = stage.must(EAST, "kms", "CreateKey", &json!({}))["KeyMetadata"]["Arn"].clone();
    stage.must(EAST, "rds", "CreateDBInstance", &json!({
        "DBInstanceIdentifier": "db", "Engine": "postgres", "DBInstanceClass": "db.t3.medium",
        "AllocatedStorage": "20", "StorageType": "gp3", "MasterUsername": MASTER.0,
        "MasterUserPassword": MASTER.1, "StorageEncrypted": "true", "KmsKeyId": key,
        "DBSubnetGroupName": "subnets", "BackupRetentionPeriod": "7", "VpcSecurityGroupIds": [stage.group],
    }));
    stage.available(EAST, "db").await;
    let db = stage.endpoint(EAST, "db");
    stage.until(&db, "the writer writes", |seen| wrote(seen).is_some()).await;

    // Who may, and who may not.
    let application = stage.application();
    // A busy machine may answer too late.
    let refused = stage.until_as((MASTER.0, "guess"), &db, "a wrong password is refused", |seen| {
        seen != Seen::Closed
    });
    assert_eq!(refused.await, Seen::Denied);
    let stranger = Source { groups: vec!["sg-stranger".into()], ..application.clone() };
    assert_eq!(stage.see(&stranger, &db, MASTER).await, Seen::Closed);

    // A replica in the same region, as the application reaches it without a peering.
    let source = format!("arn:aws:rds:{EAST}:{}:db:db", crate::ACCOUNT);
    stage.must(
        EAST,
        "rds",
        "CreateDBInstanceReadReplica",
        &json!({
            "DBInstanceIdentifier": "near", "SourceDBInstanceIdentifier": "db",
            "DBInstanceClass": "db.t3.medium", "VpcSecurityGroupIds": [stage.group],
        }),
    );
    let west_key = stage.must(WEST, "kms", "CreateKey", &json!({}))["KeyMetadata"]["Arn"].clone();
    stage.available(EAST, "db").await;
    stage.must(WEST, "rds", "CreateDBInstanceReadReplica", &json!({
        "DBInstanceIdentifier": "copy", "SourceDBInstanceIdentifier": source, "KmsKeyId": west_key,
        "DBSubnetGroupName": "subnets", "DBInstanceClass": "db.t3.medium",
    }));
    stage.available(EAST, "near").await;
    stage.available(WEST, "copy").await;
    let near = stage.endpoint(EAST, "near");
    let first = wrote(stage.see(&application, &db, MASTER).await).unwrap();
    stage
        .until(&near, "the row arrives", |seen| matches!(seen, Seen::Read(at) if at >= first))
        .await;

    // The writer is lost, and nothing arrives; it comes back, and what is written arrives again.
    stage.sandbox.with(|world| world.set_cut(EAST, EAST, true));
    stage.sandbox.pass(5000).await;
    let missed = wrote(stage.see(&application, &db, MASTER).await).unwrap();
    stage.sandbox.pass(20_000).await;
    let seen = stage.see(&application, &near, MASTER).await;
    assert!(
        matches!(seen, Seen::Read(at) if at >= first && at < missed),
        "{seen:?} {first} {missed}"
    );
    stage.sandbox.with(|world| world.set_cut(EAST, EAST, false));
    stage
        .until(&near, "it catches up", |seen| matches!(seen, Seen::Read(at) if at >= missed))
        .await;

    // A reboot closes, and opens again.
    stage.must(EAST, "rds", "RebootDBInstance", &json!({"DBInstanceIdentifier": "db"}));
    stage.until(&db, "a reboot closes", |seen| seen == Seen::Closed).await;
    stage.until(&db, "it opens again", |seen| wrote(seen).is_some()).await;

    // A rule that goes keeps new connections out.
    stage.rule("RevokeSecurityGroupIngress");
    assert_eq!(stage.see(&application, &db, MASTER).await, Seen::Closed);
    stage.rule("AuthorizeSecurityGroupIngress");
    let last = wrote(stage.see(&application, &db, MASTER).await).unwrap();
    stage
        .until(&near, "the row arrives", |seen| matches!(seen, Seen::Read(at) if at >= last))
        .await;

    // A moment is restored beside it, without what came later.
    let moment = stage.sandbox.now().to_string();
    stage.sandbox.pass(10_000).await;
    let later = wrote(stage.see(&application, &db, MASTER).await).unwrap();
    let then = json!({
        "SourceDBInstanceIdentifier": "db", "TargetDBInstanceIdentifier": "then", "RestoreTime": moment,
        "DBSubnetGroupName": "subnets", "VpcSecurityGroupIds": [stage.group],
    });
    stage.must(EAST, "rds", "RestoreDBInstanceToPointInTime", &then);
    stage.available(EAST, "then").await;
    let then = stage.endpoint(EAST, "then");
    stage.until(&then, "what was restored writes", |seen| wrote(seen).is_some()).await;
    for (row, kept) in [(last, "1"), (later, "0")] {
        let sql = format!("SELECT count(*) FROM beat WHERE at = {row}");
        assert_eq!(
            stage.ask(&then, &sql).await.as_deref().unwrap_or(kept),
            kept,
            "{row} of {moment}"
        );
    }

    // A replica that is promoted writes, with its users and its rows.
    stage.must(EAST, "rds", "PromoteReadReplica", &json!({"DBInstanceIdentifier": "near"}));
    stage.until(&near, "it writes", |seen| wrote(seen).is_some()).await;
    assert!(wrote(stage.see(&application, &db, MASTER).await).is_some(), "so does the old one");

    // A final snapshot holds what was written, and is restored.
    stage.available(EAST, "near").await;
    let end = json!({"DBInstanceIdentifier": "near", "FinalDBSnapshotIdentifier": "last"});
    stage.must(EAST, "rds", "DeleteDBInstance", &end);
    stage.available(EAST, "near").await;
    let gone = stage.sandbox.until(2000, |world| world.get(EAST, "db-instance", "near").is_none());
    assert!(gone.await);
    assert_eq!(stage.see(&application, &near, MASTER).await, Seen::Closed);
    stage.must(EAST, "rds", "RestoreDBInstanceFromDBSnapshot", &json!({
        "DBInstanceIdentifier": "back", "DBSnapshotIdentifier": "last", "DBSubnetGroupName": "subnets",
        "DBInstanceClass": "db.t3.medium", "VpcSecurityGroupIds": [stage.group],
    }));
    stage.available(EAST, "back").await;
    let back = stage.endpoint(EAST, "back");
    stage.until(&back, "what was restored writes", |seen| wrote(seen).is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn the_model_lives_through_the_script() {
    script(Stage::new(1.0, None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_lives_through_the_script() {
    if let Some(programs) = Programs::or_skipped() {
        script(Stage::new(SCALE, Some(programs))).await;
    }
}

/// A writer and a replica beside it, each with a parameter group of its own name.
async fn pair(stage: &Stage) -> (String, String) {
    for name in ["db", "near"] {
        stage.must(EAST, "rds", "CreateDBParameterGroup", &json!({
            "DBParameterGroupName": name, "DBParameterGroupFamily": "postgres15", "Description": name,
        }));
    }
    let key = stage.must(EAST, "kms", "CreateKey", &json!({}))["KeyMetadata"]["Arn"].clone();
    stage.must(EAST, "rds", "CreateDBInstance", &json!({
        "DBInstanceIdentifier": "db", "Engine": "postgres", "DBInstanceClass": "db.t3.medium",
        "AllocatedStorage": "20", "StorageType": "gp3", "MasterUsername": MASTER.0,
        "MasterUserPassword": MASTER.1, "StorageEncrypted": "true", "KmsKeyId": key,
        "DBSubnetGroupName": "subnets", "BackupRetentionPeriod": "7", "DBParameterGroupName": "db",
        "VpcSecurityGroupIds": [stage.group],
    }));
    stage.available(EAST, "db").await;
    stage.must(
        EAST,
        "rds",
        "CreateDBInstanceReadReplica",
        &json!({
            "DBInstanceIdentifier": "near", "SourceDBInstanceIdentifier": "db",
            "DBInstanceClass": "db.t3.medium", "VpcSecurityGroupIds": [stage.group],
        }),
    );
    stage.available(EAST, "near").await;
    stage.must(EAST, "rds", "ModifyDBInstance", &json!({
        "DBInstanceIdentifier": "near", "DBParameterGroupName": "near", "ApplyImmediately": "true",
    }));
    stage.sandbox.pass(60_000).await;
    stage.available(EAST, "near").await;
    (stage.endpoint(EAST, "db"), stage.endpoint(EAST, "near"))
}

impl Stage {
    /// Sets a parameter of an instance and has it restart; it is down when this returns.
    async fn restart_with(&self, id: &str, name: &str, value: &str) {
        self.must(EAST, "rds", "ModifyDBParameterGroup", &json!({
            "DBParameterGroupName": id,
            "Parameters": [{"ParameterName": name, "ParameterValue": value, "ApplyMethod": "pending-reboot"}],
        }));
        self.sandbox.pass(10_000).await;
        self.must(EAST, "rds", "RebootDBInstance", &json!({"DBInstanceIdentifier": id}));
        self.until(&self.endpoint(EAST, id), "a reboot closes", |seen| seen == Seen::Closed).await;
    }

    async fn status(&self, id: &str, status: &str) {
        let came = self.sandbox.until(600, |world| {
            world.get(EAST, "db-instance", id).is_some_and(|one| one["DBInstanceStatus"] == status)
        });
        assert!(
            came.await,
            "{id} is not {status}: {:?}",
            self.sandbox.with(|world| world.engine_trouble(EAST, id))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgresql_refuses_is_incompatible_and_limits_have_an_order() {
    let Some(programs) = Programs::or_skipped() else { return };
    let stage = Stage::new(SCALE, Some(programs));
    let (db, near) = pair(&stage).await;
    let application = stage.application();
    // Nobody gets in without TLS.
    let laboratory = stage.laboratory.as_ref().unwrap();
    let plain = laboratory.psql(&application, &db, "postgres", MASTER, "disable").await.unwrap();
    let plain = tokio::process::Command::from(plain).args(["-c", "SELECT 1"]).output().await;
    let refusal = String::from_utf8_lossy(&plain.unwrap().stderr).into_owned();
    assert!(refusal.contains("no encryption"), "{refusal}");

    // RDS knows the parameter, and PostgreSQL does not know the value.
    stage.restart_with("db", "timezone", "Atlantis/Harbour").await;
    stage.status("db", "incompatible-parameters").await;
    assert_eq!(stage.see(&application, &db, MASTER).await, Seen::Closed);
    stage.restart_with("db", "timezone", "UTC").await;
    stage.until(&db, "it opens again", |seen| wrote(seen).is_some()).await;
    stage.status("db", "available").await;

    // The writer's limit first: the standby stops following, and goes on once it has the limit as well.
    stage.restart_with("db", "max_connections", "600").await;
    stage.until(&db, "it opens again", |seen| wrote(seen).is_some()).await;
    stage.status("db", "available").await;
    let missed = wrote(stage.see(&application, &db, MASTER).await).unwrap();
    stage.sandbox.pass(30_000).await;
    let seen = stage.see(&application, &near, MASTER).await;
    assert!(matches!(seen, Seen::Read(at) if at < missed), "{seen:?}, and its limit is lower");
    stage.restart_with("near", "max_connections", "600").await;
    stage
        .until(&near, "it catches up", |seen| matches!(seen, Seen::Read(at) if at >= missed))
        .await;

    // The standby's first: it follows all the time.
    stage.restart_with("near", "max_connections", "700").await;
    stage.until(&near, "it opens again", |seen| matches!(seen, Seen::Read(_))).await;
    stage.restart_with("db", "max_connections", "700").await;
    stage.until(&db, "it opens again", |seen| wrote(seen).is_some()).await;
    let last = wrote(stage.see(&application, &db, MASTER).await).unwrap();
    stage.until(&near, "it follows", |seen| matches!(seen, Seen::Read(at) if at >= last)).await;
}

const HELPER: &str = "rules::engines::a_database_that_is_killed";

/// The process that the next test kills: it has a database that runs, and ends by no means itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is run by another test, and killed by it"]
async fn a_database_that_is_killed() {
    let stage = Stage::new(SCALE, Some(Programs::find().unwrap()));
    let (db, _) = pair(&stage).await;
    stage.until(&db, "it writes", |seen| wrote(seen).is_some()).await;
    println!("\nmade {}", stage.laboratory.as_ref().unwrap().scratch.path().display());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Processes whose command line names a folder.
fn running_in(folder: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_there = |number: &u32| {
        let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    };
    numbers.filter(is_there).collect()
}

/// Segments of System V's shared memory that one of these processes has made.
fn segments_of(makers: &[u32]) -> usize {
    let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let maker = |line: &&str| line.split_whitespace().nth(4)?.parse::<u32>().ok();
    all.lines().skip(1).filter(|line| maker(line).is_some_and(|one| makers.contains(&one))).count()
}

#[test]
fn nothing_is_left_of_databases_whose_sandbox_was_killed() {
    if Programs::or_skipped().is_none() {
        return;
    }
    let (mut killed, made) = crate::scratch::tests::begun(HELPER);
    let folder = made[0].clone();
    let servers = running_in(&folder);
    assert!(servers.len() >= 2 && segments_of(&servers) >= 2, "{servers:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    while std::path::Path::new(&folder).exists() || !running_in(&folder).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(segments_of(&servers), 0, "their shared memory is given back");
}
