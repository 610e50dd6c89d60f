//! The agent's archive: what Lambda runs, found beside the provider, and how it is made.

use std::{
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::components::Archive;

/// The archive's name, beside the provider's program.
const NAME: &str = "trading-dr-agent.zip";
/// The variable that names another one.
const VARIABLE: &str = "TRADING_AGENT_ZIP";
/// What Lambda starts.
const PROGRAM: &str = "bootstrap";
/// The largest archive that Lambda takes in a request.
const LARGEST: usize = 50 << 20;

/// Where the archive is looked for.
fn place() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        return Ok(named.into());
    }
    let program = std::env::current_exe()
        .map_err(|error| format!("the provider does not know where it is: {error}"))?;
    // Terraform may start it by a link.
    let program = program.canonicalize().unwrap_or(program);
    Ok(program.with_file_name(NAME))
}

/// The archive beside the provider, or the one that `TRADING_AGENT_ZIP` names.
///
/// # Errors
/// Where it should be, and why it is of no use.
pub(super) fn find() -> Result<Archive, String> {
    let path = place()?;
    let bytes = std::fs::read(&path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    checked(bytes).map_err(|why| format!("{} {why}", path.display()))
}

fn checked(bytes: Vec<u8>) -> Result<Archive, String> {
    let of = zip::ZipArchive::new(Cursor::new(&bytes));
    let holds = of.is_ok_and(|mut archive| archive.by_name(PROGRAM).is_ok());
    if !holds {
        return Err(format!("is no archive with a program {PROGRAM}"));
    }
    if bytes.len() > LARGEST {
        return Err(format!("has {} bytes, and Lambda takes {LARGEST} at most", bytes.len()));
    }
    Ok(archive(bytes))
}

/// An archive from its bytes.
pub fn archive(bytes: Vec<u8>) -> Archive {
    let sha256 = STANDARD.encode(Sha256::digest(&bytes));
    Archive { bytes: bytes.into(), sha256 }
}

/// Packs a program as Lambda wants it. The same program gives the same bytes: times are fixed, so that the
/// hash changes with the program and never without.
///
/// # Errors
/// The program cannot be read or is none for Linux, or the archive cannot be written.
pub fn pack(program: &Path, into: &Path) -> Result<Archive, String> {
    let failed = |path: &Path, error: String| format!("{}: {error}", path.display());
    let bytes = std::fs::read(program).map_err(|error| failed(program, error.to_string()))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(failed(program, "is no program for Linux, which Lambda runs".into()));
    }
    let packed = packed(&bytes).map_err(|error| failed(into, error.to_string()))?;
    let archive = checked(packed).map_err(|why| failed(into, why))?;
    std::fs::write(into, &archive.bytes).map_err(|error| failed(into, error.to_string()))?;
    Ok(archive)
}

fn packed(program: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(PROGRAM, options)?;
    writer.write_all(program)?;
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_is_packed_into_the_same_archive() {
        let program = [b"\x7fELF".as_slice(), &[7; 10_000]].concat();
        let (one, other) = (packed(&program).unwrap(), packed(&program).unwrap());
        assert_eq!(one, other);
        assert!(one.len() < program.len(), "it is compressed");
        let mut archive = zip::ZipArchive::new(Cursor::new(one)).unwrap();
        let file = archive.by_name(PROGRAM).unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        assert_eq!(file.size(), program.len() as u64);
    }

    #[test]
    fn what_is_no_archive_is_told_from_one() {
        assert!(checked(b"no zip".to_vec()).unwrap_err().contains("no archive"));
        let archive = checked(packed(b"\x7fELF").unwrap()).unwrap();
        assert_eq!(archive.sha256.len(), 44, "SHA-256 in base64, as Lambda tells it");
    }
}
