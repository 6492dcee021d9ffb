//! A real browser without a window, driven by its own protocol (`--remote-debugging-pipe`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::io::{FdFlags, dup2, fcntl_setfd};
use rustix::pipe::pipe;
use serde_json::{Value as Json, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Chromium with one page. It ends with this value.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    number: u64,
    messages: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// `None` where there is none.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let profile = tempfile::tempdir().expect("a folder for its profile");
        let (theirs_in, to) = pipe().expect("a pipe");
        let (from, theirs_out) = pipe().expect("a pipe");
        for fd in [&to, &from] {
            fcntl_setfd(fd, FdFlags::CLOEXEC).expect("a flag");
        }
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args([
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let ends = [theirs_in.as_raw_fd(), theirs_out.as_raw_fd()];
        // It reads from 3 and writes to 4.
        let place = move || {
            let high = ends.map(|end| rustix::io::fcntl_dupfd_cloexec(borrow(&end), 10));
            for (from, to) in high.into_iter().zip([3, 4]) {
                // SAFETY: the number is nobody's in this process, which becomes another program at once.
                let mut to = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(to) });
                dup2(from?, &mut to)?;
            }
            Ok(())
        };
        // SAFETY: only calls of the kernel are made between fork and exec.
        unsafe { command.pre_exec(place) };
        let spawned =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("SKIPPED: there is no chromium: `cargo xtask deps` installs it");
                return None;
            }
            Err(error) => panic!("chromium: {error}"),
        };
        drop((theirs_in, theirs_out));
        let mut browser = Self {
            child,
            to: to.into(),
            from: BufReader::new(from.into()),
            session: None,
            number: 0,
            messages: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method, and waits for its result.
    ///
    /// # Panics
    /// It fails.
    pub fn call(&mut self, method: &str, parameters: Json) -> Json {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        self.to.write_all((message.to_string() + "\0").as_bytes()).expect("the browser listens");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("the browser answers");
            assert_eq!(bytes.pop(), Some(0), "the browser ended at {method}");
            let mut answer: Json = serde_json::from_slice(&bytes).expect("JSON");
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.hear(&answer);
        }
    }

    /// Keeps what stands in the browser's console, and requests to others.
    fn hear(&mut self, event: &Json) {
        let told = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Log.entryAdded" => self.messages.push(told["entry"].to_string()),
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" => {
                self.messages.push(told.to_string())
            }
            "Network.requestWillBeSent" => {
                self.messages
                    .push(format!("asked {}", told["request"]["url"].as_str().unwrap_or_default()));
            }
            _ => {}
        }
    }

    /// What stood in the console since this was last asked, but for requests.
    pub fn console(&mut self) -> Vec<String> {
        self.evaluate("0"); // what came before it is here
        self.messages.iter().filter(|it| !it.starts_with("asked ")).cloned().collect()
    }

    /// Which URLs were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<&str> {
        self.messages.iter().filter_map(|it| it.strip_prefix("asked ")).collect()
    }

    /// Goes to a page, and waits until it is there.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait_until("document.readyState === 'complete' && location.protocol !== 'about:'");
    }

    /// What an expression comes to on the page.
    ///
    /// # Panics
    /// It throws.
    pub fn evaluate(&mut self, expression: &str) -> Json {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", asked);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// It never is.
    pub fn wait_until(&mut self, expression: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.evaluate(&format!("Boolean({expression})")) != true {
            if Instant::now() > end {
                let text = self.evaluate("document.body.innerText");
                panic!("it never was: {expression}\n{text}\n{:?}", self.console());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { key } else { "" };
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "text": text}));
        }
    }

    /// Roles and names of what a screen reader is told.
    pub fn accessible(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let nodes = nodes.iter().filter(|node| node["ignored"] != true);
        let text = |json: &Json| json["value"].as_str().unwrap_or_default().to_owned();
        nodes.map(|node| (text(&node["role"]), text(&node["name"]))).collect()
    }

    /// A picture of the window, as PNG, of so many pixels.
    ///
    /// # Panics
    /// It is none.
    pub fn picture(&mut self, width: u32, height: u32, dark: bool) -> Vec<u8> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))",
        );
        let picture = self.call("Page.captureScreenshot", json!({}));
        STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64")
    }
}

fn borrow(fd: &i32) -> rustix::fd::BorrowedFd<'_> {
    // SAFETY: the pipes' ends live until the child is there.
    unsafe { rustix::fd::BorrowedFd::borrow_raw(*fd) }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
