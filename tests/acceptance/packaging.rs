//! Installed as users install it: `terraform init` from a folder and from a server, a lock file, the work itself.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support::{
    mirror::{Mirror, lock_hash, package},
    repository,
    terraform::{Served, Workspace, cluster},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn terraform_installs_the_package_from_a_mirror_and_works_with_what_is_in_it() {
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let mut from_folder = Workspace::new(&served, &body);
    let mirror = TempDir::new().unwrap();
    let zip = package(&from_folder.path("agent.zip"), mirror.path());
    let hash = lock_hash(&zip);

    // No archive is named: the one in the package is found beside the program.
    from_folder.variable("TRADING_AGENT_ZIP", "");
    from_folder.install_from(&format!("filesystem_mirror {{\n path = {:?}\n }}", mirror.path()));
    let ran = from_folder.run(&["init", "-no-color"]).must_succeed();
    assert!(ran.out.contains(&format!("Installed tradingdr/trading v{VERSION}")), "{}", ran.out);
    let lock = std::fs::read_to_string(from_folder.path(".terraform.lock.hcl")).unwrap();
    assert!(lock.contains("provider \"registry.terraform.io/tradingdr/trading\""), "{lock}");
    assert!(lock.contains(&format!("version = \"{VERSION}\"")), "{lock}");
    assert!(lock.contains(&hash), "{hash}\n{lock}");
    from_folder.apply().must_succeed();
    from_folder.must_be_unchanged();

    let server = Mirror::of(&served, &zip, VERSION);
    let mut from_server = Workspace::new(&served, &body);
    from_server.variable("TRADING_AGENT_ZIP", "");
    from_server.install_from(&format!("network_mirror {{\n url = {:?}\n }}", server.url));
    let ran = from_server.run(&["init", "-no-color"]);
    assert!(ran.code == 1 && ran.err.contains("certificate"), "{}\n{}", ran.out, ran.err);
    std::fs::write(from_server.path("ca.pem"), &server.certificate).unwrap();
    let certificate = from_server.path("ca.pem").to_str().unwrap().to_owned();
    from_server.variable("SSL_CERT_FILE", &certificate);
    from_server.run(&["init", "-no-color"]).must_succeed();
    let locked = std::fs::read_to_string(from_server.path(".terraform.lock.hcl")).unwrap();
    assert!(locked.contains(&hash), "both mirrors gave the same: {locked}");
    let ran = from_server.plan();
    assert!(ran.message().contains("There is a cluster prod already"), "{}", ran.err);

    // A package that was changed under the same version is not installed.
    let bytes = std::fs::read(&zip).unwrap();
    let mut changed = zip::ZipWriter::new_append(std::io::Cursor::new(bytes)).unwrap();
    changed.start_file("more", zip::write::SimpleFileOptions::default()).unwrap();
    changed.write_all(b"from somebody else").unwrap();
    std::fs::write(&zip, changed.finish().unwrap().into_inner()).unwrap();
    std::fs::remove_dir_all(from_folder.path(".terraform")).unwrap();
    let ran = from_folder.run(&["init", "-no-color"]);
    assert!(ran.code == 1 && ran.message().contains("checksums"), "{}\n{}", ran.out, ran.err);

    // The program that the other mirror gave destroys as well.
    let state = std::fs::read(from_folder.path("terraform.tfstate")).unwrap();
    std::fs::write(from_server.path("terraform.tfstate"), state).unwrap();
    from_server.must_be_unchanged();
    from_server.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

/// `tools/prebuilt` in a folder of its own.
fn prebuilt(folder: &Path, arguments: &[&str]) -> Output {
    let tool = repository().join("tools/prebuilt");
    Command::new(tool).args(arguments).current_dir(folder).output().unwrap()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_release_is_refused_where_versions_disagree_or_a_file_is_missing() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let version = || prebuilt(folder.path(), &["version", "1.2.3"]);
    write("Cargo.toml", "[workspace.package]\nversion = \"1.2.2\"\n");
    assert!(refusal(&version()).contains("Cargo.toml says 1.2.2"));
    write("Cargo.toml", "[workspace.package]\nversion = \"1.2.3\"\n\n[package]\nversion = \"9\"\n");
    let (before, now) = ("## [1.2.2] - 2026-01-01\n", "## [1.2.3] - 2026-02-01\n");
    write("CHANGELOG.md", &format!("# Changelog\n\n## [Unreleased]\n\n{before}"));
    assert!(refusal(&version()).contains("begins with '## [1.2.2] - 2026-01-01'"));
    let left = "## [Unreleased]\n\n### Fixed\n\n- A mistake.\n\n";
    write("CHANGELOG.md", &format!("# Changelog\n\n{left}{now}\n{before}"));
    assert!(refusal(&version()).contains("has changes under [Unreleased]"));
    write("CHANGELOG.md", &format!("# Changelog\n\n## [Unreleased]\n\n{now}\n{before}"));
    assert!(refusal(&version()).contains("trading-dr-agent.zip is missing"));
    write("target/agent/trading-dr-agent.zip", "zip");
    assert!(version().status.success());

    for (target, program) in [
        ("aarch64-apple-darwin", "terraform-provider-trading"),
        ("x86_64-pc-windows-msvc", "terraform-provider-trading.exe"),
    ] {
        let asked = ["build", &format!("--target={target}"), "--release"];
        let path = format!("target/{target}/release/{program}");
        assert!(refusal(&prebuilt(folder.path(), &asked)).contains(&path));
        write(&path, "program");
        assert!(prebuilt(folder.path(), &asked).status.success());
    }
    assert!(refusal(&prebuilt(folder.path(), &["build"])).contains("no --target"));
    assert!(refusal(&prebuilt(folder.path(), &[])).contains("neither version nor build"));
}

#[test]
fn what_tries_each_platform_of_a_release_tells_a_provider_from_what_is_none() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, b"\x7fELF\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x3e\0").unwrap();
    trading::provider::archive::pack(&program, &folder.path().join("agent.zip")).unwrap();
    let check = |provider: &str| {
        Command::new(repository().join("tools/install-check"))
            .args([Path::new(provider), &folder.path().join("agent.zip")])
            .output()
            .unwrap()
    };
    let done = check(env!("CARGO_BIN_EXE_terraform-provider-trading"));
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{told}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(told.contains("The configuration is valid"), "{told}");
    assert!(!check("/bin/true").status.success(), "what is no provider does not pass");
}
