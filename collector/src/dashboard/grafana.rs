//! Grafana's JSON: a dashboard with a row for each group and its panels.

use super::language::{Language, Query, buckets};
use super::panel::{Ask, Group, Panel};
use crate::digest::Digest;
use plugin_api::Unit;
use serde_json::{Map, Value, json};

/// Of the dashboard's grid, which is 24 wide.
const WIDTH: usize = 8;
const HEIGHT: usize = 8;
const COLUMNS: usize = 24 / WIDTH;

/// The variable of the data source, which Grafana asks for at the import.
const SOURCE: &str = "${source}";
/// The longest identifier of a dashboard.
const LONGEST_UID: usize = 40;

/// A dashboard of these groups; `names` are the plugins that were asked for, none of them for the overview.
pub(super) fn dashboard(groups: &[Group<'_>], names: &[&str], language: Language) -> Value {
    let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
    for group in groups {
        let mut next = || {
            id += 1;
            id
        };
        panels.push(json!({
            "id": next(), "type": "row", "title": group.name, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
        }));
        y += 1;
        for (at, panel) in group.panels.iter().enumerate() {
            let (column, line) = (at % COLUMNS, at / COLUMNS);
            let place = json!({
                "x": column * WIDTH, "y": y + line * HEIGHT, "w": WIDTH, "h": HEIGHT,
            });
            panels.push(written(panel, language, next(), place));
        }
        y += group.panels.len().div_ceil(COLUMNS) * HEIGHT;
    }
    let texts: Vec<_> =
        groups.iter().map(|group| format!("{}: {}", group.name, group.text)).collect();
    json!({
        "uid": uid(names, language),
        "title": match names {
            [] => "collector".to_owned(),
            names => format!("collector: {}", names.join(", ")),
        },
        "description": texts.join("\n"),
        "tags": ["collector", language.name()],
        "editable": true,
        "graphTooltip": 1,
        "schemaVersion": 37,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "annotations": {"list": []},
        // The overview and the pages of tools, with the host and the time that are chosen here.
        "links": [{
            "type": "dashboards", "title": "Tools", "tags": ["collector", language.name()], "icon": "external link",
            "tooltip": "", "asDropdown": true, "includeVars": true, "keepTime": true, "targetBlank": false,
        }],
        "templating": {"list": [
            {
                "name": "source", "label": "Data source", "type": "datasource", "query": source_kind(language),
                "hide": 0, "multi": false, "includeAll": false, "refresh": 1, "regex": "",
            },
            {
                "name": "host", "label": "Host", "type": "query", "query": language.hosts(),
                "datasource": source(language),
                "hide": 0, "multi": true, "includeAll": true, "allValue": ".*", "refresh": 2, "regex": "",
                "sort": 1, "current": {"text": ["All"], "value": ["$__all"]},
            },
        ]},
        "panels": panels,
    })
}

/// By which Grafana tells dashboards apart: the same for the same plugins, so that a new one replaces the old one.
fn uid(names: &[&str], language: Language) -> String {
    let words: Vec<&str> =
        ["collector", language.name()].into_iter().chain(names.iter().copied()).collect();
    let whole = words.join("-");
    let plain = whole.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if plain && whole.len() <= LONGEST_UID {
        return whole;
    }
    let digest = Digest::of(whole.as_bytes()).to_string();
    format!("collector-{}-{}", language.name(), &digest[..12])
}

const fn source_kind(language: Language) -> &'static str {
    match language {
        Language::Influxql | Language::Flux | Language::Sql => "influxdb",
        // VictoriaMetrics speaks Prometheus' protocol: no plugin is needed.
        Language::Metricsql | Language::Promql => "prometheus",
    }
}

fn source(language: Language) -> Value {
    json!({"type": source_kind(language), "uid": SOURCE})
}

/// How an answer is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Lines,
    Heat,
    List,
}

impl Shape {
    const fn of(ask: &Ask<'_>) -> Self {
        match ask {
            Ask::Rates { .. } | Ask::Counts { .. } | Ask::Values { .. } | Ask::Quantiles { .. } => {
                Self::Lines
            }
            Ask::Heat { .. } => Self::Heat,
            Ask::Top { .. } => Self::List,
        }
    }
}

fn written(panel: &Panel<'_>, language: Language, id: usize, place: Value) -> Value {
    let shape = Shape::of(&panel.ask);
    let targets = ('A'..).zip(language.queries(panel)).map(|(letter, query)| {
        let mut target = target(query, language, shape);
        target["refId"] = letter.to_string().into();
        target["datasource"] = source(language);
        target
    });
    let mut written = json!({
        "id": id,
        "type": match shape {
            Shape::Lines => "timeseries",
            Shape::Heat => "heatmap",
            Shape::List => "table",
        },
        "title": panel.title,
        "description": panel.text,
        "datasource": source(language),
        "gridPos": place,
        "interval": "10s",
        "targets": targets.collect::<Vec<_>>(),
    });
    match shape {
        Shape::Lines => {
            written["fieldConfig"] = lines_config(panel, language);
            written["options"] = json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            });
        }
        Shape::Heat => {
            written["options"] = heat_options(panel.unit, language);
            if let Some(prefix) = bucket_prefix(language) {
                written["transformations"] = sorted_buckets(prefix);
            }
        }
        Shape::List => {
            written["fieldConfig"] =
                json!({"defaults": {"unit": unit(panel.unit, false)}, "overrides": []});
            written["options"] = json!({"frameIndex": 0, "showHeader": true});
            written["transformations"] = json!([{"id": "organize", "options": {
                "excludeByName": {"Time": true}, "indexByName": {}, "renameByName": {},
            }}]);
        }
    }
    written
}

