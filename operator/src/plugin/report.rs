//! The support bundle: one `tar.gz` with all that tells how a cluster is and has been. Nothing that a Secret holds is in it,
//! and it has a bound: so much of logs in all, so many lines of each container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::ask::Asker;
use super::found::Found;
use super::scrub::scrub;
use super::{status, text as words};
use crate::controller::api::{Api as _, Fresh, Which, text};
use crate::controller::kind::Kind;

/// Of each container.
const LINES: u32 = 20_000;
/// Of each container, and of what a member answers.
const MOST: usize = 8 << 20;
/// Of a kind. More are not shown.
const OBJECTS: usize = 200;

/// Kinds that are in it besides those of the picture.
const MORE: [Kind; 11] = [
    Kind::Service,
    Kind::ServiceAccount,
    Kind::ConfigMap,
    Kind::Secret,
    Kind::Budget,
    Kind::NetworkPolicy,
    Kind::Job,
    Kind::Certificate,
    Kind::PodMonitor,
    Kind::PrometheusRule,
    Kind::Event,
];

/// Kinds that somebody has to have installed.
fn optional(kind: Kind) -> bool {
    matches!(kind, Kind::Certificate | Kind::PodMonitor | Kind::PrometheusRule)
}

/// Entries by path, and what could not be had.
struct Bundle {
    archive: tar::Builder<GzEncoder<File>>,
    now: Timestamp,
    root: String,
    notes: Vec<String>,
    /// Bytes of logs that there is room for.
    room: usize,
}

/// Writes the bundle, and answers where it is.
///
/// # Errors
/// The file can't be written, or is there already.
pub async fn write(asker: &Asker, found: &Found, path: Option<PathBuf>, room: u64) -> anyhow::Result<PathBuf> {
    let now = words::now();
    let (namespace, name) = (text(&found.cluster, "/metadata/namespace"), text(&found.cluster, "/metadata/name"));
    let root = format!("keepstone-report-{namespace}-{name}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let path = path.unwrap_or_else(|| format!("{root}.tar.gz").into());
    let mut bundle = Bundle::create(&path, root, now, usize::try_from(room).unwrap_or(usize::MAX))?;
    bundle.put("status.txt", &status::render(found, now)?)?;
    objects(asker, found, &mut bundle).await?;
    nodes(asker, found, &mut bundle).await?;
    members(asker, found, &mut bundle).await?;
    logs(asker, found, &mut bundle).await?;
    bundle.finish()?;
    Ok(path)
}

async fn objects(asker: &Asker, found: &Found, bundle: &mut Bundle) -> anyhow::Result<()> {
    bundle.object("objects", &found.cluster)?;
    for (kind, list) in &found.lists {
        match list {
            Ok(list) => bundle.objects(*kind, list)?,
            Err(why) => bundle.note(kind.words().plural, why),
        }
    }
    let (namespace, name) = (asker.namespace(), text(&found.cluster, "/metadata/name"));
    for kind in MORE {
        let list = if kind == Kind::Event {
            Ok(found.events.clone())
        } else {
            asker.live().list(kind, namespace, Which::Of(name), Fresh::Now).await
        };
        match list {
            Ok(mut list) => {
                for one in &mut list {
                    if one.get("kind").is_none() {
                        one["apiVersion"] = kind.api_version().into();
                        one["kind"] = kind.words().kind.into();
                    }
                }
                bundle.objects(kind, &list)?;
            }
            // Nobody installed it.
            Err(crate::controller::api::ApiError::NotFound(_)) if optional(kind) => {}
            Err(why) => bundle.note(kind.words().plural, &why.to_string()),
        }
    }
    if let Some(Ok(operator)) = &found.operator {
        for pod in &operator.pods {
            bundle.object("operator", pod)?;
        }
        if let Some(lease) = &operator.lease {
            bundle.object("operator", lease)?;
        }
    }
    for (what, why) in found.missing() {
        bundle.note(&what, why);
    }
    Ok(())
}

/// Of the pods: why one is gone is mostly said there.
async fn nodes(asker: &Asker, found: &Found, bundle: &mut Bundle) -> anyhow::Result<()> {
    let names: BTreeSet<_> =
        found.of(Kind::Pod).map(|pod| text(pod, "/spec/nodeName")).filter(|it| !it.is_empty()).collect();
    for name in names {
        match asker.object(&format!("/api/v1/nodes/{name}")).await {
            Ok(node) => bundle.object("nodes", &node)?,
            Err(why) => bundle.note(&format!("node {name}"), &why.to_string()),
        }
    }
    Ok(())
}

async fn members(asker: &Asker, found: &Found, bundle: &mut Bundle) -> anyhow::Result<()> {
    for pod in found.told.keys() {
        for (page, file) in [("keepstone/member", "card.json"), ("metrics", "metrics.txt"), ("version", "version.json")]
        {
            match asker.of_member(pod, page).await {
                Ok(answer) => bundle.put(&format!("members/{pod}/{file}"), start(&answer, MOST))?,
                Err(why) => bundle.note(&format!("/{page} of {pod}"), &why),
            }
        }
    }
    Ok(())
}

async fn logs(asker: &Asker, found: &Found, bundle: &mut Bundle) -> anyhow::Result<()> {
    let operator = found.operator.iter().flatten().flat_map(|operator| &operator.pods);
    for pod in found.of(Kind::Pod).chain(operator) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        for (container, restarted) in containers(pod) {
            for previous in [false, true].into_iter().filter(|previous| !previous || restarted) {
                let what = if previous { "previous.log" } else { "log" };
                if bundle.room == 0 {
                    bundle.note(&format!("{what} of {name}/{container}"), "there was no room left for it");
                    continue;
                }
                let query = format!("container={container}&previous={previous}&tailLines={LINES}&timestamps=true");
                match asker.log(namespace, name, &query).await {
                    Ok(log) => {
                        let log = end(&log, MOST.min(bundle.room));
                        bundle.room -= log.len();
                        bundle.put(&format!("logs/{namespace}/{name}/{container}.{what}"), log)?;
                    }
                    Err(why) => bundle.note(&format!("{what} of {name}/{container}"), &why),
                }
            }
        }
    }
    Ok(())
}

