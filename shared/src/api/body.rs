//! How a request's body is read: once, field by field, so that every mistake in it is told in
//! one answer. Unknown and repeated fields are mistakes too.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::problem::{Code, FieldError, Problem};

/// A request's body.
pub trait Body: Sized {
    /// Whether no body at all is as good as `{}`.
    const MAY_BE_ABSENT: bool = false;

    /// Reads every field, then gives itself unless one of them was missing or wrong.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// A body that says nothing.
#[derive(Debug)]
pub struct Nothing;

impl Body for Nothing {
    const MAY_BE_ABSENT: bool = true;

    fn read(_: &mut Fields<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// A value at a door: parsed from JSON, and valid from then on.
pub trait Field: Sized {
    /// The value, or what it must be: a sentence that starts with "must" and repeats nothing.
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>>;
}

/// Reads a body, or says what is wrong with it.
pub fn parse<B: Body>(bytes: &[u8]) -> Result<B, Refusal> {
    let bytes = if B::MAY_BE_ABSENT && bytes.is_empty() {
        b"{}"
    } else {
        bytes
    };
    let Object(fields) = serde_json::from_slice(bytes).map_err(|why| match why.classify() {
        Category::Data => Refusal::Invalid(vec![FieldError {
            pointer: String::new(),
            detail: "must be an object in which no field is repeated".to_owned(),
        }]),
        Category::Syntax | Category::Eof | Category::Io => Refusal::Malformed {
            line: why.line(),
            column: why.column(),
        },
    })?;
    let mut fields = Fields {
        unread: fields,
        errors: Vec::new(),
    };
    let body = B::read(&mut fields);
    for name in std::mem::take(&mut fields.unread).into_keys() {
        fields.refuse(&name, "is not a field of this request");
    }
    match body {
        Some(body) if fields.errors.is_empty() => Ok(body),
        _ => Err(Refusal::Invalid(fields.errors)),
    }
}

/// Why a body was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Not JSON, from this place on.
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The byte in that line, from 1.
        column: usize,
    },
    /// JSON with these mistakes in it.
    Invalid(Vec<FieldError>),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed { line, column } => Self::new(
                Code::InvalidRequest,
                format!("The body is not JSON at line {line}, column {column}"),
            ),
            Refusal::Invalid(errors) => {
                let told: Vec<String> = errors
                    .iter()
                    .map(|error| match error.pointer.as_str() {
                        "" => format!("The body {}", error.detail),
                        pointer => format!("{} {}", &pointer[1..], error.detail),
                    })
                    .collect();
                Self::new(Code::ValidationFailed, told.join("; ")).errors(errors)
            }
        }
    }
}

/// What a body says of a value that is there already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change<T> {
    /// Nothing.
    Keep,
    /// Take it away.
    Clear,
    /// This one from now on.
    Set(T),
}

/// The fields of a body that nobody has read yet, and the mistakes so far.
pub struct Fields<'a> {
    unread: BTreeMap<String, &'a RawValue>,
    errors: Vec<FieldError>,
}

impl Fields<'_> {
    /// A field that must be there.
    pub fn required<T: Field>(&mut self, name: &str) -> Option<T> {
        let value = self.optional(name)?;
        if value.is_none() {
            self.refuse(name, "is missing");
        }
        value
    }

    /// A field that may be absent or null: `Some(None)`. `None` is a mistake.
    pub fn optional<T: Field>(&mut self, name: &str) -> Option<Option<T>> {
        match self.unread.remove(name) {
            Some(json) if json.get() != "null" => match T::read(json) {
                Ok(value) => Some(Some(value)),
                Err(detail) => {
                    self.refuse(name, &detail);
                    None
                }
            },
            _ => Some(None),
        }
    }

    /// A field that may be absent, and then changes nothing. `None` is a mistake.
    pub fn change<T: Field>(&mut self, name: &str) -> Option<Change<T>> {
        let is_there = self.unread.contains_key(name);
        Some(match self.optional(name)? {
            Some(value) => Change::Set(value),
            None if is_there => Change::Clear,
            None => Change::Keep,
        })
    }

    /// A field that existing clients fill with whatever they like: read where it can be.
    pub fn if_good<T: Field>(&mut self, name: &str) -> Option<T> {
        let json = self.unread.remove(name)?;
        T::read(json).ok()
    }

    /// A field that existing clients send and nobody reads.
    pub fn ignored(&mut self, name: &str) {
        self.unread.remove(name);
    }

    fn refuse(&mut self, name: &str, detail: &str) {
        self.errors.push(FieldError {
            // RFC 6901 §3.
            pointer: format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            detail: detail.to_owned(),
        });
    }
}

