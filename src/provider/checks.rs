//! Checks of single arguments. Each has a value that is known and not null.

use std::time::Duration;

use ipnet::Ipv4Net;

use crate::{
    cluster::{
        names::Suffix,
        schedule::Schedule,
        spec::InstanceClass,
        window::{MaintenanceWindow, Window},
    },
    plugin::{Diagnostics, Path, Value},
};

pub(super) fn wrong(value: &Value, path: &Path, found: &mut Diagnostics, why: impl Into<String>) {
    let shown = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    found.error_at(path.clone(), format!("{path} cannot be {shown}"), sentence(&why.into()));
}

/// With a capital letter and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|one| one.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

pub(super) fn suffix(value: &Value, path: &Path, found: &mut Diagnostics) {
    if let Err(why) = Suffix::parse(value.as_str().unwrap_or_default()) {
        let rule = "It ends every name in AWS: lower-case letters, digits and single hyphens, beginning \
                    with a letter, at most 20 characters";
        wrong(value, path, found, format!("{why}. {rule}"));
    }
}

pub(super) fn vpc_id(value: &Value, path: &Path, found: &mut Diagnostics) {
    if !value.as_str().unwrap_or_default().starts_with("vpc-") {
        wrong(value, path, found, "a VPC's id begins with vpc-");
    }
}

pub(super) fn vpc_ids(value: &Value, path: &Path, found: &mut Diagnostics) {
    for item in value.items() {
        if item.as_str().is_some_and(|text| !text.starts_with("vpc-")) {
            wrong(item, path, found, "a VPC's id begins with vpc-");
        }
    }
}

pub(super) fn zone_id(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let fits = text.starts_with('Z') && text.chars().all(|one| one.is_ascii_alphanumeric());
    if !fits || text.len() > 32 {
        wrong(
            value,
            path,
            found,
            "a hosted zone's id begins with Z, without /hostedzone/ before it",
        );
    }
}

pub(super) fn dns_name(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || "-_".contains(one))
    };
    if text.len() > 253 || !text.contains('.') || !text.split('.').all(label) {
        let why = "a DNS name is labels of lower-case letters, digits, hyphens and underscores with dots \
                   between them, as in db.orders.internal";
        wrong(value, path, found, why);
    }
}

pub(super) fn copies(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 0..=90);
}

pub(super) fn mode(value: &Value, path: &Path, found: &mut Diagnostics) {
    one_of(value, path, found, &["automatic", "manual"]);
}

pub(super) fn region_detection(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 60..=3600);
}

pub(super) fn instance_detection(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 105..=3600);
}

pub(super) fn promotion_allowance(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 150..=3600);
}

pub(super) fn max_data_loss(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 1..=3600);
}

pub(super) fn ttl(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 1..=300);
}

pub(super) fn lag(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 2..=3600);
}

pub(super) fn percent(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 1..=100);
}

pub(super) fn gib(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 1..=65_536);
}

pub(super) fn each(
    value: &Value,
    path: &Path,
    found: &mut Diagnostics,
    fits: impl Fn(&str) -> bool,
    why: &str,
) {
    for item in value.items() {
        if item.as_str().is_some_and(|text| !fits(text)) {
            wrong(item, path, found, why);
        }
    }
}

pub(super) fn emails(value: &Value, path: &Path, found: &mut Diagnostics) {
    let fits = |text: &str| {
        let domain = text.split_once('@').filter(|(local, _)| !local.is_empty());
        let domain = domain.map_or("", |(_, domain)| domain);
        let has_space = text.chars().any(char::is_whitespace);
        !has_space && domain.contains('.') && !domain.contains('@') && !domain.ends_with('.')
    };
    each(value, path, found, fits, "a mail address is written as oncall@example.com is");
}

pub(super) fn https_urls(value: &Value, path: &Path, found: &mut Diagnostics) {
    let fits = |text: &str| {
        let host = text.strip_prefix("https://").and_then(|rest| rest.split('/').next());
        let is_plain = host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
        is_plain && !text.chars().any(char::is_whitespace)
    };
    let why =
        "it begins with https:// and holds no user and no password: it is kept in plans and states";
    each(value, path, found, fits, why);
}

pub(super) fn queue_arns(value: &Value, path: &Path, found: &mut Diagnostics) {
    let fits = |text: &str| {
        let parts: Vec<_> = text.split(':').collect();
        parts.len() == 6 && parts[0] == "arn" && parts[2] == "sqs" && !parts[5].is_empty()
    };
    each(
        value,
        path,
        found,
        fits,
        "a queue's ARN is written as arn:aws:sqs:us-east-1:123456789012:alerts is",
    );
}

