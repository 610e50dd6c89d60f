"""Holds what makes a release against the rules of whoever reads it: GoReleaser, GitHub, the Terraform Registry.

None of them can be run here, so their rules are: GoReleaser's schema (its part in goreleaser.json), what its Rust
builder refuses (internal/builders/rust and base, at cd616d2c0 of 2026-08-22), GitHub's schema for workflows (by way of check-jsonschema),
and the Registry's demands on names, manifest, checksums and signature
(https://developer.hashicorp.com/terraform/registry/providers/publishing). Then every rule is broken once, and has to
be noticed.
"""

import copy
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import jsonschema
import ruamel.yaml

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
# Of the Rust builder's targets, those on platforms that Terraform has builds for.
TARGETS = {
    "x86_64-unknown-linux-gnu": "linux_amd64",
    "aarch64-unknown-linux-gnu": "linux_arm64",
    "x86_64-apple-darwin": "darwin_amd64",
    "aarch64-apple-darwin": "darwin_arm64",
    "x86_64-pc-windows-msvc": "windows_amd64",
    "aarch64-pc-windows-msvc": "windows_arm64",
}
NOT_FOR_RUST = {"main", "ldflags", "goos", "goarch", "goamd64", "go386", "goarm", "goarm64", "gomips", "goppc64",
                "goriscv64", "ignore", "buildmode", "tags", "asmflags", "overrides"}
RELEASE = "{{ .ProjectName }}_{{ .Version }}"
# What is made on the way, and whose absence tools/prebuilt reports.
MADE = {"target/agent/trading-dr-agent.zip"}


def load(name):
    return ruamel.yaml.YAML(typ="safe").load((ROOT / name).read_text())


def exists(pattern):
    names = re.fullmatch(r"\{(.+)\}", pattern)
    names = names[1].split(",") if names else [pattern]
    return all(name in MADE or (ROOT / name).is_file() for name in names)


def goreleaser(config, cargo):
    schema = json.loads((HERE / "goreleaser.json").read_text())
    for error in jsonschema.Draft202012Validator(schema).iter_errors(config):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:120]}"
    if config.get("project_name") != "terraform-provider-trading":
        yield "project_name: the Registry finds terraform-provider-NAME only"
    programs = {one["name"] for one in cargo["bin"]}
    builds = config.get("builds", [])
    if len(builds) != 1:
        yield "builds: a zip is to hold one program"
    for build in builds:
        if build.get("builder") != "rust":
            yield "builds: the builder is not Rust's"
        if build.get("binary") not in programs:
            yield f"builds.binary: the Rust builder copies Cargo's program of this name, and there is none"
        for key in NOT_FOR_RUST & set(build):
            yield f"builds.{key}: the Rust builder refuses it"
        flags = build.get("flags", [])
        if not any(flag.startswith(("-p=", "--package=")) for flag in flags):
            yield "builds.flags: in a workspace, the Rust builder wants --package="
        if "--release" not in flags:
            yield "builds.flags: the Rust builder copies from the release folder"
        if set(build.get("targets", [])) != set(TARGETS):
            yield "builds.targets: not those that are known to be built"
        if not (ROOT / build.get("tool", "cargo")).is_file():
            yield "builds.tool: is missing"
    for archive in config.get("archives", []):
        if archive.get("formats") != ["zip"]:
            yield "archives.formats: Terraform installs zips"
        if archive.get("name_template") != RELEASE + "_{{ .Os }}_{{ .Arch }}":
            yield "archives.name_template: not what Terraform looks for"
        if archive.get("wrap_in_directory"):
            yield "archives.wrap_in_directory: Terraform looks for the program at the top"
        sources = [one if isinstance(one, str) else one["src"] for one in archive.get("files", [])]
        if MADE - set(sources):
            yield "archives.files: the provider needs its functions' archive beside it"
        for source in sources:
            if not exists(source):
                yield f"archives.files: {source} is missing, and GoReleaser would only warn"
            of = next(one for one in archive["files"] if one == source or one.get("src") == source)
            if "/" in source and not of.get("strip_parent"):
                yield f"archives.files: {source} would be in a folder, and the provider looks beside itself"
    if not config.get("archives"):
        yield "archives: the default is no zip"
    sums = config.get("checksum", {})
    if sums.get("name_template") != RELEASE + "_SHA256SUMS" or sums.get("algorithm", "sha256") != "sha256":
        yield "checksum: not what the Registry reads"
    if sums.get("split") or sums.get("disable"):
        yield "checksum: the Registry reads one file"
    manifest = {"glob": "terraform-registry-manifest.json", "name_template": RELEASE + "_manifest.json"}
    for of, files in (("checksum", sums.get("extra_files", [])),
                      ("release", config.get("release", {}).get("extra_files", []))):
        if manifest not in files:
            yield f"{of}.extra_files: without the manifest the Registry takes protocol 5 for granted"
    signs = config.get("signs", [])
    if [one.get("artifacts") for one in signs] != ["checksum"]:
        yield "signs: the Registry wants the checksums signed"
    for sign in signs:
        arguments = sign.get("args", [])
        if "--detach-sign" not in arguments or {"--armor", "-a"} & set(arguments):
            yield "signs.args: the signature is detached and binary"
        if sign.get("signature", "${artifact}.sig") != "${artifact}.sig":
            yield "signs.signature: the Registry looks for SHA256SUMS.sig"


def manifest(content):
    if content.get("version") != 1:
        yield "manifest.version: is 1"
    if content.get("metadata", {}).get("protocol_versions") != ["6.0"]:
        yield "manifest.protocol_versions: the provider speaks 6"


