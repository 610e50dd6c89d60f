//! The agent inside of the account: in each region a monitor and the probe that it asks, what they remember,
//! and what they may do.
//!
//! Both regions carry the same, so that which one guards and which one may promote follows from the roles of
//! the databases (failover.md, "Parts").

use serde_json::{Value, json};

use super::{LOG_RETENTION, MASTER, Plan, instance_name};
use crate::{
    cluster::{
        concurrency::reservation,
        failover::Mode,
        names::{Name, function_log},
        spec::Site,
    },
    components::{
        ARN, Address, Alarm, ENDPOINT, ID, RESOURCE_ID, SecurityGroup, Slots, SnsTopic, Tags, Text,
        alarm::{Comparison, MINUTE, Missing},
        database_role::DatabaseRole,
        db_instance::DbInstance,
        dynamodb_table::DynamodbTable,
        event_rule::EventRule,
        iam_role::IamRole,
        kms_key::KmsKey,
        lambda_function::{LambdaFunction, Place, Variable},
        lambda_permission::LambdaPermission,
        log_group::LogGroup,
        secret::{REPLICA_ARN, Secret},
        security_group::Egress,
        security_group_rule::{SecurityGroupRule, Source},
    },
    contract::{
        ASSIGNMENT, Assignment, DIMENSION, FUNCTION, NAMESPACE, ROLE, Region, SETTINGS, Settings,
    },
};

/// The agent's functions in each region.
pub(super) const FUNCTIONS: [Name; 4] = [Name::Monitor, Name::Probe, Name::Copier, Name::Drill];

/// Purposes, in addresses.
const MONITOR: &str = "monitor";
pub(super) const PROBE: &str = "probe";
/// The purpose of a region's ledger, in its address.
pub const LEDGER: &str = "ledger";
const LEASE: &str = "lease";

/// The arguments that the agent is told, under one name: each of them changes the same line.
pub const ARGUMENTS: &str = "failover";

/// MiB. Lambda gives processors by memory; TLS to two databases needs some.
const MEMORY: i32 = 256;
/// A run of the monitor lives for three minutes, and ends its last look.
const MONITOR_SECONDS: i32 = 240;
/// Two connections, each with its limit, and a start.
const PROBE_SECONDS: i32 = 20;
/// The shortest period of EventBridge.
const EVERY_MINUTE: &str = "rate(1 minute)";

