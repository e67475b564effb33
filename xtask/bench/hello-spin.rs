//! The ceiling on Spin: what its host does when a component only answers.

#![cfg(target_os = "wasi")]

use spin_sdk::wasip3::{
    exports::http::handler::Guest,
    http::{
        service::export,
        types::{ErrorCode, Fields, Request, Response},
    },
    spawn, wit_future, wit_stream,
};

struct Hello;

export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut writer, body) = wit_stream::new();
        spawn(async move {
            writer.write_all(br#"{"hello":"world"}"#.to_vec()).await;
        });
        let (_, trailers) = wit_future::new(|| Ok(None));
        let headers = [("content-type".to_owned(), b"application/json".to_vec())];
        let headers = Fields::from_list(&headers).expect("a header");
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        Ok(response)
    }
}
