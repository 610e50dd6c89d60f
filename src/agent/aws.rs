//! The monitor's surface on AWS. Every call is made once and waited for shortly: what does not answer is
//! evidence, and the next look comes soon.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, PrefixListId, UserIdGroupPair};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_rds::types::{DbInstance, SourceType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    Fault, Instance, InstanceRole, Intent, Lease, Ledger, Metric, Probed, Side, Surface, Written,
    probe::{Answer, Login, Place, Question},
};
pub use crate::contract::{Assignment, Region};
use crate::{
    aws::{ApiError, Aws, ErrorClass, Regional, Session},
    cluster::{failover::Phase, objectives::CONNECT},
    contract::{CLUSTER, DESTROYING, DIMENSION, HOLD, INTENT, ITEM, LEASE, LEDGER, NAMESPACE},
};

/// How long an answer of AWS is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// The same for what changes an instance: not knowing whether it was taken costs more than waiting.
pub(super) const ACTION: Duration = Duration::from_secs(10);
/// How long an answer of the probe is waited for: both of its connections, and its own start.
const PROBE: Duration = Duration::from_secs(CONNECT as u64 + 3);
/// How far back a failover of zones is looked for, in minutes.
const ZONE_MINUTES: i32 = 15;

/// The monitor's surface on AWS.
pub struct AwsSurface {
    aws: Arc<Aws>,
    pub(super) session: Session,
    pub(super) assignment: Assignment,
    /// Fetched at the first look, and then kept: without it, the other evidence counts all the same.
    login: OnceCell<Login>,
}

pub(super) fn fault(error: &ApiError) -> Fault {
    // Without AWS's id of the request, so that what repeats itself reads the same.
    let text = || format!("{}: {}", error.api, short(&error.message));
    match (error.class, &error.code) {
        (ErrorClass::Transient, None) => Fault::Silent,
        (ErrorClass::Transient, Some(_)) => Fault::Failing(text()),
        (ErrorClass::Throttled | ErrorClass::Credentials, _) => Fault::NotNow(text()),
        _ => Fault::Refused(text()),
    }
}

fn unusable(what: &str) -> Fault {
    Fault::Failing(format!("{what} cannot be read"))
}

/// As much of AWS's words as is of use, and goes into a ledger beside the rest.
fn short(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// An instance by RDS's word.
pub(super) fn shown(one: &DbInstance) -> Instance {
    Instance {
        role: match one.read_replica_source_db_instance_identifier() {
            Some(_) => InstanceRole::Replica,
            None => InstanceRole::Writer,
        },
        status: short(one.db_instance_status().unwrap_or_default()),
        zone: one.availability_zone().map(short),
    }
}

/// A rule of a security group, as it is kept in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    protocol: String,
    from: i32,
    to: i32,
    source: String,
    description: Option<String>,
}

impl Rule {
    /// Whether it is one that EC2 could have: sources and descriptions have their forms and lengths.
    fn is_sound(&self) -> bool {
        let is_id = |text: &str| {
            let rest = text.strip_prefix("sg-").or_else(|| text.strip_prefix("pl-"));
            rest.is_some_and(|rest| {
                rest.len() <= 32 && rest.bytes().all(|one| one.is_ascii_alphanumeric())
            })
        };
        let is_source = is_id(&self.source) || self.source.parse::<ipnet::IpNet>().is_ok();
        let text = self.description.as_deref().unwrap_or_default();
        is_source && self.protocol.len() <= 16 && text.chars().count() <= 255
    }

    fn permission(&self) -> IpPermission {
        let builder = IpPermission::builder().ip_protocol(&self.protocol);
        let builder = builder.from_port(self.from).to_port(self.to);
        let text = self.description.clone();
        if self.source.starts_with("sg-") {
            let pair = UserIdGroupPair::builder().group_id(&self.source).set_description(text);
            builder.user_id_group_pairs(pair.build()).build()
        } else if self.source.starts_with("pl-") {
            let list = PrefixListId::builder().prefix_list_id(&self.source).set_description(text);
            builder.prefix_list_ids(list.build()).build()
        } else if self.source.contains(':') {
            let range = Ipv6Range::builder().cidr_ipv6(&self.source).set_description(text);
            builder.ipv6_ranges(range.build()).build()
        } else {
            let range = IpRange::builder().cidr_ip(&self.source).set_description(text);
            builder.ip_ranges(range.build()).build()
        }
    }
}

