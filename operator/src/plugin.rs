//! `kubectl keepstone`: a cluster told in words, and orders to it. It is this same program under the name `kubectl-keepstone`,
//! or its command `kubectl`.
//!
//! It has its user's rights and no others, and needs nothing but the API server: an order is an `EtcdOperation` or an
//! `EtcdBackup` that the operator finds, and what members say themselves comes through the API server's proxy, where the
//! user may ask so. What can't be read is said, and the rest shown. It changes nothing but by making such objects.

pub mod args;
mod ask;
mod found;
pub mod lines;
mod order;
mod report;
mod scrub;
pub mod status;
mod table;
pub mod text;
mod told;
mod wait;

pub use args::Arguments;
pub use found::{Found, Operator};
pub use told::Told;

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::controller::api::{Api as _, text as at};
use crate::controller::kind::{Kind, Name};
use args::{Output, Verb};
use ask::Asker;

/// The name under which the program is the plugin at once.
pub const NAME: &str = "kubectl-keepstone";

/// Whether a program of this path was called as the plugin.
#[must_use]
pub fn called(program: &str) -> bool {
    Path::new(program).file_stem().is_some_and(|name| name == NAME || name == "kubectl_keepstone")
}

/// Does what was asked, and prints what came of it. Whether it came out well: an order that was waited for and failed did not.
///
/// # Errors
/// There is no Kubernetes to ask, it refuses, or there is no such cluster.
pub async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { reach, verb } = arguments;
    let asker = Asker::connect(&reach).await?;
    match verb {
        Verb::Status { cluster, all_namespaces, output } => {
            status_of(&asker, cluster, all_namespaces, output).await?;
        }
        Verb::Members { cluster, output } => {
            let found = asker.found(&asker.chosen(cluster).await?).await?;
            let lines = lines::members(&found)?;
            match output {
                Some(format) => show(format, &serde_json::to_value(&lines)?)?,
                None => print(&status::members(&lines, &found)),
            }
        }
        Verb::Report { cluster, file, log_megabytes } => {
            let found = asker.found(&asker.chosen(cluster).await?).await?;
            let path = report::write(&asker, &found, file, log_megabytes << 20).await?;
            println!("{}", path.display());
        }
        Verb::Backup(order) => {
            let cluster = asker.cluster(&order.order.cluster).await?;
            let object = order::backup(&order, asker.namespace(), &cluster)?;
            return place(&asker, Kind::Backup, object, &order.order).await;
        }
        verb => {
            let order = verb.order().context("no such order")?.clone();
            let cluster = asker.cluster(&order.cluster).await?;
            let (name, with) = order::verb(&verb, &cluster)?;
            let object = order::operation(asker.namespace(), &order.cluster, name, &with);
            return place(&asker, Kind::Operation, object, &order).await;
        }
    }
    Ok(true)
}

async fn status_of(
    asker: &Asker,
    cluster: Option<String>,
    everywhere: bool,
    output: Option<Output>,
) -> anyhow::Result<()> {
    let one = match cluster {
        Some(name) if !everywhere => Some(name),
        Some(_) => bail!("a cluster has one namespace: leave out its name, or --all-namespaces"),
        None => None,
    };
    let name = match one {
        Some(name) => name,
        None => {
            let all = asker.clusters(everywhere).await?;
            match (&all[..], output) {
                ([only], _) if !everywhere => at(only, "/metadata/name").to_owned(),
                (_, Some(format)) => {
                    return show(format, &json!({"apiVersion": "v1", "kind": "List", "items": all}));
                }
                (all, None) => {
                    print(&status::clusters(all, everywhere, text::now()));
                    return Ok(());
                }
            }
        }
    };
    let found = asker.found(&name).await?;
    match output {
        Some(format) => show(format, &found.object()?),
        None => {
            print(&status::render(&found, text::now())?);
            Ok(())
        }
    }
}

/// Makes the object, and sees to its end where that was asked.
async fn place(asker: &Asker, kind: Kind, object: Value, order: &args::Order) -> anyhow::Result<bool> {
    if order.dry_run {
        show(order.output.unwrap_or(Output::Yaml), &object)?;
        return Ok(true);
    }
    let made = asker.create(kind, &object).await?;
    let name = Name::new(at(&made, "/metadata/namespace"), at(&made, "/metadata/name"));
    if !order.wait {
        match order.output {
            Some(format) => show(format, &made)?,
            None => println!("{}/{} created", resource(kind), name.name),
        }
        return Ok(true);
    }
    eprintln!("{}/{} created", resource(kind), name.name);
    let ended = wait::end(asker.live(), kind, &name, order.timeout()?).await?;
    match order.output {
        Some(format) => show(format, &ended)?,
        None => print(&status::end(kind, &ended)),
    }
    Ok(wait::well(&ended))
}

fn resource(kind: Kind) -> String {
    let words = kind.words();
    format!("{}.{}", words.kind.to_lowercase(), words.group)
}

fn show(format: Output, value: &Value) -> anyhow::Result<()> {
    print(&match format {
        Output::Json => serde_json::to_string_pretty(value)? + "\n",
        Output::Yaml => serde_yaml::to_string(value)?,
    });
    Ok(())
}

/// A reader that has seen enough is no failure of ours.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl Asker {
    /// The named cluster, or the one there is.
    async fn chosen(&self, cluster: Option<String>) -> anyhow::Result<String> {
        if let Some(name) = cluster {
            return Ok(name);
        }
        match &self.clusters(false).await?[..] {
            [only] => Ok(at(only, "/metadata/name").to_owned()),
            [] => bail!("there is no EtcdCluster in namespace {}", self.namespace()),
            all => {
                let names: Vec<_> = all.iter().map(|one| at(one, "/metadata/name")).collect();
                bail!("which one? In namespace {} there are {}", self.namespace(), names.join(", "))
            }
        }
    }

    async fn cluster(&self, name: &str) -> anyhow::Result<Value> {
        let at = Name::new(self.namespace(), name);
        let found = self.live().get(Kind::Cluster, &at).await.with_context(|| format!("EtcdCluster {at}"))?;
        found.with_context(|| format!("there is no EtcdCluster {at}"))
    }
}
