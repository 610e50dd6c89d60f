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
pub(super) const NAME: &str = "trading-dr-agent.zip";
/// The variable that names another one.
const VARIABLE: &str = "TRADING_AGENT_ZIP";
/// What Lambda starts.
const PROGRAM: &str = "bootstrap";
/// The largest archive that Lambda takes in a request.
const LARGEST: usize = 50 << 20;

/// Where the archive is looked for.
pub fn place() -> Result<PathBuf, String> {
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
    read(&place()?)
}

/// An archive of the agent from its file.
pub(super) fn read(path: &Path) -> Result<Archive, String> {
    let bytes = std::fs::read(path)
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
    if let Some(why) = unfit(&bytes) {
        return Err(failed(program, why));
    }
    let packed = packed(&bytes).map_err(|error| failed(into, error.to_string()))?;
    let archive = checked(packed).map_err(|why| failed(into, why))?;
    std::fs::write(into, &archive.bytes).map_err(|error| failed(into, error.to_string()))?;
    Ok(archive)
}

/// The newest GLIBC on `provided.al2023`.
const NEWEST_GLIBC: u32 = 34;
/// Where an ELF file says for which processor it is, and x86-64 there.
const MACHINE: std::ops::Range<usize> = 18..20;
const X86_64: [u8; 2] = [0x3e, 0];

/// Why Lambda could not run a program, if so.
fn unfit(program: &[u8]) -> Option<String> {
    if !program.starts_with(b"\x7fELF") || program.get(MACHINE) != Some(&X86_64) {
        return Some("is no program for Linux on x86-64, which Lambda runs".into());
    }
    let prefix = b"GLIBC_2.";
    let newest = program
        .windows(prefix.len())
        .enumerate()
        .filter(|(_, part)| part == prefix)
        .filter_map(|(at, _)| {
            let digits = program[at + prefix.len()..].iter().take_while(|one| one.is_ascii_digit());
            digits.take(3).map(|one| char::from(*one)).collect::<String>().parse::<u32>().ok()
        })
        .max();
    let newest = newest.filter(|minor| *minor > NEWEST_GLIBC)?;
    Some(format!(
        "needs GLIBC 2.{newest}, and Lambda has 2.{NEWEST_GLIBC}: build it on an older Linux"
    ))
}

fn packed(program: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    zipped(&[(PROGRAM.into(), program.to_vec(), 0o755)])
}

/// Files with their names, contents and rights, in a zip; times are fixed.
pub(super) fn zipped(files: &[(String, Vec<u8>, u32)]) -> zip::result::ZipResult<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, rights) in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(DateTime::default())
            .unix_permissions(*rights);
        writer.start_file(name, options)?;
        writer.write_all(bytes)?;
    }
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
    fn a_program_that_lambda_cannot_run_is_told_from_one_that_it_can() {
        let mut program = [b"\x7fELF".as_slice(), &[0; 14], &X86_64, b"GLIBC_2.34\0"].concat();
        assert_eq!(unfit(&program), None);
        program.extend(b"GLIBC_2.35\0");
        assert!(unfit(&program).unwrap().contains("2.35"));
        let arm = [b"\x7fELF".as_slice(), &[0; 14], &[0xb7, 0]].concat();
        assert!(unfit(&arm).unwrap().contains("x86-64"));
        assert!(unfit(b"#!/bin/sh").is_some());
    }

    #[test]
    fn what_is_no_archive_is_told_from_one() {
        assert!(checked(b"no zip".to_vec()).unwrap_err().contains("no archive"));
        let archive = checked(packed(b"\x7fELF").unwrap()).unwrap();
        assert_eq!(archive.sha256.len(), 44, "SHA-256 in base64, as Lambda tells it");
    }
}
