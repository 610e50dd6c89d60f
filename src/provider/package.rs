//! The provider as `terraform init` installs it: a zip with the program and the functions' archive beside it, the
//! Registry's manifest, and the checksums of both.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::archive;

/// What every file's name begins with, and the program's own.
const NAME: &str = "terraform-provider-trading";
/// What the Registry wants to know of a release.
const MANIFEST: &str = include_str!("../../terraform-registry-manifest.json");

/// A package that was written.
#[derive(Debug)]
pub struct Package {
    /// The zip that a mirror serves.
    pub zip: PathBuf,
    /// The zip's length in bytes.
    pub length: usize,
    /// The zip's SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A platform by the names that Terraform has for it, such as `linux_amd64`; `os` and `processor` are
/// [`std::env::consts::OS`] and [`std::env::consts::ARCH`].
fn platform(os: &str, processor: &str) -> String {
    let os = if os == "macos" { "darwin" } else { os };
    let processor = match processor {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("{os}_{processor}")
}

/// Packs the program `program` of this version and platform, the functions' archive `agent` and `texts`, and writes
/// three files into the folder `into`, which is made if it is missing: the zip, the manifest, and `SHA256SUMS`. The same
/// files give the same bytes.
///
/// # Errors
/// The file that cannot be read or written, and why; an archive that Lambda would refuse.
pub fn package(
    program: &Path,
    agent: &Path,
    texts: &[PathBuf],
    into: &Path,
) -> Result<Package, String> {
    let suffix = std::env::consts::EXE_SUFFIX;
    let mut files = vec![(format!("{NAME}{suffix}"), read(program)?, 0o755)];
    files.push((archive::NAME.into(), archive::read(agent)?.bytes.to_vec(), 0o644));
    for text in texts {
        let name = text.file_name().ok_or_else(|| format!("{} is no file", text.display()))?;
        files.push((name.to_string_lossy().into_owned(), read(text)?, 0o644));
    }
    let zipped = archive::zipped(&files).map_err(|error| format!("{}: {error}", into.display()))?;
    let release = format!("{NAME}_{}", env!("CARGO_PKG_VERSION"));
    let platform = platform(std::env::consts::OS, std::env::consts::ARCH);
    let zip = format!("{release}_{platform}.zip");
    let manifest = format!("{release}_manifest.json");
    let sha256 = hex(&zipped);
    let sums = format!("{sha256}  {zip}\n{}  {manifest}\n", hex(MANIFEST.as_bytes()));
    std::fs::create_dir_all(into).map_err(|error| format!("{}: {error}", into.display()))?;
    write(&into.join(&zip), &zipped)?;
    write(&into.join(&manifest), MANIFEST.as_bytes())?;
    write(&into.join(format!("{release}_SHA256SUMS")), sums.as_bytes())?;
    Ok(Package { zip: into.join(zip), length: zipped.len(), sha256 })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn platforms_have_the_names_that_terraform_looks_for() {
        assert_eq!(platform("linux", "x86_64"), "linux_amd64");
        assert_eq!(platform("macos", "aarch64"), "darwin_arm64");
        assert_eq!(platform("windows", "x86_64"), "windows_amd64");
        assert_eq!(platform("freebsd", "riscv64"), "freebsd_riscv64");
    }

    #[test]
    fn a_package_has_what_a_mirror_serves_and_the_registry_checks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("elf"), [b"\x7fELF".as_slice(), &[0; 14], &[0x3e, 0]].concat()).unwrap();
        archive::pack(&at("elf"), &at(archive::NAME)).unwrap();
        std::fs::write(at("LICENSE"), "free").unwrap();
        let make = |into: &str| {
            package(&at("elf"), &at(archive::NAME), &[at("LICENSE")], &at(into)).unwrap()
        };
        let (one, other) = (make("one"), make("deep/other"));
        assert_eq!(one.sha256, other.sha256, "the same files, the same bytes");
        let bytes = std::fs::read(&one.zip).unwrap();
        assert_eq!(bytes.len(), one.length);
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names = zip.file_names().map(|name| name.unwrap().into_owned()).collect::<Vec<_>>();
        assert_eq!(names, [NAME, archive::NAME, "LICENSE"]);
        assert_eq!(zip.by_name(NAME).unwrap().unix_mode().unwrap() & 0o777, 0o755);
        let release = format!("one/{NAME}_{}", env!("CARGO_PKG_VERSION"));
        let sums = std::fs::read_to_string(at(&format!("{release}_SHA256SUMS"))).unwrap();
        let zip_name = one.zip.file_name().unwrap().to_str().unwrap();
        assert!(sums.contains(&format!("{}  {zip_name}\n", one.sha256)), "{sums}");
        assert!(sums.ends_with("_manifest.json\n"), "{sums}");
        let manifest = std::fs::read(at(&format!("{release}_manifest.json"))).unwrap();
        assert!(sums.contains(&hex(&manifest)), "{sums}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let told = package(&program, &program, &[], folder.path()).unwrap_err();
        assert!(told.contains("program cannot be read"), "{told}");
        std::fs::write(&program, "text").unwrap();
        let told = package(&program, &program, &[], folder.path()).unwrap_err();
        assert!(told.contains("is no archive with a program bootstrap"), "{told}");
    }
}
