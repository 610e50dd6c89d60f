//! Copies of the writer's snapshots in the region that stands by: the function that makes them, and what it may.

use serde_json::json;

use super::{LEDGER, Plan, instance_name};
use crate::{
    cluster::{names::Name, spec::Site},
    components::{
        ARN, Address, Alarm, Slots, Tags, Text,
        alarm::{Comparison, HOUR, Missing},
        db_instance::DbInstance,
        db_snapshot_copy::DbSnapshotCopy,
        dynamodb_table::DynamodbTable,
        event_rule::EventRule,
        iam_role::IamRole,
        kms_key::KmsKey,
        lambda_function::{LambdaFunction, Variable},
        lambda_permission::LambdaPermission,
        log_group::LogGroup,
    },
    contract::{ASSIGNMENT, Copying, DIMENSION, FUNCTION, NAMESPACE, copy_name},
};

/// The purpose, in addresses.
const COPIER: &str = "copier";
/// A run looks, asks for a copy, and removes.
const SECONDS: i32 = 60;
/// Level-triggered: an hour that is missed costs an hour.
const EVERY_HOUR: &str = "rate(1 hour)";
/// How old what the newest copy holds may be: a day between two snapshots, and six hours: an hour until it is seen, the window,
/// and the copy itself.
const OLDEST: f64 = 30.0 * 3600.0;
const ARGUMENT: &str = "backup.snapshot_copies";

