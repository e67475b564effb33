//! What an isolate counts for its operator. It is told now and then, behind an answer, and counted from
//! the beginning again: sums over all isolates are sums over what they tell.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};

/// How long is counted before it is told. What an isolate that ends has not told is lost.
const PERIOD: TimeDelta = TimeDelta::seconds(10);

/// What is counted, in the order of [`NAMES`].
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Requests of clients.
    Requests,
    /// Tokens that were believed.
    Accepted,
    /// Requests without a token where one is needed.
    Unauthenticated,
    /// Tokens that do not verify, or were withdrawn.
    Invalid,
    /// Tokens of sessions that have ended.
    Ended,
    /// Callers without the role that a route needs.
    Forbidden,
    /// Requests that could not be judged: no keys, or on a strict route no revocations.
    Unavailable,
    /// Requests over a quota.
    Limited,
    /// Decisions of exact quotas that were made here, since the place that counts did not answer.
    CountedAlone,
    /// Tokens that verified by memory.
    Remembered,
    /// Signatures that were checked.
    Signatures,
    /// How often the origin was asked for its key set.
    KeyFetches,
    /// How often it was asked for revocations.
    FeedFetches,
    /// How often it gave neither.
    FetchFailures,
    /// Answers from behind the edge.
    Answers,
    /// Requests that went on and were not answered.
    Unanswered,
    /// How long answers took to begin, in milliseconds, all together.
    AnswerMillis,
    /// How long the slowest one took.
    SlowestMillis,
}

/// By what names it is told; in a dataset of Workers Analytics Engine, which has room for 20, they are
/// `double1` and so on.
pub const NAMES: [&str; 20] = [
    "requests",
    "accepted",
    "unauthenticated",
    "invalid",
    "ended",
    "forbidden",
    "unavailable",
    "limited",
    "countedAlone",
    "remembered",
    "signatures",
    "keyFetches",
    "feedFetches",
    "fetchFailures",
    "answers",
    "unanswered",
    "answerMillis",
    "slowestMillis",
    "keysAgeSecs",
    "feedAgeSecs",
];
const COUNTED: usize = Number::SlowestMillis as usize + 1;

/// What was counted since it was last told.
#[derive(Debug, Default)]
pub struct Numbers {
    counts: [u32; COUNTED],
    since: Option<DateTime<Utc>>,
}

/// What is told, in the order of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report(pub [f64; NAMES.len()]);

impl Numbers {
    /// Counts one more.
    pub const fn count(&mut self, number: Number) {
        let count = &mut self.counts[number as usize];
        *count = count.saturating_add(1);
    }

    /// How many there were since it was last told.
    #[must_use]
    pub const fn so_far(&self, number: Number) -> u32 {
        self.counts[number as usize]
    }

    /// Counts an answer from behind the edge that took so long to begin; or that there was none.
    pub fn took(&mut self, time: TimeDelta, answered: bool) {
        if !answered {
            return self.count(Number::Unanswered);
        }
        self.count(Number::Answers);
        let millis = u32::try_from(time.num_milliseconds()).unwrap_or_default();
        let sum = &mut self.counts[Number::AnswerMillis as usize];
        *sum = sum.saturating_add(millis);
        let slowest = &mut self.counts[Number::SlowestMillis as usize];
        *slowest = millis.max(*slowest);
    }

    /// What is to be told, if it is time to; counting then begins again. Ages are those of the moment, and
    /// -1 of what is not there.
    pub fn due(
        &mut self,
        now: DateTime<Utc>,
        ages_secs: impl FnOnce() -> [Option<i64>; 2],
    ) -> Option<Report> {
        let since = *self.since.get_or_insert(now);
        if now - since < PERIOD {
            return None;
        }
        let told = std::mem::take(self);
        self.since = Some(now);
        let whole = |secs: i64| f64::from(i32::try_from(secs).unwrap_or(i32::MAX));
        let ages = ages_secs().map(|age| whole(age.unwrap_or(-1)));
        let mut report = [0.0; NAMES.len()];
        let counts = told.counts.iter().copied().map(f64::from);
        for (value, told) in report.iter_mut().zip(counts.chain(ages)) {
            *value = told;
        }
        Some(Report(report))
    }
}

impl Report {
    /// As a line of JSON, for a log.
    ///
    /// # Panics
    /// Never: a `String` takes all that is written to it.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = String::from("{\"numbers\":{");
        for (index, (name, value)) in NAMES.iter().zip(self.0).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(line, "{comma}\"{name}\":{value}").expect("a String takes all");
        }
        line.push_str("}}");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_every_ten_seconds_and_counted_anew() {
        let at = |secs| DateTime::UNIX_EPOCH + TimeDelta::seconds(secs);
        let mut numbers = Numbers::default();
        numbers.count(Number::Requests);
        assert_eq!(numbers.due(at(0), || [None, None]), None);
        numbers.count(Number::Requests);
        numbers.took(TimeDelta::milliseconds(7), true);
        numbers.took(TimeDelta::seconds(30), false);
        assert_eq!(numbers.due(at(9), || [None, None]), None);
        let report = numbers.due(at(12), || [Some(3), None]).expect("time to");
        let line: serde_json::Value = serde_json::from_str(&report.line()).expect("JSON");
        let told = &line["numbers"];
        for (name, value) in [
            ("requests", 2),
            ("accepted", 0),
            ("answers", 1),
            ("unanswered", 1),
            ("answerMillis", 7),
            ("slowestMillis", 7),
            ("keysAgeSecs", 3),
            ("feedAgeSecs", -1),
        ] {
            assert_eq!(told[name], value, "{name}: {line}");
        }
        assert_eq!(numbers.due(at(21), || [None, None]), None);
        let report = numbers.due(at(22), || [None, None]).expect("time to");
        assert!(report.line().contains("\"requests\":0,"));
    }
}
