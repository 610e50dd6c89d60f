//! Alarms on metrics, and whom they tell.

use aws_sdk_cloudwatch::{
    primitives::DateTime,
    types::{
        ComparisonOperator, Dimension, Metric, MetricAlarm, MetricDataQuery, MetricStat, ScanBy,
        StateValue, Statistic, Tag,
    },
};

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Tags, Text, Wanted, retag,
};
use crate::aws::ApiError;

/// When an alarm goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Above its threshold.
    Above,
    /// Below it.
    Below,
}

/// What an alarm makes of periods without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They are as good as good ones: what is watched has ended its work.
    Good,
    /// They are as bad as bad ones: silence is what is watched for.
    Bad,
    /// They change nothing.
    Ignored,
    /// The alarm says that it does not know.
    Unknown,
    /// The same, and the topic is told of it: what is watched should not end. Unlike with [`Missing::Bad`], an alarm
    /// that has just been made is no alarm until the first value comes.
    Told,
}

impl Missing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "notBreaching",
            Self::Bad => "breaching",
            Self::Ignored => "ignore",
            Self::Unknown | Self::Told => "missing",
        }
    }

    /// As it is shown.
    fn shown(self) -> String {
        told(self.as_str(), self == Self::Told)
    }
}

/// What is made of missing values, and whether somebody is told once there are none at all.
fn told(treatment: &str, is_told: bool) -> String {
    format!("{treatment}{}", if is_told { ", told" } else { "" })
}

/// An alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// What somebody who is woken by it should know.
    pub description: String,
    /// Of the metric.
    pub namespace: String,
    /// The metric.
    pub metric: String,
    /// What tells the metric's series apart.
    pub dimensions: Vec<(String, String)>,
    /// What is made of a period's values: `Average`, `Maximum`, `Minimum`, `Sum`.
    pub statistic: &'static str,
    /// When it goes off.
    pub comparison: Comparison,
    /// In the metric's unit.
    pub threshold: f64,
    /// The argument that the threshold comes from.
    pub argument: &'static str,
    /// Seconds of a period.
    pub period: i32,
    /// How many of the last periods are looked at.
    pub periods: i32,
    /// How many of them must be bad.
    pub bad_periods: i32,
    /// What periods without data count as.
    pub missing: Missing,
    /// The ARN of the topic that is told, of both changes.
    pub topic: Text,
}

/// Seconds of a period: what RDS's metrics come in.
pub const MINUTE: i32 = 60;
/// Seconds of a period: of what is measured every hour.
pub const HOUR: i32 = 3600;

impl Alarm {
    /// The kind's name.
    pub const KIND: &str = "alarm";

    /// The address of a region's alarm.
    pub fn address(region: &str, what: &str) -> Address {
        Address::with(region, Self::KIND, what)
    }

    fn operator(&self) -> ComparisonOperator {
        match self.comparison {
            Comparison::Above => ComparisonOperator::GreaterThanThreshold,
            Comparison::Below => ComparisonOperator::LessThanThreshold,
        }
    }

    /// Its condition in one text: what Route 53 copies of it, too.
    pub fn condition(&self) -> String {
        Self::condition_of(
            &self.namespace,
            &self.metric,
            self.dimensions.clone(),
            self.statistic,
            self.operator().as_str(),
            self.threshold,
            self.periods,
            self.bad_periods,
            self.period,
        )
    }

    /// A condition in the same words, as AWS has it.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn condition_of(
        namespace: &str,
        metric: &str,
        mut dimensions: Vec<(String, String)>,
        statistic: &str,
        operator: &str,
        threshold: f64,
        periods: i32,
        datapoints: i32,
        period: i32,
    ) -> String {
        dimensions.sort();
        let of: Vec<_> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let sign = match operator {
            "GreaterThanThreshold" => ">",
            "LessThanThreshold" => "<",
            other => other,
        };
        format!(
            "{statistic}({namespace}:{metric}[{}]){sign}{threshold} in {datapoints}/{periods}x{period}s",
            of.join(",")
        )
    }
}