/// The single rules of what EC2 lists together.
fn rules_of(permission: &IpPermission) -> Vec<Rule> {
    let rule = |source: Option<&str>, description: Option<&str>| Rule {
        protocol: permission.ip_protocol().unwrap_or("-1").to_owned(),
        from: permission.from_port().unwrap_or(-1),
        to: permission.to_port().unwrap_or(-1),
        source: source.unwrap_or_default().to_owned(),
        description: description.map(str::to_owned),
    };
    let ranges = permission.ip_ranges().iter().map(|one| rule(one.cidr_ip(), one.description()));
    let groups = permission.user_id_group_pairs().iter();
    let groups = groups.map(|one| rule(one.group_id(), one.description()));
    let wide = permission.ipv6_ranges().iter().map(|one| rule(one.cidr_ipv6(), one.description()));
    let lists = permission.prefix_list_ids().iter();
    let lists = lists.map(|one| rule(one.prefix_list_id(), one.description()));
    ranges.chain(groups).chain(wide).chain(lists).collect()
}

impl AwsSurface {
    /// For one run.
    pub fn new(aws: Arc<Aws>, session: Session, assignment: Assignment) -> Self {
        Self { aws, session, assignment, login: OnceCell::new() }
    }

    async fn login(&self) -> Result<Login, Fault> {
        let fetch = || async {
            let regional = self.regional(Side::Here);
            let api = regional.api("secretsmanager", "GetSecretValue");
            let call = regional.secrets.get_secret_value().secret_id(&self.assignment.login).send();
            let answer =
                self.session.attempt(api, ANSWER, call).await.map_err(|error| fault(&error))?;
            serde_json::from_str(answer.secret_string().unwrap_or_default())
                .map_err(|_| unusable("the probe's login"))
        };
        self.login.get_or_try_init(fetch).await.cloned()
    }

    fn region(&self, side: Side) -> &Region {
        match side {
            Side::Here => &self.assignment.here,
            Side::There => &self.assignment.there,
        }
    }

    pub(super) fn regional(&self, side: Side) -> Arc<Regional> {
        self.aws.region(&self.region(side).region)
    }

    pub(super) fn place(&self, side: Side) -> Place {
        Place { host: self.region(side).endpoint.clone(), port: self.assignment.port }
    }

    /// Has the own region's probe look at two databases.
    pub(super) async fn look(&self, here: Place, there: Place) -> Result<Probed, Fault> {
        let (database, login) = (self.assignment.database.clone(), self.login().await?);
        match self.ask(&Question::Look { here, there, database, login }).await? {
            Answer::Looked(probed) => Ok(probed),
            Answer::Done | Answer::Failed(_) => Err(unusable("the probe's answer")),
        }
    }

    /// Takes permissions of a region's database away.
    async fn take_away(&self, side: Side, what: Vec<IpPermission>) -> Result<(), ApiError> {
        let (regional, region) = (self.regional(side), self.region(side));
        let api = regional.api("ec2", "RevokeSecurityGroupIngress");
        let call = regional.ec2.revoke_security_group_ingress().group_id(&region.group);
        let call = call.set_ip_permissions(Some(what)).send();
        self.session.attempt(api, ANSWER, call).await.map(|_| ())
    }

    async fn ask(&self, question: &Question) -> Result<Answer, Fault> {
        let regional = self.regional(Side::Here);
        let api = regional.api("lambda", "Invoke");
        let payload = serde_json::to_vec(question).map_err(|_| unusable("the question"))?;
        let call = regional.lambda.invoke().function_name(&self.assignment.probe);
        let call = call.payload(Blob::new(payload)).send();
        let answer = self.session.attempt(api, PROBE, call).await.map_err(|error| fault(&error))?;
        let body = answer.payload().map(|blob| blob.as_ref()).unwrap_or_default();
        if answer.function_error().is_some() {
            return Err(Fault::Failing(String::from_utf8_lossy(body).into_owned()));
        }
        serde_json::from_slice(body).map_err(|_| unusable("the probe's answer"))
    }

    async fn items(&self, region: &str, table: &str) -> Result<Items, Fault> {
        let suffix = &self.assignment.suffix;
        items(&self.aws, &self.session, region, table, suffix).await.map_err(|error| fault(&error))
    }

