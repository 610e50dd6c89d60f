//! A mistake in the arguments, and where it is.

/// A mistake in the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The argument, as in `database.iops`.
    pub argument: String,
    /// What is wrong, in one line.
    pub summary: String,
    /// What is known about it and what to do.
    pub detail: String,
}

impl Mistake {
    /// A mistake in an argument.
    pub fn new(argument: &str, summary: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { argument: argument.to_owned(), summary: summary.into(), detail: detail.into() }
    }
}
