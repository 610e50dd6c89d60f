//! Logs in the form that Terraform's `TF_LOG_PROVIDER` understands: hclog JSON, one line each, on
//! standard error.
//!
//! Only events of this crate are written. The SDK's own events hold request bodies at their finest level,
//! and a request body may hold a password.

use std::{fmt, io::Write as _};

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::{LookupSpan, Scope},
};

/// Exactly six fractional digits: Terraform's parser refuses any other number.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
/// Terraform splits longer lines.
const MAX_LINE: usize = 60 * 1024;
/// The targets whose events are written: this crate's.
const OWN_TARGET: &str = "trading";

/// The level that the user asked for, by the variables that Terraform itself reads.
pub fn level_from_environment(variable: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let asked = ["TF_LOG_PROVIDER_TRADING", "TF_LOG_PROVIDER", "TF_LOG"]
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    match asked.map(|level| level.to_ascii_uppercase()).as_deref() {
        Some("TRACE" | "JSON") => LevelFilter::TRACE,
        Some("DEBUG") => LevelFilter::DEBUG,
        Some("INFO") => LevelFilter::INFO,
        Some("ERROR") => LevelFilter::ERROR,
        Some("OFF") => LevelFilter::OFF,
        _ => LevelFilter::WARN,
    }
}

/// Starts logging at `level` for the rest of the process, panics included. Later calls do nothing.
pub fn init(level: LevelFilter) {
    let subscriber = tracing_subscriber::registry().with(Hclog { level });
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload();
            let message = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            tracing::error!(place, "panic: {message}");
        }));
    }
}

struct Hclog {
    level: LevelFilter,
}

struct SpanFields(Map<String, Value>);

impl<S> Layer<S> for Hclog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with(OWN_TARGET)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, fields: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut collected = Map::new();
        fields.record(&mut Collect(&mut collected));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(collected));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(fields) = span.extensions().get::<SpanFields>() {
                line.extend(fields.0.clone());
            }
        }
        event.record(&mut Collect(&mut line));
        let rendered = render(*event.metadata().level(), event.metadata().target(), line);
        // A standard error that nobody reads any more must not end the process.
        let _ = std::io::stderr().lock().write_all(rendered.as_bytes());
    }
}

fn render(level: Level, target: &str, mut fields: Map<String, Value>) -> String {
    let message = match fields.remove("message") {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let now = OffsetDateTime::now_utc().format(TIMESTAMP).unwrap_or_default();
    let mut line = Map::new();
    line.insert("@level".into(), level.as_str().to_ascii_lowercase().into());
    line.insert("@message".into(), message.into());
    line.insert("@module".into(), target.replace("::", ".").into());
    line.insert("@timestamp".into(), now.into());
    line.extend(fields);
    let mut text = Value::Object(line.clone()).to_string();
    if text.len() > MAX_LINE {
        line.retain(|key, _| key.starts_with('@'));
        let message = line["@message"].as_str().unwrap_or_default();
        let cut: String = message.chars().take(MAX_LINE / 8).collect();
        line.insert("@message".into(), format!("{cut} … (cut)").into());
        text = Value::Object(line).to_string();
    }
    text.push('\n');
    text
}

struct Collect<'a>(&'a mut Map<String, Value>);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(message: Value) -> Value {
        let fields = Map::from_iter([("message".to_owned(), message), ("n".into(), 3.into())]);
        let line = render(Level::WARN, "trading::aws", fields);
        assert!(line.ends_with('\n') && !line[..line.len() - 1].contains('\n'));
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_line_is_what_terraform_parses() {
        let line = rendered("two\nlines".into());
        assert_eq!(line["@level"], "warn");
        assert_eq!(line["@message"], "two\nlines");
        assert_eq!(line["@module"], "trading.aws");
        assert_eq!(line["n"], 3);
        let timestamp = line["@timestamp"].as_str().unwrap();
        assert_eq!(timestamp.split_once('.').unwrap().1.len(), 7, "{timestamp}");
    }

    #[test]
    fn a_message_is_always_a_string_and_never_too_long() {
        assert_eq!(rendered(5.into())["@message"], "5");
        let long = rendered("\u{1}".repeat(100_000).into());
        assert!(long.to_string().len() < 64 * 1024);
    }

    #[test]
    fn the_level_follows_terraforms_variables() {
        let level = |name: &'static str, value: &'static str| {
            level_from_environment(move |asked| (asked == name).then(|| value.into()))
        };
        assert_eq!(level("TF_LOG", "trace"), LevelFilter::TRACE);
        assert_eq!(level("TF_LOG_PROVIDER", "DEBUG"), LevelFilter::DEBUG);
        assert_eq!(level("NOTHING", ""), LevelFilter::WARN);
    }
}
