//! Files change under a member that serves.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc};

use super::super::{Reloaded, follow};
use super::pki::{Authority, Dir, Says};
use super::{accepts, rejects, shake, side};
use crate::config::Transport;

#[tokio::test]
async fn a_new_ca_counts_for_new_connections_and_old_ones_go_on() {
    let (old, new, dir) = (Authority::new("old"), Authority::new("new"), Dir::new());
    let server = side(dir.transport("s", &old.issue(Says::default()), &old.pem));
    let both = format!("{}{}", old.pem, new.pem);
    let of_old = side(dir.transport("o", &old.issue(Says::default()), &both));
    let of_new = side(dir.transport("n", &new.issue(Says::default()), &both));
    let (accepted, connected) = shake(&server, &of_old).await;
    let (mut here, mut there) = (accepted.expect("accepted").0, connected.expect("connected"));
    rejects(&server, &of_new).await;

    dir.put("s-ca.crt", &both);
    assert!(matches!(server.reload(), Ok(Reloaded::Changed { .. })));
    accepts(&server, &of_old).await;
    accepts(&server, &of_new).await;

    dir.transport("s", &new.issue(Says::default()), &new.pem);
    assert!(matches!(server.reload(), Ok(Reloaded::Changed { .. })));
    assert_eq!(server.reload().expect("good"), Reloaded::Unchanged);
    rejects(&server, &of_old).await;
    accepts(&server, &of_new).await;

    there.write_all(b"still here").await.expect("written");
    there.flush().await.expect("flushed");
    let mut said = [0; 10];
    here.read_exact(&mut said).await.expect("read");
    assert_eq!(&said, b"still here");
}

#[tokio::test]
async fn what_does_not_fit_together_changes_nothing() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let transport = dir.transport("s", &ca.issue(Says::default()), &ca.pem);
    let list = dir.put("crl", ca.revoke(&[]));
    let server = side(Transport { crl_file: Some(list.clone()), ..transport });
    let client = side(dir.transport("c", &ca.issue(Says::default()), &ca.pem));
    let (cert, key) = ca.issue(Says { serial: 99, ..Says::default() });
    // Halfway through a renewal, the key is not there yet.
    dir.put("s.crt", &cert);
    assert!(server.reload().is_err());
    accepts(&server, &client).await;
    dir.put("s.key", &key);
    assert!(matches!(server.reload(), Ok(Reloaded::Changed { .. })));
    accepts(&server, &client).await;
    for broken in [&b""[..], b"junk"] {
        dir.put("s-ca.crt", broken);
        assert!(server.reload().is_err());
        accepts(&server, &client).await;
    }
    dir.put("s-ca.crt", &ca.pem);
    std::fs::remove_file(&list).expect("removed");
    assert!(server.reload().is_err());
    accepts(&server, &client).await;
    dir.put("crl", ca.revoke(&[7]));
    assert!(matches!(server.reload(), Ok(Reloaded::Changed { .. })));
    assert_eq!(rejects(&server, &client).await, "transport: certificate serial 07 revoked");
}

#[tokio::test]
async fn changes_are_noticed_by_looking() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let transport = dir.transport("s", &ca.issue(Says::default()), &ca.pem);
    // As Kubernetes mounts a secret: the file's own path never changes, a link above it does.
    let (one, two, data) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("data"));
    for (at, serials) in [(&one, &[][..]), (&two, &[7])] {
        std::fs::create_dir(at).expect("made");
        std::fs::write(at.join("crl"), ca.revoke(serials)).expect("written");
    }
    std::os::unix::fs::symlink(&one, &data).expect("linked");
    let server = side(Transport { crl_file: Some(data.join("crl")), ..transport });
    let client = side(dir.transport("c", &ca.issue(Says::default()), &ca.pem));
    let (tick, ticks) = mpsc::channel::<()>(1);
    let ticks = Arc::new(Mutex::new(ticks));
    let following = tokio::spawn(follow(vec![server.clone()], async move || {
        if ticks.lock().await.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }));
    let look = async || {
        // Three: the first may be half over, the second waits for its end, the third is taken up after it.
        for _ in 0..3 {
            tick.send(()).await.expect("followed");
        }
    };
    look().await;
    accepts(&server, &client).await;
    std::os::unix::fs::symlink(&two, dir.path().join("next")).expect("linked");
    std::fs::rename(dir.path().join("next"), &data).expect("swapped");
    look().await;
    assert_eq!(rejects(&server, &client).await, "transport: certificate serial 07 revoked");
    following.abort();
}
