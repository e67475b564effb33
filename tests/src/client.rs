//! A client as an app has one, and the answers that it gets.

use std::env;

use anyhow::Result;
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::Value;

use crate::shown;

/// Asks one server.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the server at `base`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            http: reqwest::Client::new(),
        }
    }

    /// A client of the edge that the tests run beside.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn of_stack() -> Self {
        Self::new(&env::var("EDGE_URL").expect("these tests are run by `cargo xtask test`"))
    }

    /// The URL of `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Begins a GET.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    /// Begins a POST.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    /// Begins a DELETE.
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(self.url(path))
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; `null` when that is no JSON.
    pub body: Value,
}

impl Answer {
    /// Sends a request and reads what comes back.
    pub async fn to(request: RequestBuilder) -> Result<Self> {
        let answer = request.send().await?;
        let answer = Self {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: serde_json::from_slice(&answer.bytes().await?).unwrap_or_default(),
        };
        shown::remember(&answer.headers, &answer.body)?;
        Ok(answer)
    }

    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// # Panics
    /// Unless it is 200.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }

    /// # Panics
    /// Unless it is a whole problem with this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.body["status"], status, "{self:?}");
        assert_eq!(self.body["message"], self.body["detail"], "{self:?}");
        assert_eq!(
            self.body["instance"],
            self.header("tollgate-request-id"),
            "{self:?}"
        );
    }

    /// The fields that the problem points at.
    #[must_use]
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .filter_map(|error| error["pointer"].as_str())
            .collect()
    }
}
