//! The model: what was asked of the ledger, what it answered, and what may therefore be in it.
//!
//! An answer that does not come says nothing. Whatever has a key is asked again until the answer
//! is clear; a charge without one stays open, and may be there once or not at all.

use shared::credits::Credits;

/// What can be bought: no cent of its price is a whole number of thousandths.
pub const PACKAGE: &str = "odd";
/// What it brings, in thousandths.
pub const BOUGHT: i64 = 9_999;
/// What it costs.
pub const PRICE_CENTS: i64 = 700;

/// How many thousandths of a purchase are taken back for money of it that was paid back.
pub const fn taken_back(refunded_cents: i64) -> i64 {
    BOUGHT * refunded_cents / PRICE_CENTS
}

/// One thing that is asked of the ledger, however often.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Unlike every other's: its description or reason, and its key or reference.
    pub name: String,
    /// Whose credits.
    pub user: usize,
    /// For which app.
    pub app: &'static str,
    /// How much; without it, all of the hold or all that is left of the charge.
    pub amount: Option<Credits>,
    /// What.
    pub kind: Kind,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A charge, with or without a key.
    Spend {
        /// Whether it can be asked again.
        keyed: bool,
    },
    /// Credits put aside.
    Hold {
        /// Whether its time is over before the run is.
        expires: bool,
    },
    /// A charge of the hold with this id.
    Capture {
        /// As the ledger named it.
        hold: String,
    },
    /// The end of the hold with this id.
    Void {
        /// As the ledger named it.
        hold: String,
    },
    /// Credits back, of the charge with this id.
    Refund {
        /// As the ledger named it.
        charge: String,
    },
    /// Credits for nothing.
    Grant {
        /// `free` or `paid`.
        kind: &'static str,
    },
    /// Credits for money. Done is that it was begun; whoever hears so pays it.
    Buy {
        /// How much of the money goes back.
        refunded_cents: i64,
    },
}

impl Kind {
    /// What the ledger calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Spend { .. } => "spend",
            Self::Hold { .. } => "hold",
            Self::Capture { .. } => "capture",
            Self::Void { .. } => "void",
            Self::Refund { .. } => "refund",
            Self::Grant { .. } => "grant",
            Self::Buy { .. } => "purchase",
        }
    }

    /// Whether asking again does nothing twice.
    pub const fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Spend { keyed: false } | Self::Buy { .. })
    }

    /// The codes with which it may be refused.
    const fn refusals(&self) -> &'static [&'static str] {
        match self {
            Self::Spend { .. } | Self::Hold { .. } => &["INSUFFICIENT_CREDITS"],
            Self::Capture { .. } => &["HOLD_SETTLED", "HOLD_EXPIRED", "HOLD_EXCEEDED"],
            Self::Void { .. } => &["HOLD_SETTLED", "HOLD_EXPIRED"],
            Self::Refund { .. } => &["REFUND_EXCEEDS_CHARGE"],
            Self::Grant { .. } | Self::Buy { .. } => &[],
        }
    }

    /// Whether what was refused once is refused for ever. Credits may come, after which an
    /// attempt that was lost on its way to the ledger is still good.
    const fn is_refused_for_good(&self) -> bool {
        !matches!(self, Self::Spend { .. } | Self::Hold { .. })
    }
}

/// What one attempt came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is done.
    Done {
        /// The transaction, or the hold.
        id: String,
        /// How much it is.
        amount: Credits,
        /// Whether it was done before.
        replayed: bool,
    },
    /// It is not done, for the reason that this code names.
    Refused(String),
    /// No answer, or none that says whether it is done.
    Unclear,
}

/// An operation, and everything that was answered to it.
#[derive(Debug)]
pub struct Record {
    /// What was asked.
    pub operation: Operation,
    /// The transaction or the hold, and its amount, once it is known to be done.
    pub done: Option<(String, Credits)>,
    /// What the answers contradict: themselves, or the question.
    pub contradictions: Vec<String>,
    /// How many attempts ended unclear.
    pub unclear: u32,
    /// Whether nothing clear was answered since an attempt that was not.
    pub is_open: bool,
    /// How many times it was done before.
    pub replays: u32,
    fresh: u32,
    refused: bool,
}

/// How often an operation may be in the ledger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    /// It was acknowledged.
    Once,
    /// It was refused.
    Never,
    /// Nobody knows.
    AtMostOnce,
}

impl Record {
    /// Of an operation that was not asked for yet.
    pub const fn new(operation: Operation) -> Self {
        Self {
            operation,
            done: None,
            contradictions: Vec::new(),
            unclear: 0,
            is_open: false,
            replays: 0,
            fresh: 0,
            refused: false,
        }
    }

    /// Notes what attempts came to that were made at the same time: none of them is later.
    pub fn hear(&mut self, verdicts: impl IntoIterator<Item = Verdict>) {
        let was_done = self.done.is_some();
        let mut is_open = false;
        for verdict in verdicts {
            match verdict {
                Verdict::Unclear => {
                    self.unclear += 1;
                    is_open = true;
                }
                Verdict::Refused(code) => self.hear_refused(&code, was_done),
                Verdict::Done {
                    id,
                    amount,
                    replayed,
                } => self.hear_done(id, amount, replayed),
            }
        }
        self.is_open = is_open && self.done.is_none();
    }

