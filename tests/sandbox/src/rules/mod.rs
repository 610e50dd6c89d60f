//! The sandbox's own rules, each with the fact that it stands for (aws-facts).

// A request that is written where it is made reads better without a borrow.
#![allow(clippy::needless_pass_by_value)]

mod engines;
mod functions;
mod identity;
mod names;
mod network;
mod others;
mod rds;
mod runbooks;
mod running;
mod sessions;
mod storage;
mod trouble;
mod watching;

use serde_json::{Value, json};

use crate::{
    ACCESS_KEY, RESTRICTED_KEY, World,
    clock::Time,
    dispatch,
    request::{Failure, Reply},
};

const EAST: &str = "us-east-1";
const WEST: &str = "us-west-2";

/// Somebody who calls the simulated AWS and waits.
struct Caller {
    world: World,
}

impl Caller {
    fn new() -> Self {
        Self { world: World::seeded(Time(1_767_571_200_000)) }
    }

    fn pass(&mut self, seconds: u64) {
        let now = self.world.now.plus_seconds(seconds);
        self.world.advance_to(now);
        crate::services::tagging::refresh(&mut self.world);
    }

    fn call(&mut self, region: &str, service: &str, operation: &str, params: Value) -> Reply {
        dispatch::call(&mut self.world, ACCESS_KEY, region, service, operation, &params)
    }

    /// Calls as the user whose policies are the test's to set.
    fn restricted(&mut self, region: &str, service: &str, operation: &str, params: Value) -> Reply {
        dispatch::call(&mut self.world, RESTRICTED_KEY, region, service, operation, &params)
    }

    fn allow(&mut self, statements: Value) {
        let policy = json!({"Version": "2012-10-17", "Statement": statements});
        let change = json!({"_policies": {"test": policy}});
        self.world.drift("global", "user", "restricted", Some(&change)).unwrap();
    }

    fn must(&mut self, region: &str, service: &str, operation: &str, params: Value) -> Value {
        self.call(region, service, operation, params).unwrap_or_else(|failure| {
            panic!("{service}:{operation}: {} {}", failure.code, failure.message)
        })
    }

    fn rds(&mut self, region: &str, operation: &str, params: Value) -> Reply {
        self.call(region, "rds", operation, params)
    }

    fn ec2(&mut self, region: &str, operation: &str, params: Value) -> Reply {
        self.call(region, "ec2", operation, params)
    }

    fn network(&self, region: &str) -> Value {
        self.world.network()[region].clone()
    }

    /// A key with a policy that lets the account's own policies decide.
    fn key(&mut self, region: &str) -> String {
        let answer = self.must(region, "kms", "CreateKey", json!({}));
        answer["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    /// A subnet group over the private subnets.
    fn subnets(&mut self, region: &str) {
        let ids = self.network(region)["private_subnet_ids"].clone();
        let params = json!({"DBSubnetGroupName": "subnets", "DBSubnetGroupDescription": "x", "SubnetIds": ids});
        self.must(region, "rds", "CreateDBSubnetGroup", params);
    }

    /// An encrypted instance `db` with backups in the primary region, available; its ARN.
    fn instance(&mut self, more: Value) -> String {
        self.subnets(EAST);
        let key = self.key(EAST);
        let mut params = json!({
            "DBInstanceIdentifier": "db", "Engine": "postgres", "DBInstanceClass": "db.t3.medium",
            "AllocatedStorage": "20", "StorageType": "gp3", "MasterUsername": "boss",
            "MasterUserPassword": "correct-horse", "StorageEncrypted": "true", "KmsKeyId": key,
            "DBSubnetGroupName": "subnets", "BackupRetentionPeriod": "7",
        });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.must(EAST, "rds", "CreateDBInstance", params);
        self.pass(800);
        answer["DBInstance"]["DBInstanceArn"].as_str().unwrap().to_owned()
    }

    /// What a cross-region replica `copy` of it is asked for with.
    fn replica_of(&mut self, source: &str) -> Value {
        self.subnets(WEST);
        let key = self.key(WEST);
        json!({
            "DBInstanceIdentifier": "copy", "SourceDBInstanceIdentifier": source, "KmsKeyId": key,
            "DBSubnetGroupName": "subnets", "DBInstanceClass": "db.t3.medium",
        })
    }

    /// An instance with a replica, both available.
    fn pair(&mut self) -> String {
        let source = self.instance(json!({}));
        let params = self.replica_of(&source);
        self.must(WEST, "rds", "CreateDBInstanceReadReplica", params);
        self.pass(1300);
        source
    }

    fn described(&mut self, region: &str, id: &str) -> Value {
        let params = json!({"DBInstanceIdentifier": id});
        let answer = self.must(region, "rds", "DescribeDBInstances", params);
        answer["DBInstances"]["DBInstance"][0].clone()
    }

    fn status(&mut self, region: &str, id: &str) -> String {
        let instance = self.described(region, id);
        instance["DBInstanceStatus"].as_str().unwrap_or_default().to_owned()
    }

    fn replication(&mut self, region: &str, id: &str) -> Value {
        self.described(region, id)["StatusInfos"]["DBInstanceStatusInfo"][0]["Status"].clone()
    }
}

/// The answer must be this error, with these words in its message.
#[track_caller]
fn refused(reply: Reply, code: &str, words: &str) {
    match reply {
        Ok(answer) => panic!("was taken, and should be {code}: {answer}"),
        Err(Failure { code: its, message, .. }) => {
            assert_eq!(its, code, "{message}");
            assert!(message.contains(words), "{message:?} lacks {words:?}");
        }
    }
}