    async fn put(
        &self,
        region: &str,
        table: &str,
        name: &str,
        members: Vec<(&str, AttributeValue)>,
        condition: Option<Vec<(&str, AttributeValue)>>,
    ) -> Result<Written, Fault> {
        let regional = self.aws.region(region);
        let api = regional.api("dynamodb", "PutItem");
        let mut call = regional.dynamodb.put_item().table_name(table);
        call = call.item(CLUSTER, AttributeValue::S(self.assignment.suffix.clone()));
        call = call.item(ITEM, AttributeValue::S(name.to_owned()));
        for (member, value) in members {
            call = call.item(member, value);
        }
        let mut clauses = Vec::new();
        for (index, (member, value)) in condition.iter().flatten().enumerate() {
            clauses.push(format!("#k{index} = :v{index}"));
            call = call.expression_attribute_names(format!("#k{index}"), *member);
            call = call.expression_attribute_values(format!(":v{index}"), value.clone());
        }
        if condition.is_none() {
            clauses.push("attribute_not_exists(#i)".into());
            call = call.expression_attribute_names("#i", ITEM);
        }
        let call = call.condition_expression(clauses.join(" AND ")).send();
        match self.session.attempt(api, ANSWER, call).await {
            Ok(_) => Ok(Written::Done),
            Err(error) if error.has_code("ConditionalCheckFailedException") => {
                Ok(Written::Conflict)
            }
            Err(error) => Err(fault(&error)),
        }
    }

    /// What the own region's ledger holds.
    pub(super) async fn own_items(&self) -> Result<Items, Fault> {
        self.items(&self.assignment.here.region, &self.assignment.ledger).await
    }

    /// Writes an item of the own ledger, if its version is still `expected`.
    pub(super) async fn write_body(
        &self,
        name: &'static str,
        expected: u64,
        version: u64,
        body: &impl Serialize,
        more: &[(&str, AttributeValue)],
    ) -> Result<Written, Fault> {
        let body = serde_json::to_string(body).map_err(|_| unusable(name))?;
        let mut members = vec![("version", n(version)), ("body", AttributeValue::S(body))];
        members.extend_from_slice(more);
        let condition = (expected > 0).then(|| vec![("version", n(expected))]);
        let region = self.assignment.here.region.clone();
        self.put(&region, &self.assignment.ledger, name, members, condition).await
    }

    fn now_time(&self) -> SystemTime {
        self.session.clock.now()
    }
}

/// Items of a table, each by its own key.
pub(super) type Items = HashMap<String, HashMap<String, AttributeValue>>;

async fn items(
    aws: &Aws,
    session: &Session,
    region: &str,
    table: &str,
    suffix: &str,
) -> Result<Items, ApiError> {
    let regional = aws.region(region);
    let api = regional.api("dynamodb", "Query");
    let call = regional
        .dynamodb
        .query()
        .table_name(table)
        .key_condition_expression("#c = :c")
        .expression_attribute_names("#c", CLUSTER)
        .expression_attribute_values(":c", AttributeValue::S(suffix.to_owned()))
        .consistent_read(true)
        .send();
    let answer = session.attempt(api, ANSWER, call).await?;
    let named = answer.items.unwrap_or_default().into_iter();
    Ok(named.filter_map(|item| Some((text(&item, ITEM)?, item))).collect())
}

/// Whether a region's ledger says that there is nothing to be done besides a failover: the cluster is being
/// removed, or has failed over.
pub(super) async fn rests(
    aws: &Aws,
    session: &Session,
    region: &str,
    table: &str,
    suffix: &str,
) -> Result<bool, ApiError> {
    let items = items(aws, session, region, table, suffix).await?;
    let intent = items.get(INTENT).map(intent_in).unwrap_or_default();
    let body = items.get(LEDGER).and_then(|item| text(item, "body"));
    let ledger: Ledger = body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default();
    Ok(intent.destroying || ledger.phase != Phase::Normal)
}

