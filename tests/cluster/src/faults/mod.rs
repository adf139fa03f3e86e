//! Stub
pub async fn run(_only: &str) -> anyhow::Result<String> {
    Ok(String::new())
}