impl Plan<'_> {
    pub(super) fn agent(&mut self) {
        let spec = self.spec;
        let witness = spec.failover.witness_region.clone();
        let is_site = |region: &str| Site::ALL.iter().any(|site| spec.site(*site).region == region);
        if !is_site(&witness) {
            self.key(&witness, &[]);
        }
        self.table(&witness, LEASE, Name::Lease);
        self.probe_secret();
        for site in Site::ALL {
            let region = self.region(site).to_owned();
            self.table(&region, LEDGER, Name::Ledger);
            self.probe_group(site);
        }
        self.roles();
        for site in Site::ALL {
            self.functions(site);
        }
        let region = self.region(Self::writer()).to_owned();
        self.database_role(&region);
        for site in Site::ALL {
            self.schedule(site);
            self.agent_alarms(site);
        }
    }

    fn table(&mut self, region: &str, purpose: &str, name: Name) {
        let settings = DynamodbTable {
            key: Text::Ref(KmsKey::address(region), ARN),
            is_ledger: purpose == LEDGER,
        };
        let address = DynamodbTable::address(region, purpose);
        self.add_tagged(address, region, name.of(&self.spec.suffix), settings, &[]);
    }

    fn probe_secret(&mut self) {
        let spec = self.spec;
        let (primary, dr) = (spec.primary.region.clone(), spec.dr.region.clone());
        let settings = Secret {
            key: Text::Ref(KmsKey::address(&primary), ARN),
            replica_region: dr.clone(),
            replica_key: Text::Ref(KmsKey::address(&dr), ARN),
            username: ROLE.into(),
            db_name: spec.database.db_name.clone(),
            description: format!("Login of the probes of the cluster {}", spec.suffix),
        };
        let name = Name::Probe.of(&spec.suffix);
        self.add_tagged(Secret::address(&primary, PROBE), &primary, name, settings, &[]);
    }

    /// The probe reaches both databases and nothing else.
    fn probe_group(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let vpc = spec.site(site).vpc_id.clone();
        let networks = [site, site.other()].map(|one| self.surroundings.network(one));
        let cidrs = networks.iter().flat_map(|one| one.cidrs.iter().map(ToString::to_string));
        let settings = SecurityGroup {
            vpc: vpc.clone(),
            description: format!("Probe of the disaster recovery cluster {}", spec.suffix),
            egress: Some(Egress { port: spec.database.port, cidrs: cidrs.collect() }),
        };
        let (group, name) = (SecurityGroup::probe(&region), Name::ProbeGroup.of(&spec.suffix));
        self.add_tagged(group.clone(), &region, name.clone(), settings, &[]);
        let settings = SecurityGroupRule {
            group_name: Name::SecurityGroup.of(&spec.suffix),
            vpc,
            source: Source::Ours(name.clone(), group.clone()),
            port: spec.database.port,
            description: "The probe of this region".into(),
            argument: "",
        };
        let address = SecurityGroupRule::address(&region, PROBE);
        let after = [group, SecurityGroup::address(&region)];
        self.add(address, &region, format!("from {name}"), Tags::new(), settings, &after);
    }

    pub(super) fn arn(&self, service: &str, region: &str, resource: &str) -> String {
        let (partition, account) = (&self.surroundings.partition, &self.surroundings.account);
        format!("arn:{partition}:{service}:{region}:{account}:{resource}")
    }

    /// The same in both regions.
    fn everywhere(&self, service: &str, resource: &str) -> Vec<String> {
        Site::ALL.map(|site| self.arn(service, self.region(site), resource)).to_vec()
    }

    pub(super) fn logs(&self, function: Name, regions: &[String]) -> Value {
        let group = format!("log-group:{}:*", function_log(&function.of(&self.spec.suffix)));
        let groups: Vec<_> = regions.iter().map(|one| self.arn("logs", one, &group)).collect();
        json!({
            "Sid": "Log", "Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": groups,
        })
    }

    /// A function reads its own variables, which are encrypted with its region's key. Lambda has a grant for
    /// that, which names the role as it was when the function was made: a role that is made anew needs this.
    pub(super) fn variables_key(
        &self,
        function: Name,
        regions: &[String],
        slots: &mut Slots,
    ) -> Value {
        let name = format!("function:{}", function.of(&self.spec.suffix));
        let functions: Vec<_> = regions.iter().map(|one| self.arn("lambda", one, &name)).collect();
        let keys: Vec<_> = regions.iter().map(|one| slots.of(&KmsKey::address(one), ARN)).collect();
        json!({
            "Sid": "Variables", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": keys,
            "Condition": {"StringEquals": {"kms:EncryptionContext:aws:lambda:FunctionArn": functions}},
        })
    }

    /// A role that Lambda becomes for a function.
    pub(super) fn function_role(
        &mut self,
        purpose: &str,
        name: Name,
        what: &str,
        permissions: Text,
    ) {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }],
        });
        let settings = IamRole {
            trust: trust.to_string(),
            policies: Default::default(),
            permissions: Some(permissions),
            description: format!("{what} the cluster {}", self.spec.suffix),
        };
        let (region, name) = (self.region(Site::Primary).to_owned(), name.of(&self.spec.suffix));
        self.add_tagged(IamRole::address(purpose), &region, name, settings, &[]);
    }

    fn roles(&mut self) {
        let monitor = self.monitor_permissions();
        let watches = "Watches, and fails over,";
        self.function_role(MONITOR, Name::MonitorRole, watches, monitor);
        let probe = self.probe_permissions();
        self.function_role(PROBE, Name::ProbeRole, "Looks at the databases of", probe);
    }

    /// What a monitor may do: on what is the cluster's, and in its regions. Of an instance it changes nothing:
    /// it promotes one, and reboots the other to end its sessions.
    fn monitor_permissions(&self) -> Text {
        let (spec, suffix) = (self.spec, &self.spec.suffix);
        let mut slots = Slots::default();
        let regions = Site::ALL.map(|site| self.region(site).to_owned());
        let witness = &spec.failover.witness_region;
        let mut places = regions.to_vec();
        if !places.contains(witness) {
            places.push(witness.clone());
        }
        let keys: Vec<_> =
            places.iter().map(|region| slots.of(&KmsKey::address(region), ARN)).collect();
        let via = |service: &str| -> Vec<_> {
            places.iter().map(|region| format!("{service}.{region}.amazonaws.com")).collect()
        };
        let services: Vec<_> =
            ["dynamodb", "secretsmanager", "sns"].iter().flat_map(|one| via(one)).collect();
        let topics: Vec<_> =
            regions.iter().map(|region| format!("sns.{region}.amazonaws.com")).collect();
        let instance = |site: Site| {
            self.arn("rds", self.region(site), &format!("db:{}", instance_name(spec, site)))
        };
        let mut tables = self.everywhere("dynamodb", &format!("table/{}", Name::Ledger.of(suffix)));
        tables.push(self.arn("dynamodb", witness, &format!("table/{}", Name::Lease.of(suffix))));
        let groups: Vec<_> = regions
            .iter()
            .map(|region| {
                let id = slots.of(&SecurityGroup::address(region), ID);
                self.arn("ec2", region, &format!("security-group/{id}"))
            })
            .collect();
        let secret = Secret::address(&regions[0], PROBE);
        let secrets = [slots.of(&secret, ARN), slots.of(&secret, REPLICA_ARN)];
        let allow = |sid: &str, action: Value, resource: Value, condition: Option<Value>| {
            let mut one =
                json!({"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource});
            if let Some(condition) = condition {
                one["Condition"] = condition;
            }
            one
        };
        let here = json!({"StringEquals": {"aws:RequestedRegion": regions}});
        let variables = self.variables_key(Name::Monitor, &regions, &mut slots);
        let document = json!({
            "Version": "2012-10-17",
            "Statement": [
                self.logs(Name::Monitor, &regions),
                variables,
                allow("Probe", json!("lambda:InvokeFunction"),
                    json!(self.everywhere("lambda", &format!("function:{}", Name::Probe.of(suffix)))), None),
                allow("LookAtInstances", json!("rds:DescribeDBInstances"), json!(Site::ALL.map(instance)), None),
                allow("Promote", json!("rds:PromoteReadReplica"), json!(instance(Site::Dr)), None),
                allow("EndSessions", json!("rds:RebootDBInstance"), json!(instance(Site::Primary)), None),
                // Neither takes a resource.
                allow("Look", json!(["rds:DescribeEvents", "ec2:DescribeSecurityGroups"]), json!("*"),
                    Some(here)),
                allow("Fence", json!(["ec2:RevokeSecurityGroupIngress", "ec2:AuthorizeSecurityGroupIngress"]),
                    json!(groups), None),
                allow("Remember", json!(["dynamodb:Query", "dynamodb:PutItem"]), json!(tables), None),
                allow("LogIn", json!("secretsmanager:GetSecretValue"), json!(secrets), None),
                allow("Keys", json!("kms:Decrypt"), json!(keys),
                    Some(json!({"StringEquals": {"kms:ViaService": services}}))),
                allow("KeysOfTopics", json!("kms:GenerateDataKey*"), json!(keys[..regions.len()]),
                    Some(json!({"StringEquals": {"kms:ViaService": topics}}))),
                allow("Tell", json!("sns:Publish"), json!(self.everywhere("sns", &Name::Topic.of(suffix))), None),
                allow("Measure", json!("cloudwatch:PutMetricData"), json!("*"),
                    Some(json!({"StringEquals": {"cloudwatch:namespace": NAMESPACE}}))),
            ],
        });
        slots.into_text(document.to_string())
    }

    /// What a probe may do: Lambda needs these for its interfaces in the VPC, which have no names before it makes
    /// them. The function itself is denied what Lambda does for it.
    fn probe_permissions(&self) -> Text {
        let regions = Site::ALL.map(|site| self.region(site).to_owned());
        let functions =
            self.everywhere("lambda", &format!("function:{}", Name::Probe.of(&self.spec.suffix)));
        let mut slots = Slots::default();
        let variables = self.variables_key(Name::Probe, &regions, &mut slots);
        let interfaces = [
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
        ];
        let document = json!({
            "Version": "2012-10-17",
            "Statement": [
                self.logs(Name::Probe, &regions),
                variables,
                {
                    "Sid": "Interfaces", "Effect": "Allow", "Action": interfaces, "Resource": "*",
                    "Condition": {"StringEquals": {"aws:RequestedRegion": regions}},
                },
                {
                    "Sid": "NotByItself", "Effect": "Deny", "Action": interfaces, "Resource": "*",
                    "Condition": {"ArnEquals": {"lambda:SourceFunctionArn": functions}},
                },
            ],
        });
        slots.into_text(document.to_string())
    }

    /// What a monitor is told of a site.
    fn told(&self, site: Site, slots: &mut Slots) -> Region {
        let region = self.region(site).to_owned();
        Region {
            instance: instance_name(self.spec, site),
            endpoint: slots.of(&DbInstance::address(&region), ENDPOINT),
            group: slots.of(&SecurityGroup::address(&region), ID),
            probe_group: slots.of(&SecurityGroup::probe(&region), ID),
            region,
        }
    }

    /// What a monitor of a site is told.
    pub(super) fn assignment(&self, site: Site, slots: &mut Slots) -> Assignment {
        let (spec, suffix) = (self.spec, &self.spec.suffix);
        // Its own window, whichever it was born with: what is promoted keeps it.
        let window = match site {
            Site::Primary => spec.backup.window,
            Site::Dr => spec.backup.dr_window(),
        };
        Assignment {
            suffix: suffix.to_string(),
            here: self.told(site, slots),
            there: self.told(site.other(), slots),
            witness: spec.failover.witness_region.clone(),
            ledger: Name::Ledger.of(suffix),
            lease: Name::Lease.of(suffix),
            probe: Name::Probe.of(suffix),
            topic: self.arn("sns", self.region(site), &Name::Topic.of(suffix)),
            login: Name::Probe.of(suffix),
            port: spec.database.port,
            database: spec.database.db_name.clone(),
            retention_days: i32::try_from(spec.backup.retention_days).unwrap_or(i32::MAX),
            backup_window: window.to_string(),
        }
    }

    fn functions(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let limits = &spec.failover;
        let settings = json!(Settings {
            automatic: limits.mode == Mode::Automatic,
            region_detection: limits.region_detection.into(),
            instance_detection: limits.instance_detection.into(),
            max_data_loss: limits.max_data_loss.into(),
        });
        let mut slots = Slots::default();
        let assignment = json!(self.assignment(site, &mut slots)).to_string();
        let assignment = slots.into_text(assignment);
        let variable =
            |field, name, value: Text, argument| Variable { field, name, value, argument };
        let variables = vec![
            variable("function", FUNCTION, MONITOR.into(), ""),
            variable("assignment", ASSIGNMENT, assignment, ARGUMENTS),
            variable("settings", SETTINGS, settings.to_string().into(), ARGUMENTS),
        ];
        let place = Place {
            subnets: self.one_subnet_per_zone(site),
            argument: match site {
                Site::Primary => "primary.subnet_ids",
                Site::Dr => "dr.subnet_ids",
            },
            group: Text::Ref(SecurityGroup::probe(&region), ID),
        };
        let probe = vec![variable("function", FUNCTION, PROBE.into(), "")];
        let looks = "Looks at the databases of";
        self.function(&region, PROBE, Name::Probe, looks, PROBE_SECONDS, probe, Some(place));
        let watches = "Watches, and fails over,";
        self.function(&region, MONITOR, Name::Monitor, watches, MONITOR_SECONDS, variables, None);
    }

    /// A function, with its log group.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn function(
        &mut self,
        region: &str,
        purpose: &str,
        name: Name,
        what: &str,
        timeout: i32,
        variables: Vec<Variable>,
        place: Option<Place>,
    ) {
        let (function, name) = (name, name.of(&self.spec.suffix));
        let key = Text::Ref(KmsKey::address(region), ARN);
        let settings = LogGroup { key: key.clone(), retention_days: LOG_RETENTION };
        let log = LogGroup::address(region, purpose);
        self.add_tagged(log.clone(), region, function_log(&name), settings, &[]);
        let settings = LambdaFunction {
            description: format!("{what} the disaster recovery cluster {}", self.spec.suffix),
            code: self.surroundings.agent.clone(),
            role: Text::Ref(IamRole::address(purpose), ARN),
            key,
            memory: MEMORY,
            timeout,
            variables,
            is_scheduled: place.is_none(),
            place,
            reserved: reservation(self.spec, self.surroundings, region, function),
        };
        let address = LambdaFunction::address(region, purpose);
        self.add_tagged(address, region, name, settings, &[log]);
    }

    /// What runs a function again and again, and what lets it.
    pub(super) fn scheduled(
        &mut self,
        region: &str,
        purpose: &str,
        name: Name,
        rule: EventRule,
        after: &[Address],
    ) {
        self.timer(region, (purpose, name), (purpose, name, "schedule"), rule, after);
    }

    /// The same for a function with several schedules: its purpose and name, then those of this schedule, with
    /// the statement that lets it.
    pub(super) fn timer(
        &mut self,
        region: &str,
        (function, function_name): (&str, Name),
        (purpose, name, statement): (&str, Name, &str),
        rule: EventRule,
        after: &[Address],
    ) {
        let address = EventRule::address(region, purpose);
        let name = name.of(&self.spec.suffix);
        self.add_tagged(address.clone(), region, name, rule, after);
        let settings = LambdaPermission {
            function: function_name.of(&self.spec.suffix),
            source: Text::Ref(address, ARN),
        };
        let mut before = vec![LambdaFunction::address(region, function)];
        let others = after.iter().filter(|one| one.kind() == LambdaPermission::KIND);
        before.extend(others.cloned());
        let address = LambdaPermission::address(region, purpose);
        self.add(address, region, statement.into(), Tags::new(), settings, &before);
    }

    /// Lambda takes sixteen subnets at most; one in each zone is what it takes to survive a zone.
    fn one_subnet_per_zone(&self, site: Site) -> Vec<String> {
        let mut zones = std::collections::BTreeMap::new();
        let subnets = &self.surroundings.network(site).subnets;
        // Where there is no other one, Lambda says so.
        let anywhere = !subnets.iter().any(|one| one.has_lambda);
        for one in subnets.iter().filter(|one| one.has_lambda || anywhere) {
            zones.entry(one.zone.clone()).or_insert_with(|| one.id.clone());
        }
        let mut ids: Vec<String> = zones.into_values().take(16).collect();
        ids.sort();
        ids
    }

    fn database_role(&mut self, region: &str) {
        let spec = self.spec;
        let instance = DbInstance::address(region);
        let settings = DatabaseRole {
            role: ROLE,
            secret: Name::Probe.of(&spec.suffix),
            master: Text::Ref(Secret::address(region, MASTER), ARN),
            probe: Name::Probe.of(&spec.suffix),
            host: Text::Ref(instance.clone(), ENDPOINT),
            instance: Text::Ref(instance, RESOURCE_ID),
            port: spec.database.port,
            database: spec.database.db_name.clone(),
        };
        let after = [
            LambdaFunction::address(region, PROBE),
            SecurityGroupRule::address(region, PROBE),
            Secret::address(region, PROBE),
            Secret::address(region, MASTER),
        ];
        let address = DatabaseRole::address(region, PROBE);
        self.add(address, region, ROLE.into(), Tags::new(), settings, &after);
    }

    /// Nothing is watched before there is a role to look with, and something to write to.
    fn schedule(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let rule = EventRule {
            description: format!("Has the cluster {} watched", spec.suffix),
            schedule: EVERY_MINUTE.into(),
            argument: "",
            target: Text::Ref(LambdaFunction::address(&region, MONITOR), ARN),
            input: json!({"action": "watch"}).to_string(),
        };
        let writer = self.region(Self::writer()).to_owned();
        let after = [
            DatabaseRole::address(&writer, PROBE),
            LambdaFunction::address(&region, PROBE),
            DynamodbTable::address(&region, LEDGER),
            DynamodbTable::address(&spec.failover.witness_region, LEASE),
            SnsTopic::address(&region),
        ];
        self.scheduled(&region, MONITOR, Name::Monitor, rule, &after);
    }

    /// What the monitors tell of themselves. Those that depend on how far a failover has come fall silent
    /// with it, so that a promoted cluster wakes nobody for ever.
    fn agent_alarms(&mut self, site: Site) {
        let region = self.region(site).to_owned();
        let suffix = self.spec.suffix.clone();
        let age = f64::from(self.spec.monitoring.replica_lag_seconds);
        let (above, below) = (Comparison::Above, Comparison::Below);
        let (good, bad) = (Missing::Good, Missing::Bad);
        let lag = "monitoring.replica_lag_seconds";
        let mut rows = vec![
            (
                "monitor-silent",
                "MonitorRuns",
                "Sum",
                below,
                1.0,
                // Silence is told once the two minutes before that are empty as well.
                1,
                bad,
                "",
                format!("Nobody watches in {region}: no monitor has run for about 3 minutes"),
            ),
            (
                "agent-errors",
                "AgentErrors",
                "Sum",
                above,
                0.0,
                3,
                good,
                "",
                format!("A monitor in {region} has failed in each of 3 minutes; its log says why"),
            ),
        ];
        if site != Self::writer() {
            rows.extend([
                ("heartbeat-age", "HeartbeatAge", "Maximum", above, age, 2, good, lag,
                    format!("A failover now would lose more than {age} s of writes, measured by a heartbeat")),
                ("evidence-unknown", "UnknownEvidence", "Minimum", above, 0.0, 3, good, "",
                    "What a failover needs cannot be seen, or nobody vouches for the writer: it would not fail over, or not safely".into()),
                ("failover-withheld", "FailoverWithheld", "Minimum", above, 0.0, 2, good, "",
                    "The writer cannot be reached from here, and something speaks against promoting".into()),
                ("promotion-blocked", "PromotionBlocked", "Maximum", above, 0.0, 1, good, "",
                    "RDS refuses to promote the standby, or has had it in a state for half an hour in which it would".into()),
            ]);
        }
        let after = [EventRule::address(&region, MONITOR)];
        for (what, metric, statistic, comparison, threshold, minutes, missing, argument, text) in
            rows
        {
            let settings = Alarm {
                description: text,
                namespace: NAMESPACE.into(),
                metric: metric.into(),
                dimensions: vec![(DIMENSION.into(), suffix.to_string())],
                statistic,
                comparison,
                threshold,
                argument,
                period: MINUTE,
                periods: minutes,
                bad_periods: minutes,
                missing,
                topic: self.topic(&region),
            };
            self.add_alarm_after(&region, what, settings, &after);
        }
    }
}
