//! The screen as lines of text. Nothing needs a colour: what is marked is reversed, or bold.

use super::rows::{Bars, TOOL_COLUMNS};
use super::screen::{Entered, Screen};
use super::text::{clean, clock, cut, duration, pad, width};
use plugin_api::histogram::bucket;
use ratatui::Frame;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

/// How a line stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Plain,
    Bold,
    Reversed,
}

/// A line of the screen.
pub type Row = (String, Look);

/// Bars are drawn where there is room for so many lines of the table beside them.
const TABLE_BESIDE_BARS: usize = 4;
/// No column of a table is wider.
const WIDEST: usize = 40;

const KEYS: [&str; 16] = [
    "up down j k          mark a row; PageUp, PageDown, Home, End too",
    "Enter                enter the marked tool",
    "Esc                  leave it",
    "Tab                  the tool's next table, and those about the tool",
    "left right h l       move through the columns",
    "s S                  sort by the next column, by the one before",
    "r                    sort from the other end",
    "t                    histograms: of the last tick, or since the start",
    "space                stop the numbers; they go on with another space",
    "?                    these keys",
    "q Ctrl-C             end",
    "",
    "KERN% USER%          of one CPU: the tool's BPF programs; its thread or process",
    "MAPS NS/RUN          memory of its maps in bytes; time of a run of its programs",
    "LOST                 since the start: dropped, missed by the kernel, without room",
    "numbers              those of the lines of the last tick",
];
const TIME_KEYS: [&str; 4] = [
    "[ ]                  a tick back, a tick on",
    "{ }                  a minute back, a minute on",
    "g                    go to a time: 12:00:00, -5m, 2026-01-31T12:00:00Z",
    "G                    the end, and what is written from now on",
];

/// Draws it.
pub fn draw(screen: &mut Screen, message: Option<&str>, frame: &mut Frame<'_>) {
    let area = frame.area();
    let rows = lines(screen, message, area.width.into(), area.height.into());
    let styled = rows.into_iter().map(|(text, look)| {
        let style = match look {
            Look::Plain => Style::new(),
            Look::Bold => Style::new().add_modifier(Modifier::BOLD),
            Look::Reversed => Style::new().add_modifier(Modifier::REVERSED),
        };
        Line::styled(text, style)
    });
    frame.render_widget(Paragraph::new(styled.collect::<Vec<_>>()), area);
}

/// All lines, as many as there is room for.
pub fn lines(screen: &mut Screen, message: Option<&str>, wide: usize, high: usize) -> Vec<Row> {
    let mut rows = vec![(title(screen), Look::Bold)];
    let foot = foot(screen, message);
    let room = high.saturating_sub(1 + foot.len());
    if screen.help {
        let keys = KEYS.iter().chain(TIME_KEYS.iter().filter(|_| screen.replays));
        rows.extend(keys.map(|key| ((*key).to_owned(), Look::Plain)));
    } else if let Some(entered) = &screen.entered {
        let (inside, page) = entered_tool(screen, entered, wide, room);
        rows.extend(inside);
        screen.page = page;
    } else {
        screen.page = room.saturating_sub(1);
        rows.extend(tools(screen, wide, room));
    }
    rows.truncate(room + 1);
    rows.resize(room + 1, (String::new(), Look::Plain));
    rows.extend(foot);
    rows.truncate(high);
    rows.into_iter().map(|(text, look)| (pad(&text, wide, false), look)).collect()
}

fn title(screen: &Screen) -> String {
    let tables = &screen.snapshot.tables;
    let mut parts = Vec::new();
    match screen.entered.as_ref() {
        Some(entered) => {
            parts.push(clean(&entered.tool));
            parts.extend(screen.tool().map(|tool| clean(&tool.state)));
            if screen.grid.time_ns > 0 {
                parts.push(format!("tick {} UTC", clock(screen.grid.time_ns)));
            }
            parts.extend(screen.grid.interval_ns.map(|ns| format!("of {}", duration(ns))));
        }
        None => {
            let running = screen.tools.iter().filter(|it| it.state == "running").count();
            let all = screen.tools.iter().filter(|it| it.state != "-").count();
            parts.push("collector".to_owned());
            if tables.is_null() || (all == 0 && !screen.replays) {
                parts.push("starting".to_owned());
            } else {
                parts.push(format!("{running} of {all} running"));
                parts.push(format!("{} series", tables["series"].as_u64().unwrap_or_default()));
            }
            let newest = tables["tables"].as_array().into_iter().flatten();
            let newest = newest.filter_map(|it| it["time_ns"].as_i64()).max();
            parts.extend(newest.filter(|ns| *ns > 0).map(|ns| format!("tick {} UTC", clock(ns))));
        }
    }
    if screen.paused {
        parts.push("PAUSED".to_owned());
    }
    if !screen.snapshot.note.is_empty() {
        parts.push(clean(&screen.snapshot.note));
    }
    parts.join("  ")
}

