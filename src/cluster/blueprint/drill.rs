//! Drills in the region that stands by: the function that makes them, and what it may.

use serde_json::json;

use super::{LEDGER, Plan, instance_name};
use crate::{
    cluster::{names::Name, spec::Site},
    components::{
        ARN, Alarm, Slots, Tags, Text,
        alarm::{Comparison, HOUR, Missing},
        database_role::DatabaseRole,
        drill_instance::DrillInstance,
        dynamodb_table::DynamodbTable,
        event_rule::EventRule,
        kms_key::KmsKey,
        lambda_function::{LambdaFunction, Variable},
        lambda_permission::LambdaPermission,
        secret::{REPLICA_ARN, Secret},
        sns_topic::SnsTopic,
    },
    contract::{
        ASSIGNMENT, DIMENSION, FUNCTION, NAMESPACE,
        drill::{BEGIN, Drilling, GO_ON},
    },
};

/// The purpose, in addresses.
const DRILL: &str = "drill";
/// The purpose of what has drills go on.
const STEPS: &str = "drill-steps";
/// A run lives for four and a half minutes.
const SECONDS: i32 = 300;
/// A run that is missed costs five minutes.
const GOES_ON: &str = "rate(5 minutes)";
/// Drills are told the same as monitors.
const ARGUMENT: &str = super::AGENT_ARGUMENTS;

