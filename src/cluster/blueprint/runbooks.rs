//! The runbooks of both regions.

use super::{Plan, instance_name};
use crate::{
    cluster::{
        names::{Name, runbook},
        spec::Site,
    },
    components::ssm_document::SsmDocument,
    runbooks::{Facts, all},
};

impl Plan<'_> {
    pub(super) fn runbooks(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let suffix = &spec.suffix;
        let is_dr = site == Self::writer().other();
        let facts = Facts {
            suffix: suffix.to_string(),
            region: region.clone(),
            instance: instance_name(spec, site),
            other_instance: instance_name(spec, site.other()),
            has_replicated_backups: is_dr && spec.backup.cross_region,
            monitor: Name::Monitor.of(suffix),
            drill: is_dr.then(|| Name::Drill.of(suffix)),
            ledger: Name::Ledger.of(suffix),
            vpc: spec.site(site).vpc_id.clone(),
            security_group: Name::SecurityGroup.of(suffix),
            subnet_group: Name::SubnetGroup.of(suffix),
            parameter_group: Name::ParameterGroup.of(suffix),
        };
        for one in all(&facts) {
            let settings = SsmDocument { content: one.content.to_string() };
            let address = SsmDocument::address(&region, one.purpose);
            self.add_tagged(address, &region, runbook(one.purpose, suffix), settings, &[]);
        }
    }
}
