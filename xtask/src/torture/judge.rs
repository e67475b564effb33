//! The verdict: one user's ledger beside what the model says of it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};

use shared::credits::Credits;

use super::{
    ledger::{Ledger, Row},
    model::{BOUGHT, Expected, Kind, Record, taken_back},
};

/// Something that is not as it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Which rule it breaks.
    pub fault: Fault,
    /// What it is, for a person.
    pub what: String,
}

/// The rules that can be broken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// Acknowledged, and not there.
    Lost,
    /// There more often than it was asked for.
    Doubled,
    /// There, though it was refused or never asked for.
    Uncalled,
    /// An answer or a row that cannot be.
    Wrong,
    /// A balance that is not the sum of what happened.
    Balance,
}

/// Everything that is not as it must be with a user whose account began with `bonus`, and
/// of whom `records` are.
pub fn judge(bonus: Credits, records: &[&Record], ledger: &Ledger) -> Vec<Difference> {
    let mut judge = Judge::new(ledger);
    for record in records {
        judge.record(record);
    }
    judge.holds(records);
    judge.refunds(records);
    judge.purchases(records);
    judge.bonus(bonus);
    judge.uncalled();
    judge.sums();
    judge.differences
}

struct Judge<'a> {
    ledger: &'a Ledger,
    by_name: HashMap<(&'a str, &'a str), Vec<&'a Row>>,
    by_id: HashMap<&'a str, &'a Row>,
    /// What each explained row does to the credits that can be spent, in thousandths.
    effects: HashMap<&'a str, i64>,
    held: i64,
    differences: Vec<Difference>,
}