/// Containers that have begun, and whether they were started again.
fn containers(pod: &Value) -> BTreeMap<String, bool> {
    let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let begun = all.filter(|one| one.pointer("/state/waiting").is_none() || one["restartCount"].as_i64() > Some(0));
    begun.map(|one| (text(one, "/name").to_owned(), one["restartCount"].as_i64() > Some(0))).collect()
}

/// The last whole lines that are no more than so many bytes: what happened last says most.
fn end(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let cut = text.len() - most;
    let line = text.as_bytes()[cut - 1..].iter().position(|byte| *byte == b'\n').map(|at| cut + at);
    line.map_or("", |line| &text[line..])
}

/// The first whole lines of no more than so many bytes.
fn start(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let line = text.as_bytes()[..most].iter().rposition(|byte| *byte == b'\n');
    line.map_or("", |line| &text[..=line])
}

impl Bundle {
    /// For its owner's eyes.
    fn create(path: &Path, root: String, now: Timestamp, room: usize) -> anyhow::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| path.display().to_string())?;
        let archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { archive, now, root, notes: Vec::new(), room })
    }

    fn note(&mut self, what: &str, why: &str) {
        let note = format!("{what}: {}", words::line(why));
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn put(&mut self, path: &str, content: &str) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.as_second()).unwrap_or(0));
        let path = format!("{}/{path}", self.root);
        self.archive.append_data(&mut header, path, content.as_bytes()).context("the archive")
    }

    fn object(&mut self, under: &str, object: &Value) -> anyhow::Result<()> {
        let name = text(object, "/metadata/name").to_owned();
        let kind = text(object, "/kind").to_lowercase();
        let text = serde_yaml::to_string(&scrub(object.clone()))?;
        self.put(&format!("{under}/{kind}/{name}.yaml"), &text)
    }

    fn objects(&mut self, kind: Kind, list: &[Value]) -> anyhow::Result<()> {
        if list.len() > OBJECTS {
            self.note(kind.words().plural, &format!("there are {}, of which {OBJECTS} are here", list.len()));
        }
        if kind == Kind::Event {
            let all: Vec<_> = list.iter().cloned().map(scrub).collect();
            return self.put("events.yaml", &serde_yaml::to_string(&all)?);
        }
        list.iter().take(OBJECTS).try_for_each(|one| self.object("objects", one))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let mut text = format!("made {} by kubectl keepstone {}\n", self.now, env!("CARGO_PKG_VERSION"));
        for note in &self.notes {
            text += &format!("not here: {note}\n");
        }
        self.put("report.txt", &text)?;
        let mut file = self.archive.into_inner().and_then(GzEncoder::finish).context("the archive")?;
        file.flush().and_then(|()| file.rewind()).context("the archive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_keeps_its_last_whole_lines() {
        let log = "first\nsecond ä\nthird\n";
        assert_eq!(end(log, 100), log);
        assert_eq!(end(log, 6), "third\n");
        // In the middle of a letter, too.
        for most in 7..16 {
            assert_eq!(end(log, most), "third\n", "{most}");
        }
        assert_eq!(end(log, 17), "second ä\nthird\n");
        assert_eq!((end(log, 0), end(log, 3)), ("", ""));
        assert_eq!((start(log, 8), start(log, 3)), ("first\n", ""));
    }
}