pub(super) fn peering_id(value: &Value, path: &Path, found: &mut Diagnostics) {
    if !value.as_str().unwrap_or_default().starts_with("pcx-") {
        wrong(value, path, found, "a peering's id begins with pcx-");
    }
}

pub(super) fn region(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let parts: Vec<_> = text.split('-').collect();
    let numbered = parts.last().is_some_and(|last| last.parse::<u8>().is_ok());
    let lower =
        text.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-');
    if parts.len() < 3 || !numbered || !lower {
        wrong(value, path, found, "a region is written as us-east-1 is");
    } else if text.starts_with("cn-") || text.starts_with("us-gov-") {
        wrong(
            value,
            path,
            found,
            "only the commercial regions are supported: copies between others need presigned requests",
        );
    }
}

pub(super) fn group_ids(value: &Value, path: &Path, found: &mut Diagnostics) {
    for item in value.items() {
        if item.as_str().is_some_and(|text| !text.starts_with("sg-")) {
            wrong(item, path, found, "a security group's id begins with sg-");
        }
    }
}

pub(super) fn cidr_blocks(value: &Value, path: &Path, found: &mut Diagnostics) {
    for item in value.items() {
        let Some(text) = item.as_str() else { continue };
        match text.parse::<Ipv4Net>() {
            Err(_) => wrong(item, path, found, "an IPv4 block is written as 10.0.0.0/16 is"),
            Ok(block) if block.trunc() != block => {
                let why = format!(
                    "bits are set behind the prefix: AWS would make {} of it",
                    block.trunc()
                );
                wrong(item, path, found, why);
            }
            Ok(_) => {}
        }
    }
}

pub(super) fn engine_version(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let minor = text.strip_prefix("15.").is_some_and(|minor| minor.parse::<u8>().is_ok());
    if text != "15" && !minor {
        wrong(
            value,
            path,
            found,
            "this provider builds PostgreSQL 15: write 15, or a full version as 15.14",
        );
    }
}

pub(super) fn class(value: &Value, path: &Path, found: &mut Diagnostics) {
    if let Err(why) = InstanceClass::parse(value.as_str().unwrap_or_default()) {
        wrong(value, path, found, why);
    }
}

pub(super) fn within(
    value: &Value,
    path: &Path,
    found: &mut Diagnostics,
    range: std::ops::RangeInclusive<i64>,
) {
    if !value.as_i64().is_some_and(|number| range.contains(&number)) {
        let why = format!("it is a whole number from {} to {}", range.start(), range.end());
        wrong(value, path, found, why);
    }
}

pub(super) fn storage(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 20..=65_536);
}

pub(super) fn iops(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 1000..=256_000);
}

pub(super) fn port(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 1150..=65_535);
}

pub(super) fn retention(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 7..=35);
}

pub(super) fn one_of(value: &Value, path: &Path, found: &mut Diagnostics, allowed: &[&str]) {
    if !allowed.contains(&value.as_str().unwrap_or_default()) {
        wrong(value, path, found, format!("it is one of {}", allowed.join(", ")));
    }
}

pub(super) fn storage_type(value: &Value, path: &Path, found: &mut Diagnostics) {
    one_of(value, path, found, &["gp3", "io1", "io2"]);
}

pub(super) fn monitoring_interval(value: &Value, path: &Path, found: &mut Diagnostics) {
    if !value.as_i64().is_some_and(|number| [0, 1, 5, 10, 15, 30, 60].contains(&number)) {
        wrong(value, path, found, "it is one of 0, 1, 5, 10, 15, 30, 60");
    }
}

/// RDS's rules for names in PostgreSQL.
fn identifier(text: &str) -> bool {
    text.starts_with(|one: char| one.is_ascii_alphabetic() || one == '_')
        && text.chars().all(|one| one.is_ascii_alphanumeric() || one == '_')
        && text.len() <= 63
}

pub(super) fn db_name(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    if !identifier(text) || ["postgres", "rdsadmin", "template0", "template1"].contains(&text) {
        wrong(
            value,
            path,
            found,
            "a database's name begins with a letter or underscore, goes on with letters, digits and \
             underscores, has at most 63 of them, and is none of PostgreSQL's own",
        );
    }
}

pub(super) fn username(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let reserved =
        ["rdsadmin", "admin", "public", "postgres_admin", "rds_superuser", "trading_dr_probe"];
    if !identifier(text) || text.starts_with("pg_") || reserved.contains(&text) {
        wrong(
            value,
            path,
            found,
            "a user's name begins with a letter, goes on with letters, digits and underscores, has at most \
             63 of them, and is none that PostgreSQL, RDS or this provider reserves",
        );
    }
}

