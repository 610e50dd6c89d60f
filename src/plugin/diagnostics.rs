//! Errors and warnings as Terraform shows them: a headline, an explanation, the place in the configuration.

use super::{path::Path, wire};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The operation failed.
    Error,
    /// The operation went on; the user should know.
    Warning,
}

/// One message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in one line.
    pub summary: String,
    /// What is known about it and what to do.
    pub detail: String,
    /// The attribute that it is about, where there is one.
    pub path: Option<Path>,
}

/// An ordered collection of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// No messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// A single error.
    pub fn from_error(summary: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut all = Self::new();
        all.error(summary, detail);
        all
    }

    /// Adds an error that has no place in the configuration.
    pub fn error(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.add(Severity::Error, None, summary, detail);
    }

    /// Adds an error about an attribute.
    pub fn error_at(&mut self, path: Path, summary: impl Into<String>, detail: impl Into<String>) {
        self.add(Severity::Error, Some(path), summary, detail);
    }

    /// Adds a warning that has no place in the configuration.
    pub fn warning(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.add(Severity::Warning, None, summary, detail);
    }

    /// Adds a warning about an attribute.
    pub fn warning_at(
        &mut self,
        path: Path,
        summary: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.add(Severity::Warning, Some(path), summary, detail);
    }

    fn add(
        &mut self,
        severity: Severity,
        path: Option<Path>,
        summary: impl Into<String>,
        detail: impl Into<String>,
    ) {
        let (summary, detail) = (summary.into(), detail.into());
        self.0.push(Diagnostic { severity, summary, detail, path });
    }

    /// The same with a paragraph more in the explanation of each error.
    #[must_use]
    pub fn with_errors_saying(mut self, text: &str) -> Self {
        for one in self.0.iter_mut().filter(|one| one.severity == Severity::Error) {
            one.detail = format!("{}\n\n{text}", one.detail);
        }
        self
    }

    /// Appends another collection.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds to each error what it does not say yet.
    pub fn say_in_errors(&mut self, text: &str) {
        let errors = self.0.iter_mut().filter(|one| one.severity == Severity::Error);
        for one in errors.filter(|one| !one.detail.contains(text)) {
            one.detail = format!("{}\n\n{text}", one.detail);
        }
    }

    /// Takes a paragraph out of each error that has it.
    pub fn drop_from_errors(&mut self, text: &str) {
        let paragraph = format!("\n\n{text}");
        for one in self.0.iter_mut().filter(|one| one.severity == Severity::Error) {
            one.detail = one.detail.replace(&paragraph, "");
        }
    }

    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|one| one.severity == Severity::Error)
    }

    /// The messages in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    pub(super) fn to_wire(&self) -> Vec<wire::Diagnostic> {
        self.0
            .iter()
            .map(|one| wire::Diagnostic {
                severity: match one.severity {
                    Severity::Error => wire::diagnostic::Severity::Error,
                    Severity::Warning => wire::diagnostic::Severity::Warning,
                }
                .into(),
                summary: one.summary.clone(),
                detail: one.detail.clone(),
                attribute: one.path.as_ref().map(Path::to_wire),
            })
            .collect()
    }
}