/// What an item of a ledger holds; as in the beginning where there is none yet.
pub(super) fn body_in<T>(items: &Items, name: &'static str) -> Result<T, Fault>
where
    T: Default + serde::de::DeserializeOwned,
{
    let Some(item) = items.get(name) else { return Ok(T::default()) };
    let body = text(item, "body").unwrap_or_default();
    serde_json::from_str(&body).map_err(|_| unusable(name))
}

/// What operators ask for.
pub(super) fn intent_in(item: &HashMap<String, AttributeValue>) -> Intent {
    Intent {
        destroying: item.get(DESTROYING).and_then(|one| one.as_bool().ok()) == Some(&true),
        hold_until: number(item, HOLD),
    }
}

fn text(item: &HashMap<String, AttributeValue>, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

fn number(item: &HashMap<String, AttributeValue>, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn n(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

impl Surface for AwsSurface {
    fn now(&self) -> u64 {
        let since = self.now_time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    async fn sleep_until(&self, moment: u64) {
        let left = moment.saturating_sub(self.now());
        self.session.clock.sleep(Duration::from_millis(left)).await;
    }

    async fn probe(&self) -> Result<Probed, Fault> {
        self.look(self.place(Side::Here), self.place(Side::There)).await
    }

    async fn instance(&self, side: Side) -> Result<Option<Instance>, Fault> {
        let regional = self.regional(side);
        let api = regional.api("rds", "DescribeDBInstances");
        let call = regional.rds.describe_db_instances();
        let call = call.db_instance_identifier(&self.region(side).instance).send();
        let answer = match self.session.attempt(api, ANSWER, call).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(fault(&error)),
        };
        Ok(answer.db_instances().first().map(shown))
    }

    async fn zone_failover(&self, side: Side) -> Result<Option<u64>, Fault> {
        let regional = self.regional(side);
        let api = regional.api("rds", "DescribeEvents");
        let call = regional.rds.describe_events().source_type(SourceType::DbInstance);
        let call = call.source_identifier(&self.region(side).instance);
        let call = call.duration(ZONE_MINUTES).event_categories("failover").send();
        let answer =
            self.session.attempt(api, ANSWER, call).await.map_err(|error| fault(&error))?;
        let dates = answer.events().iter().filter_map(|event| event.date());
        let newest = dates.filter_map(|date| date.to_millis().ok()).max();
        let now = i64::try_from(self.now()).unwrap_or(i64::MAX);
        Ok(newest.and_then(|at| u64::try_from(now.saturating_sub(at)).ok()))
    }

    async fn ledger(&self, side: Side) -> Result<(Ledger, Intent), Fault> {
        let region = self.region(side).region.clone();
        let items = self.items(&region, &self.assignment.ledger).await?;
        let ledger = body_in(&items, LEDGER)?;
        let intent = items.get(INTENT).map(intent_in).unwrap_or_default();
        Ok((ledger, intent))
    }

    async fn write_ledger(&self, expected: u64, ledger: &Ledger) -> Result<Written, Fault> {
        // Beside the rest, for runbooks: they ask by the one, and wait for the other.
        let phase = ("phase", AttributeValue::S(ledger.phase.as_str().to_owned()));
        let beside = [("epoch", n(ledger.epoch)), phase];
        self.write_body(LEDGER, expected, ledger.version, ledger, &beside).await
    }

    async fn lease(&self) -> Result<Option<Lease>, Fault> {
        let items = self.items(&self.assignment.witness, &self.assignment.lease).await?;
        let Some(item) = items.get(LEASE) else { return Ok(None) };
        let lease = || {
            Some(Lease {
                epoch: number(item, "epoch")?,
                holder: text(item, "holder")?,
                counter: number(item, "beat")?,
                acknowledged: number(item, "acknowledged").unwrap_or(0),
            })
        };
        let sides = [Side::Here, Side::There].map(|side| self.region(side).region.as_str());
        // A holder that is neither region says nothing of who has taken over.
        let lease = lease().filter(|lease| sides.contains(&lease.holder.as_str()));
        lease.map(Some).ok_or_else(|| unusable("the lease"))
    }

    async fn write_lease(&self, seen: Option<&Lease>, new: &Lease) -> Result<Written, Fault> {
        // What it is told apart by: the rest goes with these.
        let key = |lease: &Lease| {
            vec![
                ("epoch", n(lease.epoch)),
                ("holder", AttributeValue::S(lease.holder.clone())),
                ("beat", n(lease.counter)),
            ]
        };
        let (witness, table) = (self.assignment.witness.clone(), &self.assignment.lease);
        let mut members = key(new);
        members.push(("acknowledged", n(new.acknowledged)));
        self.put(&witness, table, LEASE, members, seen.map(key)).await
    }

    async fn rules(&self, side: Side) -> Result<Vec<String>, Fault> {
        let (regional, region) = (self.regional(side), self.region(side));
        let api = regional.api("ec2", "DescribeSecurityGroups");
        let call = regional.ec2.describe_security_groups().group_ids(&region.group).send();
        let answer =
            self.session.attempt(api, ANSWER, call).await.map_err(|error| fault(&error))?;
        let groups = answer.security_groups().iter();
        let all = groups.flat_map(|group| group.ip_permissions()).flat_map(rules_of);
        let open: Vec<_> = all.filter(|rule| rule.source != region.probe_group).collect();
        // What is no rule cannot be put back, nor kept in the ledger with those that are.
        if !open.iter().all(Rule::is_sound) {
            return Err(unusable("the security group's rules"));
        }
        Ok(open.iter().filter_map(|rule| serde_json::to_string(rule).ok()).collect())
    }

    async fn revoke(&self, side: Side, rules: &[String]) -> Result<(), Fault> {
        let all: Vec<_> = parsed(rules).map(|rule| rule.permission()).collect();
        if all.is_empty() {
            return Ok(());
        }
        // Everybody at once: a fence is waited for. EC2 takes all of them or none, but in a default VPC.
        match self.take_away(side, all.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::Refused) => {}
            Err(error) => return Err(fault(&error)),
        }
        // One that is gone, or that EC2 refuses, must not keep the door open for the others.
        let mut result = Ok(());
        for one in all {
            match self.take_away(side, vec![one]).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) if error.class == ErrorClass::Refused => result = Err(fault(&error)),
                Err(error) => return Err(fault(&error)),
            }
        }
        result
    }

    async fn restore(&self, side: Side, rules: &[String]) -> Result<Vec<String>, Fault> {
        let (regional, region) = (self.regional(side), self.region(side));
        let mut lost = Vec::new();
        for rule in parsed(rules) {
            let api = regional.api("ec2", "AuthorizeSecurityGroupIngress");
            let call = regional.ec2.authorize_security_group_ingress().group_id(&region.group);
            let call = call.ip_permissions(rule.permission()).send();
            match self.session.attempt(api, ANSWER, call).await {
                Ok(_) => {}
                Err(error) if error.class == ErrorClass::AlreadyExists => {}
                // Trying again would not help, and would keep out everybody whom the rules after it let in.
                Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::Refused) => {
                    lost.push(format!("{} ({})", rule.source, short(&error.message)));
                }
                Err(error) => return Err(fault(&error)),
            }
        }
        Ok(lost)
    }

    async fn end_sessions(&self) -> Result<(), Fault> {
        let question = Question::EndSessions {
            here: self.place(Side::Here),
            database: self.assignment.database.clone(),
            login: self.login().await?,
        };
        match self.ask(&question).await? {
            Answer::Failed(why) => Err(Fault::Refused(why)),
            Answer::Done | Answer::Looked(_) => Ok(()),
        }
    }

    async fn reboot_there(&self) -> Result<(), Fault> {
        let regional = self.regional(Side::There);
        let api = regional.api("rds", "RebootDBInstance");
        let call = regional.rds.reboot_db_instance();
        let call = call.db_instance_identifier(&self.assignment.there.instance).send();
        let answer = self.session.attempt(api, ACTION, call).await;
        answer.map(|_| ()).map_err(|error| fault(&error))
    }

    async fn promote(&self) -> Result<(), Fault> {
        let regional = self.regional(Side::Here);
        let api = regional.api("rds", "PromoteReadReplica");
        let call = regional.rds.promote_read_replica();
        let call = call.db_instance_identifier(&self.assignment.here.instance);
        let call = call.backup_retention_period(self.assignment.retention_days);
        let call = call.preferred_backup_window(&self.assignment.backup_window).send();
        let answer = self.session.attempt(api, ACTION, call).await;
        answer.map(|_| ()).map_err(|error| fault(&error))
    }

    async fn publish(&self, metrics: &[Metric]) -> Result<(), Fault> {
        let regional = self.regional(Side::Here);
        let api = regional.api("cloudwatch", "PutMetricData");
        let dimension = Dimension::builder().name(DIMENSION).value(&self.assignment.suffix).build();
        let datum = |(name, value): &Metric| {
            let builder = MetricDatum::builder().metric_name(*name).value(*value);
            builder.dimensions(dimension.clone()).timestamp(self.now_time().into()).build()
        };
        let data: Vec<_> = metrics.iter().map(datum).collect();
        let call = regional.cloudwatch.put_metric_data().namespace(NAMESPACE);
        let call = call.set_metric_data(Some(data)).send();
        let answer = self.session.attempt(api, ANSWER, call).await;
        answer.map(|_| ()).map_err(|error| fault(&error))
    }

    async fn notify(&self, subject: &str, text: &str) -> Result<(), Fault> {
        let regional = self.regional(Side::Here);
        let api = regional.api("sns", "Publish");
        let message: Value = json!({
            "cluster": self.assignment.suffix, "region": self.assignment.here.region, "text": text,
        });
        let call = regional.sns.publish().topic_arn(&self.assignment.topic);
        let call = call.subject(subject).message(message.to_string()).send();
        let answer = self.session.attempt(api, ANSWER, call).await;
        answer.map(|_| ()).map_err(|error| fault(&error))
    }
}

/// Rules that the ledger kept; what cannot be read is nobody's rule.
fn parsed(rules: &[String]) -> impl Iterator<Item = Rule> {
    rules.iter().filter_map(|rule| serde_json::from_str(rule).ok())
}
