//! A few losses of power; `keepstone-cluster-tests power-loss` has as many as one wants.

#[tokio::test]
async fn nothing_acknowledged_is_lost_with_the_power() {
    let report = keepstone_cluster_tests::power::run(12, 1, false).await.unwrap_or_else(|error| panic!("{error:#}"));
    println!("power-loss: {report}");
}
