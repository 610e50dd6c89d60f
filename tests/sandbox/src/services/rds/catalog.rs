//! What RDS sells: versions, instance classes, parameters. Sources: aws-facts 2, the RDS guide's tables.

use serde_json::{Value, json};

use crate::{
    request::{Failure, Reply, Request},
    services::page,
    world::World,
};

/// PostgreSQL versions on sale, oldest first.
pub(super) const VERSIONS: &[&str] =
    &["13.22", "14.17", "14.19", "15.10", "15.12", "15.13", "15.14", "16.8", "16.10", "17.6"];
/// What a bare major version means.
const DEFAULTS: &[(&str, &str)] =
    &[("13", "13.22"), ("14", "14.19"), ("15", "15.14"), ("16", "16.10"), ("17", "17.6")];

/// Instance families and whether us-west-2 has them as well.
const FAMILIES: &[(&str, bool)] = &[
    ("t3", true),
    ("t4g", true),
    ("m5", true),
    ("m6g", true),
    ("m6i", true),
    ("m7g", true),
    ("m7i", true),
    ("r5", true),
    ("r6g", true),
    ("r6i", true),
    ("r7g", true),
    ("r7i", true),
    ("x2g", true),
    // Sold in the first region only: what a preflight must notice.
    ("x2iezn", false),
];
/// Sizes and the memory of the general-purpose families, in GiB.
const SIZES: &[(&str, u64)] = &[
    ("micro", 1),
    ("small", 2),
    ("medium", 4),
    ("large", 8),
    ("xlarge", 16),
    ("2xlarge", 32),
    ("4xlarge", 64),
    ("8xlarge", 128),
    ("12xlarge", 192),
    ("16xlarge", 256),
    ("24xlarge", 384),
];

pub(super) fn resolve_version(given: &str) -> Option<&'static str> {
    let default = DEFAULTS.iter().find(|(major, _)| *major == given).map(|(_, full)| *full);
    default.or_else(|| VERSIONS.iter().copied().find(|one| *one == given))
}

/// A class's memory in bytes, if it is on sale in the region.
pub(super) fn memory(class: &str, region: &str) -> Option<u64> {
    let mut parts = class.strip_prefix("db.")?.split('.');
    let (family, size) = (parts.next()?, parts.next()?);
    let (_, everywhere) = FAMILIES.iter().find(|(name, _)| *name == family)?;
    let (_, gib) = SIZES.iter().find(|(name, _)| *name == size)?;
    let burstable = family.starts_with('t');
    let small = matches!(size, "micro" | "small" | "medium");
    let sold = (*everywhere || region == "us-east-1")
        && (burstable || !small)
        && (!burstable || *gib <= 32);
    let factor = if family.starts_with('r') {
        2
    } else if family.starts_with('x') {
        4
    } else {
        1
    };
    sold.then_some(gib * factor * (1 << 30))
}

/// The authorities that sign servers' certificates.
pub(super) const CERTIFICATES: &[&str] =
    &["rds-ca-rsa2048-g1", "rds-ca-rsa4096-g1", "rds-ca-ecc384-g1"];

pub(super) fn describe_engine_versions(_: &mut World, request: &Request) -> Reply {
    if request.text("Engine").is_some_and(|engine| engine != "postgres") {
        return Ok(json!({"DBEngineVersions": {"DBEngineVersion": []}}));
    }
    let given = request.text("EngineVersion");
    let default_only = request.flag("DefaultOnly").unwrap_or(false);
    let fits = |one: &&&str| match given {
        Some(given) if default_only => resolve_version(given) == Some(**one),
        Some(given) => **one == given || one.split('.').next() == Some(given),
        None => !default_only || resolve_version("15") == Some(**one),
    };
    let items: Vec<_> = VERSIONS
        .iter()
        .filter(fits)
        .map(|version| {
            let major = version.split('.').next().unwrap_or_default();
            json!({
                "Engine": "postgres", "EngineVersion": version, "MajorEngineVersion": major, "Status": "available",
                "DBParameterGroupFamily": format!("postgres{major}"), "SupportsReadReplica": true,
                "SupportedCACertificateIdentifiers": {"member": CERTIFICATES},
                "ExportableLogTypes": {"member": ["postgresql", "upgrade"]},
            })
        })
        .collect();
    Ok(json!({"DBEngineVersions": {"DBEngineVersion": items}}))
}

