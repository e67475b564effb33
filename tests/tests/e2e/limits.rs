//! Quotas at the edge.

use anyhow::Result;
use serde_json::json;
use tests::Answer;
use tokio::task::JoinSet;

use crate::rig::Rig;

const REGISTER: &str = "/api/v1/auth/register";
const QUOTA: usize = 5;

#[tokio::test]
async fn an_exact_quota_admits_exactly_itself_whoever_comes_at_once() -> Result<()> {
    let rig = Rig::start().await?;
    let mut asking = JoinSet::new();
    for _ in 0..40 {
        asking.spawn(Answer::to(rig.edge.post(REGISTER).json(&json!({}))));
    }
    let answers: Result<Vec<_>> = asking.join_all().await.into_iter().collect();
    let (admitted, refused): (Vec<_>, Vec<_>) = answers?
        .into_iter()
        .partition(|answer| answer.status == 200);
    assert_eq!(admitted.len(), QUOTA);
    assert_eq!(rig.origin.seen().len(), QUOTA);
    for answer in refused {
        answer.is_problem(429, "RATE_LIMITED");
        assert_eq!(answer.header("ratelimit-policy"), "\"register\";q=5;w=60");
        assert!(
            answer
                .header("ratelimit")
                .starts_with("\"register\";r=0;t="),
            "{answer:?}"
        );
        let wait: u32 = answer.header("retry-after").parse()?;
        assert!((1..=60).contains(&wait), "{answer:?}");
    }
    Ok(())
}
