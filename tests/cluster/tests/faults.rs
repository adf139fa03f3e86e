//! Every case of failing disks, damaged files and foreign directories.

#[tokio::test]
async fn faults_end_as_designed() {
    let line = keepstone_cluster_tests::faults::run("").await.unwrap_or_else(|error| panic!("{error:#}"));
    println!("faults: {line}");
}
