//! What the document says, in words and HTML.

use std::collections::BTreeSet;

use serde_json::Value;

/// A call, as its page shows it.
pub struct Call {
    pub id: String,
    pub method: String,
    pub path: String,
    pub summary: String,
    pub says: String,
    /// Who may call; empty where anybody may.
    pub who: String,
    pub parameters: Vec<Row>,
    /// In which form, and its fields.
    pub body: Option<(String, Vec<Row>)>,
    pub answers: Vec<Answer>,
}

/// A parameter, or a field.
pub struct Row {
    pub name: String,
    pub kind: String,
    pub says: String,
}

/// An answer by its status.
pub struct Answer {
    pub status: String,
    pub kind: String,
    pub says: String,
}

/// An object that answers have.
pub struct Shape {
    pub name: String,
    pub says: String,
    pub rows: Vec<Row>,
}

/// The calls of a tag, and the objects that their answers are made of.
pub fn of_tag(document: &Value, tag: &str) -> (Vec<Call>, Vec<Shape>) {
    let mut calls = Vec::new();
    let mut names = BTreeSet::new();
    for (path, item) in fields(&document["paths"]) {
        for (method, operation) in fields(item) {
            let is_here = operation["tags"].as_array();
            if is_here.is_some_and(|tags| tags.iter().any(|name| name == tag)) {
                calls.push(call(document, (method, path), operation));
                for (_, content) in fields(&operation["requestBody"]["content"]) {
                    let body = resolved(document, &content["schema"]);
                    collect(document, &body["properties"], &mut names);
                }
                for (_, answer) in fields(&operation["responses"]) {
                    collect(document, &answer["content"], &mut names);
                }
            }
        }
    }
    names.remove("Problem");
    let shapes = names.iter().map(|name| shape(document, name)).collect();
    (calls, shapes)
}

fn call(document: &Value, (method, path): (&str, &str), operation: &Value) -> Call {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters = parameters.map(|parameter| {
        let place = parameter["in"].as_str().unwrap_or_default();
        let kind = kind(document, &parameter["schema"]);
        let needed = parameter["required"] == true;
        Row {
            name: escaped(&parameter["name"]),
            kind: format!("{place}, {kind}{}", if needed { ", required" } else { "" }),
            says: marked(&parameter["description"]),
        }
    });
    let body = fields(&operation["requestBody"]["content"]).next();
    let body = body.map(|(form, content)| {
        let may_be_absent = operation["requestBody"]["required"] == false;
        let absent = if may_be_absent { ", or nothing" } else { "" };
        let schema = resolved(document, &content["schema"]);
        (format!("{form}{absent}"), rows(document, schema, true))
    });
    let answers = fields(&operation["responses"]).filter(|(status, _)| *status != "default");
    let answers = answers.map(|(status, answer)| {
        let answer = resolved(document, answer);
        let content = fields(&answer["content"]).next();
        let schema = content
            .filter(|(form, _)| !form.contains("problem") && *form != "text/html")
            .map(|(_, content)| kind(document, &content["schema"]));
        Answer {
            status: status.to_owned(),
            kind: schema.unwrap_or_default(),
            says: marked(&answer["description"]),
        }
    });
    Call {
        id: escaped(&operation["operationId"]),
        method: method.to_ascii_uppercase(),
        path: path.to_owned(),
        summary: marked(&operation["summary"]),
        says: marked(&operation["description"]),
        who: callers(operation),
        parameters: parameters.collect(),
        body,
        answers: answers.collect(),
    }
}

/// Who may call, in words.
fn callers(operation: &Value) -> String {
    let ways = operation["security"].as_array().into_iter().flatten();
    let ways = ways.map(|way| {
        let names: Vec<String> = fields(way).map(|(name, _)| who(name)).collect();
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(" and ")
        }
    });
    ways.collect::<Vec<_>>().join(", or ")
}

/// What somebody shows, in words.
pub fn who(scheme: &str) -> String {
    let words = match scheme {
        "token" => "an access token",
        "relyingParty" => "a token of the OpenID provider",
        "serviceKey" => "a service key",
        "appId" => "the app’s id",
        "cookie" => "the session cookie",
        "client" => "the client’s secret",
        other => other,
    };
    words.to_owned()
}

/// How it is shown.
pub fn scheme(scheme: &Value) -> String {
    let how = match scheme["type"].as_str() {
        Some("http") => format!(
            "<code>Authorization: {}</code>",
            escaped(&scheme["scheme"]).replacen('b', "B", 1)
        ),
        _ => format!(
            "{} <code>{}</code>",
            escaped(&scheme["in"]),
            escaped(&scheme["name"])
        ),
    };
    format!("{how}: {}", marked(&scheme["description"]))
}