/// What stands below: what is wrong with the marked tool or what it lost, and keys or the last message.
fn foot(screen: &Screen, message: Option<&str>) -> Vec<Row> {
    let about = match screen.entered {
        Some(_) => screen.tool().map(lost),
        None => screen.tools.get(screen.marked_at()).map(|tool| match tool.reason.is_empty() {
            true => lost(tool),
            false => format!("{}: {}", clean(&tool.name), clean(&tool.reason)),
        }),
    };
    let last = if let Some(prompt) = &screen.prompt {
        format!("go to: {}_", clean(prompt))
    } else if let Some(why) = &screen.snapshot.failed {
        format!("no answer: {}", clean(why))
    } else if let Some(message) = message {
        clean(message)
    } else {
        let keys = match (&screen.entered, screen.help) {
            (_, true) => "any key: back  q end",
            (None, _) => "? keys  Enter enter  s r sort  space stop  q end",
            (Some(_), _) => "? keys  Esc back  Tab tables  s r sort  t total  space stop  q end",
        };
        keys.to_owned()
    };
    vec![(about.unwrap_or_default(), Look::Plain), (last, Look::Bold)]
}

fn lost(tool: &super::rows::Tool) -> String {
    let causes = tool.lost.iter().map(|(cause, n)| format!("{cause} {n}"));
    let causes = causes.collect::<Vec<_>>().join(", ");
    let name = clean(&tool.name);
    match causes.is_empty() {
        true => format!("{name}: nothing lost since the start"),
        false => format!("{name}: lost since the start: {causes}"),
    }
}

/// The first of the rows that are shown, so that the marked one is among them.
fn first_shown(marked: usize, all: usize, room: usize) -> usize {
    let first = marked.saturating_sub(room.saturating_sub(1) / 2);
    first.min(all.saturating_sub(room))
}

fn tools(screen: &Screen, wide: usize, room: usize) -> Vec<Row> {
    let cells: Vec<[String; 8]> = screen.tools.iter().map(super::rows::Tool::cells).collect();
    let mut titles = TOOL_COLUMNS.map(str::to_owned);
    titles[screen.tools_by] += if screen.tools_reversed { "^" } else { "v" };
    let wanted = |column: usize| {
        let cells = cells.iter().map(|row| width(&row[column])).max().unwrap_or_default();
        cells.max(width(&titles[column])).min(WIDEST)
    };
    let mut widths: [usize; 8] = std::array::from_fn(wanted);
    let before: usize = widths[..7].iter().map(|cells| cells + 2).sum();
    widths[7] = wide.saturating_sub(before);
    let line = |row: &[String; 8]| {
        let cells =
            row.iter().enumerate().map(|(at, cell)| pad(cell, widths[at], (2..=6).contains(&at)));
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut rows = vec![(line(&titles), Look::Bold)];
    let (marked, room) = (screen.marked_at(), room.saturating_sub(1));
    let first = first_shown(marked, cells.len(), room);
    rows.extend(
        cells
            .iter()
            .enumerate()
            .skip(first)
            .take(room)
            .map(|(at, row)| (line(row), if at == marked { Look::Reversed } else { Look::Plain })),
    );
    rows
}

/// Tables, rows and bars of a tool; and how many rows there was room for.
fn entered_tool(screen: &Screen, entered: &Entered, wide: usize, room: usize) -> (Vec<Row>, usize) {
    let names = entered.tables.iter().enumerate().map(|(at, name)| {
        let name = clean(name);
        if at == entered.table { format!("[{name}]") } else { name }
    });
    let mut rows = vec![(names.collect::<Vec<_>>().join(" "), Look::Plain)];
    let text = screen.table().and_then(|it| it["text"].as_str()).unwrap_or_default();
    let text = clean(&text.replace('\n', " "));
    let (shown, all) = (screen.grid.rows.len() as u64, screen.grid.count);
    let some = if shown < all { format!("{shown} of {all} series. ") } else { String::new() };
    rows.push((some + &text, Look::Plain));
    let bars = screen.grid.histograms.get(entered.row).and_then(Option::as_ref);
    let bars = bars.map(|bars| histogram(bars, &screen.grid.unit, entered.total, wide));
    let bars = bars.unwrap_or_default();
    let room = room.saturating_sub(rows.len());
    let all = screen.grid.rows.len() + 1;
    // The table has what the bars leave, but a few lines at least, and an empty one stands between.
    let below = bars.len().min(room.saturating_sub(TABLE_BESIDE_BARS.min(all) + 1));
    let above = room - below;
    rows.extend(table(screen, entered, wide, above.saturating_sub(usize::from(below > 0))));
    if below > 0 {
        rows.push((String::new(), Look::Plain));
        // Those of the smallest values make room first.
        let (head, bars) = bars.split_at(1);
        let kept = &bars[bars.len() - (below - 1)..];
        rows.extend(head.iter().chain(kept).map(|bar| (bar.clone(), Look::Plain)));
    }
    (rows, above.saturating_sub(1))
}

fn table(screen: &Screen, entered: &Entered, wide: usize, room: usize) -> Vec<Row> {
    let grid = &screen.grid;
    if grid.rows.is_empty() {
        return vec![("no lines yet".to_owned(), Look::Plain)];
    }
    let marks = |at: usize| {
        let column = &grid.columns[at];
        let sorted = column.sort.is_some() && column.sort == entered.sort;
        let mark = if entered.least { "^" } else { "v" };
        format!("{}{}", column.title, if sorted { mark } else { "" })
    };
    let columns: Vec<usize> = (entered.from_column..grid.columns.len()).collect();
    let titles: Vec<String> = columns.iter().map(|at| marks(*at)).collect();
    let widths: Vec<usize> = columns
        .iter()
        .zip(&titles)
        .map(|(at, title)| {
            let cells = grid.rows.iter().map(|row| width(&row[*at])).max().unwrap_or_default();
            cells.max(width(title)).min(WIDEST)
        })
        .collect();
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells = columns
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(nth, (at, cells))| pad(&cell(nth), *cells, grid.columns[*at].is_number));
        cells.collect::<Vec<_>>().join("  ")
    };
    let head = line(&|nth| titles[nth].clone());
    // Columns that are not there to be seen are said to be.
    let head = if width(&head) > wide { cut(&head, wide.saturating_sub(1)) + ">" } else { head };
    let mut rows = vec![(head, Look::Bold)];
    let room = room.saturating_sub(1);
    let first = first_shown(entered.row, grid.rows.len(), room);
    rows.extend(grid.rows.iter().enumerate().skip(first).take(room).map(|(at, row)| {
        let look = if at == entered.row { Look::Reversed } else { Look::Plain };
        (line(&|nth| row[columns[nth]].clone()), look)
    }));
    rows
}

