//! Arguments become a command, and the command is carried out. Nothing else happens here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use keepstone_operator::backup;
use keepstone_operator::manager::{self, Options};
use keepstone_operator::plugin;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "keepstone-operator", version, about = "Runs keepstone clusters on Kubernetes")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Looks after all clusters.
    Manager(ManagerArguments),
    /// What `kubectl keepstone` does, which is this program under the name `kubectl-keepstone`.
    Kubectl(plugin::Arguments),
    /// Carries out one task beside a volume or a store, as its Job says in KEEPSTONE_TASK.
    Agent(AgentArguments),
}

#[derive(clap::Args)]
struct AgentArguments {
    /// Where it is told what came of it.
    #[arg(long, default_value = "/dev/termination-log")]
    report: PathBuf,
}

#[derive(clap::Args)]
struct ManagerArguments {
    /// Where probes and metrics are answered.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The lease that says which operator works, in the operator's own namespace.
    #[arg(long, default_value = "keepstone-operator")]
    lease_name: String,
    /// The members' image without its tag.
    #[arg(long)]
    image_registry: String,
    /// The operator's own image, for backups and restores.
    #[arg(long, env = "OPERATOR_IMAGE", default_value = "keepstone/keepstone-operator")]
    agent_image: String,
    /// The DNS domain of the Kubernetes cluster.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// error, warn, info, debug or trace.
    #[arg(long, default_value = "info")]
    log_level: String,
    #[arg(long, value_enum, default_value_t = Format::Json)]
    log_format: Format,
    /// The namespaces that are looked after; all where absent.
    #[arg(long, value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// The name of this pod.
    #[arg(long, env = "POD_NAME", default_value = "keepstone-operator")]
    pod_name: String,
    /// The namespace of this pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pod_namespace: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Text,
}

fn main() -> ExitCode {
    let program = std::env::args().next().unwrap_or_default();
    let command = if plugin::called(&program) {
        Command::Kubectl(plugin::Arguments::parse())
    } else {
        Arguments::parse().command
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return wrong(&why),
    };
    let well = runtime.block_on(async {
        match command {
            Command::Manager(arguments) => manage(arguments).await.map(|()| true),
            Command::Agent(arguments) => {
                log("info", Format::Json)?;
                backup::run(&arguments.report, manager::terminated()).await.map(|()| true)
            }
            Command::Kubectl(arguments) => plugin::run(arguments).await,
        }
    });
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => wrong(&format!("{why:#}")),
    }
}

async fn manage(arguments: ManagerArguments) -> anyhow::Result<()> {
    log(&arguments.log_level, arguments.log_format)?;
    let options = Options {
        listen: arguments.listen,
        lease: arguments.lease_name,
        image: arguments.image_registry,
        agent: arguments.agent_image,
        domain: arguments.cluster_domain,
        namespaces: arguments.watch_namespaces,
        pod: arguments.pod_name,
        namespace: arguments.pod_namespace,
    };
    manager::run(options).await
}

fn log(level: &str, format: Format) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(level)?).with_writer(std::io::stderr);
    match format {
        Format::Json => log.json().init(),
        Format::Text => log.init(),
    }
    Ok(())
}

fn wrong(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("keepstone-operator: {why}");
    ExitCode::FAILURE
}
