//! A few kills; `keepstone-cluster-tests kills` has as many as one wants.

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kills() {
    let report = keepstone_cluster_tests::kills::run(8, 1).await.unwrap_or_else(|error| panic!("{error:#}"));
    println!("kills: {report}");
}
