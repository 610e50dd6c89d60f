//! The provider's entry: serves Terraform, and explains itself when run by hand.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use trading::{
    plugin,
    progress::watch,
    provider::{TradingProvider, archive, graph, package, status},
};

const USAGE: &str = "\
terraform-provider-trading: a Terraform provider for PostgreSQL 15 disaster recovery on AWS

Terraform starts it, when a configuration names it. Run by hand, it shows what Terraform does not:

    terraform-provider-trading <command> [<argument>...]

    status <suffix>    a cluster as it is, from anywhere: who writes, lag, alarms, the last drill and failover
    watch [<suffix>]   what an apply does, in the folder where it runs, or has done
    graph [<file>]     what a cluster consists of, and what comes before what, for Mermaid or Graphviz

    pack <program> <archive>
                       packs the functions' program for AWS Lambda: the provider looks for trading-dr-agent.zip beside
                       itself
    package <folder> [<file>...]
                       writes this program, that archive and the files into a zip that a mirror can serve, with the
                       Registry's manifest and the checksums

    --version          prints the version
    --help             prints this; after one of the first three commands, what it takes

To use it, name it in a configuration and run `terraform init`:

    terraform {
      required_providers {
        trading = {
          source = \"tradingdr/trading\"
        }
      }
    }

To try a build of your own without a registry, name its folder in ~/.terraformrc (and leave out `terraform init`):

    provider_installation {
      dev_overrides {
        \"tradingdr/trading\" = \"/folder/of/this/program\"
      }
      direct {}
    }
";

/// What a development build's large futures need on a thread's stack; only what is used is memory.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => {
            say(&mut std::io::stderr(), &format!("no runtime: {error}\n"), ExitCode::FAILURE)
        }
    }
}

async fn run() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let texts: Vec<String> =
        arguments.iter().map(|one| one.to_string_lossy().into_owned()).collect();
    match texts.split_first() {
        Some((command, more)) if command == "watch" => return watching(more),
        Some((command, more)) if command == "status" => return telling(more).await,
        Some((command, more)) if command == "graph" => return drawing(more),
        Some((command, [])) if command == "--version" || command == "-V" => {
            let version = concat!("terraform-provider-trading ", env!("CARGO_PKG_VERSION"), "\n");
            return say(&mut std::io::stdout(), version, ExitCode::SUCCESS);
        }
        Some((command, _)) if ["--help", "-h", "help"].contains(&command.as_str()) => {
            return say(&mut std::io::stdout(), USAGE, ExitCode::SUCCESS);
        }
        _ => {}
    }
    if let [command, program, archive] = &arguments[..]
        && command == "pack"
    {
        return match archive::pack(program.as_ref(), archive.as_ref()) {
            Ok(archive) => {
                let told = format!("{} bytes, SHA-256 {}\n", archive.bytes.len(), archive.sha256);
                say(&mut std::io::stdout(), &told, ExitCode::SUCCESS)
            }
            Err(why) => say(&mut std::io::stderr(), &format!("{why}\n"), ExitCode::FAILURE),
        };
    }
    if let [command, folder, files @ ..] = &arguments[..]
        && command == "package"
    {
        return match package(folder.as_ref(), files) {
            Ok(package) => {
                let (zip, length) = (package.zip.display(), package.length);
                let told = format!("{zip}: {length} bytes, SHA-256 {}\n", package.sha256);
                say(&mut std::io::stdout(), &told, ExitCode::SUCCESS)
            }
            Err(why) => say(&mut std::io::stderr(), &format!("{why}\n"), ExitCode::FAILURE),
        };
    }
    let environment = |name: &str| std::env::var(name).ok();
    let Some(cookie) = plugin::Cookie::read(environment) else {
        let why = match texts.split_first() {
            None => "Terraform starts this program; run by hand, it takes a command.".to_owned(),
            Some((command, _)) if ["pack", "package"].contains(&command.as_str()) => {
                format!("{command} takes other arguments than these.")
            }
            Some((command, _)) => format!("There is no command {command}."),
        };
        return say(&mut std::io::stderr(), &format!("{why}\n\n{USAGE}"), ExitCode::from(2));
    };
    plugin::init_logging(plugin::level_from_environment(environment));
    let provider = Arc::new(TradingProvider::new().with_progress_in(watch::folder()));
    match plugin::serve(provider, &cookie).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            tracing::error!("{text}");
            say(&mut std::io::stderr(), &format!("{text}\n"), ExitCode::FAILURE)
        }
    }
}

/// Packs this very program, with the agent's archive that it would use.
fn package(folder: &Path, files: &[OsString]) -> Result<package::Package, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("the provider does not know where it is: {error}"))?;
    let files = files.iter().map(PathBuf::from).collect::<Vec<_>>();
    package::package(&program, &archive::place()?, &files, folder)
}

/// Shows a run.
fn watching(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|one| one == "--help" || one == "-h") {
        return say(&mut std::io::stdout(), watch::USAGE, ExitCode::SUCCESS);
    }
    let shown =
        watch::Options::parse(arguments).map_err(|why| format!("{why}\n\n{}", watch::USAGE));
    let shown = shown.and_then(|options| {
        watch::watch(&options, &watch::folder()).map_err(|error| format!("{error}\n"))
    });
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => say(&mut std::io::stderr(), &why, ExitCode::from(2)),
    }
}

/// Draws a cluster.
fn drawing(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|one| one == "--help" || one == "-h") {
        return say(&mut std::io::stdout(), graph::USAGE, ExitCode::SUCCESS);
    }
    let drawn = graph::Options::parse(arguments)
        .map_err(|why| format!("{why}\n\n{}", graph::USAGE))
        .and_then(|options| graph::graph(&options).map_err(|why| format!("{why}\n")));
    match drawn {
        Ok(text) => say(&mut std::io::stdout(), &text, ExitCode::SUCCESS),
        Err(why) => say(&mut std::io::stderr(), &why, ExitCode::from(2)),
    }
}

/// Tells how a cluster is.
async fn telling(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|one| one == "--help" || one == "-h") {
        return say(&mut std::io::stdout(), status::USAGE, ExitCode::SUCCESS);
    }
    let options = match status::Options::parse(arguments) {
        Ok(options) => options,
        Err(why) => {
            let text = format!("{why}\n\n{}", status::USAGE);
            return say(&mut std::io::stderr(), &text, ExitCode::from(2));
        }
    };
    match status::status(&options).await {
        Ok(report) => {
            let code = if report.is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            say(&mut std::io::stdout(), &report.text, code);
            say(&mut std::io::stderr(), &report.warnings, code)
        }
        Err(why) => say(&mut std::io::stderr(), &why, ExitCode::from(2)),
    }
}

/// Writes without caring whether anybody reads.
fn say(out: &mut dyn std::io::Write, text: &str, code: ExitCode) -> ExitCode {
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
    code
}
