//! An origin that others can reach, and that insists on the edge's proof.

use anyhow::Result;
use serde_json::json;
use tests::{Answer, Client};

use crate::{
    rig::{LOGIN, Person, VALIDATE},
    twin::Twin,
};

const BALANCE: &str = "/api/v1/credits/balance";

#[tokio::test]
async fn an_origin_that_insists_on_a_proof_serves_the_edge_and_nobody_else() -> Result<()> {
    let twin = Twin::start(1_000, &[("REQUIRE_EDGE_PROOF", "true")]).await?;
    let ada = Person::sign_up_at(twin.edge.clone()).await?;
    // The edge is new: it has to ask for the keys before it can say this.
    assert_eq!(ada.get(VALIDATE).await?.ok().body["valid"], true);
    let _ = ada.get(BALANCE).await?.ok();

    let past_the_edge = Client::new(&twin.origin_url);
    let wish = json!({"email": ada.email, "password": "correct horse battery"});
    let balance = past_the_edge.get(BALANCE).bearer_auth(&ada.access);
    for request in [balance, past_the_edge.post(LOGIN).json(&wish)] {
        let answer = Answer::to(request).await?;
        answer.is_problem(403, "EDGE_PROOF_INVALID");
    }
    Ok(())
}
