//! One small ledger for each rule.

use super::{
    super::{ledger::Balance, model::*},
    *,
};

/// A ledger of one user, and the records of those who asked.
struct Case {
    ledger: Ledger,
    records: Vec<Record>,
}

fn credits(thousandths: i64) -> Credits {
    Credits::from_thousandths(thousandths).expect("an amount")
}

/// A user with a bonus of 100, who did nothing.
fn case() -> Case {
    let mut case = Case {
        ledger: Ledger {
            balance: Balance {
                paid: Credits::ZERO,
                free: credits(100),
                held: Credits::ZERO,
                total_earned: credits(100),
                total_spent: Credits::ZERO,
                version: 0,
            },
            rows: Vec::new(),
        },
        records: Vec::new(),
    };
    case.row("grant", "bonus", 100, 100);
    case.ledger.rows[0].description = None;
    case
}

impl Case {
    /// A row that is named after its id.
    fn row(&mut self, r#type: &str, id: &str, amount: i64, after: i64) {
        self.ledger.rows.push(Row {
            id: id.to_owned(),
            r#type: r#type.to_owned(),
            amount: credits(amount),
            description: Some(id.to_owned()),
            paid_after: Credits::ZERO,
            free_after: credits(after),
        });
        self.ledger.balance.version += 1;
        self.ledger.balance.free = credits(after);
    }

    fn record(&mut self, kind: Kind, name: &str, amount: i64, verdict: Verdict) {
        let mut record = Record::new(Operation {
            name: name.to_owned(),
            user: 0,
            app: "atlas",
            amount: Some(credits(amount)),
            kind,
        });
        record.hear([verdict]);
        self.records.push(record);
    }

    fn done(&mut self, kind: Kind, name: &str, amount: i64) {
        let done = Verdict::Done {
            id: name.to_owned(),
            amount: credits(amount),
            replayed: false,
        };
        self.record(kind, name, amount, done);
    }

    fn faults(&self) -> Vec<Fault> {
        let records: Vec<_> = self.records.iter().collect();
        let found = judge(credits(100), &records, &self.ledger);
        found
            .into_iter()
            .map(|difference| difference.fault)
            .collect()
    }
}

const SPEND: Kind = Kind::Spend { keyed: true };

fn capture() -> Kind {
    Kind::Capture {
        hold: "hold".to_owned(),
    }
}

#[test]
fn a_charge_that_is_there_once_is_right() {
    let mut case = case();
    case.done(SPEND, "one", 30);
    case.row("spend", "one", 30, 70);
    case.ledger.balance.total_spent = credits(30);
    assert_eq!(case.faults(), []);
}

#[test]
fn a_charge_that_was_acknowledged_and_is_not_there_is_lost() {
    let mut case = case();
    case.done(SPEND, "one", 30);
    assert_eq!(case.faults(), [Fault::Lost]);
}

#[test]
fn a_charge_without_a_key_may_be_there_once_and_not_twice() {
    let mut case = case();
    case.record(Kind::Spend { keyed: false }, "one", 30, Verdict::Unclear);
    assert_eq!(case.faults(), []);
    case.row("spend", "one", 30, 70);
    case.ledger.balance.total_spent = credits(30);
    assert_eq!(case.faults(), []);
    case.row("spend", "one", 30, 40);
    case.ledger.rows[2].id = "another".to_owned();
    case.ledger.balance.total_spent = credits(60);
    assert_eq!(case.faults(), [Fault::Doubled]);
}

#[test]
fn a_charge_that_was_refused_must_not_be_there() {
    let mut case = case();
    let short = Verdict::Refused("INSUFFICIENT_CREDITS".to_owned());
    case.record(SPEND, "one", 30, short);
    case.row("spend", "one", 30, 70);
    case.ledger.balance.total_spent = credits(30);
    assert_eq!(case.faults(), [Fault::Uncalled]);
}

