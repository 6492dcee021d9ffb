use super::*;
use serde_json::json;
use std::io::Write as _;

const S: i64 = 1_000_000_000;

fn tables() -> HashMap<String, Known> {
    let field = |name: &str, kind: &str, unit: &str| json!({"name": name, "text": "", "kind": kind, "unit": unit});
    let table = |name: &str, fields: Json| -> Table {
        serde_json::from_value(json!({"name": name, "text": "", "tags": [], "fields": fields}))
            .unwrap()
    };
    let counts = table("t", json!([field("n", "counter", "none"), field("g", "gauge", "none")]));
    let waits = table("w", json!([field("wait", "histogram", "us")]));
    let known = [("p", &counts), ("q", &waits)];
    known.map(|(plugin, table)| (table.name.clone(), Known::new(plugin, table))).into()
}

struct Rig {
    dir: tempfile::TempDir,
    replay: Replay,
}

impl Rig {
    fn new(text: &str, at: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, text).unwrap();
        let mut replay = Replay::open(&path, tables(), at).unwrap();
        assert!(!replay.advance().unwrap());
        Self { dir, replay }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("lines")
    }

    fn append(&mut self, text: &str) {
        let mut file = File::options().append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        assert!(!self.replay.advance().unwrap());
    }

    fn go(&mut self, to: &Go) {
        self.replay.go(to);
        assert!(!self.replay.advance().unwrap());
    }

    /// Of the only series: its last value and what it has counted.
    fn n(&self) -> (u64, u64) {
        let json = self.replay.store.series("table=t").unwrap();
        let n = &json["series"][0]["fields"]["n"];
        (n["last"].as_u64().unwrap(), n["total"].as_u64().unwrap())
    }
}

fn lines(from: i64, to: i64) -> String {
    (from..=to)
        .map(|n| format!("t,a=b n={n}i,g=-1i,interval_ns=1000000000i {}\n", (1000 + n) * S))
        .collect()
}