/// An object whose fields are still text; a name that comes twice is refused.
struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, json)) = map.next_entry()? {
                    if fields.insert(name, json).is_some() {
                        return Err(A::Error::custom("a field is repeated"));
                    }
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ChangeProfile, Charge, Login, Register};

    fn mistakes<B: Body + fmt::Debug>(body: &str) -> Vec<(String, String)> {
        match parse::<B>(body.as_bytes()).expect_err(body) {
            Refusal::Invalid(errors) => errors
                .into_iter()
                .map(|error| (error.pointer, error.detail))
                .collect(),
            Refusal::Malformed { .. } => panic!("{body} is JSON"),
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let body = r#"{"email":"none","password":"short","a/b":1,"rememberMe":"yes"}"#;
        let pointers: Vec<String> = mistakes::<Login>(body)
            .into_iter()
            .map(|(pointer, _)| pointer)
            .collect();
        assert_eq!(pointers, ["/email", "/password", "/rememberMe", "/a~1b"]);
    }

    #[test]
    fn a_missing_field_is_pointed_at() {
        assert_eq!(
            mistakes::<Register>(r#"{"email":"ada@example.org","password":null}"#),
            [("/password".to_owned(), "is missing".to_owned())]
        );
    }

    #[test]
    fn what_is_no_json_is_told_by_its_place() {
        assert_eq!(
            parse::<Login>(b"{\n\"email\": hunter2}").expect_err("malformed"),
            Refusal::Malformed {
                line: 2,
                column: 10
            }
        );
        assert!(matches!(
            parse::<Login>(b"{\"email\": \"\xff\"}"),
            Err(Refusal::Malformed { .. })
        ));
    }

    #[test]
    fn a_body_is_an_object_that_repeats_no_field() {
        for body in ["[]", "null", "\"x\"", r#"{"email":"a","email":"b"}"#] {
            assert_eq!(mistakes::<Login>(body)[0].0, "", "{body}");
        }
    }

    #[test]
    fn what_is_absent_stays_and_null_takes_it_away() {
        let change = |body: &str| parse::<ChangeProfile>(body.as_bytes()).expect(body).name;
        assert_eq!(change("{}"), Change::Keep);
        assert_eq!(change(r#"{"name":null}"#), Change::Clear);
        assert!(matches!(change(r#"{"name":"Ada"}"#), Change::Set(name) if name.as_str() == "Ada"));
        assert_eq!(mistakes::<ChangeProfile>(r#"{"name":""}"#)[0].0, "/name");
    }

    #[test]
    fn a_refused_value_is_never_repeated() {
        let body = r#"{"email":"hunter2","password":["hunter2"],"name":"hunter2\u0000"}"#;
        let problem = Problem::from(parse::<Register>(body.as_bytes()).expect_err(body));
        let text = serde_json::to_string(&problem).expect("JSON");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(problem.errors.len(), 3);
    }

    #[test]
    fn an_amount_is_more_than_nothing_and_a_plain_number() {
        for amount in ["0", "0.000", "-1", "0.0001", "1e30", "\"10\"", "null"] {
            let body = format!(r#"{{"amount":{amount},"appId":"app","description":"d"}}"#);
            let found = mistakes::<Charge>(&body);
            assert_eq!(found.len(), 1, "{amount}");
            assert_eq!(found[0].0, "/amount", "{amount}");
        }
    }
}
