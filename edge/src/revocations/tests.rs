//! Which tokens are refused, for how long, and when the origin is asked.

use shared::{
    claims::{AccessClaims, Role},
    jwks::{KeySet, SigningKey},
    jwt::{self, Expect},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;

const START: i64 = 1_800_000_000;
const AGES: Ages = Ages {
    refresh: TimeDelta::seconds(2),
    limit: TimeDelta::seconds(5),
};

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(START * 1_000 + millis).expect("a time")
}

/// A token of this user and session, minted so many seconds after the start.
fn token(user: u128, session: u128, iat: i64) -> Verified {
    let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
    let claims = AccessClaims {
        iss: "i".to_owned(),
        aud: "a".to_owned(),
        sub: Uuid::from_u128(user).into(),
        client_id: String::new(),
        sid: Uuid::from_u128(session).into(),
        jti: Uuid::nil().into(),
        iat: at(iat * 1_000),
        exp: at((iat + 900) * 1_000),
        auth_time: at(0),
        email: String::new(),
        role: Role::User,
        amr: Vec::new(),
    };
    let text = jwt::sign(&claims, &key);
    let keys: KeySet = [key.key().clone()].into_iter().collect();
    let expect = Expect {
        issuer: claims.iss,
        audience: claims.aud,
    };
    let verified = jwt::verify_with(&text, &keys, &expect, at(0), |_, _, _| true);
    Verified::new(&text, verified.expect("a good token"))
}

fn session(id: u128, ended: i64) -> Revocation {
    Revocation::Session {
        id: Uuid::from_u128(id).into(),
        until: START + ended + TAIL_SECS,
    }
}

fn user(id: u128, not_before: i64) -> Revocation {
    Revocation::User {
        id: Uuid::from_u128(id).into(),
        not_before: START + not_before,
        until: START + not_before + TAIL_SECS,
    }
}

fn feed(revocations: Vec<Revocation>) -> Feed {
    Feed {
        cursor: 9,
        more: false,
        age_millis: 0,
        floor: 0,
        revocations,
    }
}

fn knowing(revocations: Vec<Revocation>) -> Revocations {
    let mut known = Revocations::default();
    known.add(feed(revocations), at(0));
    known
}

#[test]
fn a_session_that_ended_is_refused_and_no_other() {
    let known = knowing(vec![session(1, 10)]);
    for iat in [0, 10, 11, 900] {
        let checked = known.check(&token(5, 1, iat));
        assert_eq!(checked, Err(NotBelieved::Ended), "minted at {iat}");
    }
    assert_eq!(known.check(&token(5, 2, 0)), Ok(()));
}

#[test]
fn a_users_tokens_of_before_are_refused_and_those_of_after_are_not() {
    let mut known = knowing(vec![user(5, 10)]);
    for (iat, checked) in [(9, Err(NotBelieved::Withdrawn)), (10, Ok(())), (11, Ok(()))] {
        assert_eq!(known.check(&token(5, 1, iat)), checked, "minted at {iat}");
    }
    assert_eq!(known.check(&token(6, 1, 0)), Ok(()), "another user");
    // Again, and then the first one once more: of another replica, or late.
    known.add(feed(vec![user(5, 20), user(5, 10)]), at(0));
    assert!(known.check(&token(5, 1, 19)).is_err());
    assert_eq!(known.check(&token(5, 1, 20)), Ok(()));
}

#[test]
fn whatever_a_revoked_key_has_signed_is_refused() {
    let token = token(5, 1, i64::from(u32::MAX));
    let mut known = knowing(Vec::new());
    assert_eq!(known.check(&token), Ok(()));
    let key = Revocation::Key {
        id: token.kid.to_string(),
        until: START + 100,
    };
    assert!(known.add(feed(vec![key.clone()]), at(0)), "news");
    assert!(!known.add(feed(vec![key]), at(0)), "no news");
    let unknown = NotBelieved::Rejected(Rejected::UnknownKey);
    assert_eq!(known.check(&token), Err(unknown));
}

