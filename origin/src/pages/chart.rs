//! A chart of amounts over time, as an SVG in the page: it takes the page's colours, and needs neither
//! a script nor a file. Whoever does not see it reads the same figures in a table.

use askama::Template;
use shared::credits::Credits;

/// In units of the drawing.
const HEIGHT: u64 = 120;
const BAR: u64 = 14;
const STEP: u64 = 20;

/// A chart of one bar for each day.
#[derive(Template)]
#[template(path = "pages/part_chart.html")]
pub struct Chart {
    pub title: &'static str,
    /// What there is to see, in a sentence.
    pub says: String,
    /// What the table is called while it is closed.
    pub summary: &'static str,
    pub heads: (&'static str, &'static str),
    pub from: String,
    pub to: String,
    pub bars: Vec<Bar>,
}

/// One of its bars.
pub struct Bar {
    pub name: String,
    pub value: Credits,
    pub text: String,
}

/// A bar as it is drawn.
struct Shape {
    x: u64,
    y: u64,
    height: u64,
    says: String,
}

impl Chart {
    fn width(&self) -> u64 {
        STEP * self.bars.len() as u64
    }

    /// The largest fills the drawing; what is more than nothing is seen.
    fn shapes(&self) -> Vec<Shape> {
        let thousandths = |bar: &Bar| bar.value.thousandths().unsigned_abs();
        let most = self.bars.iter().map(thousandths).max().unwrap_or(0).max(1);
        let shape = |(place, bar): (u64, &Bar)| {
            let part = u128::from(thousandths(bar)) * u128::from(HEIGHT) / u128::from(most);
            let height = u64::try_from(part).unwrap_or(HEIGHT);
            let least = if bar.value == Credits::ZERO { 1 } else { 3 };
            let height = height.max(least);
            Shape {
                x: place * STEP + (STEP - BAR) / 2,
                y: HEIGHT - height,
                height,
                says: format!("{}: {}", bar.name, bar.text),
            }
        };
        (0..).zip(&self.bars).map(shape).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[i64]) -> Chart {
        let bar = |thousandths: &i64| Bar {
            name: "then".to_owned(),
            value: Credits::from_thousandths(*thousandths).expect("credits"),
            text: "<b>".to_owned(),
        };
        Chart {
            title: "",
            says: String::new(),
            summary: "",
            heads: ("", ""),
            from: String::new(),
            to: String::new(),
            bars: values.iter().map(bar).collect(),
        }
    }

    #[test]
    fn the_largest_bar_fills_the_drawing_and_the_smallest_is_seen() {
        let heights = |values: &[i64]| -> Vec<u64> {
            let shapes = chart(values).shapes();
            assert!(shapes.iter().all(|shape| shape.y + shape.height == HEIGHT));
            shapes.iter().map(|shape| shape.height).collect()
        };
        assert_eq!(heights(&[0, 0]), [1, 1]);
        assert_eq!(heights(&[1, 0, 1_000_000]), [3, 1, HEIGHT]);
        assert_eq!(heights(&[500, 1_000]), [HEIGHT / 2, HEIGHT]);
        assert_eq!(heights(&[Credits::MAX.thousandths(); 2]), [HEIGHT; 2]);
    }

    #[test]
    fn what_it_says_is_text() {
        let html = chart(&[1]).render().expect("a text");
        assert!(
            !html.contains("<b>") && html.contains("&#60;b&#62;"),
            "{html}"
        );
    }
}
