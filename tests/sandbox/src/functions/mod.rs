//! What runs the functions of a sandbox: [`Sandbox::model_functions`] answers for a probe without running any
//! code; [`Sandbox::run_functions`] runs their programs as Lambda does.

mod environment;
mod host;
mod model;

pub use host::Host;