/// A schema of the document by its name.
pub fn shape(document: &Value, name: &str) -> Shape {
    let schema = &document["components"]["schemas"][name];
    Shape {
        name: name.to_owned(),
        says: marked(&schema["description"]),
        rows: rows(document, schema, false),
    }
}

fn rows(document: &Value, schema: &Value, is_asked: bool) -> Vec<Row> {
    // An object that is another one with more fields.
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let parts = parts.map(|part| resolved(document, part));
    let parts = parts.flat_map(|part| rows(document, part, is_asked));
    let required = schema["required"].as_array();
    let fields = fields(&schema["properties"]).map(|(name, field)| {
        let is_there = required.is_some_and(|names| names.iter().any(|known| known == name));
        let note = match (is_there, is_asked) {
            (true, true) => ", required",
            (false, false) => ", may be absent",
            _ => "",
        };
        let choice = &field["oneOf"][0];
        let told = [field, choice, resolved(document, field)];
        let says = told.iter().map(|schema| &schema["description"]);
        let says = says.into_iter().find(|says| says.is_string());
        Row {
            name: name.to_owned(),
            kind: kind(document, field) + note,
            says: says.map(marked).unwrap_or_default(),
        }
    });
    parts.chain(fields).collect()
}

/// Whether it is one with fields of its own to show.
fn is_shape(schema: &Value) -> bool {
    schema["properties"].is_object() || schema["allOf"].is_array()
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let place = schema["$ref"].as_str();
    let there = place.and_then(|place| document.pointer(&place[1..]));
    there.unwrap_or(schema)
}

/// The objects that a schema leads to.
fn collect(document: &Value, schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(inner) => {
            let name = schema["$ref"]
                .as_str()
                .and_then(|place| place.rsplit('/').next());
            if let Some(name) = name {
                let there = resolved(document, schema);
                if is_shape(there) && names.insert(name.to_owned()) || !there["oneOf"].is_null() {
                    collect(document, there, names);
                }
            }
            inner
                .values()
                .for_each(|value| collect(document, value, names));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect(document, value, names)),
        _ => {}
    }
}

/// What may stand there, as HTML.
fn kind(document: &Value, schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|place| place.rsplit('/').next())
    {
        let there = resolved(document, schema);
        return match name {
            "Code" => "one of the codes below".to_owned(),
            _ if !is_shape(there) => kind(document, there),
            _ => format!("<a href=\"#{name}\">{name}</a>"),
        };
    }
    if let Some(choice) = schema["oneOf"].as_array() {
        let all: Vec<String> = choice.iter().map(|one| kind(document, one)).collect();
        // Null comes last.
        let (nulls, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one == "null");
        others.extend(nulls);
        return others.join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("<code>{}</code>", escaped(word)))
            .collect();
        return words.join(" or ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let all: Vec<String> = types
        .iter()
        .map(|one| plain(document, schema, one))
        .collect();
    match all.as_slice() {
        [] => "anything".to_owned(),
        all => all.join(" or "),
    }
}

fn plain(document: &Value, schema: &Value, name: &str) -> String {
    match name {
        "array" => format!("list of {}", kind(document, &schema["items"])),
        "boolean" => "true or false".to_owned(),
        "integer" => format!("whole number{}", range(schema, ("minimum", "maximum"), "")),
        "number" => format!("number{}", range(schema, ("minimum", "maximum"), "")),
        "string" => match schema["format"].as_str() {
            Some("uuid") => "UUID".to_owned(),
            Some("date-time") => "time".to_owned(),
            Some("date") => "day".to_owned(),
            _ => format!(
                "text{}",
                range(schema, ("minLength", "maxLength"), " characters")
            ),
        },
        other => other.to_owned(),
    }
}

fn range(schema: &Value, (least, most): (&str, &str), unit: &str) -> String {
    // What no client comes near is no limit to tell of.
    let told = |name: &str| {
        Some(&schema[name]).filter(|number| number.as_f64().is_some_and(|number| number <= 1e9))
    };
    match (told(least), told(most)) {
        (Some(least), Some(most)) => format!(" from {least} to {most}{unit}"),
        (None, Some(most)) => format!(" up to {most}{unit}"),
        (Some(least), None) if least.as_f64() != Some(0.0) => format!(" from {least}{unit}"),
        _ => String::new(),
    }
}

/// A name in an address: `second-factor`.
pub fn slug(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

/// A text as HTML, what is between backticks as code.
pub fn marked(text: &Value) -> String {
    let text = escaped(text);
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| {
        if at % 2 == 1 {
            format!("<code>{part}</code>")
        } else {
            part.to_owned()
        }
    });
    parts.collect()
}

fn escaped(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default();
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.as_str(), value))
}