pub(super) fn describe_orderable(_: &mut World, request: &Request) -> Reply {
    let wanted = request.text("DBInstanceClass");
    let version = request.text("EngineVersion");
    let mut found: Vec<Value> = Vec::new();
    for one in VERSIONS.iter().filter(|one| version.is_none_or(|wanted| wanted == **one)) {
        for (family, _) in FAMILIES {
            for (size, _) in SIZES {
                let class = format!("db.{family}.{size}");
                if wanted.is_some_and(|wanted| wanted != class)
                    || memory(&class, &request.region).is_none()
                {
                    continue;
                }
                found.push(json!({
                    "Engine": "postgres", "EngineVersion": one, "DBInstanceClass": class, "LicenseModel": "postgresql-license",
                    "MultiAZCapable": true, "ReadReplicaCapable": true, "Vpc": true, "SupportsStorageEncryption": true,
                    "StorageType": "gp3", "SupportsEnhancedMonitoring": true, "SupportsPerformanceInsights": true,
                    "MinStorageSize": 20, "MaxStorageSize": 65536,
                }));
            }
        }
    }
    let size = match request.number("MaxRecords") {
        Some(size) if !(20..=1000).contains(&size) => {
            let message =
                format!("Invalid value {size} for MaxRecords. Must be between 20 and 1000");
            return Err(Failure::new("InvalidParameterValue", message));
        }
        size => usize::try_from(size.unwrap_or(100)).unwrap_or(100),
    };
    let (items, next) = page(&found, request.text("Marker"), size);
    Ok(json!({"OrderableDBInstanceOptions": {"OrderableDBInstanceOption": items}, "Marker": next}))
}

/// A parameter of family postgres15.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) is_static: bool,
    pub(super) default: &'static str,
    /// A range, a list of words, or empty for any text.
    pub(super) allowed: &'static str,
}

const fn fixed(name: &'static str, default: &'static str, allowed: &'static str) -> Parameter {
    Parameter { name, is_static: true, default, allowed }
}

const fn dynamic(name: &'static str, default: &'static str, allowed: &'static str) -> Parameter {
    Parameter { name, is_static: false, default, allowed }
}

/// In the order of their names.
pub(super) const PARAMETERS: &[Parameter] = &[
    dynamic("autovacuum", "1", "0,1"),
    fixed("autovacuum_max_workers", "GREATEST({DBInstanceClassMemory/64371566592},3)", "1-262143"),
    dynamic("autovacuum_naptime", "15", "1-2147483"),
    dynamic("checkpoint_completion_target", "0.9", "0-1"),
    dynamic("checkpoint_timeout", "300", "30-3600"),
    dynamic("default_transaction_read_only", "", "0,1"),
    dynamic("effective_cache_size", "{DBInstanceClassMemory/16384}", "1-2147483647"),
    dynamic("hot_standby_feedback", "0", "0,1"),
    dynamic("idle_in_transaction_session_timeout", "86400000", "0-2147483647"),
    dynamic("lock_timeout", "", "0-2147483647"),
    dynamic("log_autovacuum_min_duration", "10000", "-1-2147483647"),
    dynamic("log_checkpoints", "1", "0,1"),
    dynamic("log_connections", "0", "0,1"),
    dynamic("log_disconnections", "0", "0,1"),
    dynamic("log_lock_waits", "0", "0,1"),
    dynamic("log_min_duration_statement", "", "-1-2147483647"),
    dynamic("log_replication_commands", "0", "0,1"),
    dynamic("log_statement", "", "none,ddl,mod,all"),
    dynamic("log_temp_files", "", "-1-2147483647"),
    dynamic(
        "maintenance_work_mem",
        "GREATEST({DBInstanceClassMemory*1024/63963136},65536)",
        "1024-2147483647",
    ),
    fixed("max_connections", "LEAST({DBInstanceClassMemory/9531392},5000)", "6-262143"),
    fixed("max_locks_per_transaction", "64", "10-2147483647"),
    fixed("max_prepared_transactions", "0", "0-262143"),
    fixed("max_replication_slots", "20", "0-262143"),
    dynamic("max_slot_wal_keep_size", "-1", "-1-2147483647"),
    dynamic("max_standby_archive_delay", "30000", "-1-2147483647"),
    dynamic("max_standby_streaming_delay", "30000", "-1-2147483647"),
    fixed("max_wal_senders", "20", "0-262143"),
    dynamic("max_wal_size", "2048", "128-201326592"),
    fixed("max_worker_processes", "GREATEST({DBInstanceClassVCPU*2},8)", "0-262143"),
    dynamic("min_wal_size", "192", "128-201326592"),
    dynamic("password_encryption", "scram-sha-256", "md5,scram-sha-256"),
    fixed("pg_stat_statements.max", "5000", "100-2147483647"),
    dynamic("random_page_cost", "", "0-1.79769e+308"),
    dynamic("rds.force_ssl", "1", "0,1"),
    dynamic("rds.log_retention_period", "4320", "1440-10080"),
    fixed("rds.logical_replication", "0", "0,1"),
    fixed("rds.restrict_password_commands", "0", "0,1"),
    dynamic("recovery_min_apply_delay", "0", "0-86400000"),
    fixed("shared_buffers", "{DBInstanceClassMemory/32768}", "16-1073741823"),
    fixed("shared_preload_libraries", "pg_stat_statements", ""),
    dynamic("statement_timeout", "0", "0-2147483647"),
    dynamic("synchronous_commit", "on", "local,on,off,remote_write,remote_apply"),
    dynamic("tcp_keepalives_count", "2", "0-2147483647"),
    dynamic("tcp_keepalives_idle", "300", "0-2147483647"),
    dynamic("tcp_keepalives_interval", "30", "0-2147483647"),
    dynamic("timezone", "UTC", ""),
    fixed("track_commit_timestamp", "0", "0,1"),
    dynamic("track_io_timing", "1", "0,1"),
    // A word since PostgreSQL 15, and no switch.
    dynamic("wal_compression", "on", "pglz,lz4,zstd,on,off"),
    dynamic("wal_keep_size", "2048", "0-2147483647"),
    dynamic("wal_receiver_status_interval", "", "0-2147483"),
    dynamic("wal_receiver_timeout", "30000", "0-3600000"),
    dynamic("wal_sender_timeout", "30000", "0-3600000"),
    dynamic("work_mem", "", "64-2147483647"),
];