#[test]
fn what_is_heard_stays_until_its_time_whatever_comes_after() {
    let mut known = knowing(vec![session(1, 0), user(5, 0)]);
    known.add(
        Feed {
            cursor: 3,
            ..feed(vec![session(2, 0)])
        },
        at(1_000),
    );
    assert_eq!(known.cursor(), 3, "the origin's word");
    assert!(known.check(&token(6, 1, -1)).is_err());
    assert!(known.check(&token(6, 2, -1)).is_err());
    known.add(feed(Vec::new()), at((TAIL_SECS - 1) * 1_000));
    assert!(known.check(&token(6, 1, -1)).is_err());
    known.add(feed(Vec::new()), at(TAIL_SECS * 1_000));
    assert_eq!((known.sessions.len(), known.users.len()), (0, 0));
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_is_refused_by_its_age() {
    let many =
        |from: u128| (from..from + 8).map(|id| session(id, i64::try_from(id).expect("small")));
    let mut known = knowing(many(1).collect());
    known.forget(START, 8);
    assert_eq!((known.sessions.len(), known.floor), (8, 0));
    known.add(feed(many(9).collect()), at(0));
    known.forget(START, 8);
    assert_eq!(known.sessions.len(), 6, "two more than must, of eight");
    // The tenth went at 10, so tokens of before may be of one that was forgotten.
    assert_eq!(known.check(&token(5, 99, 9)), Err(NotBelieved::Withdrawn));
    assert_eq!(known.check(&token(5, 99, 10)), Ok(()));
    assert_eq!(known.check(&token(5, 11, 10)), Err(NotBelieved::Ended));
}

#[test]
fn what_the_origin_left_out_is_refused_by_its_age() {
    let mut known = Revocations::default();
    let floor = START + 10;
    known.add(
        Feed {
            floor,
            ..feed(Vec::new())
        },
        at(0),
    );
    known.add(feed(Vec::new()), at(0));
    assert_eq!(known.check(&token(5, 1, 9)), Err(NotBelieved::Withdrawn));
    assert_eq!(known.check(&token(5, 1, 10)), Ok(()));
}

#[test]
fn a_copy_is_fetched_refreshed_and_given_up() {
    use Keep::{Fetch, Fresh, Refresh};
    let mut known = Revocations::default();
    assert_eq!(known.take(at(0), AGES), Fetch);
    assert_eq!(known.take(at(0), AGES), Fetch, "each for itself");
    known.add(feed(Vec::new()), at(0));
    for (millis, keep) in [
        (0, Fresh),
        (1_999, Fresh),
        (2_000, Refresh),
        (2_000, Fresh),
        (2_999, Fresh),
        (3_000, Refresh),
        (4_999, Refresh),
        (5_000, Fetch),
        (5_000, Fetch),
    ] {
        assert_eq!(known.take(at(millis), AGES), keep, "after {millis} ms");
    }
    known.failed(at(6_000));
    for (millis, keep) in [
        (6_000, Refresh),
        (6_999, Fresh),
        (7_000, Refresh),
        (9_999, Refresh),
        (10_000, Fetch),
    ] {
        let kept = known.take(at(millis), AGES);
        assert_eq!(kept, keep, "after {millis} ms, down since 6");
    }
    known.add(feed(Vec::new()), at(10_000));
    assert_eq!(known.take(at(11_999), AGES), Fresh);
}

/// From the moment at which it was asked, and the age that the origin's own copy had then.
#[test]
fn a_copy_is_as_old_as_what_the_origin_knew() {
    let mut known = Revocations::default();
    assert!(!known.is_within(at(0), AGES) && known.age_secs(at(0)).is_none());
    let old = Feed {
        age_millis: 1_500,
        ..feed(Vec::new())
    };
    known.add(old.clone(), at(0));
    assert_eq!(known.age_secs(at(500)), Some(2));
    assert!(known.is_within(at(3_499), AGES));
    assert!(!known.is_within(at(3_500), AGES));
    known.add(feed(Vec::new()), at(1_000));
    known.add(old, at(1_000));
    assert_eq!(
        known.age_secs(at(2_000)),
        Some(1),
        "no older by a later answer"
    );
    let half = Feed {
        more: true,
        ..feed(Vec::new())
    };
    known.add(half, at(9_000));
    assert_eq!(known.age_secs(at(9_000)), Some(8), "half of it is not all");
}

/// What is in it is found again by whoever knew nothing.
#[test]
fn a_snapshot_is_all_that_is_known_and_as_old() {
    let key = Revocation::Key {
        id: "k".to_owned(),
        until: START + 100,
    };
    let mut known = Revocations::default();
    assert!(known.snapshot().is_none(), "nothing is known");
    known.add(
        Feed {
            cursor: 7,
            floor: START - 50,
            age_millis: 400,
            ..feed(vec![session(1, 0), user(5, 0), key])
        },
        at(1_000),
    );
    let snapshot = known.snapshot().expect("something is known");
    let mut cold = Revocations::default();
    assert!(cold.is_cold() && cold.add(snapshot.feed, snapshot.as_of) && !cold.is_cold());
    assert_eq!(cold.sessions, known.sessions);
    assert_eq!(cold.keys, known.keys);
    assert_eq!((cold.cursor, cold.floor), (7, START - 50));
    assert_eq!(cold.as_of, Some(at(600)));
    assert_eq!(cold.check(&token(5, 9, -1)), Err(NotBelieved::Withdrawn));
    assert_eq!(cold.check(&token(5, 9, 0)), Ok(()));
}

#[test]
fn a_snapshot_is_made_every_five_seconds_and_a_long_one_more_seldom() {
    let many = (0..2 * PAGE as u128).map(|id| session(id, 0)).collect();
    for (revocations, every) in [(Vec::new(), 5_000), (many, 15_000)] {
        let mut known = knowing(revocations);
        let made: Vec<_> = (0..31)
            .map(|secs| secs * 1_000)
            .filter(|&millis| known.may_snapshot(at(millis)))
            .collect();
        let expected: Vec<_> = (0..31_000).step_by(every).collect();
        assert_eq!(made, expected);
    }
}