    /// How often it may be in the ledger.
    pub const fn expected(&self) -> Expected {
        let for_good = self.refused && self.operation.kind.is_refused_for_good();
        match (&self.done, self.unclear) {
            (Some(_), _) => Expected::Once,
            (None, 0) => Expected::Never,
            (None, _) if for_good => Expected::Never,
            // It may have been begun, but nobody knows what to pay.
            (None, _) if matches!(self.operation.kind, Kind::Buy { .. }) => Expected::Never,
            (None, _) => Expected::AtMostOnce,
        }
    }

    fn hear_refused(&mut self, code: &str, was_done: bool) {
        self.refused = true;
        if !self.operation.kind.refusals().contains(&code) {
            self.contradictions.push(format!("was answered {code}"));
        } else if was_done {
            let why = format!("was acknowledged, and later answered {code}");
            self.contradictions.push(why);
        }
    }

    fn hear_done(&mut self, id: String, amount: Credits, replayed: bool) {
        let counter = if replayed {
            &mut self.replays
        } else {
            &mut self.fresh
        };
        *counter += 1;
        if self.fresh > 1 {
            let why = format!("was new {} times by its answers", self.fresh);
            self.contradictions.push(why);
        }
        let asked = self.operation.amount;
        let is_void = matches!(self.operation.kind, Kind::Void { .. });
        if !is_void && asked.is_some_and(|asked| asked != amount) {
            let why = format!("was answered with the amount {amount}");
            self.contradictions.push(why);
        }
        match &self.done {
            None => self.done = Some((id, amount)),
            Some(known) if *known == (id.clone(), amount) => {}
            Some((known, was)) => {
                let why = format!("was {known} over {was} at first, and later {id} over {amount}");
                self.contradictions.push(why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Expected::*, *};

    fn record(kind: Kind) -> Record {
        Record::new(Operation {
            name: "1-1".to_owned(),
            user: 0,
            app: "atlas",
            amount: Credits::from_thousandths(5),
            kind,
        })
    }

    fn done(id: &str, replayed: bool) -> Verdict {
        Verdict::Done {
            id: id.to_owned(),
            amount: Credits::from_thousandths(5).expect("an amount"),
            replayed,
        }
    }

    fn short() -> Verdict {
        Verdict::Refused("INSUFFICIENT_CREDITS".to_owned())
    }

    #[test]
    fn what_was_acknowledged_is_there_once() {
        let mut spend = record(Kind::Spend { keyed: true });
        spend.hear([Verdict::Unclear, done("a", false)]);
        assert_eq!((spend.expected(), spend.is_open), (Once, false));
        spend.hear([Verdict::Unclear]);
        assert_eq!((spend.expected(), spend.is_open), (Once, false));
        spend.hear([done("a", true)]);
        assert_eq!(spend.contradictions, [""; 0]);
    }

    #[test]
    fn what_was_refused_is_not_there() {
        let mut spend = record(Kind::Spend { keyed: true });
        spend.hear([short(), short()]);
        assert_eq!((spend.expected(), spend.is_open), (Never, false));
    }

    #[test]
    fn a_charge_without_an_answer_may_be_there() {
        let mut spend = record(Kind::Spend { keyed: false });
        spend.hear([Verdict::Unclear]);
        assert_eq!((spend.expected(), spend.is_open), (AtMostOnce, true));
    }

    /// Credits may have come in between, for the attempt that was under way.
    #[test]
    fn a_lack_of_credits_says_nothing_about_an_earlier_attempt() {
        let mut spend = record(Kind::Spend { keyed: true });
        spend.hear([Verdict::Unclear]);
        spend.hear([short()]);
        assert_eq!((spend.expected(), spend.is_open), (AtMostOnce, false));
        spend.hear([done("a", false)]);
        assert_eq!((spend.expected(), spend.contradictions.len()), (Once, 0));
    }

    #[test]
    fn a_settled_hold_stays_settled() {
        let mut void = record(Kind::Void {
            hold: "h".to_owned(),
        });
        void.hear([Verdict::Unclear]);
        void.hear([Verdict::Refused("HOLD_SETTLED".to_owned())]);
        assert_eq!((void.expected(), void.is_open), (Never, false));
    }

    #[test]
    fn a_purchase_without_an_answer_is_never_paid() {
        let mut buy = record(Kind::Buy { refunded_cents: 0 });
        buy.hear([Verdict::Unclear]);
        assert_eq!((buy.expected(), buy.is_open), (Never, true));
        assert!(!buy.operation.kind.is_repeatable());
    }

    #[test]
    fn money_that_goes_back_takes_its_credits_along_rounded_down() {
        let cents = [0, 1, 350, PRICE_CENTS];
        assert_eq!(cents.map(taken_back), [0, 14, 4_999, BOUGHT]);
    }

    /// Credits may have come between the two.
    #[test]
    fn of_two_at_once_one_may_be_short() {
        let mut spend = record(Kind::Spend { keyed: true });
        spend.hear([done("a", false), short()]);
        assert_eq!((spend.expected(), spend.contradictions.len()), (Once, 0));
    }

    #[test]
    fn answers_that_contradict_each_other_are_found() {
        let contradicts = |verdicts: [Verdict; 2]| {
            let mut spend = record(Kind::Spend { keyed: true });
            for verdict in verdicts {
                spend.hear([verdict]);
            }
            !spend.contradictions.is_empty()
        };
        assert!(contradicts([done("a", false), done("b", true)]));
        assert!(contradicts([done("a", false), done("a", false)]));
        assert!(contradicts([done("a", false), short()]));
        let unknown = Verdict::Refused("NOT_FOUND".to_owned());
        assert!(contradicts([unknown, Verdict::Unclear]));
        assert!(!contradicts([short(), done("a", false)]));
    }
}