fn seen_condition(one: &MetricAlarm) -> String {
    let dimensions = one.dimensions().iter();
    let dimensions = dimensions.map(|one| {
        (one.name().unwrap_or_default().to_owned(), one.value().unwrap_or_default().to_owned())
    });
    let periods = one.evaluation_periods().unwrap_or_default();
    // In a unit that the metric does not have, an alarm sees nothing.
    let unit = one.unit().map(|unit| format!(" in {}", unit.as_str())).unwrap_or_default();
    let condition = Alarm::condition_of(
        one.namespace().unwrap_or_default(),
        one.metric_name().unwrap_or_default(),
        dimensions.collect(),
        one.statistic().map(Statistic::as_str).unwrap_or_default(),
        one.comparison_operator().map(ComparisonOperator::as_str).unwrap_or_default(),
        one.threshold().unwrap_or_default(),
        periods,
        one.datapoints_to_alarm().unwrap_or(periods),
        one.period().unwrap_or_default(),
    );
    condition + &unit
}

/// The most names that DescribeAlarms takes at once.
const NAMES: usize = 100;

/// Of these alarms, those that are in alarm.
///
/// # Errors
/// A call failed.
pub async fn in_alarm(env: &Env, region: &str, names: &[String]) -> Result<Vec<String>, ApiError> {
    let regional = env.region(region);
    let mut found = Vec::new();
    for some in names.chunks(NAMES) {
        let api = regional.api("cloudwatch", "DescribeAlarms");
        let call = || {
            let call = regional.cloudwatch.describe_alarms().set_alarm_names(Some(some.to_vec()));
            call.state_value(StateValue::Alarm).max_records(100).send()
        };
        let answer = env.session.call(api, call).await?;
        let named =
            |one: &aws_sdk_cloudwatch::types::MetricAlarm| one.alarm_name().map(str::to_owned);
        found.extend(answer.metric_alarms().iter().filter_map(named));
    }
    Ok(found)
}

/// The newest values of metrics in a region within the last minutes: maxima of a minute each, in the order in which
/// they are asked for; `None` where nothing was published.
///
/// # Errors
/// The call failed.
pub async fn newest(
    env: &Env,
    region: &str,
    metrics: &[(&str, &str, (&str, &str))],
) -> Result<Vec<Option<f64>>, ApiError> {
    let regional = env.region(region);
    let queries = metrics.iter().enumerate().map(|(index, (namespace, name, dimension))| {
        let dimension = Dimension::builder().name(dimension.0).value(dimension.1).build();
        let metric =
            Metric::builder().namespace(*namespace).metric_name(*name).dimensions(dimension);
        let stat =
            MetricStat::builder().metric(metric.build()).period(MINUTE).stat("Maximum").build();
        MetricDataQuery::builder().id(format!("m{index}")).metric_stat(stat).build()
    });
    let queries: Vec<_> = queries.collect();
    let end = DateTime::from(env.session.clock.now());
    let start = DateTime::from_secs(end.secs() - RECENT);
    let api = regional.api("cloudwatch", "GetMetricData");
    let call = || {
        let call =
            regional.cloudwatch.get_metric_data().set_metric_data_queries(Some(queries.clone()));
        call.start_time(start).end_time(end).scan_by(ScanBy::TimestampDescending).send()
    };
    let answer = env.session.call(api, call).await?;
    let value = |index: usize| {
        let id = format!("m{index}");
        let one = answer.metric_data_results().iter().find(|one| one.id() == Some(&*id))?;
        one.values().first().copied()
    };
    Ok((0..metrics.len()).map(value).collect())
}

/// How old the newest value of a metric may be, in seconds: RDS and the monitors publish one each minute, late by a
/// minute or two.
const RECENT: i64 = 300;

async fn tags_of(env: &Env, region: &str, arn: &str, wanted: &Tags) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let ask = || async move {
        let api = regional.api("cloudwatch", "ListTagsForResource");
        let call = || regional.cloudwatch.list_tags_for_resource().resource_arn(arn).send();
        let answer = env.session.call(api, call).await?;
        let pairs = answer.tags().iter();
        Ok(pairs.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect())
    };
    env.tags_of(region, arn, Some(wanted), ask).await
}