pub(super) fn window(value: &Value, path: &Path, found: &mut Diagnostics) {
    if let Err(why) = Window::parse(value.as_str().unwrap_or_default()) {
        wrong(value, path, found, why);
    }
}

pub(super) fn schedule(value: &Value, path: &Path, found: &mut Diagnostics) {
    if let Err(why) = Schedule::parse(value.as_str().unwrap_or_default()) {
        wrong(value, path, found, why);
    }
}

pub(super) fn maintenance_window(value: &Value, path: &Path, found: &mut Diagnostics) {
    if let Err(why) = MaintenanceWindow::parse(value.as_str().unwrap_or_default()) {
        wrong(value, path, found, why);
    }
}

pub(super) fn tags(value: &Value, path: &Path, found: &mut Diagnostics) {
    let allowed =
        |text: &str| text.chars().all(|one| one.is_alphanumeric() || " _.:/=+-@".contains(one));
    for (key, tag) in value.entries() {
        let path = path.key(key);
        if key.is_empty() || key.chars().count() > 128 || !allowed(key) {
            wrong(&Value::string(key), &path, found, "AWS takes no such key of a tag");
        }
        let text = tag.as_str().unwrap_or_default();
        if text.chars().count() > 256 || !allowed(text) {
            wrong(
                tag,
                &path,
                found,
                "AWS takes no such value of a tag: letters, digits and _.:/=+-@",
            );
        }
    }
}

pub(super) fn duration(value: &Value, path: &Path, found: &mut Diagnostics) {
    if parse_duration(value.as_str().unwrap_or_default()).is_none() {
        wrong(value, path, found, "a duration is written as 90m or 1h30m, from 1m to 24h");
    }
}

pub(super) fn session_duration(value: &Value, path: &Path, found: &mut Diagnostics) {
    let (least, most) = (Duration::from_secs(15 * 60), Duration::from_secs(12 * 3600));
    let length = parse_duration(value.as_str().unwrap_or_default());
    if !length.is_some_and(|one| (least..=most).contains(&one)) {
        wrong(value, path, found, "a session lasts from 15m to 12h, written as 90m or 1h30m");
    }
}

pub(super) fn account_ids(value: &Value, path: &Path, found: &mut Diagnostics) {
    for one in value.items().iter().filter(|one| !one.is_unknown()) {
        let id = one.as_str().unwrap_or_default();
        if id.len() != 12 || !id.bytes().all(|digit| digit.is_ascii_digit()) {
            wrong(one, path, found, "an account's id has twelve digits");
        }
    }
}

/// `1h30m`, `90m`, `45s`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (mut seconds, mut digits) = (0u64, String::new());
    for one in text.chars() {
        let unit = match one {
            '0'..='9' => {
                digits.push(one);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && (60..=86_400).contains(&seconds)).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let seconds = |text| parse_duration(text).map(|one| one.as_secs());
        assert_eq!(seconds("90m"), Some(5400));
        assert_eq!(seconds("1h30m"), Some(5400));
        for bad in ["", "90", "m", "30s", "25h", "1.5h", "-1h", "99999999999999999999h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn arguments_are_judged_one_by_one() {
        type Check = fn(&Value, &Path, &mut Diagnostics);
        let passes = |check: Check, value: Value| {
            let mut found = Diagnostics::new();
            check(&value, &Path::attributes("it"), &mut found);
            !found.has_errors()
        };
        let text = |text: &str| Value::string(text);
        assert!(passes(engine_version, text("15")) && passes(engine_version, text("15.14")));
        assert!(!passes(engine_version, text("14.9")) && !passes(engine_version, text("15.x")));
        assert!(passes(region, text("us-west-2")) && !passes(region, text("US-WEST")));
        assert!(!passes(region, text("cn-north-1")));
        assert!(passes(cidr_blocks, Value::strings(["10.0.0.0/8"])));
        assert!(!passes(cidr_blocks, Value::strings(["10.0.0.1/8"])));
        assert!(!passes(cidr_blocks, Value::strings(["10.0.0.0"])));
        assert!(passes(retention, Value::integer(7)) && !passes(retention, Value::integer(3)));
        assert!(!passes(username, text("admin")) && !passes(username, text("pg_x")));
        assert!(!passes(suffix, text("Prod_1")) && passes(suffix, text("prod-1")));
        assert!(!passes(tags, Value::string_map([("a", "b*")])));
    }
}
