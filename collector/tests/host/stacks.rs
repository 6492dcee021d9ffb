//! `once --folded` and `once --flame`: what the files hold, and what a browser makes of the picture.

use crate::process::{Ended, Running, collector, folder};
use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

fn once(plugins: &Path, flags: &[&str]) -> Ended {
    let args = [&["once", "stacks", "20ms"], flags].concat();
    Running::start(collector(plugins, &args)).end_of_command()
}

#[test]
fn stacks_are_written_with_all_that_was_counted() {
    let dir = folder(&["stacks"]);
    let file = dir.path().join("out.txt");
    let ended = once(dir.path(), &["--folded", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("stacks_stack"), "{}", ended.stdout);
    let told = format!("stacks: 4 stacks are in {}\n", file.display());
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    let expected = "[other] 30\n\
                    main;std::map<int, char&>::find(int) 35\n\
                    main;two\\nlines 15\n\
                    main;worker_7 20\n";
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 2, "nothing is left beside it");

    // Two ticks of 20 ms.
    let two = ["once", "stacks", "20ms", "2", "--folded", file.to_str().unwrap()];
    assert_eq!(Running::start(collector(dir.path(), &two)).end_of_command().code, Some(0));
    assert!(fs::read_to_string(&file).unwrap().contains("main;worker_7 40\n"));
}

#[test]
fn an_option_is_set_for_once() {
    let dir = folder(&["stacks"]);
    let file = dir.path().join("out.txt");
    let write = ["--folded", file.to_str().unwrap()];
    // More rows than a plugin may send otherwise; a text without quotes; the last one counts.
    let set = ["--set", "stacks=20000", "--set", "root=x", "--set", "root = a b"];
    let ended = once(dir.path(), &[&set[..], &write].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        text.lines().count(),
        20_000 - 1,
        "two stacks are equal, and none is left for [other]"
    );
    assert!(text.contains("a b;f19999 1\n"));
    for (set, words) in [
        ("stacks=many", "--set stacks: option `stacks` must be a whole number"),
        ("stack=1", "--set stack: unknown option `stack` (did you mean `stacks`?)"),
        ("max_lines=1", "`max_lines` is no option of a plugin"),
        ("stacks", "not KEY=VALUE"),
        ("a.b=1", "not KEY=VALUE"),
    ] {
        let ended = once(dir.path(), &["--set", set]);
        assert_eq!(ended.code, Some(2), "{set}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{set}: {}", ended.stderr);
    }
}

#[test]
fn what_cannot_be_drawn_is_told_before_anything_is_counted() {
    let dir = folder(&["stacks", "good"]);
    let run = |args: &[&str]| Running::start(collector(dir.path(), args)).end_of_command();
    let ended = run(&["once", "good", "1h", "--flame", "out.svg"]);
    assert_eq!(ended.code, Some(2));
    let words =
        "`good` counts no stacks, which --flame and --folded write; these plugins have: stacks";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    let ended = run(&["once", "stacks", "1h", "--flame", "/nowhere/out.svg"]);
    assert_eq!(ended.code, Some(1));
    let words = "/nowhere/out.svg: cannot be written: name a file in a folder that is there";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn nothing_is_written_where_nothing_was_counted() {
    let dir = folder(&["stacks"]);
    let file = dir.path().join("out.svg");
    fs::write(&file, "old").unwrap();
    let nothing = ["--set", "stacks=0", "--set", "root=", "--flame", file.to_str().unwrap()];
    let ended = once(dir.path(), &nothing);
    assert_eq!(ended.code, Some(1));
    let words = "stacks: no line of stacks_stack has samples above 0";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Chromium without a window; `None` where there is none.
fn browser(profile: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.arg(format!("--user-data-dir={}", profile.display())).args(args);
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{command:?}: {:?}", output.status);
            Some(output.stdout)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("SKIPPED: there is no chromium: `cargo xtask deps` installs it");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// Width and height of a PNG file, and how many different pixels of three bytes it has.
fn pixels(png: &[u8]) -> (u32, u32, usize) {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    let (width, height, kind) = (number(16), number(20), png[25]);
    let channels = match kind {
        2 => 3,
        6 => 4,
        other => panic!("a PNG file of kind {other}"),
    };
    let (mut at, mut packed) = (8, Vec::new());
    while at < png.len() {
        let len = number(at) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            packed.extend(&png[at + 8..at + 8 + len]);
        }
        at += 12 + len;
    }
    let mut raw = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut raw).unwrap();
    let stride = width as usize * channels;
    let (mut before, mut colors) = (vec![0u8; stride], HashSet::new());
    for row in raw.chunks_exact(1 + stride) {
        let mut line = row[1..].to_vec();
        for i in 0..stride {
            let left = if i < channels { 0 } else { line[i - channels] };
            let corner = if i < channels { 0 } else { before[i - channels] };
            let (a, b, c) = (i32::from(left), i32::from(before[i]), i32::from(corner));
            let paeth = {
                let [pa, pb, pc] = [(b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs()];
                if pa <= pb && pa <= pc {
                    a
                } else if pb <= pc {
                    b
                } else {
                    c
                }
            };
            let predicted = match row[0] {
                0 => 0,
                1 => a,
                2 => b,
                3 => (a + b) / 2,
                _ => paeth,
            };
            line[i] = line[i].wrapping_add(predicted as u8);
        }
        colors.extend(line.chunks_exact(channels).map(|pixel| [pixel[0], pixel[1], pixel[2]]));
        before = line;
    }
    (width, height, colors.len())
}

#[test]
fn a_browser_shows_the_picture() {
    let dir = folder(&["stacks"]);
    let svg = dir.path().join("out.svg");
    let ended = once(dir.path(), &["--flame", svg.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (url, profile) = (format!("file://{}", svg.display()), tempfile::tempdir().unwrap());
    let Some(dom) = browser(profile.path(), &["--dump-dom", &url]) else { return };
    let dom = String::from_utf8(dom).unwrap();
    assert!(!dom.contains("parsererror"), "{dom}");
    for title in [
        "all (100 samples, 100%)",
        "main (70 samples, 70.00%)",
        "std::map&lt;int, char&amp;&gt;::find(int) (35 samples, 35.00%)",
        "worker_7 (20 samples, 20.00%)",
        "two\\nlines (15 samples, 15.00%)",
        "[other] (30 samples, 30.00%)",
    ] {
        assert!(dom.contains(&format!("<title>{title}</title>")), "{title}: {dom}");
    }
    // The script in it has run: it gives the picture the width of the window.
    assert!(dom.contains("stacks: samples"), "the title: {dom}");

    let png = dir.path().join("out.png");
    let screenshot = format!("--screenshot={}", png.display());
    browser(profile.path(), &[&screenshot, "--window-size=1200,400", &url]).unwrap();
    let (width, height, colors) = pixels(&fs::read(&png).unwrap());
    assert_eq!((width, height), (1200, 400));
    assert!(colors > 20, "{colors} colors: frames and their texts");
}