#[test]
fn a_row_that_nobody_asked_for_is_found() {
    let mut case = case();
    case.row("spend", "one", 30, 70);
    case.ledger.balance.total_spent = credits(30);
    assert_eq!(case.faults(), [Fault::Uncalled, Fault::Balance]);
}

#[test]
fn a_capture_returns_the_rest_of_its_hold() {
    let mut case = case();
    case.done(Kind::Hold { expires: false }, "hold", 30);
    case.row("hold", "hold", 30, 70);
    case.ledger.balance.held = credits(30);
    assert_eq!(case.faults(), []);
    case.done(capture(), "capture", 10);
    case.row("capture", "capture", 10, 90);
    case.ledger.balance.total_spent = credits(10);
    case.ledger.balance.held = Credits::ZERO;
    assert_eq!(case.faults(), []);
    case.ledger.rows[2].free_after = credits(70);
    case.ledger.balance.free = credits(70);
    assert_eq!(case.faults(), [Fault::Balance; 2]);
}

#[test]
fn a_hold_ends_once() {
    let mut case = case();
    case.done(Kind::Hold { expires: false }, "hold", 30);
    case.row("hold", "hold", 30, 70);
    case.done(capture(), "capture", 30);
    case.row("capture", "capture", 30, 70);
    case.done(
        Kind::Void {
            hold: "hold".to_owned(),
        },
        "void",
        30,
    );
    case.row("void", "void", 30, 100);
    case.ledger.balance.total_spent = credits(30);
    assert!(case.faults().contains(&Fault::Doubled));
}

#[test]
fn a_hold_whose_time_is_over_is_given_back() {
    let mut case = case();
    case.done(Kind::Hold { expires: true }, "hold", 30);
    case.row("hold", "hold", 30, 70);
    assert_eq!(case.faults(), [Fault::Lost]);
    case.row("void", "unasked", 30, 100);
    assert_eq!(case.faults(), []);
}

#[test]
fn no_more_comes_back_than_was_charged() {
    let mut case = case();
    let refund = || Kind::Refund {
        charge: "one".to_owned(),
    };
    case.done(SPEND, "one", 30);
    case.row("spend", "one", 30, 70);
    case.done(refund(), "back", 20);
    case.row("refund", "back", 20, 90);
    case.ledger.balance.total_spent = credits(10);
    assert_eq!(case.faults(), []);
    case.done(refund(), "again", 11);
    case.row("refund", "again", 11, 101);
    assert!(case.faults().contains(&Fault::Doubled));
}

/// Half of the money of one purchase went back.
#[test]
fn a_purchase_brings_its_credits_once() {
    let mut case = case();
    case.done(
        Kind::Buy {
            refunded_cents: 350,
        },
        "bought",
        BOUGHT,
    );
    case.row("grant", "Purchase of 9.999 credits", 9_999, 10_099);
    case.ledger.balance.total_earned = credits(10_099);
    assert_eq!(case.faults(), [Fault::Lost], "nothing was taken back");
    case.row("reversal", "half", 4_999, 5_100);
    case.ledger.balance.total_earned = credits(5_100);
    assert_eq!(case.faults(), []);
    case.row("grant", "Purchase of 9.999 credits", 9_999, 15_099);
    case.ledger.rows[3].id = "again".to_owned();
    case.ledger.balance.total_earned = credits(15_099);
    assert_eq!(case.faults(), [Fault::Doubled]);
}

#[test]
fn a_purchase_that_was_not_paid_brings_nothing() {
    let mut case = case();
    let buy = Kind::Buy { refunded_cents: 0 };
    case.record(buy, "unheard", BOUGHT, Verdict::Unclear);
    assert_eq!(case.faults(), []);
    case.row("grant", "Purchase of 9.999 credits", 9_999, 10_099);
    case.ledger.balance.total_earned = credits(10_099);
    assert_eq!(case.faults(), [Fault::Doubled]);
}
