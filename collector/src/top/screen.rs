//! What is on the screen, and what keys do to it: no terminal, no source.

use super::feed::{Go, Snapshot, Wish};
use super::rows::{self, ABOUT_PLUGINS, Grid, TOOL_SORTS, Tool};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value as Json;

/// All of it.
#[derive(Debug, Default)]
pub struct Screen {
    /// What is shown.
    pub snapshot: Snapshot,
    pub tools: Vec<Tool>,
    pub grid: Grid,
    /// The tool that was entered.
    pub entered: Option<Entered>,
    /// The column by which tools are sorted, and whether from the other end.
    pub tools_by: usize,
    pub tools_reversed: bool,
    /// The tool that is marked, by its name; rows move.
    pub marked: Option<String>,
    pub paused: bool,
    pub help: bool,
    /// A time that is being written.
    pub prompt: Option<String>,
    /// Whether the time can be chosen.
    pub replays: bool,
    /// Rows that there was room for when it was last drawn.
    pub page: usize,
}

/// A tool that was entered.
#[derive(Debug, Default)]
pub struct Entered {
    pub tool: String,
    pub tables: Vec<String>,
    /// Which of them is shown.
    pub table: usize,
    /// The row that is marked, and the first column that is shown.
    pub row: usize,
    pub from_column: usize,
    /// The sorting, and whether the smallest come first.
    pub sort: Option<String>,
    pub least: bool,
    /// Histograms show what was counted since the start instead of the last tick.
    pub total: bool,
}

/// What a key asks for beyond the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    None,
    /// The end.
    Quit,
    /// Other series.
    Ask,
    /// Another time.
    Go(Go),
}

impl Screen {
    /// Nothing is known yet.
    pub fn new(replays: bool) -> Self {
        Self { replays, page: 1, ..Self::default() }
    }

    /// What is wanted of the source.
    pub fn wish(&self) -> Option<Wish> {
        let entered = self.entered.as_ref()?;
        let table = entered.tables.get(entered.table)?.clone();
        let about = ABOUT_PLUGINS.contains(&&*table).then(|| entered.tool.clone());
        Some(Wish {
            table,
            about: about.filter(|it| it != "collector"),
            sort: entered.sort.clone(),
            least: entered.least,
        })
    }

    /// Takes what came; while it is paused only what was asked for since.
    pub fn take(&mut self, snapshot: Snapshot) {
        let answers = snapshot.wish == self.wish() && snapshot.wish != self.snapshot.wish;
        let first = self.snapshot.tables.is_null();
        if self.paused && !answers && !first {
            return;
        }
        if let Some(why) = snapshot.failed {
            // What was known stays to be seen.
            self.snapshot.failed = Some(why);
            self.snapshot.note = snapshot.note;
            if snapshot.tables.is_null() {
                return;
            }
            self.snapshot.tables = snapshot.tables;
        } else {
            self.snapshot = snapshot;
        }
        self.tools = rows::tools(&self.snapshot.tables);
        self.sort_tools();
        if let Some(entered) = &mut self.entered {
            let shown = entered.tables.get(entered.table).cloned();
            entered.tables = rows::tables_of(&self.snapshot.tables, &entered.tool);
            let at = shown.and_then(|it| entered.tables.iter().position(|name| *name == it));
            entered.table = at.unwrap_or_default();
        }
        self.grid = self.made_grid().unwrap_or_default();
        let rows = self.grid.rows.len();
        if let Some(entered) = &mut self.entered {
            entered.row = entered.row.min(rows.saturating_sub(1));
        }
    }

    fn made_grid(&self) -> Option<Grid> {
        let wish = self.snapshot.wish.as_ref().filter(|it| Some(&it.table) == self.table_name())?;
        let table = rows::table(&self.snapshot.tables, &wish.table)?;
        Some(rows::grid(table, self.snapshot.series.as_ref()?))
    }

    /// The table that is shown.
    pub fn table_name(&self) -> Option<&String> {
        let entered = self.entered.as_ref()?;
        entered.tables.get(entered.table)
    }

    /// Its description.
    pub fn table(&self) -> Option<&Json> {
        rows::table(&self.snapshot.tables, self.table_name()?)
    }

    /// The tool that was entered, as it is now.
    pub fn tool(&self) -> Option<&Tool> {
        let entered = self.entered.as_ref()?;
        self.tools.iter().find(|it| it.name == entered.tool)
    }

