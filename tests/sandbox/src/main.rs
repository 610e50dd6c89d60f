//! The sandbox as a program.

use std::process::ExitCode;

use aws_sandbox::{ACCESS_KEY, SECRET_KEY, Sandbox};
use tokio::net::TcpListener;

const USAGE: &str = "\
A simulated AWS for trying out terraform-provider-trading.

    aws-sandbox [--listen 127.0.0.1:4566] [--time-scale 1]

    --listen      the address to listen on; port 0 takes a free one
    --time-scale  how many times as fast as real time the account's time passes
";

struct Options {
    listen: String,
    scale: f64,
}

fn options() -> Result<Options, String> {
    let mut options = Options { listen: "127.0.0.1:4566".into(), scale: 1.0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Err(String::new());
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => options.listen = value,
            "--time-scale" => {
                let scale = value.parse().ok().filter(|scale| (0.001..=100_000.0).contains(scale));
                options.scale = scale.ok_or_else(|| format!("{value} is no time scale"))?;
            }
            _ => return Err(format!("{name} is no option")),
        }
    }
    Ok(options)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}{}{USAGE}", if error.is_empty() { "" } else { "\n\n" });
            return if error.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let listener = match TcpListener::bind(&options.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {}: {error}", options.listen);
            return ExitCode::FAILURE;
        }
    };
    let address =
        listener.local_addr().map_or(options.listen.clone(), |address| address.to_string());
    println!("AWS sandbox on http://{address}, time passes {} times as fast", options.scale);
    println!(
        "AWS_ENDPOINT_URL=http://{address} AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}"
    );
    let sandbox = Sandbox::new(options.scale);
    sandbox.model_functions();
    match sandbox.serve(listener).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
