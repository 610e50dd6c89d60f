//! The DNS name that follows the writer: two weighted records, each with a health check on one metric.
//!
//! The second check is the first one inverted, so that they can never be unhealthy together, and both keep
//! their last status without data: nothing but the metric moves the name (failover.md, "Parts").

use super::{Plan, instance_name};
use crate::{
    cluster::{
        names::{alarm, record, zone},
        spec::{Site, Spec},
        surroundings::Surroundings,
    },
    components::{
        Address, Alarm, ENDPOINT, HostedZone, ID, Tags, Text,
        alarm::{Comparison, MINUTE, Missing},
        db_instance::DbInstance,
        dns_record::{DnsRecord, Zone},
        health_check::HealthCheck,
        hosted_zone_association::HostedZoneAssociation,
    },
    contract::{DIMENSION, NAMESPACE},
};

/// The metric that moves the DNS name: 1 while the primary site serves, 0 once the other one does.
pub const PRIMARY_SERVING: &str = "PrimaryServing";
/// The alarm on it, in its address.
const SERVING_ALARM: &str = "primary-serving";
/// The weight of the record that answers as long as its check is healthy. AWS's other weight here is 0: it
/// answers only when no other record is healthy.
const WEIGHT: i64 = 100;

/// The zone that the name is in, and the name. Where a named zone could not be looked at, the name is not
/// known.
pub fn zone_and_name(spec: &Spec, surroundings: &Surroundings) -> (String, Option<String>) {
    let own = zone(&spec.suffix);
    match (&spec.dns.zone_id, &spec.dns.name) {
        (None, None) => (own.clone(), Some(format!("db.{own}"))),
        (None, Some(name)) => {
            let parent = name.split_once('.').map_or(name.as_str(), |(_, parent)| parent);
            (parent.to_owned(), Some(name.clone()))
        }
        (Some(id), Some(name)) => (id.clone(), Some(name.clone())),
        (Some(id), None) => {
            let zone = surroundings.zone_name.as_ref();
            (id.clone(), zone.map(|zone| format!("trading-db-{}.{zone}", spec.suffix)))
        }
    }
}

impl Plan<'_> {
    pub(super) fn dns(&mut self) {
        let spec = self.spec;
        let global = spec.primary.region.clone();
        let (zone_name, name) = zone_and_name(spec, self.surroundings);
        let zone = self.zone(&global, &zone_name);
        let (watcher, serving) = self.serving_alarm();
        for site in Site::ALL {
            let role = site.argument();
            let settings = HealthCheck {
                alarm: serving.clone(),
                alarm_name: alarm(SERVING_ALARM, &spec.suffix),
                alarm_address: watcher.clone(),
                inverted: site != Site::Primary,
            };
            let check_name = record(&format!("{role}-check"), &spec.suffix);
            let check = HealthCheck::address(role);
            self.add_tagged(check.clone(), &global, check_name, settings, &[]);
            let region = self.region(site).to_owned();
            let settings = DnsRecord {
                zone: zone.clone(),
                dns_name: name.clone().unwrap_or_default(),
                target: Text::Ref(DbInstance::address(&region), ENDPOINT),
                instance: instance_name(spec, site),
                weight: if site == Site::Primary { WEIGHT } else { 0 },
                ttl: i64::from(spec.dns.ttl),
                check: Text::Ref(check, ID),
            };
            let address = DnsRecord::address(role);
            let identifier = record(role, &spec.suffix);
            self.add(address, &global, identifier, Tags::new(), settings, &[]);
        }
    }

    /// The cluster's own zone, or the one that is named. Our own is looked for in either case.
    fn zone(&mut self, global: &str, name: &str) -> Zone {
        let spec = self.spec;
        let address = HostedZone::address();
        let settings = HostedZone {
            vpc: spec.primary.vpc_id.clone(),
            vpc_region: spec.primary.region.clone(),
            comment: format!("PostgreSQL disaster recovery cluster {}", spec.suffix),
        };
        let own_name =
            if spec.dns.zone_id.is_some() { zone(&spec.suffix) } else { name.to_owned() };
        self.add_tagged(address.clone(), global, own_name.clone(), settings, &[]);
        let mut others = vec![(spec.dr.vpc_id.clone(), spec.dr.region.clone(), "dr.vpc_id")];
        for (vpc, region) in &self.surroundings.additional_vpcs {
            others.push((vpc.clone(), region.clone(), "dns.additional_vpc_ids"));
        }
        let mut associations = Vec::new();
        for (vpc, vpc_region, argument) in others {
            let settings = HostedZoneAssociation {
                zone_name: own_name.clone(),
                first_vpc: spec.primary.vpc_id.clone(),
                vpc: vpc.clone(),
                vpc_region,
                argument,
            };
            let place = HostedZoneAssociation::address(&vpc);
            associations.push(place.clone());
            let after = std::slice::from_ref(&address);
            self.add(place, global, format!("{own_name} in {vpc}"), Tags::new(), settings, after);
        }
        match &spec.dns.zone_id {
            None => Zone::Own(own_name, address),
            Some(id) => {
                for place in associations.iter().chain([&address]) {
                    self.rest(place);
                }
                Zone::Given(id.clone())
            }
        }
    }

    /// The alarm on the metric that moves the name, in the region that stands by: there is whoever decides.
    fn serving_alarm(&mut self) -> (Address, Alarm) {
        let spec = self.spec;
        let region = self.region(Self::writer().other()).to_owned();
        let settings = Alarm {
            description: format!(
                "The cluster {} has failed over: {} serves, and its DNS name leads there.",
                spec.suffix,
                instance_name(spec, Self::writer().other()),
            ),
            namespace: NAMESPACE.into(),
            metric: PRIMARY_SERVING.into(),
            dimensions: vec![(DIMENSION.into(), spec.suffix.to_string())],
            statistic: "Minimum",
            comparison: Comparison::Below,
            threshold: 1.0,
            argument: "",
            period: MINUTE,
            periods: 1,
            bad_periods: 1,
            missing: Missing::Ignored,
            topic: self.topic(&region),
        };
        let address = self.add_alarm(&region, SERVING_ALARM, settings.clone());
        (address, settings)
    }
}