    fn sort_tools(&mut self) {
        let (by, reversed) = (self.tools_by, self.tools_reversed);
        self.tools.sort_by(|a, b| {
            let order = a.compare(b, by);
            if reversed { order.reverse() } else { order }
        });
    }

    /// The place of the marked tool.
    pub fn marked_at(&self) -> usize {
        let is = |name: &String| self.tools.iter().position(|it| it.name == *name);
        self.marked.as_ref().and_then(is).unwrap_or_default()
    }

    /// Does what a key asks for.
    pub fn key(&mut self, key: KeyEvent) -> Act {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Act::Quit;
        }
        if let Some(prompt) = &mut self.prompt {
            match key.code {
                KeyCode::Esc => self.prompt = None,
                KeyCode::Enter => {
                    let text = std::mem::take(prompt);
                    self.prompt = None;
                    return Act::Go(Go::To(text));
                }
                KeyCode::Backspace => _ = prompt.pop(),
                KeyCode::Char(c) if !control && prompt.len() < 40 => prompt.push(c),
                _ => {}
            }
            return Act::None;
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Act::Quit } else { Act::None };
        }
        match key.code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('?') | KeyCode::F(1) => self.help = true,
            KeyCode::Char(' ') => self.paused = !self.paused,
            _ if self.replays && !control => {
                if let Some(go) = time_key(key.code) {
                    return Act::Go(go);
                }
                if key.code == KeyCode::Char('g') {
                    self.prompt = Some(String::new());
                    return Act::None;
                }
                return self.list_key(key.code);
            }
            code => return self.list_key(code),
        }
        Act::None
    }

    fn list_key(&mut self, code: KeyCode) -> Act {
        if let Some(by) = self.step(code) {
            self.walk(by);
            return Act::None;
        }
        match &mut self.entered {
            None => match code {
                KeyCode::Char('s') => self.tools_by = (self.tools_by + 1) % TOOL_SORTS,
                KeyCode::Char('S') => {
                    self.tools_by = (self.tools_by + TOOL_SORTS - 1) % TOOL_SORTS;
                }
                KeyCode::Char('r') => self.tools_reversed = !self.tools_reversed,
                KeyCode::Enter => return self.enter(),
                _ => return Act::None,
            },
            Some(entered) => match code {
                KeyCode::Esc | KeyCode::Backspace => {
                    self.entered = None;
                    return Act::Ask;
                }
                KeyCode::Tab | KeyCode::BackTab if !entered.tables.is_empty() => {
                    let all = entered.tables.len();
                    let by = if code == KeyCode::Tab { 1 } else { all - 1 };
                    let table = (entered.table + by) % all;
                    let (tool, tables) = (entered.tool.clone(), entered.tables.clone());
                    self.entered = Some(Entered { tool, tables, table, ..Entered::default() });
                    self.grid = Grid::default();
                    return Act::Ask;
                }
                KeyCode::Right | KeyCode::Char('l') => {
                    let last = self.grid.columns.len().saturating_sub(1);
                    entered.from_column = (entered.from_column + 1).min(last);
                }
                KeyCode::Left | KeyCode::Char('h') => {
                    entered.from_column = entered.from_column.saturating_sub(1);
                }
                KeyCode::Char('t') => entered.total = !entered.total,
                KeyCode::Char('r') => {
                    entered.least = !entered.least;
                    return Act::Ask;
                }
                KeyCode::Char('s' | 'S') => {
                    let sorts: Vec<&String> =
                        self.grid.columns.iter().filter_map(|it| it.sort.as_ref()).collect();
                    if !sorts.is_empty() {
                        let at = sorts.iter().position(|it| Some(*it) == entered.sort.as_ref());
                        let step = if code == KeyCode::Char('s') { 1 } else { sorts.len() - 1 };
                        let next = at.map_or(0, |at| (at + step) % sorts.len());
                        entered.sort = Some(sorts[next].clone());
                        return Act::Ask;
                    }
                }
                _ => {}
            },
        }
        self.sort_tools();
        Act::None
    }

    fn enter(&mut self) -> Act {
        let Some(tool) = self.tools.get(self.marked_at()) else { return Act::None };
        let tool = tool.name.clone();
        let tables = rows::tables_of(&self.snapshot.tables, &tool);
        self.marked = Some(tool.clone());
        self.entered = Some(Entered { tool, tables, ..Entered::default() });
        self.grid = Grid::default();
        Act::Ask
    }

    /// By how many rows a key moves.
    fn step(&self, code: KeyCode) -> Option<isize> {
        let page = isize::try_from(self.page.max(1)).unwrap_or(1);
        Some(match code {
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::PageDown => page,
            KeyCode::PageUp => -page,
            KeyCode::Home => isize::MIN / 2,
            KeyCode::End => isize::MAX / 2,
            _ => return None,
        })
    }

    fn walk(&mut self, by: isize) {
        let to = |at: usize, all: usize| at.saturating_add_signed(by).min(all.saturating_sub(1));
        match &mut self.entered {
            Some(entered) => entered.row = to(entered.row, self.grid.rows.len()),
            None => {
                let at = to(self.marked_at(), self.tools.len());
                self.marked = self.tools.get(at).map(|it| it.name.clone());
            }
        }
    }
}

