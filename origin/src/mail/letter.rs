//! The letters: their words, and how these become a message in text and HTML.

use askama::Template;
use chrono::{DateTime, Utc};
use lettre::{
    Message,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType},
    },
};
use uuid::Uuid;

use crate::links::Purpose;

use super::store::{Addressee, SignIn};

const MAX_NAME_CHARS: usize = 60;
const MAX_AGENT_CHARS: usize = 160;

/// A letter in words. The templates escape them where that is needed.
pub struct Letter {
    /// The address alone: names stay out of headers.
    pub to: String,
    /// Always words of ours.
    pub subject: &'static str,
    name: Option<String>,
    says: Vec<String>,
    button: Option<Button>,
    ends: &'static str,
}

struct Button {
    label: &'static str,
    url: String,
}

#[derive(Template)]
#[template(path = "mail/letter.html")]
struct Html<'a> {
    letter: &'a Letter,
}

#[derive(Template)]
#[template(path = "mail/letter.txt")]
struct Text<'a> {
    letter: &'a Letter,
}

impl Letter {
    /// A letter with a link.
    pub fn with_link(to: &Addressee, purpose: Purpose, url: String) -> Self {
        let (subject, says, label, ends) = match purpose {
            Purpose::Verify => (
                "Verify your e-mail address",
                "Somebody registered with this e-mail address. If it was you, verify that it is yours. The link is good for 24 hours.",
                "Verify address",
                "If it was not you, do nothing: without you the address stays unverified.",
            ),
            Purpose::Reset => (
                "Set a new password",
                "Somebody asked for a new password for your account. The link is good for one hour, and once.",
                "Set a new password",
                "If it was not you, do nothing: your password stays as it is.",
            ),
            Purpose::Magic => (
                "Your sign-in link",
                "Somebody asked to sign in to your account by mail. The link is good for ten minutes, and once.",
                "Sign in",
                "If it was not you, do nothing: without this link nobody is signed in.",
            ),
        };
        let mut letter = Self::new(to, subject, vec![says.to_owned()], ends);
        letter.button = Some(Button { label, url });
        letter
    }

    /// The password is another one.
    pub fn password_changed(to: &Addressee, at: DateTime<Utc>) -> Self {
        let says = format!(
            "The password of your account was changed on {}.",
            moment(at)
        );
        let ends =
            "If it was not you, ask for a new password at once: that signs out whoever did it.";
        Self::new(to, "Your password was changed", vec![says], ends)
    }

    /// Somebody signed in with a device that had not been seen before.
    pub fn new_device(to: &Addressee, sign_in: &SignIn) -> Self {
        let mut says = vec![format!(
            "Your account was signed in to with a device that was not used before, on {}.",
            moment(sign_in.at)
        )];
        if let Some(address) = &sign_in.address {
            says.push(format!("From: {address}"));
        }
        if let Some(agent) = &sign_in.agent {
            says.push(format!("With: {}", one_line(agent, MAX_AGENT_CHARS)));
        }
        let ends = "If it was not you, set a new password at once: that signs out every device.";
        Self::new(to, "New sign-in to your account", says, ends)
    }

    /// Where the letter leads, if it does.
    pub fn link(&self) -> Option<&str> {
        self.button.as_ref().map(|button| button.url.as_str())
    }

    /// The message. Each attempt has the same `Message-ID`, by which a letter that left twice is
    /// known for one.
    pub fn message(&self, from: &Mailbox, id: Uuid) -> Result<Message, lettre::error::Error> {
        let to = self
            .to
            .parse()
            .map_err(|_| lettre::error::Error::MissingTo)?;
        Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, to))
            .subject(self.subject)
            .message_id(Some(format!("<{id}@{}>", from.email.domain())))
            .multipart(
                MultiPart::alternative()
                    .singlepart(plain(render(&Text { letter: self })))
                    .singlepart(SinglePart::html(render(&Html { letter: self }))),
            )
    }

    /// Whoever registers chooses a name, and the mail for an address that is not verified goes to a
    /// stranger perhaps: our mail carries nobody's words to strangers.
    fn new(to: &Addressee, subject: &'static str, says: Vec<String>, ends: &'static str) -> Self {
        let name = to.name.as_ref().filter(|_| to.email_verified);
        Self {
            to: to.email.clone(),
            subject,
            name: name.map(|name| one_line(name, MAX_NAME_CHARS)),
            says,
            button: None,
            ends,
        }
    }
}

fn render(template: &impl Template) -> String {
    template.render().expect("a text takes whatever is written")
}

/// Text as it is, where that may be: a link that is read in the raw, in a folder or by a script, is
/// whole. Lines may have 998 bytes (RFC 5322 §2.1.1).
fn plain(text: String) -> SinglePart {
    if !text.is_ascii() || text.lines().any(|line| line.len() > 998) {
        return SinglePart::plain(text);
    }
    let lines = text.replace('\n', "\r\n").into_bytes();
    let body = Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit);
    SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .body(body)
}

/// A text of a stranger, without whatever could make it look like more than one line of ours.
fn one_line(text: &str, most_chars: usize) -> String {
    let words: Vec<&str> = text
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").chars().take(most_chars).collect()
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %B %Y at %H:%M UTC").to_string()
}
