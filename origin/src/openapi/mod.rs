//! The document of the calls (`OpenAPI` 3.1), which is in `docs/openapi.json` too. What is said of a
//! call is said at its handler; here is what all of them have in common: a problem where something
//! is wrong, and the problems that follow from what a call takes. `told` has the shapes that no
//! handler has a type for, and what the edge answers by itself; `page` shows it to people.

mod page;
mod told;
mod words;

use ::shared::problem::{self, Code, Problem};
use utoipa::{
    OpenApi,
    openapi::{
        self, Content, Ref, RefOr, Required, Response,
        path::{Operation, ParameterIn, PathItem},
        response::Responses,
        schema::{Object, OneOf, Schema, SchemaType, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{app, health};

pub(crate) use page::router;
pub(crate) use told::{
    AppEntered, Authorize, Entered, Introspected, JwkSet, Refusal, SignOut, TokenRequest,
    TokenShown,
};

const JSON: &str = "application/json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        version = env!("CARGO_PKG_VERSION"),
        description = "Sign-in and prepaid credits. The same paths answer at the edge, which clients use, \
            and at the origin.\n\nFields are camelCase, times RFC 3339 in UTC, durations seconds, and \
            credits numbers with at most three decimals. Unknown fields of a body are refused, unless the call says otherwise. Whatever \
            is no success is `application/problem+json` with a stable `code`; the OpenID provider alone \
            answers its clients as its standards say.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "Where this is read")),
    tags(
        (name = "Sign-in", description = "Making an account, and getting a session."),
        (name = "Sessions", description = "Devices that are signed in, and their tokens."),
        (name = "Account", description = "What somebody may do with their own account."),
        (name = "Second factor", description = "Authenticator apps and recovery codes."),
        (name = "Other providers", description = "Signing in by Google, Apple and others, and linking accounts there."),
        (name = "Credits", description = "Looking at credits and spending them."),
        (name = "Purchases", description = "Credits for money, by Stripe."),
        (name = "OpenID provider", description = "Signing in to other programs by an account here."),
        (name = "Matrix", description = "Whose a Matrix id is."),
        (name = "Keys", description = "What tokens verify with."),
        (name = "Health", description = "Whether the edge and the origin are well."),
    ),
    paths(told::edge_health, told::edge_validate),
    components(schemas(Problem)),
)]
struct Common;

/// What is said of every call.
#[must_use]
pub fn document() -> openapi::OpenApi {
    let mut document = Common::openapi();
    document.merge(app::calls().into_openapi());
    document.merge(health::calls().into_openapi());
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete(path, method, operation);
        }
    }
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    for (name, response) in shared() {
        components
            .responses
            .insert(name.to_owned(), response.into());
    }
    // Existing clients send it, and nobody reads it.
    if let Some(RefOr::T(Schema::Object(register))) = components.schemas.get_mut("Register") {
        let anything = Object::with_type(SchemaType::AnyValue);
        let name = "referralCode".to_owned();
        register.properties.insert(name, anything.into());
    }
    document
}

/// The document as it is checked in.
///
/// # Panics
/// When it is no JSON, which it always is.
#[must_use]
pub fn text() -> String {
    let json = document().to_pretty_json().expect("the document is JSON");
    json + "\n"
}

fn schemes() -> [(&'static str, SecurityScheme); 6] {
    let bearer = |says: &str| {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT");
        SecurityScheme::Http(scheme.description(Some(says)).build())
    };
    let header = |name, says| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, says)))
    };
    let basic = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some("`client_id` and `client_secret`; or both in the body"));
    let cookie = ApiKeyValue::with_description(
        "__Host-tollgate",
        "The browser's session. `__Secure-tollgate` where it is shared across subdomains, and `tollgate` on plain HTTP",
    );
    [
        (
            "token",
            bearer("A person's access token, by a sign-in here"),
        ),
        (
            "relyingParty",
            bearer("An access token by the OpenID provider"),
        ),
        ("serviceKey", header("X-Service-Key", "An app's key")),
        ("appId", header("X-App-Id", "The app whose key it is")),
        ("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
        ("client", SecurityScheme::Http(basic.build())),
    ]
}

/// The operations of a path, by their methods.
pub fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Says what follows from what a call is and takes.
fn complete(path: &str, method: &str, operation: &mut Operation) {
    operation.operation_id = Some(id(path, method));
    operation.description = operation.description.take().filter(|text| !text.is_empty());
    let (mut token, mut service) = (false, false);
    // Where a browser may call without any of these.
    let mut is_open = operation.security.is_none();
    for requirement in operation.security.iter_mut().flatten() {
        let mut json = serde_json::to_value(&*requirement).unwrap_or_default();
        if json.get("serviceKey").is_some() {
            json["appId"] = serde_json::json!([]);
            service = true;
        }
        token |= json.get("token").is_some();
        is_open |= json.as_object().is_some_and(serde_json::Map::is_empty);
        if let Ok(both) = serde_json::from_value(json) {
            *requirement = both;
        }
    }
    let is_form = is_provider(operation);
    let has_body = body_of(operation);
    let is_read = parameters(operation);
    let responses = &mut operation.responses;
    for (status, response) in &mut responses.responses {
        if let RefOr::T(response) = response {
            finish(status, response);
        }
    }
    if has_body && !is_form {
        add(responses, "INVALID_REQUEST, VALIDATION_FAILED");
        share(responses, "413", "BodyTooLarge");
        share(responses, "415", "UnsupportedMediaType");
    }
    if is_read && !is_form {
        add(responses, "INVALID_REQUEST");
    }
    if token {
        add(responses, "UNAUTHENTICATED, INVALID_TOKEN, SESSION_REVOKED");
        add(responses, "ACCOUNT_DISABLED");
    }
    if service {
        add(responses, "INVALID_SERVICE_KEY");
        add(responses, "FORBIDDEN");
    }
    if is_open && method != "get" && path.starts_with("/api/v1/auth") && !path.ends_with("validate")
    {
        add(responses, "FOREIGN_PAGE");
    }
    if is_form {
        share(responses, "default", "Refused");
    } else {
        share(responses, "429", "RateLimited");
        share(responses, "default", "Problem");
    }
}

