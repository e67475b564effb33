//! Whose turn it is to spend. Drawn beforehand, so that the generator only looks it up.

use std::fmt::{self, Display};

use fastrand::Rng;

/// More than one load asks for, as a rule; then they are asked for again.
const DRAWN: usize = 1 << 16;
/// Every run draws the same.
const SEED: u64 = 7;

/// How spending is spread over the users.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spread {
    /// Everybody spends alike.
    Uniform,
    /// By Zipf's law with exponent 1: the second most eager half as often as the first, the
    /// third a third as often.
    Zipf,
    /// One user alone.
    OneUser,
}

impl Spread {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Uniform, Self::Zipf, Self::OneUser];

    /// Whose turn it is, by numbers below `users`.
    pub fn draw(self, users: usize) -> Vec<usize> {
        let mut rng = Rng::with_seed(SEED);
        let zipf = Zipf::new(users);
        let draw = || match self {
            Self::Uniform => rng.usize(..users),
            Self::Zipf => zipf.at(rng.f64()),
            Self::OneUser => 0,
        };
        std::iter::repeat_with(draw).take(DRAWN).collect()
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::OneUser => "one user",
        })
    }
}

/// For each rank the chance of it or one before it.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: usize) -> Self {
        let mut chances: Vec<f64> = (1..)
            .take(ranks)
            .map(|rank: u32| f64::from(rank).recip())
            .collect();
        let total: f64 = chances.iter().sum();
        let mut sum = 0.0;
        for chance in &mut chances {
            sum += *chance / total;
            *chance = sum;
        }
        Self(chances)
    }

    /// The rank, from 0, at a point between 0 and 1.
    fn at(&self, point: f64) -> usize {
        let rank = self.0.partition_point(|sum| *sum <= point);
        // The sum of all may be a little less than 1.
        rank.min(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_zipfs_law_a_rank_is_drawn_as_often_as_one_by_its_number() {
        let zipf = Zipf::new(3);
        // 6 : 3 : 2 of 11.
        for (point, rank) in [
            (0.0, 0),
            (0.54, 0),
            (0.55, 1),
            (0.81, 1),
            (0.82, 2),
            (0.999, 2),
            (1.0, 2),
        ] {
            assert_eq!(zipf.at(point), rank, "{point}");
        }
    }

    #[test]
    fn everybody_has_a_turn_and_nobody_else() {
        for spread in Spread::ALL {
            let drawn = spread.draw(100);
            let count = |user| drawn.iter().filter(|drawn| **drawn == user).count();
            assert!(drawn.iter().all(|user| *user < 100), "{spread}");
            let (first, second, last) = (count(0), count(1), count(99));
            match spread {
                Spread::Uniform => assert!(first.abs_diff(last) < DRAWN / 500, "{first} {last}"),
                Spread::Zipf => {
                    assert!(first.abs_diff(2 * second) < DRAWN / 100, "{first} {second}");
                    assert!(0 < last && last < first / 50, "{first} {last}");
                }
                Spread::OneUser => assert_eq!(first, DRAWN),
            }
        }
    }
}