impl Plan<'_> {
    pub(super) fn drill(&mut self) {
        let (spec, here) = (self.spec, Self::writer().other());
        let (suffix, region) = (&spec.suffix, self.region(here).to_owned());
        let permissions = self.drill_permissions(here);
        self.function_role(DRILL, Name::DrillRole, "Drills failovers of", permissions);
        let mut slots = Slots::default();
        let instance = Name::Drill.of(suffix);
        let drilling = Drilling { assignment: self.assignment(here, &mut slots), instance };
        let assignment = slots.into_text(json!(drilling).to_string());
        let variable = |field, name, value, argument| Variable { field, name, value, argument };
        let variables = vec![
            variable("function", FUNCTION, DRILL.into(), ""),
            variable("assignment", ASSIGNMENT, assignment, ARGUMENT),
        ];
        let what = "Drills failovers of";
        self.function(&region, DRILL, Name::Drill, what, SECONDS, variables, None);
        let function = LambdaFunction::address(&region, DRILL);
        let rule = |description, schedule, argument, action: &str| EventRule {
            description,
            schedule,
            argument,
            target: Text::Ref(function.clone(), ARN),
            input: json!({"action": action}).to_string(),
        };
        let begins = rule(
            format!("Begins failover drills of the cluster {suffix}"),
            spec.drill_schedule().to_string(),
            "drill.schedule",
            BEGIN,
        );
        let goes_on = rule(
            format!("Has failover drills of the cluster {suffix} go on"),
            GOES_ON.into(),
            "",
            GO_ON,
        );
        let writer = self.region(Self::writer()).to_owned();
        let after = [
            DatabaseRole::address(&writer, super::agent::PROBE),
            DynamodbTable::address(&region, LEDGER),
            SnsTopic::address(&region),
        ];
        self.scheduled(&region, DRILL, Name::Drill, begins, &after);
        // Two permissions of one function, one after the other: AWS loses one of two that are added at once
        // (aws-facts 1.5).
        let first = LambdaPermission::address(&region, DRILL);
        let after = [&after[..], std::slice::from_ref(&first)].concat();
        let timer = (STEPS, Name::DrillSteps, STEPS);
        self.timer(&region, (DRILL, Name::Drill), timer, goes_on, &after);
        self.drill_alarms(&region);
        if !spec.drill.enabled {
            // What goes on with a drill stays, so that none is left half-way, and somebody may still ask for one.
            self.rest(&first);
            self.rest(&EventRule::address(&region, DRILL));
        }
        let leftover = DrillInstance::address(&region);
        let name = Name::Drill.of(&spec.suffix);
        self.add(leftover.clone(), &region, name, Tags::new(), DrillInstance, &[]);
        self.rest(&leftover);
    }

    /// What a drill may do: anything to its own throw-away instance, and nothing to the two of the cluster but
    /// look at them and have the standby copied.
    fn drill_permissions(&self, here: Site) -> Text {
        let (suffix, region) = (&self.spec.suffix, self.region(here).to_owned());
        let regions = [region.clone()];
        let mut slots = Slots::default();
        let variables = self.variables_key(Name::Drill, &regions, &mut slots);
        let key = slots.of(&KmsKey::address(&region), ARN);
        let secret = Secret::address(self.region(Site::Primary), super::agent::PROBE);
        let secret = match here {
            Site::Primary => slots.of(&secret, ARN),
            Site::Dr => slots.of(&secret, REPLICA_ARN),
        };
        let own = |service: &str, resource: String| self.arn(service, &region, &resource);
        let standby = own("rds", format!("db:{}", instance_name(self.spec, here)));
        let instance = own("rds", format!("db:{}", Name::Drill.of(suffix)));
        let via = |services: &[&str]| -> Vec<String> {
            services.iter().map(|one| format!("{one}.{region}.amazonaws.com")).collect()
        };
        let document = json!({
            "Version": "2012-10-17",
            "Statement": [
                self.logs(Name::Drill, &regions),
                variables,
                {
                    "Sid": "Look", "Effect": "Allow", "Action": "rds:DescribeDBInstances",
                    "Resource": [standby, instance],
                },
                {
                    // Listing takes no resource that could be relied on.
                    "Sid": "List", "Effect": "Allow", "Action": "rds:DescribeDBSnapshots",
                    "Resource": "*",
                    "Condition": {"StringEquals": {"aws:RequestedRegion": region}},
                },
                {
                    // RDS asks for its source and for all groups that it gets unasked as well.
                    "Sid": "Copy", "Effect": "Allow", "Action": "rds:CreateDBInstanceReadReplica",
                    "Resource": [
                        standby, instance,
                        own("rds", format!("subgrp:{}", Name::SubnetGroup.of(suffix))),
                        own("rds", format!("pg:{}", Name::ParameterGroup.of(suffix))),
                        own("rds", "og:default:postgres-15".to_owned()),
                    ],
                },
                {
                    "Sid": "ThrowAway", "Effect": "Allow",
                    "Action": ["rds:AddTagsToResource", "rds:DeleteDBInstance", "rds:PromoteReadReplica"],
                    "Resource": instance,
                },
                {
                    "Sid": "Probe", "Effect": "Allow", "Action": "lambda:InvokeFunction",
                    "Resource": own("lambda", format!("function:{}", Name::Probe.of(suffix))),
                },
                {
                    "Sid": "Remember", "Effect": "Allow", "Action": ["dynamodb:Query", "dynamodb:PutItem"],
                    "Resource": own("dynamodb", format!("table/{}", Name::Ledger.of(suffix))),
                },
                {
                    "Sid": "LogIn", "Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
                    "Resource": secret,
                },
                {
                    "Sid": "Encrypt", "Effect": "Allow",
                    "Action": ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"],
                    "Resource": key, "Condition": {"StringEquals": {"kms:ViaService": via(&["rds"])}},
                },
                {
                    "Sid": "Keys", "Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                    "Resource": key,
                    "Condition": {"StringEquals": {
                        "kms:ViaService": via(&["dynamodb", "secretsmanager", "sns"]),
                    }},
                },
                {
                    "Sid": "Tell", "Effect": "Allow", "Action": "sns:Publish",
                    "Resource": own("sns", Name::Topic.of(suffix)),
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

    fn drill_alarms(&mut self, region: &str) {
        let topic = self.topic(region);
        let alarm = |text: &str, namespace: &str, metric: &str, dimension| Alarm {
            description: text.into(),
            namespace: namespace.into(),
            metric: metric.into(),
            dimensions: vec![dimension],
            statistic: "Maximum",
            comparison: Comparison::Above,
            threshold: 0.0,
            argument: "",
            period: HOUR,
            periods: 1,
            bad_periods: 1,
            // It stays as it is until the next drill says otherwise.
            missing: Missing::Ignored,
            topic: topic.clone(),
        };
        let suffix = self.spec.suffix.to_string();
        let failed = alarm(
            "The last failover drill has failed: the topic and the drill's log say why",
            NAMESPACE,
            "DrillFailed",
            (DIMENSION.into(), suffix),
        );
        let errors = alarm(
            "Failover drills do not go on: the drill's log says why",
            "AWS/Lambda",
            "Errors",
            ("FunctionName".into(), Name::Drill.of(&self.spec.suffix)),
        );
        self.add_alarm(region, "drill-failed", failed);
        self.add_alarm(region, "drill-errors", errors);
    }
}
