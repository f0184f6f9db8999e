//! A list for people: columns as wide as what stands in them, up to a limit; colours on a terminal only.

use console::{Color, Style, Term, truncate_str};

/// A column of a list of `T`.
pub(super) struct Column<T> {
    pub(super) heading: &'static str,
    /// Characters of a cell; a longer one is cut and ends with an ellipsis. The last column is never cut.
    pub(super) most: usize,
    pub(super) cell: fn(&T) -> String,
    /// The colour of a cell, by its text.
    pub(super) color: fn(&str) -> Option<Color>,
}

impl<T> Column<T> {
    /// A column without colours.
    pub(super) const fn plain(heading: &'static str, most: usize, cell: fn(&T) -> String) -> Self {
        Self { heading, most, cell, color: |_| None }
    }
}

/// A list that comes in parts. The first part sets the widths.
pub(super) struct Table<T: 'static> {
    columns: &'static [Column<T>],
    widths: Vec<usize>,
    is_colored: bool,
}

impl<T> Table<T> {
    pub(super) fn new(columns: &'static [Column<T>]) -> Self {
        Self { columns, widths: Vec::new(), is_colored: colors() }
    }

    /// The next lines; the first time with the headings.
    pub(super) fn lines(&mut self, entries: &[T]) -> String {
        let cells = |entry: &T| self.columns.iter().map(|column| plain(&(column.cell)(entry))).collect();
        let rows: Vec<Vec<String>> = entries.iter().map(cells).collect();
        let mut out = String::new();
        if self.widths.is_empty() && !rows.is_empty() {
            let widest = |(place, column): (usize, &Column<T>)| {
                let cells = rows.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count());
                cells.max().unwrap_or(0).min(column.most).max(column.heading.len())
            };
            self.widths = self.columns.iter().enumerate().map(widest).collect();
            let headings: Vec<_> = self.columns.iter().map(|column| column.heading.to_owned()).collect();
            out += &self.line(&headings, false);
        }
        for row in &rows {
            out += &self.line(row, self.is_colored);
        }
        out
    }

    fn line(&self, cells: &[String], is_colored: bool) -> String {
        let mut line = String::new();
        let last = cells.len().saturating_sub(1);
        for (place, ((cell, column), width)) in cells.iter().zip(self.columns).zip(&self.widths).enumerate() {
            let cut = if place == last { cell.into() } else { truncate_str(cell, *width, "…") };
            let padding = if place == last { 0 } else { width.saturating_sub(cut.chars().count()) + 2 };
            line += &paint(&cut, (column.color)(cell).filter(|_| is_colored));
            line.extend(std::iter::repeat_n(' ', padding));
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

/// Whether standard output takes colours: it is a terminal, and `NO_COLOR` is not set.
pub(super) fn colors() -> bool {
    Term::stdout().features().colors_supported()
}

/// A text in a colour.
pub(super) fn paint(text: &str, color: Option<Color>) -> String {
    color.map_or_else(
        || text.to_owned(),
        |color| Style::new().fg(color).force_styling(true).apply_to(text).to_string(),
    )
}

/// The colour of a status.
pub(super) fn status_color(status: &str) -> Option<Color> {
    match status {
        "delivered" => Some(Color::Green),
        "retrying" | "parked" => Some(Color::Yellow),
        "dead" | "expired" => Some(Color::Red),
        _ => None,
    }
}

/// What a sender has chosen must not move a terminal's cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = [&'static str; 3];

    const COLUMNS: &[Column<Row>] = &[
        Column { heading: "STATUS", most: 9, cell: |row| row[0].to_owned(), color: status_color },
        Column::plain("REASON", 12, |row| row[1].to_owned()),
        Column::plain("MESSAGE ID", 4, |row| row[2].to_owned()),
    ];

    #[test]
    fn long_cells_are_cut_and_the_table_stays_in_line() {
        let mut table = Table { columns: COLUMNS, widths: Vec::new(), is_colored: false };
        let rows = [
            ["dead", "filtered_by_integrations_object", "id-1"],
            ["delivered", "größer", "id\u{1b}[2J-long"],
        ];
        let expected = "STATUS     REASON        MESSAGE ID\n\
                        dead       filtered_by…  id-1\n\
                        delivered  größer        id [2J-long\n";
        assert_eq!(table.lines(&rows), expected);
        assert_eq!(table.lines(&rows[..1]), "dead       filtered_by…  id-1\n", "headings come once");
        assert_eq!(Table { columns: COLUMNS, widths: Vec::new(), is_colored: false }.lines(&[]), "");
    }

    #[test]
    fn a_status_has_its_colour_and_nothing_else_has_one() {
        let mut table = Table { columns: COLUMNS, widths: Vec::new(), is_colored: true };
        let lines = table.lines(&[["dead", "wigzo_400", "id-1"]]);
        assert_eq!(lines.lines().nth(1), Some("\u{1b}[31mdead\u{1b}[0m    wigzo_400  id-1"));
        assert!(!lines.lines().next().unwrap().contains('\u{1b}'), "{lines:?}");
    }
}
