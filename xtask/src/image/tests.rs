use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;

const PROGRAM: &[u8] = b"\x7fELF and so on";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a checkout")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// By a program that is not ours.
fn unpack(archive: &Path, into: &Path) {
    fs::create_dir_all(into).expect("a directory");
    let done = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).args(["--no-same-owner", "-p"]).status();
    assert!(done.expect("tar runs").success());
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// The blob that a descriptor names, with its size and digest checked.
fn blob(dir: &Path, descriptor: &Value) -> std::path::PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest");
    let path = dir.join("blobs").join(digest.replace(':', "/"));
    let bytes = fs::read(&path).expect("a blob");
    let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(format!("sha256:{hex}"), digest);
    assert_eq!(descriptor["size"], bytes.len());
    path
}

#[test]
fn an_image_is_read_back_as_it_was_meant() {
    for image in IMAGES {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("image.tar");
        let archive = archive::make(image, PROGRAM.to_vec(), "amd64", "v1.2.3");
        fs::write(&file, &archive.bytes).expect("written");
        let layout = dir.path().join("layout");
        unpack(&file, &layout);

        assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
        let index = json(&layout.join("index.json"));
        let named = &index["manifests"][0];
        assert_eq!(named["digest"], archive.digest.as_str());
        assert_eq!(named["annotations"]["io.containerd.image.name"], format!("docker.io/{}:v1.2.3", image.repository));
        let manifest = json(&blob(&layout, named));
        let config = json(&blob(&layout, &manifest["config"]));
        let layer = blob(&layout, &manifest["layers"][0]);
        // Not compressed: the layer's digest is that of its contents.
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!((&config["architecture"], &config["os"]), (&Value::from("amd64"), &Value::from("linux")));
        assert_eq!(config["config"]["User"], "65532:65532");

        let docker = json(&layout.join("manifest.json"));
        assert_eq!(docker[0]["RepoTags"][0], format!("{}:v1.2.3", image.repository));
        assert_eq!(layout.join(docker[0]["Layers"][0].as_str().expect("a path")), layer);
        assert_eq!(json(&layout.join(docker[0]["Config"].as_str().expect("a path"))), config);

        let files = dir.path().join("files");
        unpack(&layer, &files);
        contents(image, &files, config["config"]["Entrypoint"][0].as_str().expect("an entry point"));
    }
}

/// One program under all its names, and a directory to start in.
fn contents(image: &Image, files: &Path, entry: &str) {
    let inside = |path: &str| files.join(path.trim_start_matches('/'));
    let program = fs::metadata(inside(entry)).expect("the program");
    assert_eq!((program.permissions().mode() & 0o7777, program.mtime()), (0o755, 0));
    assert_eq!(fs::read(inside(entry)).expect("the program"), PROGRAM);
    for name in image.also {
        assert_eq!(fs::read(inside(&format!("{BIN}/{name}"))).expect("another name"), PROGRAM);
    }
    if let Some(home) = image.home {
        assert_eq!(fs::metadata(inside(home)).expect("a directory").permissions().mode() & 0o7777, 0o700);
    }
    let listed = Command::new("find").arg(files).args(["-not", "-type", "d"]).output().expect("find runs").stdout;
    assert_eq!(listed.iter().filter(|byte| **byte == b'\n').count(), 1 + image.also.len(), "nothing else is in it");
}

#[test]
fn the_same_program_makes_the_same_image() {
    for image in IMAGES {
        let make = |program: &[u8]| archive::make(image, program.to_vec(), "arm64", "v1.2.3").bytes;
        assert_eq!(make(PROGRAM), make(PROGRAM));
        assert_ne!(make(PROGRAM), make(b"another"));
    }
}

/// Who owns what is in the layer is lost when it is unpacked by somebody else.
#[test]
fn only_the_directory_to_start_in_is_the_users() {
    for image in IMAGES {
        for entry in image.entries(PROGRAM.to_vec()) {
            let home = Some(entry.path.as_str()) == image.home;
            assert_eq!(entry.owner, if home { USER } else { 0 }, "{}", entry.path);
        }
    }
}

/// Pods give arguments and no command; the chart pulls names that nobody else makes.
#[test]
fn images_chart_and_pods_agree() {
    let values = text("charts/keepstone-operator/values.yaml");
    assert!(values.contains("\nmemberImage: keepstone/keepstone\n"));
    assert!(values.contains("\n  repository: keepstone/keepstone-operator\n"));
    assert_eq!(
        IMAGES.iter().map(|image| image.repository).collect::<Vec<_>>(),
        ["keepstone/keepstone", "keepstone/keepstone-operator"]
    );
    let chart = text("charts/keepstone-operator/Chart.yaml");
    assert!(chart.contains(&format!("\nappVersion: v{}\n", env!("CARGO_PKG_VERSION"))));

    let deployment = text("charts/keepstone-operator/templates/deployment.yaml");
    let pods = text("operator/tests/golden/ten-lines.yaml");
    for (what, yaml) in [("the operator's pod", &deployment), ("members' pods", &pods)] {
        for line in [format!("runAsUser: {USER}"), format!("runAsGroup: {USER}")] {
            assert!(yaml.contains(&line), "{what}: {line}");
        }
        assert!(yaml.contains("readOnlyRootFilesystem: true"), "{what}");
        assert!(!yaml.contains("command:"), "{what}: the image's own program is started");
    }
}

#[test]
fn the_dockerfile_makes_the_same_images() {
    let dockerfile = text("Dockerfile");
    for image in IMAGES {
        let stage = format!("FROM scratch AS {}\n", image.program);
        let (_, rest) = dockerfile.split_once(&stage).unwrap_or_else(|| panic!("no {stage:?}"));
        let stage = rest.split("\nFROM ").next().expect("a stage");
        for line in [
            format!("COPY --from=build /images/{}/ /\n", image.program),
            format!("ENV PATH={BIN}\n"),
            format!("USER {USER}:{USER}\n"),
            format!("WORKDIR {}\n", image.home.unwrap_or("/")),
            format!("ENTRYPOINT [\"{BIN}/{}\"]\n", image.program),
        ] {
            assert!(stage.contains(&line), "{}: {line}", image.program);
        }
        for name in image.also {
            let link = format!("ln -s {} /images/{}{BIN}/{name}", image.program, image.program);
            assert!(dockerfile.contains(&link), "{link}");
        }
        if let Some(home) = image.home {
            let made = format!("install -d -m 0700 -o {USER} -g {USER} /images/{}{home}", image.program);
            assert!(dockerfile.contains(&made), "{made}");
        }
    }
}
