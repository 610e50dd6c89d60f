//! A strict simulated AWS of exactly the operations that the provider uses.