#[test]
fn lines_of_a_file_are_what_they_were_when_they_were_sent() {
    let rig = Rig::new(
        "t,a=b n=3i,g=-1i,interval_ns=1000000000i 1000000000000\n\
         w count=3i,sum_us=9i,max_us=4i,bucket_0_2=1i,bucket_4_8=2i,interval_ns=1000000000i 1000000000000\n\
         u x=1i,y=\"text\" 1000000000000\n\
         collector_plugin,plugin=p up=1i,state_code=3i,state=\"failed\",reason=\"no more\",interval_ns=1000000000i 1000000000000\n\
         collector_bpf,plugin=p maps=7i,map_bytes=8192i,interval_ns=1000000000i 1000000000000\n\
         collector_map,plugin=p,map=m size_bytes=4096i,full=3i,interval_ns=1000000000i 1000000000000\n",
        None,
    );
    assert_eq!((rig.n(), rig.replay.bad), ((3, 3), 0));
    let json = rig.replay.store.tables();
    let kinds = |name: &str| -> Vec<(Json, Json)> {
        let tables = json["tables"].as_array().unwrap();
        let fields = tables.iter().find(|it| it["name"] == name).unwrap();
        let fields = fields["fields"].as_array().unwrap().iter();
        fields.map(|it| (it["name"].clone(), it["kind"].clone())).collect()
    };
    assert_eq!(kinds("t"), [(json!("n"), json!("counter")), (json!("g"), json!("gauge"))]);
    assert_eq!(kinds("w"), [(json!("max_us"), json!("gauge")), (json!(""), json!("histogram"))]);
    assert_eq!(kinds("u"), [(json!("x"), json!("gauge"))]);
    let histogram = &rig.replay.store.series("table=w").unwrap()["series"][0]["histogram"];
    assert_eq!(histogram["buckets"], json!([[0, 1], [4, 2]]));
    let tool = |name: &str| {
        let tools = json["tools"].as_array().unwrap();
        tools.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    assert_eq!((&tool("p")["map_bytes"], &tool("p")["lost"]), (&json!(8192), &json!({"full": 3})));
    assert_eq!(tool("u")["headline"], json!([]), "it covers no time");
    let p = rig.replay.plugins.get("p").unwrap();
    assert_eq!((p.state, p.reason.as_deref()), ("failed", Some("no more")));
}

#[test]
fn a_file_that_grows_is_followed_and_half_a_line_waits_for_its_end() {
    let mut rig = Rig::new(&lines(1, 2), None);
    assert_eq!(rig.n(), (2, 3));
    let next = lines(3, 4);
    let (half, rest) = next.split_at(next.len() - 20);
    rig.append(half);
    assert_eq!((rig.n(), rig.replay.bad), ((3, 6), 0));
    rig.append(rest);
    assert_eq!((rig.n(), rig.replay.bad), ((4, 10), 0));
}

#[test]
fn a_file_that_is_moved_away_or_cut_goes_on_with_the_next_one() {
    let mut rig = Rig::new(&lines(1, 2), None);
    std::fs::rename(rig.path(), rig.dir.path().join("lines.1")).unwrap();
    assert!(!rig.replay.advance().unwrap());
    std::fs::write(rig.path(), lines(3, 4)).unwrap();
    assert!(!rig.replay.advance().unwrap());
    assert_eq!(rig.n(), (4, 10));
    std::fs::write(rig.path(), lines(5, 5)).unwrap();
    assert!(!rig.replay.advance().unwrap());
    assert_eq!((rig.n(), rig.replay.bad), ((5, 15), 0));
}

#[test]
fn bad_lines_are_counted_and_named() {
    let mut rig = Rig::new(&lines(1, 1), None);
    rig.append("torn by a kill\nt n=x 1002000000000\nt,a=b n=1i\n\n# no line\n");
    rig.append(&lines(3, 3));
    assert_eq!((rig.n(), rig.replay.bad), ((3, 4), 3));
    assert!(rig.replay.said.contains("lines:4: it does not end in a time"), "{}", rig.replay.said);
    let long = format!("{}\n", "x".repeat(3 * PIECE));
    rig.append(&long);
    rig.append(&lines(4, 4));
    assert_eq!((rig.n(), rig.replay.bad), ((4, 8), 4));
    // Once read, they are not counted again.
    rig.go(&Go::To("1001".to_owned()));
    rig.go(&Go::End);
    assert_eq!((rig.n(), rig.replay.bad), ((4, 8), 4));
}

#[test]
fn one_goes_to_a_time_on_and_back() {
    let mut rig = Rig::new(&lines(1, 100), Some("1010"));
    assert_eq!(rig.n(), (10, 55));
    rig.go(&Go::Ticks(1));
    assert_eq!(rig.n(), (11, 66));
    rig.go(&Go::Seconds(60));
    assert_eq!(rig.n(), (71, 71 * 72 / 2));
    rig.go(&Go::Ticks(-1));
    assert_eq!(rig.n(), (70, 70 * 71 / 2));
    rig.go(&Go::To("-90s".to_owned()));
    assert_eq!(rig.n(), (10, 55));
    rig.go(&Go::To("soon".to_owned()));
    assert_eq!(rig.n(), (10, 55));
    assert!(rig.replay.note().contains("soon"), "{}", rig.replay.note());
    rig.go(&Go::End);
    assert_eq!(rig.n(), (100, 5050));
    rig.append(&lines(101, 101));
    assert_eq!(rig.n(), (101, 5151));
}

#[test]
fn lines_that_stand_behind_later_ones_are_taken_once() {
    let line = |series: &str, n: i64| {
        format!("t,a={series} n=1i,interval_ns=1000000000i {}\n", (1000 + n) * S)
    };
    let text = [line("x", 1), line("x", 2), line("y", 1), line("x", 3), line("y", 2)].concat();
    let mut rig = Rig::new(&text, Some("1001"));
    let total = |rig: &Rig, series: &str| {
        let json = rig.replay.store.series(&format!("table=t&tag=a={series}")).unwrap();
        json["series"][0]["fields"]["n"]["total"].as_u64().unwrap()
    };
    assert_eq!((total(&rig, "x"), total(&rig, "y")), (1, 1));
    rig.go(&Go::To("1002".to_owned()));
    assert_eq!((total(&rig, "x"), total(&rig, "y")), (2, 2));
    rig.go(&Go::End);
    assert_eq!((total(&rig, "x"), total(&rig, "y")), (3, 2));
}

#[test]
fn what_is_older_than_the_store_keeps_is_passed_over() {
    let rig = Rig::new(&format!("{}{}", lines(1, 2), lines(2000, 2001)), None);
    assert_eq!(rig.n(), (2001, 4001));
}

#[test]
fn only_a_regular_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["/dev/zero".as_ref(), dir.path(), &dir.path().join("none")] {
        assert!(Replay::open(path, HashMap::new(), None).is_err(), "{}", path.display());
    }
}

#[test]
fn the_time_stands_at_the_end() {
    for (line, expected) in [
        ("t n=1i 12", Some(12)),
        ("t n=1i -12", Some(-12)),
        ("t n=\"a 1\"", None),
        ("t n=1i ", None),
        ("12", None),
        ("t n=1i 99999999999999999999", None),
    ] {
        assert_eq!(time_of(line.as_bytes()), expected, "{line}");
    }
}