fn tags(all: &Tags) -> Vec<Tag> {
    all.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

impl Primitive for Alarm {
    const KIND: &'static str = Alarm::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("condition", self.condition()).from(self.argument),
            Field::new("missing", self.missing.shown()),
            Field::new("notifies", self.topic.clone()),
            Field::new("enabled", "true"),
            Field::new("description", &*self.description).digest(),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let regional = env.region(region);
        let mut found = Vec::new();
        for some in wanted.chunks(NAMES) {
            let names: Vec<String> = some.iter().map(|one| one.name.clone()).collect();
            let api = regional.api("cloudwatch", "DescribeAlarms");
            let call = || {
                let call =
                    regional.cloudwatch.describe_alarms().set_alarm_names(Some(names.clone()));
                call.max_records(100).send()
            };
            let answer = env.session.call(api, call).await?;
            for one in answer.metric_alarms() {
                let name = one.alarm_name().unwrap_or_default();
                let Some(wanted) = some.iter().find(|wanted| wanted.name == name) else { continue };
                let arn = one.alarm_arn().unwrap_or_default();
                let tags = tags_of(env, region, arn, &wanted.tags).await?;
                // All lists hold the topic and nothing else, or what is wrong with them shows.
                let list = |all: &[String]| all.join(",");
                let (bad, good) = (list(one.alarm_actions()), list(one.ok_actions()));
                let silent = list(one.insufficient_data_actions());
                let is_told = !silent.is_empty();
                let notifies = if is_told && silent != bad {
                    format!("{bad} / {good} / {silent}")
                } else if bad != good {
                    format!("{bad} / {good}")
                } else {
                    bad
                };
                let treatment = one.treat_missing_data().unwrap_or("missing");
                found.push(
                    Observation::new(wanted.address.clone(), region, name)
                        .with("condition", seen_condition(one))
                        .with("missing", told(treatment, is_told))
                        .with("notifies", notifies)
                        .with("enabled", one.actions_enabled().unwrap_or(false).to_string())
                        .with("description", one.alarm_description().unwrap_or_default())
                        .output(ARN, arn)
                        .tagged(tags, env),
                );
            }
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        put(env, wanted).await?;
        let (partition, account) = (&env.scope.partition, &env.scope.account);
        let arn =
            format!("arn:{partition}:cloudwatch:{}:{account}:alarm:{}", wanted.region, wanted.name);
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.iter().any(|one| *one != "tags") {
            put(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            let (set, gone) = retag(&found.tags, &wanted.tags);
            let regional = env.region(&wanted.region);
            if !set.is_empty() {
                let api = regional.api("cloudwatch", "TagResource");
                let set = tags(&set);
                let call = || {
                    let call = regional.cloudwatch.tag_resource().resource_arn(&arn);
                    call.set_tags(Some(set.clone())).send()
                };
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("cloudwatch", "UntagResource");
                let call = || {
                    let call = regional.cloudwatch.untag_resource().resource_arn(&arn);
                    call.set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("cloudwatch", "DeleteAlarms");
        let call = || regional.cloudwatch.delete_alarms().alarm_names(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}

/// Makes or changes it: the same call. Tags count at the making only.
async fn put(env: &Env, wanted: &Wanted<Alarm>) -> Result<(), Failure> {
    let settings = &wanted.settings;
    let topic = env.resolve(&settings.topic)?;
    let dimension =
        |(name, value): &(String, String)| Dimension::builder().name(name).value(value).build();
    let dimensions: Vec<_> = settings.dimensions.iter().map(dimension).collect();
    let regional = env.region(&wanted.region);
    let api = regional.api("cloudwatch", "PutMetricAlarm");
    let call = || {
        let call = regional.cloudwatch.put_metric_alarm().alarm_name(&wanted.name);
        let call = call.alarm_description(&settings.description).actions_enabled(true);
        let call = call.alarm_actions(&topic).ok_actions(&topic);
        let call = call.namespace(&settings.namespace).metric_name(&settings.metric);
        let call = call.set_dimensions(Some(dimensions.clone()));
        let call = call.statistic(Statistic::from(settings.statistic)).period(settings.period);
        let call = call.evaluation_periods(settings.periods);
        let call = call.datapoints_to_alarm(settings.bad_periods).threshold(settings.threshold);
        let call = call.comparison_operator(settings.operator());
        let call = call.treat_missing_data(settings.missing.as_str());
        let silence = (settings.missing == Missing::Told).then(|| vec![topic.clone()]);
        let call = call.set_insufficient_data_actions(silence);
        call.set_tags(Some(tags(&wanted.tags))).send()
    };
    env.session.call(api, call).await?;
    Ok(())
}