impl Plan<'_> {
    pub(super) fn copies(&mut self) {
        let spec = self.spec;
        let (source, here) = (Self::writer(), Self::writer().other());
        let (source_region, region) =
            (self.region(source).to_owned(), self.region(here).to_owned());
        let instance = instance_name(spec, source);
        let permissions = self.copier_permissions(source, here);
        self.function_role(COPIER, Name::CopierRole, "Copies snapshots of", permissions);
        let mut slots = Slots::default();
        let copying = Copying {
            suffix: spec.suffix.to_string(),
            source_region: source_region.clone(),
            instance: instance.clone(),
            region: region.clone(),
            key: slots.of(&KmsKey::address(&region), ARN),
            keep: spec.backup.snapshot_copies as usize,
            ledger: Name::Ledger.of(&spec.suffix),
        };
        let assignment = slots.into_text(json!(copying).to_string());
        let variable = |field, name, value, argument| Variable { field, name, value, argument };
        let variables = vec![
            variable("function", FUNCTION, COPIER.into(), ""),
            variable("assignment", ASSIGNMENT, assignment, ARGUMENT),
        ];
        let what = "Copies snapshots of";
        self.function(&region, COPIER, Name::Copier, what, SECONDS, variables, None);
        let rule = EventRule {
            description: format!("Has snapshots of the cluster {} copied", spec.suffix),
            schedule: EVERY_HOUR.into(),
            argument: "",
            target: Text::Ref(LambdaFunction::address(&region, COPIER), ARN),
            input: json!({}).to_string(),
        };
        let after = [DbInstance::address(&source_region), DynamodbTable::address(&region, LEDGER)];
        self.scheduled(&region, COPIER, Name::Copier, rule, &after);
        self.copy_alarms(&region);
        if spec.backup.snapshot_copies == 0 {
            for address in addresses(&region) {
                self.rest(&address);
            }
        }
        // So that copies are looked for at a destroy, whatever the argument says by then.
        let nobody = DbSnapshotCopy::address(&region, "none");
        let settings = DbSnapshotCopy { instance };
        self.add(nobody.clone(), &region, String::new(), Tags::new(), settings, &[]);
        self.rest(&nobody);
    }

    fn copier_permissions(&self, source: Site, here: Site) -> Text {
        let (from, to) = (self.region(source).to_owned(), self.region(here).to_owned());
        let mut slots = Slots::default();
        let keys = [&from, &to].map(|region| slots.of(&KmsKey::address(region), ARN));
        let via = |service: &str| {
            [&from, &to].map(|region| format!("{service}.{region}.amazonaws.com")).to_vec()
        };
        let variables = self.variables_key(Name::Copier, std::slice::from_ref(&to), &mut slots);
        let services = [via("rds"), via("dynamodb")].concat();
        let instance = instance_name(self.spec, source);
        // By the moment in their names: a mere `*` would have those of another cluster too whose suffix begins, or ends, alike.
        let originals = format!("snapshot:rds:{instance}-????-??-??-??-??*");
        let originals = self.arn("rds", &from, &originals);
        let copies = copy_name("????????-????", &self.spec.suffix.to_string());
        let copies = format!("snapshot:{copies}");
        let copies = self.arn("rds", &to, &copies);
        let ledger = format!("table/{}", Name::Ledger.of(&self.spec.suffix));
        let document = json!({
            "Version": "2012-10-17",
            "Statement": [
                self.logs(Name::Copier, std::slice::from_ref(&to)),
                variables,
                {
                    "Sid": "Look", "Effect": "Allow", "Action": "rds:DescribeDBInstances",
                    "Resource": self.arn("rds", &from, &format!("db:{instance}")),
                },
                {
                    // Listing takes no resource that could be relied on.
                    "Sid": "List", "Effect": "Allow", "Action": "rds:DescribeDBSnapshots",
                    "Resource": "*",
                    "Condition": {"StringEquals": {"aws:RequestedRegion": [from, to]}},
                },
                {
                    "Sid": "Copy", "Effect": "Allow", "Action": "rds:CopyDBSnapshot",
                    "Resource": [originals, copies],
                },
                {
                    "Sid": "Keep", "Effect": "Allow",
                    "Action": ["rds:AddTagsToResource", "rds:DeleteDBSnapshot"], "Resource": copies,
                },
                {
                    "Sid": "Keys", "Effect": "Allow",
                    "Action": ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt",
                        "kms:GenerateDataKey*", "kms:ReEncrypt*"],
                    "Resource": keys,
                    "Condition": {"StringEquals": {"kms:ViaService": services}},
                },
                {
                    "Sid": "Remember", "Effect": "Allow", "Action": "dynamodb:Query",
                    "Resource": self.arn("dynamodb", &to, &ledger),
                },
                {
                    "Sid": "Measure", "Effect": "Allow", "Action": "cloudwatch:PutMetricData",
                    "Resource": "*",
                    "Condition": {"StringEquals": {"cloudwatch:namespace": NAMESPACE}},
                },
            ],
        });
        slots.into_text(document.to_string())
    }

    fn copy_alarms(&mut self, region: &str) {
        let suffix = self.spec.suffix.to_string();
        let hours = OLDEST / 3600.0;
        let topic = self.topic(region);
        let alarm = |text, metric: (&str, &str), dimension, statistic, threshold| Alarm {
            description: text,
            namespace: metric.0.into(),
            metric: metric.1.into(),
            dimensions: vec![dimension],
            statistic,
            comparison: Comparison::Above,
            threshold,
            argument: "",
            period: HOUR,
            periods: 1,
            bad_periods: 1,
            // Measured once an hour: a period without a value says nothing new.
            missing: Missing::Ignored,
            topic: topic.clone(),
        };
        let function = Name::Copier.of(&self.spec.suffix);
        let text = format!(
            "What the newest copy of a snapshot in {region} holds is older than {hours} hours; without data, the copier \
             has published nothing for about three hours: it does not run, or fails"
        );
        // Values are looked for two periods further back: an hour without one may be one that began a minute late, three in
        // a row are a copier that does not run.
        let age = Alarm {
            missing: Missing::Told,
            ..alarm(
                text,
                (NAMESPACE, "SnapshotCopyAge"),
                (DIMENSION.into(), suffix),
                "Maximum",
                OLDEST,
            )
        };
        let errors = alarm(
            format!("Snapshots are not copied to {region}: the copier's log says why"),
            ("AWS/Lambda", "Errors"),
            ("FunctionName".into(), function),
            "Sum",
            0.0,
        );
        self.add_alarm(region, "snapshot-copy-age", age);
        self.add_alarm(region, "snapshot-copier-errors", errors);
    }
}

/// All that copies.
fn addresses(region: &str) -> [Address; 7] {
    [
        IamRole::address(COPIER),
        LogGroup::address(region, COPIER),
        LambdaFunction::address(region, COPIER),
        LambdaPermission::address(region, COPIER),
        EventRule::address(region, COPIER),
        Alarm::address(region, "snapshot-copy-age"),
        Alarm::address(region, "snapshot-copier-errors"),
    ]
}