/// A heading, and a bar for each bucket.
fn histogram(bars: &Bars, unit: &str, total: bool, wide: usize) -> Vec<String> {
    let counts = if total { &bars.total } else { &bars.last };
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let bound = |number: usize| {
        let (from, below) = bucket(number);
        (from.to_string(), below.map_or_else(|| "inf".to_owned(), |below| (below - 1).to_string()))
    };
    let bounds: Vec<(String, String)> =
        (0..counts.len()).map(|nth| bound(bars.low + nth)).collect();
    let widest = |part: fn(&(String, String)) -> &String| {
        bounds.iter().map(|it| part(it).len()).max().unwrap_or_default()
    };
    let (from, to) = (widest(|it| &it.0), widest(|it| &it.1));
    let digits = counts.iter().map(|n| n.to_string().len()).max().unwrap_or(1).max(5);
    let room = wide.saturating_sub(from + to + digits + 10);
    let what = if total { "since the start" } else { "last tick" };
    let unit = if unit.is_empty() { "value" } else { unit };
    let mut lines = vec![format!("{unit}, {what}")];
    lines.extend(bounds.iter().zip(counts).map(|((low, high), n)| {
        let stars = u128::from(*n) * room as u128 / u128::from(most);
        // What is there is seen, however little it is.
        let stars = (stars as usize).max(usize::from(*n > 0 && room > 0));
        let bar = pad(&"*".repeat(stars), room, false);
        format!("{low:>from$} -> {high:<to$} : {n:<digits$} |{bar}|")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::feed::Snapshot;
    use super::super::screen::testing::{press, screen, tables};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;
    use serde_json::json;

    fn shown(screen: &mut Screen, wide: u16, high: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(wide, high)).unwrap();
        terminal.draw(|frame| draw(screen, None, frame)).unwrap();
        let text = terminal.backend().to_string();
        text.lines().map(|line| line.trim_matches('"').trim_end()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn tools_are_listed_with_their_cost() {
        let mut screen = Screen::new(false);
        assert!(shown(&mut screen, 80, 24).starts_with("collector  starting"));
        screen.take(Snapshot { tables: tables(), ..Snapshot::default() });
        let expected = "\
collector  1 of 2 running  3 series  tick 22:13:20 UTC
TOOLv  STATE    KERN%  USER%  MAPS  NS/RUN  LOST  LAST TICK
bad    failed       -      -     -       -     0
waits  running   2.00   1.00  4.0K      40     3  count 4

bad: no?[2J more
? keys  Enter enter  s r sort  space stop  q end";
        assert_eq!(shown(&mut screen, 80, 7), expected);
    }

    #[test]
    fn a_tool_shows_rows_and_bars() {
        let mut screen = screen();
        let expected = "\
waits  running  tick 22:13:20 UTC  of 1.0 s
[waits] collector_plugin
How long.
COMM   COUNT  SUM_US  MAX_US
ba?sh      4      12       9
cat        2      12       9

us, last tick
2 -> 3  : 1     |*********                  |
4 -> 7  : 0     |                           |
8 -> 15 : 3     |***************************|

waits: lost since the start: full 3
? keys  Esc back  Tab tables  s r sort  t to~";
        assert_eq!(shown(&mut screen, 45, 14), expected);
        let low = shown(&mut screen, 45, 12);
        assert!(
            low.contains("cat  ") && low.contains("\n8 -> 15 : 3 ") && !low.contains("2 -> 3"),
            "{low}"
        );
        press(&mut screen, KeyCode::Char('t'));
        press(&mut screen, KeyCode::Char('j'));
        let text = shown(&mut screen, 80, 24);
        assert!(text.contains("us, since the start\n2 -> 3  : 5     |"), "{text}");
        assert!(text.contains("8 -> 15 : 20    |****"), "{text}");
    }

    #[test]
    fn it_fits_into_any_size() {
        for size in [(1, 1), (2, 3), (10, 5), (60, 15), (80, 24), (200, 50), (0, 0), (300, 2)] {
            for help in [false, true] {
                let mut in_list = Screen::new(true);
                in_list.take(Snapshot { tables: tables(), ..Snapshot::default() });
                for mut screen in [screen(), in_list] {
                    screen.help = help;
                    screen.prompt = help.then(|| "12".to_owned());
                    let rows = lines(&mut screen, Some("a\x1b[2J"), size.0, size.1);
                    assert_eq!(rows.len(), size.1);
                    for (text, _) in rows {
                        assert!(width(&text) <= size.0 && !text.contains('\x1b'), "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_marked_row_is_always_seen() {
        for (marked, all, room, first) in
            [(0, 100, 10, 0), (50, 100, 10, 46), (99, 100, 10, 90), (3, 5, 10, 0), (0, 0, 0, 0)]
        {
            assert_eq!(first_shown(marked, all, room), first);
        }
    }

    #[test]
    fn many_columns_can_be_walked_through() {
        let mut screen = screen();
        let fields: Vec<_> =
            (0..30).map(|n| json!({"name": format!("field_{n}"), "kind": "gauge"})).collect();
        let values = (0..30).map(|n| (format!("field_{n}"), json!({"last": n})));
        let values: serde_json::Map<String, serde_json::Value> = values.collect();
        let table = json!({"name": "waits", "tags": [], "fields": fields});
        let answer = json!({"time_ns": 1, "count": 1, "series": [{"tags": {}, "time_ns": 1, "interval_ns": 1, "fields": values}]});
        screen.grid = super::super::rows::grid(&table, &answer);
        assert!(shown(&mut screen, 80, 24).contains("FIELD_7  FIELD_~>"));
        for _ in 0..40 {
            press(&mut screen, KeyCode::Right);
        }
        let text = shown(&mut screen, 80, 24);
        assert!(text.contains("\nFIELD_29\n      29\n"), "{text}");
    }

    #[test]
    fn twenty_thousand_series_are_drawn_at_once() {
        use crate::output::serve::Shared;
        use std::time::Instant;
        let store = Shared::new();
        let mut text = String::new();
        for n in 0..20_000 {
            text += &format!("t,a=name{n} n={n}u,g={n}i,interval_ns=1000000000i 1000000000000\n");
        }
        store.lock().take(&"p".into(), text.as_bytes(), Instant::now(), |_| {});
        let mut screen = Screen::new(false);
        screen.take(Snapshot { tables: store.tables(), ..Snapshot::default() });
        press(&mut screen, KeyCode::Enter);
        let began = Instant::now();
        let series =
            store.series("table=t&limit=100&order=most&sort=n&since=9223372036854775807").unwrap();
        screen.take(Snapshot {
            tables: store.tables(),
            wish: screen.wish(),
            series: Some(series),
            ..Snapshot::default()
        });
        let text = shown(&mut screen, 80, 24);
        let took = began.elapsed();
        assert!(text.contains("100 of 20000 series") && text.contains("name19999"), "{text}");
        println!("20,000 series: {took:?}");
        assert!(took.as_millis() < 2000, "{took:?}: unoptimized, beside other tests");
    }
}