fn target(query: Query, language: Language, shape: Shape) -> Value {
    let Query { text, legend } = query;
    match language {
        Language::Influxql => json!({
            "rawQuery": true, "query": text, "alias": legend,
            // One table has the buckets as its columns, which can be sorted.
            "resultFormat": if shape == Shape::Lines { "time_series" } else { "table" },
        }),
        Language::Flux => json!({"query": text}),
        Language::Sql => json!({
            "rawSql": text, "rawQuery": true, "editorMode": "code",
            // Rows become a column for each bucket.
            "format": if shape == Shape::List { "table" } else { "time_series" },
        }),
        Language::Metricsql | Language::Promql => json!({
            "expr": text, "legendFormat": legend, "editorMode": "code",
            "range": shape != Shape::List, "instant": shape == Shape::List,
            "format": match shape {
                Shape::Lines => "time_series",
                Shape::Heat => "heatmap",
                Shape::List => "table",
            },
        }),
    }
}

fn lines_config(panel: &Panel<'_>, language: Language) -> Value {
    let rates = matches!(panel.ask, Ask::Rates { .. } | Ask::Counts { .. });
    let mut defaults = json!({
        "unit": unit(panel.unit, rates), "min": 0,
        "custom": {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"},
    });
    // The other languages' targets have a name of their lines.
    if matches!(language, Language::Flux | Language::Sql) {
        let (Ask::Rates { tags, .. }
        | Ask::Counts { tags, .. }
        | Ask::Values { tags, .. }
        | Ask::Quantiles { tags, .. }
        | Ask::Top { tags, .. }) = &panel.ask
        else {
            return json!({"defaults": defaults, "overrides": []});
        };
        let labels = ["host"].iter().chain(tags).map(|tag| format!(" ${{__field.labels.{tag}}}"));
        defaults["displayName"] = format!("${{__field.name}}{}", labels.collect::<String>()).into();
    }
    json!({"defaults": defaults, "overrides": []})
}

fn heat_options(of: Unit, language: Language) -> Value {
    // Some buckets are named by the bound from which they are, the others by that below which.
    let layout = match language {
        Language::Influxql | Language::Flux | Language::Sql => "ge",
        Language::Metricsql | Language::Promql => "le",
    };
    json!({
        "calculate": false,
        "yAxis": {"unit": unit(of, false), "axisPlacement": "left"},
        "rowsFrame": {"layout": layout},
        "color": {
            "mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "scale": "exponential", "exponent": 0.5,
            "steps": 64, "reverse": false,
        },
        "cellGap": 1,
        "filterValues": {"le": 1e-9},
        "showValue": "never",
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "tooltip": {"mode": "single", "yHistogram": true, "showColorScale": false},
        "legend": {"show": true},
    })
}

/// What stands before the field's name in the columns of a heat map's answer; none where they need no sorting.
const fn bucket_prefix(language: Language) -> Option<&'static str> {
    match language {
        Language::Influxql => Some("sum_"),
        Language::Flux => Some(""),
        Language::Sql | Language::Metricsql | Language::Promql => None,
    }
}

/// Databases sort columns by their names; a heat map shows them as they come.
fn sorted_buckets(prefix: &str) -> Value {
    let (mut places, mut names) = (Map::new(), Map::new());
    for time in ["Time", "_time"] {
        places.insert(time.to_owned(), 0.into());
    }
    for (at, (field, from)) in buckets().enumerate() {
        let column = format!("{prefix}{field}");
        places.insert(column.clone(), (at + 1).into());
        names.insert(column, from.into());
    }
    json!([{"id": "organize", "options": {
        "excludeByName": {}, "indexByName": places, "renameByName": names,
    }}])
}

/// Grafana's name of a unit; of time a rate is a share.
const fn unit(unit: Unit, rate: bool) -> &'static str {
    match (unit, rate) {
        (Unit::None, false) => "short",
        (Unit::None, true) => "cps",
        (Unit::Ns, _) => "ns",
        (Unit::Us, _) => "µs",
        (Unit::Ms, _) => "ms",
        (Unit::S, _) => "s",
        (Unit::Bytes, false) => "bytes",
        (Unit::Bytes, true) => "Bps",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_short_plain_and_different() {
        let uid = |names: &[&str]| uid(names, Language::Metricsql);
        assert_eq!(uid(&[]), "collector-metricsql");
        assert_eq!(uid(&["runqlat"]), "collector-metricsql-runqlat");
        let names = ["runqlat", "tcprtt", "tcpstates", "tcpconnlat"];
        let (long, other) = (uid(&names), uid(&names[..3]));
        assert!(long.len() <= LONGEST_UID && other.len() <= LONGEST_UID && long != other, "{long}");
        assert!(uid(&["a b"]).starts_with("collector-metricsql-") && !uid(&["a b"]).contains(' '));
    }
}
