//! Reads an etcd database and writes it anew with our writer:
//! `boltcopy FROM TO [--stream]`. `TO` ends with a SHA-256, as `etcdctl snapshot save` leaves it.
//! With `--stream` it is written in two passes, without seeking.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use keepstone_snapshot::etcd::{EtcdFile, Snapshot, Tables, append_trailer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, stream) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [from, to] => (from, to, false),
        [from, to, "--stream"] => (from, to, true),
        _ => return Err("usage: boltcopy FROM TO [--stream]".into()),
    };
    let source = Snapshot::open(from)?;
    let report = source.check()?;
    let tables = source.tables()?;
    println!("from: digest verified: {}, {report:?}", source.verified());
    println!("current revision {}, {tables:#?}", source.current_revision()?);

    let file = File::options().read(true).write(true).create(true).truncate(true).open(to)?;
    let out = BufWriter::new(file);
    let out = if stream {
        let mut measured = EtcdFile::measure(&tables)?;
        fill(&source, &mut measured)?;
        let layout = measured.finish_layout()?;
        let mut copy = EtcdFile::with_layout(out, layout, &tables)?;
        fill(&source, &mut copy)?;
        copy.finish_with(layout)?
    } else {
        let mut copy = EtcdFile::new(out, &tables)?;
        fill(&source, &mut copy)?;
        copy.finish()?
    };
    append_trailer(&mut out.into_inner()?)?;
    verify(to, &source, &tables)
}

fn fill<W: Write>(from: &Snapshot<File>, to: &mut EtcdFile<'_, W>) -> Result<(), Box<dyn Error>> {
    for record in from.records()? {
        let record = record?;
        to.record(record.revision, record.tombstone, &record.value)?;
    }
    for lease in from.leases()? {
        to.lease(&lease?)?;
    }
    Ok(())
}

fn verify(to: &str, source: &Snapshot<File>, tables: &Tables) -> Result<(), Box<dyn Error>> {
    let copy = Snapshot::open(to)?;
    println!("to: digest verified: {}, {:?}", copy.verified(), copy.check()?);
    if copy.tables()? != *tables {
        return Err("the copy's tables differ".into());
    }
    let (mut left, mut right) = (source.records()?, copy.records()?);
    let mut records = 0_u64;
    loop {
        match (left.next().transpose()?, right.next().transpose()?) {
            (None, None) => break,
            (left, right) if left != right => {
                return Err(format!("{left:?} became {right:?}").into());
            }
            _ => records += 1,
        }
    }
    println!("{records} records");
    Ok(())
}
