//! PostgreSQL's parameters: what the cluster sets and why, which of them need a restart, and how much a
//! formula of RDS comes to.

use std::collections::{BTreeMap, BTreeSet};

use super::mistake::Mistake;

/// The family of parameters of PostgreSQL 15.
pub const FAMILY: &str = "postgres15";

/// Name, value, and why it is that.
type Choice = (&'static str, &'static str, &'static str);

/// What both groups hold, unless the user says otherwise. Both sites get the same: a promoted standby is
/// the next writer.
pub const CHOICES: &[Choice] = &[
    ("rds.force_ssl", "1", "TLS in transit, always"),
    (
        "max_connections",
        "LEAST({DBInstanceClassMemory/9531392},5000)",
        "RDS's own default, set so that both sites follow one formula; a larger standby gets more, never less",
    ),
    (
        "shared_buffers",
        "{DBInstanceClassMemory/32768}",
        "a quarter of the memory, the same share on both sites, so that a promoted standby performs alike",
    ),
    (
        "max_wal_senders",
        "20",
        "one for the replica, the rest for drills, rebuilding and base backups",
    ),
    ("max_replication_slots", "20", "as many as senders: the cross-region replica lives on a slot"),
    (
        "wal_keep_size",
        "4096",
        "MB kept beyond the slot, so that a replica that lost its slot for a moment still finds its WAL",
    ),
    (
        "hot_standby_feedback",
        "1",
        "queries on the standby are not cancelled by vacuum on the writer, at the price of some bloat",
    ),
    (
        "max_standby_streaming_delay",
        "15000",
        "ms: a query on the standby may hold up replay for this long; replay that lags delays a promotion",
    ),
    ("max_standby_archive_delay", "15000", "the same for WAL that comes from the archive"),
    (
        "wal_receiver_timeout",
        "20000",
        "ms: a frozen writer shows after 20 s, early enough for the detection budget",
    ),
    ("wal_sender_timeout", "20000", "the same, seen from the writer"),
    (
        "track_commit_timestamp",
        "1",
        "tells after a failover which commits the old writer took alone",
    ),
    ("max_worker_processes", "16", "a limit that the standby must not undercut, so it is fixed"),
    (
        "max_prepared_transactions",
        "0",
        "the same; prepared transactions are off as in RDS's default",
    ),
    ("max_locks_per_transaction", "64", "the same"),
    ("log_lock_waits", "1", "shows what blocked when somebody asks at 3 a.m."),
];

/// Limits that a standby must not undercut: below the writer's it pauses its recovery (aws-facts 2).
const STANDBY_LIMITS: &[&str] = &[
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

/// Parameters that take effect at a restart only: PostgreSQL 15's of context `postmaster` that RDS lets be
/// set, and RDS's own (aws-facts 2; PostgreSQL 15 documentation, chapter 20).
const STATICS: &[&str] = &[
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_multixact_freeze_max_age",
    "huge_pages",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_logical_replication_workers",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "old_snapshot_threshold",
    "rds.logical_replication",
    "shared_buffers",
    "shared_preload_libraries",
    "superuser_reserved_connections",
    "track_activity_query_size",
    "track_commit_timestamp",
    "wal_buffers",
    "wal_decode_buffer_size",
];

/// Parameters that are often set and take effect at once (PostgreSQL 15 documentation, chapter 20).
const DYNAMICS: &[&str] = &[
    "autovacuum_analyze_scale_factor",
    "autovacuum_naptime",
    "autovacuum_vacuum_cost_limit",
    "autovacuum_vacuum_scale_factor",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "default_statistics_target",
    "effective_cache_size",
    "effective_io_concurrency",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "log_autovacuum_min_duration",
    "log_connections",
    "log_disconnections",
    "log_min_duration_statement",
    "log_statement",
    "log_temp_files",
    "maintenance_work_mem",
    "max_wal_size",
    "min_wal_size",
    "random_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "track_io_timing",
    "wal_compression",
    "work_mem",
];

/// Parameters that nobody may override, with the only value that they may have and why.
const FIXED: &[Choice] = &[
    ("rds.force_ssl", "1", "connections without TLS would be let in"),
    (
        "recovery_min_apply_delay",
        "0",
        "a standby that replays late on purpose misses the recovery point objective",
    ),
    (
        "rds.logical_replication",
        "0",
        "logical slots are not carried over to a promoted replica; they would be lost",
    ),
];

/// The value of an override that leaves a parameter of ours to RDS.
pub const DEFAULT: &str = "default";

/// Whether it is known here of all of these when they take effect; of others, RDS has to say it.
pub fn are_known(overrides: &BTreeMap<String, String>) -> bool {
    let dynamic = dynamic_names();
    overrides.keys().all(|name| STATICS.contains(&name.as_str()) || dynamic.contains(name))
}

/// The names of the parameters that need a restart.
pub fn static_names() -> BTreeSet<String> {
    STATICS.iter().map(|name| (*name).to_owned()).collect()
}

/// The names of parameters that take effect at once: ours, and those that are often set.
pub fn dynamic_names() -> BTreeSet<String> {
    let ours = CHOICES.iter().map(|(name, ..)| *name).chain(["max_slot_wal_keep_size"]);
    let all = ours.chain(DYNAMICS.iter().copied());
    all.filter(|name| !STATICS.contains(name)).map(str::to_owned).collect()
}

/// What a group holds: our choices, the user's over them, and how much WAL a slot may hold back.
pub fn merged(overrides: &BTreeMap<String, String>, storage_gib: u32) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        CHOICES.iter().map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned())).collect();
    // Without a limit, a replica that is gone for good fills the writer's disk (aws-facts 1.1): half of the
    // storage may be lost to it, then the replica has to be rebuilt and the writer lives.
    let cap = u64::from(storage_gib) * 1024 / 2;
    all.insert("max_slot_wal_keep_size".into(), cap.to_string());
    for (name, value) in overrides {
        if value == DEFAULT {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    all
}

/// What is wrong with overrides, as far as that can be said without AWS.
pub fn mistakes(overrides: &BTreeMap<String, String>) -> Vec<Mistake> {
    let fixed = FIXED.iter().filter_map(|(name, only, why)| {
        // What RDS has by itself is that value, but for TLS on older versions.
        let is_fine =
            |value: &&String| *value == only || (*value == DEFAULT && *name != "rds.force_ssl");
        let value = overrides.get(*name).filter(|value| !is_fine(value))?;
        Some(Mistake::new(
            &format!("database.parameters[{name}]"),
            format!("{name} cannot be {value}"),
            format!("It is {only} in this cluster: otherwise {why}."),
        ))
    });
    fixed.collect()
}

/// How much a value of a parameter comes to on a machine with so much memory: a number, or a formula of
/// RDS with `*`, `/`, LEAST, GREATEST and SUM. RDS keeps some of the memory to itself and does not publish
/// how much; for comparing before and after, that does not matter.
pub fn evaluate(text: &str, memory: u64) -> Option<u64> {
    let text = text.trim();
    if let Some((name, rest)) = text.split_once('(') {
        let values: Option<Vec<u64>> =
            rest.strip_suffix(')')?.split(',').map(|one| evaluate(one, memory)).collect();
        let values = values?;
        return match name {
            "LEAST" => values.into_iter().min(),
            "GREATEST" => values.into_iter().max(),
            "SUM" => Some(values.into_iter().sum()),
            _ => None,
        };
    }
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let (mut value, mut divides) = (None, false);
    let mut rest = inner;
    loop {
        let end = rest.find(['*', '/']).unwrap_or(rest.len());
        let term = match rest[..end].trim() {
            "DBInstanceClassMemory" => memory,
            number => number.parse().ok()?,
        };
        value = Some(match (value, divides) {
            (None, _) => term,
            (Some(value), true) => u64::checked_div(value, term)?,
            (Some(value), false) => value.checked_mul(term)?,
        });
        if end == rest.len() {
            return value;
        }
        divides = rest.as_bytes()[end] == b'/';
        rest = &rest[end + 1..];
    }
}

/// Parameters, and the memory in bytes of the machine that they are for.
pub type Limits<'a> = (&'a BTreeMap<String, String>, u64);

