//! A gateway with its collector, as a user would start it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{self, PATIENCE, Reply, Request},
    upstream::Upstream,
};

/// How often a condition is looked at while a test waits for it.
const LOOK: Duration = Duration::from_millis(20);
/// Any free port of this machine: the gateway takes one and logs which.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Deadlines that no test meets on a busy machine.
const PATIENT: &str = r#"{ connect = "10s", first_token = "10s", gap = "10s", answer = "10s" }"#;
/// Deadlines for tests that wait for them.
const IMPATIENT: &str = r#"{ connect = "1s", first_token = "1s", gap = "1s", answer = "1s" }"#;

/// The plan of a world: its configuration, before it starts.
#[derive(Debug)]
pub struct Builder {
    upstreams: Vec<Described>,
    route: Vec<String>,
    policy: String,
    deadlines: Option<String>,
    /// Whether an upstream's script holds a silence that only a deadline ends.
    silence: bool,
    mode: String,
    extra: String,
    attributes: Vec<String>,
    environment: Vec<(String, String)>,
}

/// An upstream as the configuration tells of it.
#[derive(Debug)]
struct Described {
    name: String,
    url: String,
    facts: String,
    model_facts: String,
}

/// A running gateway; it ends with its handle.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    gateway: Option<Child>,
    ai: SocketAddr,
    admin: SocketAddr,
    key: String,
    environment: Vec<(String, String)>,
}

/// Facts of an upstream that every test may send anything harmless or personal to.
pub const EUROPEAN: &str = "provider_headquarters = \"DE\"\nregion = \"DE\"";
/// Facts of an upstream in the US without any basis for personal data of EEA residents.
pub const AMERICAN: &str = "provider_headquarters = \"US\"\nregion = \"US\"";

impl Default for Builder {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            route: Vec::new(),
            policy: "packs = [\"org\", \"gdpr\", \"us-ear\", \"itar\", \"markings\"]".to_owned(),
            deadlines: None,
            silence: false,
            mode: "required".to_owned(),
            extra: String::new(),
            attributes: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl Builder {
    /// Adds an upstream to the end of the route `assistant`, with these facts (TOML lines).
    pub fn upstream(mut self, name: &str, upstream: &Upstream, facts: &str) -> Self {
        self.silence |= upstream.falls_silent();
        self.at(name, &upstream.url(), facts)
    }

    /// Adds an upstream at any address.
    pub fn at(mut self, name: &str, url: &str, facts: &str) -> Self {
        self.upstreams.push(Described {
            name: name.to_owned(),
            url: url.to_owned(),
            facts: facts.to_owned(),
            model_facts: String::new(),
        });
        self.route.push(format!("{name}/m"));
        self
    }

    /// The window of the model of the upstream that was added last.
    pub fn window(mut self, tokens: u64) -> Self {
        let last = self.upstreams.last_mut().expect("an upstream");
        last.model_facts = format!("context_tokens_max = {tokens}\n");
        self
    }

    /// Adds the local model to the end of the route.
    pub fn local(mut self) -> Self {
        self.route.push("local/smollm2-135m".to_owned());
        self
    }

    /// The four deadlines of the route, as TOML. Else they are long, and short where an upstream's
    /// script falls silent.
    pub fn deadlines(mut self, deadlines: &str) -> Self {
        self.deadlines = Some(deadlines.to_owned());
        self
    }

    /// Another bundle than the built-in one, which has the pack `org` only. Its decisions may take
    /// a while on a busy machine, and those that never end are given up after it.
    pub fn bundle(mut self, path: &Path) -> Self {
        let path = path.display();
        self.policy = format!("packs = [\"org\"]\nbundle = \"{path}\"\ndeadline = \"3s\"");
        self
    }

    /// The ledger's mode.
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = mode.to_owned();
        self
    }

    /// More configuration (TOML sections).
    pub fn extra(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self
    }

    /// An attribute of the test's key.
    pub fn attribute(mut self, attribute: &str) -> Self {
        self.attributes.push(attribute.to_owned());
        self
    }

