//! The real `terraform`, the provider as a process of its own, and a sandbox on a loopback port.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use aws_sandbox::{ACCESS_KEY, Host, Laboratory, Programs, SECRET_KEY, Sandbox, Source, World};
use serde_json::Value as Json;
use tempfile::TempDir;

/// How many times as fast as real time the account's time passes. A lease has to be renewed within 55 s of the
/// account's time, which a busy machine must manage: 0.37 s here. At 600 it did not always.
pub const SCALE: f64 = 150.0;

/// A sandbox that listens until it is dropped.
pub struct Served {
    pub sandbox: Sandbox,
    pub url: String,
    scale: f64,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    pub fn new() -> Self {
        Self::at(SCALE)
    }

    /// Where time passes so many times as fast: slower for whoever makes several clusters at once.
    pub fn at(scale: f64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sandbox, url) = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let sandbox = Sandbox::new(scale);
            sandbox.model_functions();
            tokio::spawn(sandbox.clone().serve(listener));
            (sandbox, url)
        });
        Self { sandbox, url, scale, runtime }
    }

    /// From now on functions are run, as Lambda runs them, until what is returned is dropped; probes are modelled
    /// without real databases.
    pub fn run_functions(&self, databases: Option<&Arc<Laboratory>>) -> Host {
        let _inside = self.runtime.enter();
        self.sandbox.run_functions(Vec::new(), databases.cloned()).unwrap()
    }

    /// From now on every instance is a PostgreSQL of its own, until what is returned is dropped.
    pub fn run_databases(&self, programs: Programs) -> Arc<Laboratory> {
        let _inside = self.runtime.enter();
        self.sandbox.run_databases(programs).unwrap()
    }

    /// What `psql` prints for a statement, from a place in the network; an error where it fails.
    pub fn psql(
        &self,
        databases: &Arc<Laboratory>,
        from: &Source,
        host: &str,
        login: (&str, &str),
        sql: &str,
    ) -> Result<String, String> {
        let mut psql = self.psql_command(databases, from, host, login);
        psql.args(["-c", sql]);
        let done = psql.output().unwrap();
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }

    /// `psql` from a place in the network, yet to be run.
    pub fn psql_command(
        &self,
        databases: &Arc<Laboratory>,
        from: &Source,
        host: &str,
        login: (&str, &str),
    ) -> Command {
        // As the README advises: the certificate names the endpoint, not the cluster's own name.
        let psql = databases.psql(from, host, "trading", login, "verify-ca");
        self.block_on(psql).unwrap()
    }

    /// Runs something to its end, beside the account.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Lets something run beside the account, until that is dropped.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// How long so many milliseconds of the account's time are on the machine.
    pub fn machine_time(&self, milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds).div_f64(self.sandbox.scale())
    }

    /// Lets so many seconds of the account's time pass.
    pub fn pass(&self, seconds: u64) {
        self.block_on(self.sandbox.pass(seconds * 1000));
    }

    /// Waits until something is so in the account, for so many seconds of its time at most.
    #[track_caller]
    pub fn until(&self, seconds: u64, what: &str, is_so: impl Fn(&mut World) -> bool) {
        let came = self.runtime.block_on(self.sandbox.until(seconds, is_so));
        assert!(came, "within {seconds} s of the account's time: {what}");
    }

    pub fn leftovers(&self) -> Vec<String> {
        self.sandbox.with(|world| world.leftovers())
    }
}

/// A folder with a configuration.
pub struct Workspace {
    folder: TempDir,
    url: String,
    variables: Vec<(String, String)>,
}

