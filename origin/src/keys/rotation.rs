//! When a key takes over from another. Pure: what to do follows from the keys and the time.

use chrono::{DateTime, TimeDelta, Utc};
use shared::claims::{ACCESS_TOKEN_LIFETIME_SECS, LEEWAY_SECS};

/// How long a key signs.
const TERM: TimeDelta = TimeDelta::days(30);
/// How long a key is published before it signs: longer than any cache may serve a key set
/// (`stale-if-error` is a day).
pub const NOTICE: TimeDelta = TimeDelta::hours(25);
/// How long a replica may go on signing with a key that another has retired.
pub const RELOAD_SECS: u32 = 30;
/// After this long every replica publishes a new key, whatever their clocks.
const KNOWN_TO_ALL: TimeDelta = TimeDelta::seconds(60);
const _: () = assert!(KNOWN_TO_ALL.num_seconds() >= (RELOAD_SECS + LEEWAY_SECS) as i64);

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Published, and signs nothing yet.
    Next,
    /// Signs, from its time on.
    Active,
    /// Verifies what it has signed.
    Retiring,
}

impl State {
    /// As the database names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }
}

/// What a key signs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Ed25519: whatever we sign, where nobody wants it otherwise.
    EdDsa,
    /// RSA, for relying parties that know nothing else.
    Rs256,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::EdDsa, Self::Rs256];

    /// As headers and the database name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

/// The part of a key that its life depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Term {
    /// Its id.
    pub kid: String,
    /// What it signs with.
    pub kind: Kind,
    /// Where it is.
    pub state: State,
    /// When it signs, or signed, its first token.
    pub activate_at: DateTime<Utc>,
    /// When the last token it signed has expired, once it is retiring.
    pub remove_at: Option<DateTime<Utc>>,
}

/// One change to the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make a key in this state, to sign from this time on.
    Make(State, DateTime<Utc>),
    /// Let it verify until this time.
    Retire(String, DateTime<Utc>),
    /// Let it sign.
    Activate(String),
    /// Forget it.
    Remove(String),
}

/// What to do now, in this order, with the keys of one kind.
pub fn plan(kind: Kind, keys: &[Term], now: DateTime<Utc>) -> Vec<Step> {
    let find = |state| keys.iter().find(|key| key.state == state);
    let over = keys
        .iter()
        .filter(|key| key.remove_at.is_some_and(|at| at <= now));
    let mut steps: Vec<Step> = over.map(|key| Step::Remove(key.kid.clone())).collect();
    match (find(State::Active), find(State::Next)) {
        (None, None) => {
            // Whoever wants the first RSA key is there already, and may ask any replica for it. In place
            // of an Ed25519 key there is nothing that could sign until then.
            let wait = match kind {
                Kind::EdDsa => TimeDelta::zero(),
                Kind::Rs256 => KNOWN_TO_ALL,
            };
            steps.push(Step::Make(State::Active, now + wait));
        }
        // The active one was revoked: better a key that some caches lack than none.
        (None, Some(next)) => steps.push(Step::Activate(next.kid.clone())),
        (Some(active), None) if active.activate_at + TERM - NOTICE <= now => {
            steps.push(Step::Make(
                State::Next,
                (active.activate_at + TERM).max(now + NOTICE),
            ));
        }
        (Some(active), Some(next)) if next.activate_at <= now => {
            let tail = ACCESS_TOKEN_LIFETIME_SECS + LEEWAY_SECS + RELOAD_SECS;
            steps.push(Step::Retire(
                active.kid.clone(),
                now + TimeDelta::seconds(tail.into()),
            ));
            steps.push(Step::Activate(next.kid.clone()));
        }
        (Some(_), _) => {}
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    fn term(
        kid: &str,
        state: State,
        activate_at: DateTime<Utc>,
        remove_at: Option<DateTime<Utc>>,
    ) -> Term {
        Term {
            kid: kid.to_owned(),
            kind: Kind::EdDsa,
            state,
            activate_at,
            remove_at,
        }
    }

    #[test]
    fn the_first_key_signs_at_once_or_when_it_is_known() {
        let made = |kind| plan(kind, &[], start());
        assert_eq!(made(Kind::EdDsa), [Step::Make(State::Active, start())]);
        let known = start() + TimeDelta::minutes(1);
        assert_eq!(
            made(Kind::Rs256),
            [Step::Make(State::Active, known)],
            "once every replica publishes it"
        );
    }

    #[test]
    fn a_key_is_published_25_hours_before_it_signs() {
        let keys = [term("a", State::Active, start(), None)];
        let takeover = start() + TERM;
        let notice = takeover - NOTICE;
        assert_eq!(plan(Kind::EdDsa, &keys, notice - TimeDelta::seconds(1)), []);
        assert_eq!(
            plan(Kind::EdDsa, &keys, notice),
            [Step::Make(State::Next, takeover)]
        );
        let late = takeover + TimeDelta::days(3);
        assert_eq!(
            plan(Kind::EdDsa, &keys, late),
            [Step::Make(State::Next, late + NOTICE)]
        );
    }

    #[test]
    fn a_key_takes_over_at_its_time_and_the_old_one_outlives_its_tokens() {
        let keys = [
            term("a", State::Active, start(), None),
            term("b", State::Next, start() + TERM, None),
        ];
        let takeover = start() + TERM;
        assert_eq!(
            plan(Kind::EdDsa, &keys, takeover - TimeDelta::seconds(1)),
            []
        );
        let gone = takeover + TimeDelta::seconds(900 + 30 + 30);
        assert_eq!(
            plan(Kind::EdDsa, &keys, takeover),
            [
                Step::Retire("a".to_owned(), gone),
                Step::Activate("b".to_owned())
            ]
        );

        let keys = [
            term("a", State::Retiring, start(), Some(gone)),
            term("b", State::Active, takeover, None),
        ];
        assert_eq!(plan(Kind::EdDsa, &keys, gone - TimeDelta::seconds(1)), []);
        assert_eq!(
            plan(Kind::EdDsa, &keys, gone),
            [Step::Remove("a".to_owned())]
        );
    }

    #[test]
    fn a_revoked_key_is_replaced_at_once() {
        let keys = [term("b", State::Next, start() + TERM, None)];
        assert_eq!(
            plan(Kind::EdDsa, &keys, start()),
            [Step::Activate("b".to_owned())]
        );
    }
}
