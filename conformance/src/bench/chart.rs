//! The chart: for each verb of each workload the floor and both sets, as bars over a logarithmic scale of milliseconds.

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{
    Color, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, RGBColor, Rectangle, SVGBackend, TextStyle,
};

use super::report::{Report, Row, ms};

const WIDTH: i32 = 900;
const NAMES: i32 = 300;
const BAR: i32 = 11;
const GAP: i32 = 12;
const TOP: i32 = 46;

/// Which colours: the floor, the first set, the second.
const COLOURS: [RGBColor; 3] = [RGBColor(0x9a, 0xa5, 0xb1), RGBColor(0x1b, 0x7f, 0x5c), RGBColor(0xd9, 0x8c, 0x2b)];
const INK: RGBColor = RGBColor(0x55, 0x5d, 0x66);

/// The chart as SVG. Rows of which nothing was measured are left out.
pub fn svg(report: &Report) -> Result<String, String> {
    let rows: Vec<_> = report.rows.iter().filter(|row| row.sets.iter().any(Result::is_ok)).collect();
    let height = TOP + rows.iter().map(|row| bars(row).len() as i32 * BAR + GAP).sum::<i32>();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height as u32)).into_drawing_area();
        draw(&area, report, &rows).map_err(|error| format!("drawing the chart: {error}"))?;
    }
    Ok(text)
}

fn draw<B: DrawingBackend>(area: &Area<B>, report: &Report, rows: &[&Row]) -> Drawn<B> {
    let scale = Scale::over(rows);
    let [a, b] = &report.labels;
    let legend = [("floor", COLOURS[0]), (a.as_str(), COLOURS[1]), (b.as_str(), COLOURS[2])];
    for (at, (words, colour)) in legend.into_iter().enumerate() {
        let x = NAMES + at as i32 * 190;
        area.draw(&Rectangle::new([(x, 8), (x + 10, 18)], colour.filled()))?;
        write(area, words, (x + 16, 7))?;
    }
    write(area, "ms, p50, logarithmic", (8, 7))?;
    let mut y = TOP;
    for row in rows {
        write(area, &format!("{} {}", row.workload, row.verb.as_str()), (8, y))?;
        for (value, colour) in bars(row) {
            let end = scale.x(value);
            area.draw(&Rectangle::new([(NAMES, y), (end, y + BAR - 2)], colour.filled()))?;
            write(area, &figure(value), (end + 5, y - 1))?;
            y += BAR;
        }
        y += GAP;
    }
    area.present()
}

type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn write<B: DrawingBackend>(area: &Area<B>, words: &str, at: (i32, i32)) -> Drawn<B> {
    area.draw_text(words, &TextStyle::from(("sans-serif", 11).into_font()).color(&INK), at)
}

fn figure(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn bars(row: &Row) -> Vec<(f64, RGBColor)> {
    let sets = row.sets.iter().map(|set| set.as_ref().ok().map(|stats| ms(stats.p50)));
    let values = [row.floor.as_ref().map(|floor| ms(floor.p50))].into_iter().chain(sets).zip(COLOURS);
    values.filter_map(|(value, colour)| Some((value?, colour))).collect()
}

/// From milliseconds to pixels.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn over(rows: &[&Row]) -> Self {
        let values = || rows.iter().flat_map(|row| bars(row)).map(|(value, _)| value.max(0.01).ln());
        Scale { least: values().fold(f64::MAX, f64::min) - 0.7, most: values().fold(f64::MIN, f64::max) }
    }

    fn x(&self, value: f64) -> i32 {
        let room = f64::from(WIDTH - NAMES - 60);
        NAMES + (room * (value.max(0.01).ln() - self.least) / (self.most - self.least)) as i32
    }
}