def workflows(release, test, deny):
    for name, content in (("release", release), ("test", test)):
        jobs = content["jobs"]
        for job, body in jobs.items():
            needs = body.get("needs", [])
            for need in [needs] if isinstance(needs, str) else needs:
                if need not in jobs:
                    yield f"{name}.{job}: needs {need}, which is no job"
            steps = body.get("steps", [])
            if "steps" in body and "timeout-minutes" not in body:
                yield f"{name}.{job}: has no limit of time"
            for action in [step["uses"] for step in steps if "uses" in step]:
                if not re.search(r"@v\d", action):
                    yield f"{name}.{job}: {action} has no version"
            for script in [step["run"] for step in steps if "run" in step]:
                for tool in re.findall(r"(?<![\w/])(?:tools|\.ci)/[\w-]+", script):
                    if not (ROOT / tool).is_file():
                        yield f"{name}.{job}: {tool} is missing"
    if "tools/install-check" not in json.dumps(release["jobs"]["build"]["steps"]):
        yield "release.build: nobody tries whether Terraform installs what was built"
    built = {one["target"] for one in release["jobs"]["build"]["strategy"]["matrix"]["include"]}
    if built != set(TARGETS):
        yield "release.build: not the platforms that .goreleaser.yml packs"
    if not {"test", "build"} <= set(release["jobs"]["release"].get("needs", [])):
        yield "release.release: waits neither for the tests nor for the programs"
    if set(deny["graph"]["targets"]) != set(TARGETS):
        yield "deny.toml: licences are not those of the platforms that are handed out"
    commands = json.dumps(test["jobs"])
    for wanted in (".ci/run", "make crash", "check advisories"):
        if wanted not in commands:
            yield f"test: {wanted} is not run"


def everything(files):
    yield from goreleaser(files["goreleaser"], files["cargo"])
    yield from manifest(files["manifest"])
    yield from workflows(files["release"], files["test"], files["deny"])


def put(*path, value=None):
    """A mistake: a value somewhere, or nothing there."""
    def change(files):
        at = files
        for step in path[:-1]:
            at = at[step]
        if value is None:
            del at[path[-1]]
        else:
            at[path[-1]] = value
    return change


MISTAKES = [
    put("goreleaser", "build", value=[]),
    put("goreleaser", "project_name", value="provider-trading"),
    put("goreleaser", "builds", value=[]),
    put("goreleaser", "builds", 0, "builder", value="go"),
    put("goreleaser", "builds", 0, "binary", value="{{ .ProjectName }}_v{{ .Version }}"),
    put("goreleaser", "builds", 0, "goos", value=["linux"]),
    put("goreleaser", "builds", 0, "ldflags", value="-s"),
    put("goreleaser", "builds", 0, "flags", value=["--release"]),
    put("goreleaser", "builds", 0, "flags", value=["--package=terraform-provider-trading"]),
    put("goreleaser", "builds", 0, "targets", 0),
    put("goreleaser", "builds", 0, "tool", value="tools/cargo"),
    put("goreleaser", "archives", value=[]),
    put("goreleaser", "archives", 0, "formats"),
    put("goreleaser", "archives", 0, "name_template"),
    put("goreleaser", "archives", 0, "wrap_in_directory", value=True),
    put("goreleaser", "archives", 0, "files", 0),
    put("goreleaser", "archives", 0, "files", 0, "strip_parent"),
    put("goreleaser", "archives", 0, "files", 1, "src", value="{LICENSE,NOTICE}"),
    put("goreleaser", "checksum", "name_template"),
    put("goreleaser", "checksum", "algorithm", value="sha512"),
    put("goreleaser", "checksum", "split", value=True),
    put("goreleaser", "checksum", "extra_files"),
    put("goreleaser", "release", "extra_files"),
    put("goreleaser", "signs", 0, "artifacts", value="all"),
    put("goreleaser", "signs", 0, "args", value=["--armor", "--detach-sign"]),
    put("goreleaser", "signs", 0, "signature", value="${artifact}.asc"),
    put("manifest", "version", value=2),
    put("manifest", "metadata", "protocol_versions", value=["5.0"]),
    put("release", "jobs", "build", "needs", value="agents"),
    put("release", "jobs", "build", "timeout-minutes"),
    put("release", "jobs", "build", "strategy", "matrix", "include", 0),
    put("release", "jobs", "build", "steps", value=[]),
    put("release", "jobs", "release", "needs", value=["build"]),
    put("release", "jobs", "agent", "steps", 0, "uses", value="actions/checkout@main"),
    put("release", "jobs", "agent", "steps", 1, "run", value="tools/agent"),
    put("test", "jobs", "everything", "steps", value=[]),
    put("test", "jobs", "advisories"),
    put("deny", "graph", "targets", 0),
]


def main():
    files = {
        "goreleaser": load(".goreleaser.yml"),
        "cargo": tomllib.loads((ROOT / "Cargo.toml").read_text()),
        "manifest": json.loads((ROOT / "terraform-registry-manifest.json").read_text()),
        "release": load(".github/workflows/release.yml"),
        "test": load(".github/workflows/test.yml"),
        "deny": tomllib.loads((ROOT / "deny.toml").read_text()),
    }
    wrong = list(everything(files))
    for number, mistake in enumerate(MISTAKES):
        seeded = copy.deepcopy(files)
        mistake(seeded)
        if not list(everything(seeded)):
            wrong.append(f"mistake {number} of packaging.py was not noticed")
    paths = [str(ROOT / ".github/workflows" / name) for name in ("release.yml", "test.yml")]
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *paths]
    done = subprocess.run(schema, capture_output=True, text=True, check=False)
    if done.returncode:
        wrong.append(done.stdout + done.stderr)
    for one in wrong:
        print(f"packaging: {one}", file=sys.stderr)
    print(f"packaging: {len(MISTAKES)} seeded mistakes, {len(wrong)} contradictions")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
