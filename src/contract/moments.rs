//! What monitors note of a failover while it happens, by the names that ledgers keep: a reader goes by the same.

/// The writer was first seen to fail; or its last sign of life, where that came later.
pub const FIRST_FAILURE: &str = "first_failure";
/// A human asked for it: how long it took is no measure of the monitors.
pub const ASKED_FOR: &str = "asked_for";
/// It was decided.
pub const DECIDED: &str = "decided";
/// The lease was taken from the other region.
pub const LEASE_TAKEN: &str = "lease_taken";
/// RDS accepted the promotion.
pub const ACCEPTED: &str = "accepted";
/// The new writer took its first write.
pub const FIRST_WRITE: &str = "first_write";
/// The old writer was seen to keep applications out.
pub const FENCED: &str = "fenced";
/// The old writer was rebooted: no session with it is older.
pub const SESSIONS_ENDED: &str = "sessions_ended";
/// A guard closed its own writer.
pub const CLOSED: &str = "closed";
