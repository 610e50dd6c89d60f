//! AWS's wire protocols, to and from JSON trees: handlers know no protocol.

pub(crate) mod cbor;
pub(crate) mod query;
pub(crate) mod xml;

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A form in, XML out: RDS, IAM, STS.
    Query,
    /// The same in EC2's dialect.
    Ec2,
    /// AWS JSON 1.1.
    Json,
    /// Paths and JSON: Lambda.
    RestJson,
    /// Paths and XML: Route 53.
    RestXml,
    /// CloudWatch, which understands three: CBOR, AWS JSON 1.0 and a form, each answered as it asks.
    Three,
}
