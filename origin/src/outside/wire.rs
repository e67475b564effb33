//! The way to providers: how long we wait, how much we read, and that no answer sends us elsewhere.

use std::{future::Future, pin::Pin, time::Duration};

use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::{Client, Url, redirect};
use serde::de::DeserializeOwned;

/// For one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read: key sets of large providers have about 10 KiB.
const LONGEST_BYTES: usize = 256 * 1024;

/// A client of every provider.
pub struct Wire(Client);

/// Why there is no answer that can be used. None of these repeats what was sent or answered, which
/// may be secret.
#[derive(Debug, thiserror::Error)]
pub enum Away {
    /// The connection failed, or it took too long.
    #[error("the provider does not answer")]
    Silent(#[source] reqwest::Error),
    /// All questions together took too long.
    #[error("the provider takes too long")]
    TooSlow,
    /// It is longer than we read.
    #[error("the provider answers more than {LONGEST_BYTES} bytes")]
    TooLong,
    /// It failed, or does not know us.
    #[error("the provider answers {0}")]
    Status(u16),
    /// It answered something else.
    #[error("the provider answers something that is no {0}")]
    Unreadable(&'static str),
    /// What it says of itself is not what is configured.
    #[error("the provider calls itself another issuer")]
    OtherIssuer,
    /// We are not the client that it knows.
    #[error("the provider refuses us: {0}")]
    NotItsClient(String),
}

impl Wire {
    pub fn new() -> reqwest::Result<Self> {
        let client = Client::builder()
            // A secret that is sent to one place goes to no other.
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            // GitHub answers nobody without a name.
            .user_agent("tollgate");
        client.build().map(Self)
    }

    /// Asks, and reads all of the answer, whatever it is.
    pub async fn ask(&self, question: HttpRequest) -> Result<HttpResponse, Away> {
        let question = question.try_into().map_err(Away::Silent)?;
        let mut answer = self.0.execute(question).await.map_err(silent)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(silent)? {
            if body.len() + chunk.len() > LONGEST_BYTES {
                return Err(Away::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        Ok(response)
    }

    /// Gets a JSON document, as the bearer of a token perhaps.
    pub async fn get<T: DeserializeOwned>(
        &self,
        url: &Url,
        bearer: Option<&str>,
        what: &'static str,
    ) -> Result<T, Away> {
        let mut question = http::Request::get(url.as_str()).header("accept", "application/json");
        if let Some(token) = bearer {
            let value = http::HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| Away::Unreadable("token"))?;
            value.set_sensitive(true);
            question = question.header("authorization", value);
        }
        let question = question.body(Vec::new()).expect("a URL is a URI");
        let answer = self.ask(question).await?;
        if answer.status() != http::StatusCode::OK {
            return Err(Away::Status(answer.status().as_u16()));
        }
        serde_json::from_slice(answer.body()).map_err(|_| Away::Unreadable(what))
    }
}

impl<'c> AsyncHttpClient<'c> for Wire {
    type Error = Away;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Away>> + Send + 'c>>;

    fn call(&'c self, question: HttpRequest) -> Self::Future {
        Box::pin(self.ask(question))
    }
}

fn silent(error: reqwest::Error) -> Away {
    Away::Silent(error.without_url())
}