    /// A variable of the gateway's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn configuration(&self) -> String {
        let deadlines = if self.silence { IMPATIENT } else { PATIENT };
        let deadlines = self.deadlines.as_deref().unwrap_or(deadlines);
        let mut text = format!(
            "[listeners]\nai = \"{ANY_PORT}\"\nadmin = \"{ANY_PORT}\"\n\n\
             [organisation]\nname = \"Test\"\nheadquarters = \"DE\"\nregion = \"DE\"\n\n\
             [policy]\n{}\n\n\
             [ledger]\nmode = \"{}\"\nbytes_max = \"2GiB\"\n\n",
            self.policy, self.mode
        );
        for Described { name, url, facts, model_facts } in &self.upstreams {
            text.push_str(&format!(
                "[upstreams.{name}]\nformat = \"openai\"\nurl = \"{url}\"\n{facts}\n\
                 [upstreams.{name}.models.m]\norigin = \"DE\"\nopen_weights = true\n\
                 {model_facts}\n"
            ));
        }
        text.push_str(&format!(
            "[routes.assistant]\ntargets = {:?}\ndeadlines = {deadlines}\n\n{}",
            self.route, self.extra
        ));
        text
    }

    /// Starts the gateway and waits until it is ready.
    pub fn start(self) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("cordon.toml");
        fs::write(&path, self.configuration()).expect("the folder is writable");
        link_models(&folder.path().join("data"));
        let Self { attributes, environment, .. } = self;
        let (ai, admin, key) = (ANY_PORT, ANY_PORT, String::new());
        let mut world = World { folder, gateway: None, ai, admin, key, environment };
        world.key = world.create_key("demo", &attributes);
        world.launch();
        world
    }
}

impl World {
    /// A world to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One good upstream in the EU, and nothing else.
    pub fn with(upstream: &Upstream) -> Self {
        Self::builder().upstream("first", upstream, EUROPEAN).start()
    }

