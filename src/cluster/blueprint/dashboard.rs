//! The dashboard of a region: what is wrong, then what moves, left to right and from urgent to slow.

use serde_json::{Value, json};

use super::{Plan, dns::PRIMARY_SERVING, instance_name};
use crate::{
    cluster::{names::dashboard, spec::Site},
    components::{Address, Alarm, Tags, dashboard::Dashboard},
    contract::{DIMENSION, NAMESPACE},
};

/// CloudWatch's grid is 24 wide.
const WIDTH: u32 = 24;
const HALF: u32 = WIDTH / 2;
const HEIGHT: u32 = 6;

/// Places widgets one after the other, row by row.
#[derive(Default)]
struct Grid {
    widgets: Vec<Value>,
    x: u32,
    y: u32,
    tallest: u32,
}

impl Grid {
    fn put(&mut self, kind: &str, width: u32, height: u32, properties: &Value) {
        if self.x + width > WIDTH {
            self.x = 0;
            self.y += self.tallest;
            self.tallest = 0;
        }
        self.widgets.push(json!({
            "type": kind, "x": self.x, "y": self.y, "width": width, "height": height,
            "properties": properties,
        }));
        self.x += width;
        self.tallest = self.tallest.max(height);
    }

    fn graph(&mut self, region: &str, title: &str, metrics: &Value, statistic: &str) {
        let properties = json!({
            "title": title, "region": region, "view": "timeSeries", "period": 60, "stat": statistic,
            "metrics": metrics,
        });
        self.put("metric", HALF, HEIGHT, &properties);
    }
}

/// What tells this cluster's dashboard from any other.
fn marker(suffix: &str) -> String {
    format!("trading_dr_cluster `{suffix}`")
}

impl Plan<'_> {
    pub(super) fn dashboard(&mut self, site: Site) {
        let (spec, region) = (self.spec, self.region(site).to_owned());
        let instance = instance_name(spec, site);
        let other = self.region(site.other()).to_owned();
        let mut grid = Grid::default();
        let text = format!(
            "# {} in {region}\n`{instance}`, the other site is in {other}. Alarms first, then what may \
             become one.",
            marker(spec.suffix.as_str()),
        );
        grid.put("text", WIDTH, 2, &json!({"markdown": text}));
        let (partition, account) = (&self.surroundings.partition, &self.surroundings.account);
        let of_region =
            |address: &Address| address.kind() == Alarm::KIND && address.place() == region;
        let alarms = self.all.values().filter(|one| of_region(&one.address));
        let arns: Vec<_> = alarms
            .map(|one| format!("arn:{partition}:cloudwatch:{region}:{account}:alarm:{}", one.name))
            .collect();
        grid.put("alarm", WIDTH, 3, &json!({"title": "Alarms", "alarms": arns}));
        let rds = |name: &str| json!(["AWS/RDS", name, "DBInstanceIdentifier", instance]);
        if site == Self::writer() {
            let logs = json!([rds("OldestReplicationSlotLag"), rds("TransactionLogsDiskUsage")]);
            grid.graph(&region, "Held back for the replica, bytes", &logs, "Maximum");
        } else {
            let lag = json!([rds("ReplicaLag")]);
            grid.graph(&region, "Replica lag, seconds", &lag, "Maximum");
            let serving = json!([[NAMESPACE, PRIMARY_SERVING, DIMENSION, spec.suffix.as_str()]]);
            grid.graph(&region, "The primary site serves", &serving, "Minimum");
            let age = json!([[NAMESPACE, "HeartbeatAge", DIMENSION, spec.suffix.as_str()]]);
            grid.graph(&region, "What a failover would lose, seconds", &age, "Maximum");
            let kept =
                ["UnknownEvidence", "FailoverWithheld", "PromotionBlocked", "DrillBlocksPromotion"];
            let kept = kept.map(|name| json!([NAMESPACE, name, DIMENSION, spec.suffix.as_str()]));
            grid.graph(
                &region,
                "What would keep a failover from being done",
                &json!(kept),
                "Maximum",
            );
        }
        grid.graph(&region, "Processors busy, %", &json!([rds("CPUUtilization")]), "Average");
        grid.graph(&region, "Connections", &json!([rds("DatabaseConnections")]), "Maximum");
        grid.graph(&region, "Free storage, bytes", &json!([rds("FreeStorageSpace")]), "Minimum");
        grid.graph(&region, "Freeable memory, bytes", &json!([rds("FreeableMemory")]), "Minimum");
        let runs = json!([[NAMESPACE, "MonitorRuns", DIMENSION, spec.suffix.as_str()]]);
        grid.graph(&region, "Looks of the monitor per minute", &runs, "Sum");
        let operations = json!([rds("ReadIOPS"), rds("WriteIOPS")]);
        grid.graph(&region, "Disk operations per second", &operations, "Average");
        let body = json!({"start": "-PT3H", "widgets": grid.widgets}).to_string();
        let settings = Dashboard { body, marker: marker(spec.suffix.as_str()) };
        let name = dashboard(site.argument(), &spec.suffix);
        self.add(Dashboard::address(&region), &region, name, Tags::new(), settings, &[]);
    }
}