pub(super) fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|one| one.name == name)
}

/// Whether a value is one that the parameter takes. Formulas are computed when they are used.
pub(super) fn allows(parameter: &Parameter, value: &str) -> bool {
    if parameter.allowed.is_empty() || value.contains('{') {
        return true;
    }
    let words: Vec<_> = parameter.allowed.split(',').collect();
    if words.len() > 1 {
        return words.contains(&value);
    }
    let Ok(number) = value.parse::<f64>() else { return false };
    let (sign, rest) =
        parameter.allowed.strip_prefix('-').map_or((1.0, parameter.allowed), |rest| (-1.0, rest));
    let Some((low, high)) = rest.split_once('-') else { return false };
    let (Ok(low), Ok(high)) = (low.parse::<f64>(), high.parse::<f64>()) else { return false };
    (sign * low..=high).contains(&number)
}

/// A parameter's value on a machine with so much memory: a number, or a formula of RDS.
pub(super) fn evaluate(text: &str, memory: u64) -> Option<u64> {
    let text = text.trim();
    if let Some(inner) = text.strip_suffix(')') {
        let (name, arguments) = inner.split_once('(')?;
        let values: Option<Vec<u64>> =
            arguments.split(',').map(|one| evaluate(one, memory)).collect();
        let values = values?;
        return match name {
            "LEAST" => values.into_iter().min(),
            "GREATEST" => values.into_iter().max(),
            "SUM" => Some(values.into_iter().sum()),
            _ => None,
        };
    }
    let bare = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let mut value: Option<u64> = None;
    let mut operator = '*';
    for part in bare.split_inclusive(['*', '/']) {
        let (number, next) = match part.chars().last() {
            Some(one @ ('*' | '/')) => (&part[..part.len() - 1], one),
            _ => (part, ' '),
        };
        let number = match number.trim() {
            // What RDS and the operating system keep for themselves is not published.
            "DBInstanceClassMemory" => memory / 100 * 95,
            "DBInstanceClassVCPU" => (memory >> 31).max(2),
            number => number.parse().ok()?,
        };
        value = Some(match (value, operator) {
            (None, _) => number,
            (Some(value), '/') => value.checked_div(number)?,
            (Some(value), _) => value.checked_mul(number)?,
        });
        operator = next;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_computed_with_integers() {
        let gib = 4 << 30;
        assert_eq!(evaluate("{DBInstanceClassMemory/32768}", gib), Some(124_518));
        assert_eq!(evaluate("LEAST({DBInstanceClassMemory/9531392},5000)", gib), Some(428));
        assert_eq!(
            evaluate("GREATEST({DBInstanceClassMemory*1024/63963136},65536)", gib),
            Some(65_536)
        );
        assert_eq!(evaluate("200", gib), Some(200));
        assert_eq!(evaluate("{No/2}", gib), None);
    }

    #[test]
    fn every_default_is_allowed_and_the_table_is_sorted() {
        for one in PARAMETERS {
            assert!(
                one.default.is_empty() || allows(one, one.default) || one.default.contains('{'),
                "{}",
                one.name
            );
        }
        assert!(PARAMETERS.is_sorted_by_key(|one| one.name));
        let delay = parameter("max_slot_wal_keep_size").unwrap();
        assert!(allows(delay, "-1") && !allows(delay, "-2"));
    }

    #[test]
    fn classes_are_sold_where_they_are() {
        assert_eq!(memory("db.t3.medium", "us-west-2"), Some(4 << 30));
        assert!(memory("db.x2iezn.4xlarge", "us-east-1").is_some());
        assert!(memory("db.x2iezn.4xlarge", "us-west-2").is_none());
        assert!(memory("db.m5.medium", "us-east-1").is_none());
    }
}
