//! What an instance's parameters come to in a configuration file of PostgreSQL.

use std::fmt::Write as _;

use serde_json::Value;

use crate::services::rds::evaluated;

/// The most memory that one server here may share, in pages of 8 KiB: 32 MiB. An instance of RDS has gigabytes.
const MOST_BUFFERS: u64 = 4096;
/// Libraries that come with PostgreSQL itself; the others are RDS's own.
const LIBRARIES: &[&str] = &["auto_explain", "pg_stat_statements"];
/// How long silence is borne, and how soon a lost link is tried again, in milliseconds with PostgreSQL's defaults:
/// by the account's time, while PostgreSQL knows real time only.
const SILENCES: &[(&str, f64)] = &[
    ("wal_receiver_timeout", 60_000.0),
    ("wal_retrieve_retry_interval", 5_000.0),
    ("wal_sender_timeout", 60_000.0),
];

/// The lines of a configuration for a record's parameters, where the account's time passes `scale` times as fast
/// as the machine's.
pub(super) fn rendered(instance: &Value, region: &str, scale: f64) -> String {
    let class = instance["DBInstanceClass"].as_str().unwrap_or_default();
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(lines, "{name} = '{}'", value.replace('\'', "''"));
    };
    let running = instance["_running"].as_object().into_iter().flatten();
    for (name, value) in running {
        let Some(text) = value.as_str() else { continue };
        match name.as_str() {
            "rds.logical_replication" if text == "1" => line("wal_level", "logical"),
            name if name.starts_with("rds.") => {}
            "shared_buffers" => {
                let pages = evaluated(text, class, region).unwrap_or(MOST_BUFFERS);
                line(name, &pages.min(MOST_BUFFERS).to_string());
            }
            "shared_preload_libraries" => {
                let known: Vec<&str> = text
                    .split(',')
                    .map(str::trim)
                    .filter(|library| LIBRARIES.contains(library))
                    .collect();
                line(name, &known.join(","));
            }
            name if SILENCES.iter().any(|(silence, _)| *silence == name) => {}
            _ => match evaluated(text, class, region) {
                Some(number) if text.contains('{') => line(name, &number.to_string()),
                _ => line(name, text),
            },
        }
    }
    // What a standby may not have less of than its source.
    for (name, number) in instance["_limits"].as_object().into_iter().flatten() {
        line(name, &number.to_string());
    }
    for (name, usual) in SILENCES {
        let set = instance["_running"][*name].as_str().and_then(|text| text.parse::<f64>().ok());
        let milliseconds = set.unwrap_or(*usual) / scale.max(1.0);
        line(name, &format!("{milliseconds:.0}"));
    }
    line("wal_receiver_status_interval", "1");
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_become_settings_that_fit_the_machine() {
        let instance = json!({
            "DBInstanceClass": "db.t3.medium",
            "_running": {
                "shared_buffers": "{DBInstanceClassMemory/32768}", "rds.force_ssl": "1",
                "rds.logical_replication": "1", "work_mem": "4096", "log_line_prefix": "it's %m",
                "shared_preload_libraries": "pg_stat_statements,pg_tle", "wal_receiver_timeout": "20000",
                "max_wal_size": null,
            },
            "_limits": {"max_connections": 450},
        });
        let lines = rendered(&instance, "us-east-1", 10.0);
        let has = |line: &str| assert!(lines.lines().any(|one| one == line), "{line}\n{lines}");
        has("shared_buffers = '4096'");
        has("wal_level = 'logical'");
        has("work_mem = '4096'");
        has("log_line_prefix = 'it''s %m'");
        has("shared_preload_libraries = 'pg_stat_statements'");
        has("max_connections = '450'");
        // Twenty seconds of the account's are two of the machine's; a minute, where nothing is set, is six.
        has("wal_receiver_timeout = '2000'");
        has("wal_sender_timeout = '6000'");
        has("wal_retrieve_retry_interval = '500'");
        assert!(!lines.contains("rds.") && !lines.contains("max_wal_size"), "{lines}");
    }
}