/// Keys that choose the time.
fn time_key(code: KeyCode) -> Option<Go> {
    Some(match code {
        KeyCode::Char(']') => Go::Ticks(1),
        KeyCode::Char('[') => Go::Ticks(-1),
        KeyCode::Char('}') => Go::Seconds(60),
        KeyCode::Char('{') => Go::Seconds(-60),
        KeyCode::Char('G') => Go::End,
        _ => return None,
    })
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use serde_json::json;

    pub fn press(screen: &mut Screen, code: KeyCode) -> Act {
        screen.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// Two tools, of which `waits` was entered and has a histogram.
    pub fn screen() -> Screen {
        let mut screen = Screen::new(false);
        let tables = tables();
        screen.take(Snapshot { tables: tables.clone(), ..Snapshot::default() });
        press(&mut screen, KeyCode::Down);
        assert_eq!(press(&mut screen, KeyCode::Enter), Act::Ask);
        let wish = screen.wish();
        screen.take(Snapshot { tables, wish, series: Some(series()), ..Snapshot::default() });
        screen
    }

    pub fn tables() -> Json {
        json!({
            "version": "1", "interval_ns": 1_000_000_000, "series": 3,
            "plugins": [{"name": "waits", "state": "running", "reason": null}, {"name": "bad", "state": "failed", "reason": "no\x1b[2J more"}],
            "tools": [{"name": "waits", "user_cpu": 0.01, "kernel_cpu": 0.02, "map_bytes": 4096, "ns_per_run": 40.0,
                       "lost": {"full": 3}, "headline": [["count", 4]]}],
            "tables": [
                {"name": "waits", "plugin": "waits", "text": "How long.", "tags": [{"name": "comm"}], "time_ns": 1_700_000_000_000_000_000i64,
                 "fields": [{"name": "", "kind": "histogram", "unit": "us"}, {"name": "max_us", "kind": "gauge", "unit": "us"}]},
                {"name": "collector_plugin", "plugin": "collector", "text": "", "tags": [], "fields": []},
            ],
        })
    }

    pub fn series() -> Json {
        let one = |comm: &str, count: u64| {
            json!({
                "tags": {"comm": comm}, "time_ns": 1_700_000_000_000_000_000i64, "interval_ns": 1_000_000_000, "fields": {"max_us": {"last": 9}},
                "histogram": {"count": count, "sum": 12, "buckets": [[2, 1], [8, count - 1]], "total_buckets": [[2, 5], [8, 20]]},
            })
        };
        json!({"table": "waits", "time_ns": 1_700_000_000_000_000_000i64, "count": 2, "series": [one("ba\x1bsh", 4), one("cat", 2)]})
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{press, screen, series, tables};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mark_stays_with_its_tool_while_rows_move() {
        let mut screen = Screen::new(false);
        screen.take(Snapshot { tables: tables(), ..Snapshot::default() });
        let names = |screen: &Screen| -> Vec<String> {
            screen.tools.iter().map(|it| it.name.clone()).collect()
        };
        assert_eq!((names(&screen), screen.marked_at()), (vec!["bad".into(), "waits".into()], 0));
        press(&mut screen, KeyCode::Char('j'));
        assert_eq!(screen.marked_at(), 1);
        press(&mut screen, KeyCode::Char('r'));
        assert_eq!((names(&screen), screen.marked_at()), (vec!["waits".into(), "bad".into()], 0));
        press(&mut screen, KeyCode::End);
        assert_eq!(screen.marked_at(), 1);
        press(&mut screen, KeyCode::Char('k'));
        press(&mut screen, KeyCode::Up);
        assert_eq!(screen.marked_at(), 0);
    }

    #[test]
    fn a_tool_is_entered_and_left_and_its_columns_are_sorted() {
        let mut screen = screen();
        let wish = screen.wish().unwrap();
        assert_eq!((&*wish.table, &wish.about, &wish.sort), ("waits", &None, &None));
        assert_eq!(screen.grid.rows.len(), 2);
        let mut sorts = Vec::new();
        for _ in 0..4 {
            assert_eq!(press(&mut screen, KeyCode::Char('s')), Act::Ask);
            sorts.push(screen.wish().unwrap().sort.unwrap());
        }
        assert_eq!(sorts, ["comm", "", "max_us", "comm"]);
        assert_eq!(press(&mut screen, KeyCode::Char('S')), Act::Ask);
        assert_eq!(press(&mut screen, KeyCode::Char('r')), Act::Ask);
        let wish = screen.wish().unwrap();
        assert_eq!((wish.sort.as_deref(), wish.least), (Some("max_us"), true));
        assert_eq!(press(&mut screen, KeyCode::Tab), Act::Ask);
        let wish = screen.wish().unwrap();
        assert_eq!((&*wish.table, wish.about.as_deref()), ("collector_plugin", Some("waits")));
        assert_eq!((wish.sort, screen.grid.rows.len()), (None, 0));
        press(&mut screen, KeyCode::BackTab);
        assert_eq!(press(&mut screen, KeyCode::Esc), Act::Ask);
        assert!(screen.wish().is_none() && screen.marked.as_deref() == Some("waits"));
    }

    #[test]
    fn while_it_is_paused_nothing_changes_but_what_is_asked_for() {
        let mut screen = screen();
        press(&mut screen, KeyCode::Char(' '));
        let mut later = series();
        later["series"] = json!([]);
        let wish = screen.wish();
        screen.take(Snapshot {
            tables: tables(),
            wish,
            series: Some(later.clone()),
            ..Snapshot::default()
        });
        assert_eq!(screen.grid.rows.len(), 2);
        press(&mut screen, KeyCode::Char('s'));
        let wish = screen.wish();
        screen.take(Snapshot {
            tables: tables(),
            wish,
            series: Some(later),
            ..Snapshot::default()
        });
        assert_eq!(screen.grid.rows.len(), 0);
    }

    #[test]
    fn what_was_known_stays_when_the_source_fails() {
        let mut screen = screen();
        screen.take(Snapshot { failed: Some("gone".to_owned()), ..Snapshot::default() });
        assert_eq!((screen.grid.rows.len(), screen.tools.len()), (2, 2));
        assert_eq!(screen.snapshot.failed.as_deref(), Some("gone"));
    }

    #[test]
    fn keys_end_it_help_and_choose_a_time() {
        let mut screen = Screen::new(true);
        assert_eq!(press(&mut screen, KeyCode::Char(']')), Act::Go(Go::Ticks(1)));
        assert_eq!(press(&mut screen, KeyCode::Char('G')), Act::Go(Go::End));
        press(&mut screen, KeyCode::Char('g'));
        for c in "12:0q".chars() {
            assert_eq!(press(&mut screen, KeyCode::Char(c)), Act::None);
        }
        press(&mut screen, KeyCode::Backspace);
        press(&mut screen, KeyCode::Char('0'));
        assert_eq!(press(&mut screen, KeyCode::Enter), Act::Go(Go::To("12:00".to_owned())));
        press(&mut screen, KeyCode::Char('?'));
        assert!(screen.help);
        press(&mut screen, KeyCode::Esc);
        assert!(!screen.help);
        // Nothing is there yet.
        for code in [KeyCode::Enter, KeyCode::Tab, KeyCode::Char('s'), KeyCode::PageDown] {
            assert_eq!(press(&mut screen, code), Act::None);
        }
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(
            (screen.key(control_c), press(&mut screen, KeyCode::Char('q'))),
            (Act::Quit, Act::Quit)
        );
        assert_eq!(press(&mut Screen::new(false), KeyCode::Char(']')), Act::None);
    }
}