/// Answers that many calls have.
fn shared() -> [(&'static str, Response); 5] {
    let mut other = Response::new("Whatever else is wrong");
    let is_problem = problem::CONTENT_TYPE.to_owned();
    other.content.insert(is_problem, a("Problem"));
    let mut refused = other.clone();
    refused.content.insert(JSON.to_owned(), a("Refusal"));
    [
        ("BodyTooLarge", problem("BODY_TOO_LARGE")),
        ("UnsupportedMediaType", problem("UNSUPPORTED_MEDIA_TYPE")),
        ("RateLimited", problem("RATE_LIMITED")),
        ("Problem", other),
        ("Refused", refused),
    ]
}

/// Such an answer, unless the handler tells of that status.
fn share(responses: &mut Responses, status: &str, name: &str) {
    let place = responses.responses.entry(status.to_owned());
    place.or_insert_with(|| Ref::from_response_name(name).into());
}

/// Whether it is a call that answers as OAuth says.
fn is_provider(operation: &Operation) -> bool {
    let tags = operation.tags.iter().flatten();
    tags.into_iter().any(|tag| tag == "OpenID provider")
}

/// A name that no other call has: `postAuthLoginMfa`.
fn id(path: &str, method: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    words.fold(method.to_owned(), |mut id, word| {
        let (first, rest) = word.split_at(word.len().min(1));
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
        id
    })
}

/// Whether there is a body. One that may be absent is never null.
fn body_of(operation: &mut Operation) -> bool {
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return false;
    };
    let mut required = Required::True;
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(choice))) = &mut content.schema
        {
            content.schema = but_null(choice);
            required = Required::False;
        }
    }
    body.required = Some(required);
    true
}

/// The one of two that is not null.
fn but_null(choice: &mut OneOf) -> Option<RefOr<Schema>> {
    let is_something = |one: &RefOr<Schema>| !matches!(one, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    let place = choice.items.iter().position(is_something);
    place.map(|place| choice.items.remove(place))
}

/// Whether anything is read from path or query. What is there is never null.
fn parameters(operation: &mut Operation) -> bool {
    let mut is_read = false;
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        is_read |= matches!(
            parameter.parameter_in,
            ParameterIn::Path | ParameterIn::Query
        );
        match &mut parameter.schema {
            Some(RefOr::T(Schema::OneOf(choice))) => parameter.schema = but_null(choice),
            Some(RefOr::T(Schema::Object(object))) => {
                if let SchemaType::Array(types) = &object.schema_type
                    && let Some(one) = types.iter().find(|one| **one != Type::Null)
                {
                    object.schema_type = SchemaType::Type(one.clone());
                }
            }
            _ => {}
        }
    }
    is_read
}

/// A response that a handler names by its codes is a problem.
fn finish(status: &str, response: &mut Response) {
    if status.starts_with(['4', '5']) && response.content.is_empty() {
        let codes = codes(&response.description);
        let belong = codes.iter().all(|code| code.status().to_string() == status);
        assert!(belong, "{} is not {status}", response.description);
        *response = problem(&response.description);
    } else if response.description.is_empty() {
        "As asked".clone_into(&mut response.description);
    }
}

/// Adds problems of one status to those that a handler names.
fn add(responses: &mut Responses, list: &str) {
    let status = codes(list).first().map_or(0, |code| code.status());
    let place = responses.responses.entry(status.to_string());
    let response = place.or_insert_with(|| Response::new("").into());
    if let RefOr::T(response) = response
        && !response.content.contains_key(JSON)
    {
        *response = problem(&format!("{} {list}", response.description));
    }
}

/// The codes of a list, each once.
fn codes(list: &str) -> Vec<Code> {
    let words = list.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let mut codes = Vec::new();
    for word in words.filter(|word| word.len() > 2) {
        let code = Code::ALL.iter().find(|code| code.as_str() == word);
        let code = *code.unwrap_or_else(|| panic!("{word} is no code"));
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

/// What tells of one of these codes.
fn problem(list: &str) -> Response {
    let told: Vec<String> = codes(list)
        .into_iter()
        .map(|code| format!("`{}`: {}", code.as_str(), code.title()))
        .collect();
    let mut response = Response::new(told.join("; "));
    let content = a("Problem");
    response
        .content
        .insert(problem::CONTENT_TYPE.to_owned(), content);
    response
}

fn a(schema: &str) -> RefOr<Content> {
    Content::new(Some(Ref::from_schema_name(schema))).into()
}