/// What a run of `terraform` printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The message without the frame and the line breaks that Terraform puts around it.
    pub fn message(&self) -> String {
        let frame = |one: char| "│╷╵ ".contains(one);
        let lines = self.err.lines().map(|line| line.trim_matches(frame));
        lines.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn must_succeed(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
}

impl Workspace {
    /// A folder whose configuration is `body`, behind the block that names the provider.
    pub fn new(served: &Served, body: &str) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_terraform-provider-trading"));
        Self::with_provider(served, binary, body)
    }

    /// The same with another build of the provider.
    pub fn with_provider(served: &Served, binary: &Path, body: &str) -> Self {
        let this = Self::bare(served);
        let settings = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"tradingdr/trading\" = {:?}\n  }}\n  direct {{}}\n}}\n",
            binary.parent().unwrap()
        );
        std::fs::write(this.path("terraform.rc"), settings).unwrap();
        this.write(body);
        this
    }

    /// A folder where nothing is configured yet, with the account's credentials and an archive for functions.
    pub fn bare(served: &Served) -> Self {
        let folder = TempDir::new().unwrap();
        // Nothing is run of it, unless a test asks for that: a few bytes will do.
        let (program, archive) = (folder.path().join("agent"), folder.path().join("agent.zip"));
        std::fs::write(&program, b"\x7fELF\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x3e\0").unwrap();
        trading::provider::archive::pack(&program, &archive).unwrap();
        let variables = [
            ("TRADING_AGENT_ZIP", archive.to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_ENDPOINT_URL", &served.url),
            ("TRADING_CLOCK_SCALE", &served.scale.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { folder, url: served.url.clone(), variables }
    }

    /// Another configuration in the same folder.
    pub fn write(&self, body: &str) {
        let provider = "terraform {\n  required_providers {\n    trading = {\n      source = \"tradingdr/trading\"\n    }\n  }\n}\n\n";
        std::fs::write(self.path("main.tf"), format!("{provider}{body}")).unwrap();
    }

    /// Has Terraform install the provider, and nothing else, from a place: a block of `provider_installation`.
    pub fn install_from(&self, place: &str) {
        let settings = format!("provider_installation {{\n  {place}\n}}\n");
        std::fs::write(self.path("terraform.rc"), settings).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets an environment variable of the runs; an empty value unsets it.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("terraform");
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        for name in ["PATH", "TMPDIR"] {
            if let Ok(value) = std::env::var(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.folder.path())
            .env("TF_CLI_CONFIG_FILE", self.path("terraform.rc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.variables.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `terraform` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output();
        Ran::of(output.expect("terraform is a prerequisite of the tests: it must be on the PATH"))
    }

    /// Starts the provider by hand, in the folder where Terraform runs.
    pub fn start_by_hand(&self, arguments: &[&str]) -> Running {
        self.start_by_hand_on(Stdio::piped(), arguments)
    }

    /// The same, with its output to somewhere else.
    pub fn start_by_hand_on(&self, out: Stdio, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terraform-provider-trading"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("TF_DATA_DIR");
        command.env("HOME", self.folder.path()).envs(self.variables.clone());
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap()))
    }

    /// Starts `terraform` in a process group of its own, as a shell does.
    pub fn start(&self, arguments: &[&str]) -> Running {
        use std::os::unix::process::CommandExt as _;
        Running(Some(self.command(arguments).process_group(0).spawn().unwrap()))
    }

    pub fn apply(&self) -> Ran {
        self.run(&["apply", "-auto-approve", "-no-color"])
    }

    pub fn destroy(&self) -> Ran {
        self.run(&["destroy", "-auto-approve", "-no-color"])
    }

    pub fn plan(&self) -> Ran {
        self.run(&["plan", "-detailed-exitcode", "-no-color"])
    }

    /// A plan must show nothing.
    pub fn must_be_unchanged(&self) {
        let ran = self.plan();
        assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    }

    /// The attributes of the only resource in the state.
    pub fn state(&self) -> Json {
        let text = std::fs::read_to_string(self.path("terraform.tfstate")).unwrap_or_default();
        let state: Json = serde_json::from_str(&text).unwrap_or_default();
        state["resources"][0]["instances"][0].clone()
    }

    pub fn endpoint(&self) -> &str {
        &self.url
    }
}

/// A run of `terraform` under way.
pub struct Running(Option<Child>);

impl Running {
    /// Sends a signal to Terraform and its plugins, as a terminal does.
    pub fn signal(&self, name: &str) {
        let group = format!("-{}", self.0.as_ref().unwrap().id());
        let sent = Command::new("kill").args(["-s", name, "--", &group]).status();
        assert!(sent.unwrap().success());
    }

    pub fn wait(mut self) -> Ran {
        Ran::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

/// Nobody waits for it: a test has failed.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What takes the cluster `prod` over in the next apply.
pub const IMPORT: &str = "\nimport {\n  to = trading_dr_cluster.prod\n  id = \"prod\"\n}\n";

/// A cluster in the seeded network, with more arguments in it.
pub fn cluster(served: &Served, name: &str, more: &str) -> String {
    let network = served.sandbox.with(|world| world.network());
    let (east, west) = (&network["us-east-1"], &network["us-west-2"]);
    format!(
        r#"resource "trading_dr_cluster" "{name}" {{
  environment_suffix = "{name}"

  primary = {{
    vpc_id                     = {vpc}
    allowed_security_group_ids = [{group}]
  }}

  dr = {{
    vpc_id                     = {dr_vpc}
    allowed_security_group_ids = [{dr_group}]
  }}
{more}
}}
"#,
        vpc = east["vpc_id"],
        group = east["application_security_group_id"],
        dr_vpc = west["vpc_id"],
        dr_group = west["application_security_group_id"],
    )
}
