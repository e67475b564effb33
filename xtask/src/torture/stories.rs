//! The stories that clients tell: what somebody may do with credits, from a single charge to a
//! hold that two try to end at once.

use anyhow::Result;
use fastrand::Rng;
use shared::credits::Credits;
use tokio::time::sleep;

use super::{
    api::SHORT_HOLD,
    clients::Client,
    model::{Kind, PRICE_CENTS},
};

/// Whose credits are moved. The first two are hot: half of all stories are about them.
pub const USERS: usize = 24;
/// With those whose money goes back. They only buy: what they never spend is still there when it
/// is taken back.
pub const PEOPLE: usize = USERS + 3;

// In thousandths of a credit. Grants bring a little less than charges take, so that whoever has
// little goes on having little.
const DEAREST: i64 = 20_000;
const LARGEST_GRANT: i64 = 60_000;
/// What nobody has.
const TOO_DEAR: i64 = 100_000_000_000;

/// A transaction, or a hold, and its amount.
pub type Done = Option<(String, Credits)>;

/// One story, about one user.
pub struct Story<'a> {
    client: &'a mut Client,
    user: usize,
    rng: Rng,
}

impl<'a> Story<'a> {
    /// A story about somebody; everything in it is drawn from `rng`.
    pub fn new(client: &'a mut Client, mut rng: Rng) -> Self {
        let user = match rng.u8(0..6) {
            0 | 1 => 0,
            2 => 1,
            _ => rng.usize(2..USERS),
        };
        Self { client, user, rng }
    }

    /// Tells it. Another kind of thing that happens to credits is another arm here.
    pub async fn tell(mut self) -> Result<()> {
        match self.rng.u8(0..14) {
            0..3 => self.spend(true).await.map(drop),
            3..5 => self.spend(false).await.map(drop),
            5..8 => self.hold().await,
            8..10 => self.refund().await,
            10..12 => self.grant().await,
            _ => self.buy().await,
        }
    }

    /// Leaves somebody who has `bonus` with next to nothing, so that they are often short.
    pub async fn impoverish(
        client: &mut Client,
        rng: Rng,
        user: usize,
        bonus: Credits,
    ) -> Result<()> {
        let mut story = Story { client, user, rng };
        let most_of_it = bonus.thousandths() - LARGEST_GRANT;
        story
            .ask(Kind::Spend { keyed: true }, Some(most_of_it))
            .await?;
        Ok(())
    }

    async fn spend(&mut self, keyed: bool) -> Result<Done> {
        let price = self.price();
        self.ask(Kind::Spend { keyed }, Some(price)).await
    }

    async fn grant(&mut self) -> Result<()> {
        let kind = if self.rng.bool() { "free" } else { "paid" };
        let amount = self.rng.i64(1..=LARGEST_GRANT);
        self.ask(Kind::Grant { kind }, Some(amount)).await?;
        Ok(())
    }

    /// A hold, and one of the ways in which it can end.
    async fn hold(&mut self) -> Result<()> {
        let expires = self.rng.u8(0..4) == 0;
        let price = self.price();
        let opened = self.ask(Kind::Hold { expires }, Some(price)).await?;
        let Some((hold, amount)) = opened else {
            return Ok(());
        };
        if expires {
            // Around its end, which it may or may not be settled before.
            sleep(SHORT_HOLD.mul_f64(self.rng.f64() * 1.5)).await;
        }
        let all = amount.thousandths();
        let part = self.rng.i64(1..=all);
        let capture = || Kind::Capture { hold: hold.clone() };
        let void = || Kind::Void { hold: hold.clone() };
        match self.rng.u8(0..7) {
            0 => drop(self.ask(capture(), None).await?),
            1 | 2 => drop(self.ask(capture(), Some(part)).await?),
            3 => drop(self.ask(void(), None).await?),
            4 => {
                let ways = [(capture(), Some(part)), (void(), None)];
                self.client.race(self.user, ways).await?;
            }
            5 => {
                self.ask(capture(), Some(all + 1)).await?;
                self.ask(capture(), Some(part)).await?;
            }
            // Left to itself.
            _ => return Ok(()),
        }
        // Too late, whatever came before.
        match self.rng.u8(0..6) {
            0 => drop(self.ask(capture(), Some(part + 1)).await?),
            1 => drop(self.ask(void(), None).await?),
            _ => {}
        }
        Ok(())
    }

    /// A charge, and refunds of it that may come to more than it was.
    async fn refund(&mut self) -> Result<()> {
        let charge = if self.rng.bool() {
            self.spend(true).await?
        } else {
            self.captured().await?
        };
        let Some((charge, charged)) = charge else {
            return Ok(());
        };
        for _ in 0..self.rng.u8(1..=3) {
            let part = self.rng.i64(1..=charged.thousandths());
            let part = (self.rng.u8(0..4) > 0).then_some(part);
            let charge = charge.clone();
            self.ask(Kind::Refund { charge }, part).await?;
        }
        Ok(())
    }

    /// A purchase, and all that Stripe tells of it: at once, so that a refund of the money may
    /// overtake the payment.
    async fn buy(&mut self) -> Result<()> {
        let mut refunds = Vec::new();
        if self.rng.bool() {
            self.user = self.rng.usize(USERS..PEOPLE);
            let mut left = PRICE_CENTS;
            while left > 0 && self.rng.u8(0..4) > 0 {
                let cents = self.rng.i64(1..=left);
                refunds.push(cents);
                left -= cents;
            }
        }
        let refunded_cents = refunds.iter().sum();
        let begun = self.ask(Kind::Buy { refunded_cents }, None).await?;
        let Some((purchase, _)) = begun else {
            return Ok(());
        };
        let stripe = self.client.stripe();
        let session = stripe.session_of(&purchase);
        let mut events = Vec::new();
        if self.rng.bool() {
            events.extend(stripe.pay_later(&session));
        }
        events.extend(stripe.pay(&session));
        if self.rng.bool() {
            // The same money, told by another event.
            events.extend(stripe.pay(&session));
        }
        for cents in refunds {
            events.extend(stripe.refund(&session, cents));
        }
        self.client.deliver(&events, &mut self.rng).await
    }

    async fn captured(&mut self) -> Result<Done> {
        let (expires, price) = (false, self.price());
        match self.ask(Kind::Hold { expires }, Some(price)).await? {
            Some((hold, _)) => self.ask(Kind::Capture { hold }, None).await,
            None => Ok(None),
        }
    }

    fn price(&mut self) -> i64 {
        match self.rng.u8(0..20) {
            0 => TOO_DEAR,
            _ => self.rng.i64(1..=DEAREST),
        }
    }

    async fn ask(&mut self, kind: Kind, amount: Option<i64>) -> Result<Done> {
        self.client
            .ask(self.user, kind, amount, &mut self.rng)
            .await
    }
}