impl<'a> Judge<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for row in &ledger.rows {
            if let Some(name) = &row.description {
                let key = (row.r#type.as_str(), name.as_str());
                by_name.entry(key).or_default().push(row);
            }
        }
        let by_id = ledger.rows.iter().map(|row| (row.id.as_str(), row));
        Self {
            ledger,
            by_name,
            by_id: by_id.collect(),
            effects: HashMap::new(),
            held: 0,
            differences: Vec::new(),
        }
    }

    fn find(&mut self, fault: Fault, what: String) {
        self.differences.push(Difference { fault, what });
    }

    /// Whether the operation is in the ledger as often as it may be.
    fn record(&mut self, record: &Record) {
        let operation = &record.operation;
        let label = format!("{} {}", operation.kind.name(), operation.name);
        for why in &record.contradictions {
            self.find(Fault::Wrong, format!("{label} {why}"));
        }
        if matches!(operation.kind, Kind::Buy { .. }) {
            // Known with all of them: no row says which it is of.
            return;
        }
        let rows = self.rows(record);
        match (record.expected(), rows.len()) {
            (Expected::Once, 0) => self.find(Fault::Lost, format!("{label} was acknowledged")),
            (Expected::Never, 1) => self.find(Fault::Uncalled, format!("{label} was refused")),
            (_, 0 | 1) => {}
            (_, times) => self.find(Fault::Doubled, format!("{label} is there {times} times")),
        }
        for row in &rows {
            let amount = row.amount.thousandths();
            let effect = match operation.kind {
                Kind::Spend { .. } | Kind::Hold { .. } => -amount,
                Kind::Refund { .. } | Kind::Grant { .. } => amount,
                // Known with its hold.
                Kind::Capture { .. } | Kind::Void { .. } | Kind::Buy { .. } => continue,
            };
            self.effects.insert(&row.id, effect);
        }
        if let [row] = rows[..] {
            let known = record.done.as_ref();
            let is_known = known.is_none_or(|(id, amount)| (id, *amount) == (&row.id, row.amount));
            if !is_known || operation.amount.is_some_and(|amount| amount != row.amount) {
                let what = format!("{label} is there as {} over {}", row.id, row.amount);
                self.find(Fault::Wrong, what);
            }
        }
    }

    /// Where it is in the ledger. A settlement has no name there, but an id.
    fn rows(&self, record: &Record) -> Vec<&'a Row> {
        let Record { operation, .. } = record;
        match operation.kind {
            Kind::Capture { .. } | Kind::Void { .. } => {
                let known = record.done.as_ref();
                let row = known.and_then(|(id, _)| self.by_id.get(id.as_str()).copied());
                row.into_iter().collect()
            }
            _ => {
                let name = (operation.kind.name(), operation.name.as_str());
                self.by_name.get(&name).cloned().unwrap_or_default()
            }
        }
    }

    /// Whether each hold ended once at the most, and gave back what was not captured.
    fn holds(&mut self, records: &[&Record]) {
        let mut settlements: HashMap<&str, Vec<&Record>> = HashMap::new();
        for record in records {
            if let Kind::Capture { hold } | Kind::Void { hold } = &record.operation.kind
                && record.done.is_some()
            {
                let settled = settlements.entry(hold).or_default();
                // The same capture, asked for under two names, is one.
                if settled.iter().all(|other| other.done != record.done) {
                    settled.push(record);
                }
            }
        }
        let mut expired: BTreeMap<i64, usize> = BTreeMap::new();
        for record in records {
            let Kind::Hold { expires } = record.operation.kind else {
                continue;
            };
            let id = record.done.as_ref().map_or("", |(id, _)| id);
            let settled = settlements.remove(id).unwrap_or_default();
            if settled.len() > 1 {
                let what = format!("hold {} was settled twice", record.operation.name);
                self.find(Fault::Doubled, what);
            }
            for row in self.rows(record) {
                let amount = row.amount.thousandths();
                match settled.first() {
                    Some(settlement) => self.settled(settlement, amount),
                    None if expires => *expired.entry(amount).or_default() += 1,
                    None => self.held += amount,
                }
            }
        }
        self.expired(expired);
    }

    fn settled(&mut self, settlement: &Record, held: i64) {
        let label = format!(
            "{} {}",
            settlement.operation.kind.name(),
            settlement.operation.name
        );
        let Some(row) = self.rows(settlement).first().copied() else {
            return;
        };
        let is_capture = matches!(settlement.operation.kind, Kind::Capture { .. });
        let charged = if is_capture {
            row.amount.thousandths()
        } else {
            0
        };
        let is_right = row.r#type == settlement.operation.kind.name()
            && settlement
                .done
                .as_ref()
                .is_some_and(|(_, amount)| *amount == row.amount)
            && (charged <= held && (is_capture || row.amount.thousandths() == held));
        if !is_right {
            let what = format!("{label} is there as {} over {}", row.r#type, row.amount);
            self.find(Fault::Wrong, what);
        }
        self.effects.insert(&row.id, held - charged);
    }

    /// Holds whose time is over were given back, each by a void that nobody asked for.
    fn expired(&mut self, mut expected: BTreeMap<i64, usize>) {
        for row in &self.ledger.rows {
            let amount = row.amount.thousandths();
            if row.r#type == "void"
                && !self.effects.contains_key(row.id.as_str())
                && let Some(count) = expected.get_mut(&amount).filter(|count| **count > 0)
            {
                *count -= 1;
                self.effects.insert(&row.id, amount);
            }
        }
        for (amount, count) in expected {
            for _ in 0..count {
                let what = format!("the end of a hold of {amount} thousandths that expired");
                self.find(Fault::Lost, what);
            }
        }
    }

    /// Whether no charge came back more than once.
    fn refunds(&mut self, records: &[&Record]) {
        let mut refunded: HashMap<&str, i64> = HashMap::new();
        for record in records {
            if let (Kind::Refund { charge }, Some((_, amount))) =
                (&record.operation.kind, &record.done)
            {
                *refunded.entry(charge).or_default() += amount.thousandths();
            }
        }
        for (charge, refunded) in refunded {
            let charged = self.by_id.get(charge).map(|row| row.amount.thousandths());
            if charged.is_none_or(|charged| refunded > charged) {
                let what =
                    format!("{refunded} thousandths of {charge}, over {charged:?}, came back");
                self.find(Fault::Doubled, what);
            }
        }
    }

    /// Whether each paid purchase brought its credits once, and lost what the money was worth
    /// that went back. Money goes back to those alone who never spend, so that it leaves no debt.
    fn purchases(&mut self, records: &[&Record]) {
        let (mut paid, mut to_take_back) = (0, 0);
        for record in records {
            if let (Kind::Buy { refunded_cents }, Expected::Once) =
                (&record.operation.kind, record.expected())
            {
                paid += 1;
                to_take_back += taken_back(*refunded_cents);
            }
        }
        let (mut brought, mut reversed) = (0, 0);
        for row in &self.ledger.rows {
            let amount = row.amount.thousandths();
            let name = row.description.as_deref().unwrap_or_default();
            if row.r#type == "reversal" {
                reversed += amount;
                self.effects.insert(&row.id, -amount);
            } else if row.r#type == "grant" && name.starts_with("Purchase ") && amount == BOUGHT {
                brought += 1;
                self.effects.insert(&row.id, amount);
            }
        }
        for (what, expected, found) in [
            ("purchases", paid, brought),
            ("thousandths taken back", to_take_back, reversed),
        ] {
            let fault = match found.cmp(&expected) {
                Ordering::Less => Fault::Lost,
                Ordering::Equal => continue,
                Ordering::Greater => Fault::Doubled,
            };
            let what = format!("{what}: {found} are there, and must be {expected}");
            self.find(fault, what);
        }
    }

    fn bonus(&mut self, bonus: Credits) {
        let is_bonus = |row: &&Row| row.r#type == "grant" && row.description.is_none();
        let rows: Vec<_> = self.ledger.rows.iter().filter(is_bonus).collect();
        match rows[..] {
            [row] if row.amount == bonus => {
                self.effects.insert(&row.id, bonus.thousandths());
            }
            [] => self.find(Fault::Lost, "the sign-up bonus".to_owned()),
            _ => self.find(Fault::Doubled, "the sign-up bonus".to_owned()),
        }
    }

    fn uncalled(&mut self) {
        let ledger = self.ledger;
        let mut seen = HashSet::new();
        for row in &ledger.rows {
            if !seen.insert(&row.id) {
                self.find(Fault::Doubled, format!("{row:?} is shown twice"));
            } else if !self.effects.contains_key(row.id.as_str()) {
                self.find(Fault::Uncalled, format!("{row:?}"));
            }
        }
    }

    /// Whether the balance is the sum of its rows, and each row's as well.
    fn sums(&mut self) {
        let ledger = self.ledger;
        let mut spendable = 0;
        for row in &ledger.rows {
            let after = row.paid_after.thousandths() + row.free_after.thousandths();
            let effect = self.effects.get(row.id.as_str()).copied();
            spendable += effect.unwrap_or(after - spendable);
            if spendable != after {
                let what = format!("after {row:?} there must be {spendable} thousandths");
                self.find(Fault::Balance, what);
                spendable = after;
            }
        }
        let sum = |types: &[&str]| -> i64 {
            let rows = ledger.rows.iter();
            let rows = rows.filter(|row| types.contains(&row.r#type.as_str()));
            rows.map(|row| row.amount.thousandths()).sum()
        };
        let balance = &ledger.balance;
        let free = balance.free.thousandths();
        let figures = [
            (
                "spendable",
                balance.paid.thousandths() + free,
                self.effects.values().sum(),
            ),
            ("held", balance.held.thousandths(), self.held),
            (
                "totalEarned",
                balance.total_earned.thousandths(),
                sum(&["grant"]) - sum(&["reversal"]),
            ),
            (
                "totalSpent",
                balance.total_spent.thousandths(),
                sum(&["spend", "capture"]) - sum(&["refund"]),
            ),
        ];
        for (name, said, expected) in figures {
            if said != expected {
                let what = format!("{name} is {said} thousandths and must be {expected}");
                self.find(Fault::Balance, what);
            }
        }
        let (version, rows) = (balance.version, ledger.rows.len());
        if version != rows {
            let what = format!("there are {rows} transactions, and the balance counts {version}");
            self.find(Fault::Balance, what);
        }
    }
}

#[cfg(test)]
mod tests;