fn limit((values, memory): Limits<'_>, name: &str) -> Option<u64> {
    values.get(name).and_then(|text| evaluate(text, memory))
}

/// Whether some limits become larger and others smaller: then there is no order in which the standby never
/// has less than the writer.
pub fn limits_cross(before: Limits<'_>, after: Limits<'_>) -> bool {
    let known =
        STANDBY_LIMITS.iter().filter_map(|name| limit(before, name).zip(limit(after, name)));
    let changes: Vec<_> = known.map(|(before, after)| before.cmp(&after)).collect();
    changes.iter().any(|one| one.is_lt()) && changes.iter().any(|one| one.is_gt())
}

/// Whether any limit that a standby must keep up with becomes larger.
pub fn limits_rise(before: Limits<'_>, after: Limits<'_>) -> bool {
    STANDBY_LIMITS.iter().any(|name| match (limit(before, name), limit(after, name)) {
        (Some(before), Some(after)) => after > before,
        // To or from a default that is not known here: nobody can say.
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn formulas_come_to_whole_numbers() {
        assert_eq!(evaluate("LEAST({DBInstanceClassMemory/9531392},5000)", 4 * GIB), Some(450));
        assert_eq!(evaluate("{DBInstanceClassMemory*1024/63963136}", 4 * GIB), Some(68_759));
        assert_eq!(evaluate("GREATEST(3, 7)", 0), Some(7));
        assert_eq!(evaluate("20", 0), Some(20));
        for odd in ["", "many", "{DBInstanceClassMemory/0}", "MEDIAN(1,2)", "{Cores*2}"] {
            assert_eq!(evaluate(odd, GIB), None, "{odd}");
        }
    }

    #[test]
    fn a_larger_class_raises_what_is_a_formula() {
        let values = merged(&BTreeMap::new(), 100);
        assert!(limits_rise((&values, 4 * GIB), (&values, 8 * GIB)));
        assert!(!limits_rise((&values, 8 * GIB), (&values, 4 * GIB)));
        let fewer = merged(&BTreeMap::from([("max_connections".into(), "100".into())]), 100);
        assert!(!limits_rise((&values, 4 * GIB), (&fewer, 4 * GIB)));
        assert!(limits_rise((&fewer, 4 * GIB), (&values, 4 * GIB)));
        let mixed = BTreeMap::from([
            ("max_connections".into(), "600".into()),
            ("max_worker_processes".into(), "8".into()),
        ]);
        assert!(limits_cross((&values, 4 * GIB), (&merged(&mixed, 100), 4 * GIB)));
        assert!(!limits_cross((&fewer, 4 * GIB), (&values, 4 * GIB)));
        assert!(!limits_cross((&BTreeMap::new(), 4 * GIB), (&values, 4 * GIB)));
    }

    #[test]
    fn every_choice_has_a_reason_and_what_is_fixed_is_chosen_so() {
        for (name, value, why) in CHOICES {
            assert!(!why.is_empty(), "{name}");
            if let Some((_, only, _)) = FIXED.iter().find(|(fixed, ..)| fixed == name) {
                assert_eq!(value, only);
            }
        }
        let left = merged(&BTreeMap::from([("log_lock_waits".into(), DEFAULT.into())]), 100);
        assert!(!left.contains_key("log_lock_waits") && left.contains_key("wal_keep_size"));
        assert!(mistakes(&BTreeMap::from([("rds.force_ssl".into(), "0".into())])).len() == 1);
    }
}