    /// Starts the gateway again on the same data, at other addresses.
    pub fn launch(&mut self) {
        let logged = self.log().len();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("gateway.log"))
            .expect("the folder is writable");
        let mut command = self.command("cordon", &["run"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.gateway = Some(command.spawn().expect("cordon is built"));
        self.await_readiness(logged);
    }

    /// Learns the addresses from what is logged behind the first `logged` bytes, and waits until
    /// calls can be served.
    fn await_readiness(&mut self, logged: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(self.runs(), "the gateway ended while it started\n{}", self.log());
            assert!(Instant::now() < deadline, "the gateway never got ready\n{}", self.log());
            let told = self.log();
            if let Some((ai, admin)) = addresses(told.get(logged..).unwrap_or_default()) {
                (self.ai, self.admin) = (ai, admin);
                let ready = client::send(ai, &Request::get("/readyz", ""));
                if ready.is_ok_and(|reply| reply.status == 200) {
                    return;
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// A command of ours with this world's configuration and data.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program_path(program));
        command.args(arguments).arg("--data").arg(self.data());
        if program == "cordon" {
            command.arg("--config").arg(self.folder.path().join("cordon.toml"));
        }
        command.current_dir(self.folder.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().expect("the program is built")
    }

    /// Creates a key of `tenant` that may call and audit.
    pub fn create_key(&self, tenant: &str, attributes: &[String]) -> String {
        let mut command = self.command("cordon", &["keys", "create", "--tenant", tenant]);
        command.args(["--name", "test", "--role", "caller", "--role", "auditor"]);
        for attribute in attributes {
            command.args(["--attribute", attribute]);
        }
        let output = command.output().expect("cordon is built");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "no key: {told}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Asks the route `assistant`, not streaming.
    pub fn ask(&self, text: &str) -> Reply {
        self.send(&self.question(text, false))
    }

    /// Asks the route `assistant`, streaming.
    pub fn ask_streaming(&self, text: &str) -> Reply {
        self.send(&self.question(text, true))
    }

    /// The request of [`World::ask`].
    pub fn question(&self, text: &str, stream: bool) -> Request {
        let messages = json!([{"role": "user", "content": text}]);
        let body = json!({"model": "assistant", "messages": messages, "stream": stream});
        Request::chat(&self.key, &body)
    }

    /// Sends any request to the AI listener.
    pub fn send(&self, request: &Request) -> Reply {
        client::send(self.ai, request).unwrap_or_else(|fault| panic!("{fault}\n{}", self.log()))
    }

    /// Sends any request to the admin listener.
    pub fn send_admin(&self, request: &Request) -> Reply {
        let host = self.admin.to_string();
        let mut bytes = request.bytes();
        let text = String::from_utf8_lossy(&bytes).replacen(
            "host: localhost",
            &format!("host: {host}"),
            1,
        );
        bytes = text.into_bytes();
        let mut stream = client::connect(self.admin).expect("the admin listener is up");
        std::io::Write::write_all(&mut stream, &bytes).expect("it reads");
        client::read_reply(stream).expect("it answers")
    }

    /// The rows of a statement, through `cordon audit sql`.
    pub fn sql(&self, statement: &str) -> Vec<Value> {
        let output = self.run("cordon", &["audit", "sql", statement, "--format", "json"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{statement}`: {told}\n{}", self.log());
        serde_json::from_slice(&output.stdout).expect("an array of rows")
    }

    /// The row of one call; waits until it is visible.
    pub fn call(&self, call_id: &str) -> Value {
        let statement = format!("SELECT * FROM calls WHERE call_id = '{call_id}'");
        let mut rows = Vec::new();
        self.wait_until("the call is visible", |world| {
            rows = world.sql(&statement);
            !rows.is_empty()
        });
        assert_eq!(rows.len(), 1, "a call has exactly one row");
        rows.remove(0)
    }

    /// The attempts of one call, in order.
    pub fn attempts(&self, call_id: &str) -> Vec<Value> {
        self.sql(&format!("SELECT * FROM attempts WHERE call_id = '{call_id}' ORDER BY attempt"))
    }

    /// `cordon audit verify --json`.
    pub fn verify(&self) -> Value {
        let output = self.run("cordon", &["audit", "verify", "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Kills the gateway at once, as a crash would.
    pub fn kill_gateway(&mut self) {
        if let Some(mut child) = self.gateway.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// Orders the gateway to stop, as an operator would.
    pub fn order_to_stop(&self) {
        let child = self.gateway.as_ref().expect("it runs");
        signal(child, rustix::process::Signal::TERM);
    }

    /// Stops the gateway as an operator would and waits for its end.
    pub fn stop(&mut self) {
        if let Some(child) = &self.gateway {
            signal(child, rustix::process::Signal::TERM);
            self.await_end();
        }
    }

    /// Waits for the end of the gateway's process, and tells how it ended.
    pub fn await_end(&mut self) -> ExitStatus {
        let mut child = self.gateway.take().expect("a gateway was started");
        child.wait().expect("our own child")
    }

    /// The process id of the running gateway.
    pub fn gateway_pid(&self) -> u32 {
        self.gateway.as_ref().map_or(0, Child::id)
    }

    /// Whether the gateway's process still runs.
    pub fn runs(&mut self) -> bool {
        self.gateway.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_none()))
    }

    /// Waits until `condition` holds; fails with the gateway's log when it never does.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} never happened\n{}", self.log());
            std::thread::sleep(LOOK);
        }
    }

    /// What the gateway and its collector logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("gateway.log")).unwrap_or_default()
    }

    /// The key of the tests' caller.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The AI listener.
    pub fn ai(&self) -> SocketAddr {
        self.ai
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_gateway();
    }
}

/// Sends `signal` to a child.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a child has an id");
    rustix::process::kill_process(id, signal).expect("our own child");
}

/// A built program, beside this test's own.
pub fn program_path(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test is a file");
    let folder = own.ancestors().find(|folder| folder.join("cordon").is_file());
    folder.expect("cordon is built (`make test` builds it)").join(name)
}

/// Where a gateway says that it serves calls and administration.
fn addresses(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = log.lines().find(|line| line.contains("Cordon serves calls on"))?;
    let told = line.split("http://").skip(1).map(|rest| rest.split(' ').next());
    let mut told = told.filter_map(|address| address?.parse().ok());
    Some((told.next()?, told.next()?))
}

/// A port that was free a moment ago, for what must be told its port or find nobody there.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// Lets a data folder use the model that `make test` prepared.
fn link_models(data: &Path) {
    fs::create_dir_all(data).expect("the folder is writable");
    let models = std::env::var_os("CORDON_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/models"),
        PathBuf::from,
    );
    if let Ok(models) = models.canonicalize() {
        std::os::unix::fs::symlink(models, data.join("models")).expect("the folder is writable");
    }
}
