//! The document as pages.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::PgPool;

use crate::{
    support::Origin,
    surfer::{Seen, Surfer},
};

/// What stands between `mark` and the next quote, each time.
fn quoted<'a>(html: &'a str, mark: &str) -> Vec<&'a str> {
    let rest = html.split(mark).skip(1);
    rest.filter_map(|rest| rest.split('"').next()).collect()
}

fn is_whole(page: &Seen, path: &str) {
    page.is(200).says("<html lang=\"en\">");
    assert!(page.html.len() <= 40_000, "{path}: {}", page.html.len());
    assert_eq!(page.headers["cache-control"], "public, max-age=300");
    assert!(!page.headers.contains_key("vary"), "{path}");
    assert!(!page.html.contains("<script"), "{path}");
    let ids: Vec<&str> = quoted(&page.html, " id=\"");
    let each: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), each.len(), "{path} has an id twice");
    for place in quoted(&page.html, "href=\"#") {
        assert!(each.contains(place), "{path} has no #{place}");
    }
    let levels = page.html.split("<h").skip(1);
    let levels: Vec<u32> = levels
        .filter_map(|rest| rest.chars().next()?.to_digit(10))
        .collect();
    for pair in levels.windows(2) {
        assert!(pair[1] <= pair[0] + 1, "{path} leaves a heading out");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_document_is_there_to_be_read_by_anybody(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut anybody = Surfer::at(&origin);
    anybody.language = "de";
    let overview = anybody.look("/docs").await;
    is_whole(&overview, "/docs");
    let groups: BTreeSet<&str> = quoted(&overview.html, "href=\"/docs/")
        .into_iter()
        .filter_map(|place| place.split('#').next())
        .filter(|place| *place != "openapi.json")
        .collect();
    let mut all = String::new();
    for group in &groups {
        let path = format!("/docs/{group}");
        let page = anybody.look(&path).await;
        is_whole(&page, &path);
        for place in quoted(&overview.html, &format!("href=\"{path}#")) {
            page.says(&format!(" id=\"{place}\""));
        }
        all.push_str(&page.html);
    }
    let told = anybody.look("/docs/openapi.json").await;
    assert_eq!(told.headers["content-type"], "application/json");
    let document: Value = serde_json::from_str(&told.html).expect("JSON");
    assert!(document == serde_json::to_value(origin::openapi::document()).expect("JSON"));
    assert_eq!(
        groups.len(),
        document["tags"].as_array().map_or(0, Vec::len)
    );
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("an item").keys() {
            let call = format!("<code>{} {path}</code>", method.to_uppercase());
            assert!(all.contains(&call), "{call} is on no page");
        }
    }
    anybody.look("/docs/nothing").await.is(404);
}
