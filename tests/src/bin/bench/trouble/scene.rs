//! The collector, the servers that it writes to, and what happens to them.

use super::LOAD;
use super::arrivals::{self, Arrivals};
use super::deck::{Event, Receiver};
use super::mistakes::{self, Mistake, Places, Right};
use anyhow::{Result, ensure};
use fastrand::Rng;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use system_tests::database::Database;
use system_tests::faults::{Mode, Proxy};
use system_tests::load::pushed;
use system_tests::port::Port;
use system_tests::running::{Ended, Home, Running};
use system_tests::servers::{Influx, Login, Tls};

const LOGIN: Login = Login { user: "bench", password: "p&+ w" };

/// A run of the collector that is over.
pub struct Life {
    /// Its lines' tag `run`.
    pub run: String,
    /// How many lines it made.
    pub pushed: u64,
    pub killed: bool,
}

/// A server, and how it is.
struct Patient {
    database: Database,
    state: State,
}

enum State {
    Well,
    Dead { until: Instant },
    Frozen { until: Instant },
}

impl Patient {
    fn new(database: Database) -> Self {
        Self { database, state: State::Well }
    }

    fn heal(&mut self) {
        match self.state {
            State::Well => {}
            State::Dead { .. } => self.database.server().start(),
            State::Frozen { .. } => self.database.server().thaw(),
        }
        self.state = State::Well;
    }

    fn heal_when_due(&mut self) {
        match self.state {
            State::Dead { until } | State::Frozen { until } if until <= Instant::now() => {
                self.heal()
            }
            _ => {}
        }
    }
}

pub struct Scene {
    home: Home,
    rng: Rng,
    influx: Patient,
    victoria: Patient,
    /// In front of VictoriaMetrics.
    proxy: Proxy,
    /// The right outputs, to InfluxDB and to VictoriaMetrics.
    outputs: [String; 2],
    mistakes: Vec<Mistake>,
    collector: Option<Running>,
    lives: Vec<Life>,
    _nobody: Port,
    _tls: Tls,
}

impl Scene {
    /// All is well, and the first lines are made.
    pub fn start(rng: Rng) -> Self {
        let home = Home::new();
        let influx = Database::Influxdb1(Influx::start_with_login(LOGIN));
        let victoria = Database::victoriametrics();
        let (proxy, nobody, tls) = (Proxy::tcp(victoria.address()), Port::reserve(), Tls::start());
        let password = |name: &str, text: &str| {
            let path = home.path(name);
            fs::write(&path, text).expect("a file for a password");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
            path.display().to_string()
        };
        let (right, wrong) = (password("right", LOGIN.password), password("wrong", "other"));
        let keys = |name: &str| {
            let spool = home.path(name);
            format!("timeout = \"2s\"\nspool = \"{}\"\n", spool.display())
        };
        let login = format!("username = \"{}\"\npassword_file = \"{right}\"\n", LOGIN.user);
        let outputs = [
            influx.output(&home, influx.address(), &(keys(SPOOLS[0]) + &login)),
            victoria.output(&home, proxy.address(), &keys(SPOOLS[1])),
        ];
        let mistakes = mistakes::all(
            &Right { output: &outputs[0], address: influx.address(), password: &right },
            &Right { output: &outputs[1], address: proxy.address(), password: "" },
            &Places {
                influx: influx.address(),
                nobody: nobody.address(),
                tls: tls.address(),
                password: wrong,
            },
        );
        let (influx, victoria) = (Patient::new(influx), Patient::new(victoria));
        let mut scene = Self {
            home,
            rng,
            influx,
            victoria,
            proxy,
            outputs,
            mistakes,
            collector: None,
            lives: Vec::new(),
            _nobody: nobody,
            _tls: tls,
        };
        scene.start_right();
        scene.pass(Duration::from_secs(2));
        scene
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// How many there are.
    pub fn mistakes(&self) -> usize {
        self.mistakes.len()
    }

    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// For people.
    pub fn name(&self, event: Event) -> String {
        match event {
            Event::Mistake(number) => format!("wrong address: {}", self.mistakes[number].name),
            event => format!("{event:?}"),
        }
    }

    /// Lets it happen, and some time pass.
    pub fn meet(&mut self, event: Event) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(self.rng.u64(500..8_000));
        match event {
            Event::Kill(receiver) => self.kill_server(receiver, until),
            Event::Freeze(receiver) => {
                let patient = self.patient(receiver);
                patient.heal();
                patient.database.server().freeze();
                patient.state = State::Frozen { until };
            }
            Event::KillCollector => {
                self.kill()?;
                self.start_right();
                // Perhaps once more, while it starts.
                if self.rng.bool() {
                    std::thread::sleep(Duration::from_millis(self.rng.u64(..60)));
                    self.kill()?;
                    self.start_right();
                }
            }
            Event::Mistake(number) => self.mistake(number)?,
        }
        let some = Duration::from_millis(self.rng.u64(200..3_000));
        self.pass(some);
        Ok(())
    }

    /// Corrects and heals everything, and starts the collector until nothing is left in a spool.
    pub fn drain(&mut self) -> Result<()> {
        self.first_lines();
        self.influx.heal();
        self.victoria.heal();
        let limit = Instant::now() + Duration::from_secs(120);
        while self.terminate()?.books().values().any(|books| books.waiting > 0) {
            ensure!(Instant::now() < limit, "the spools do not become empty");
            self.start_right();
            self.first_lines();
        }
        Ok(())
    }

    /// What each server has.
    pub fn arrivals(&self) -> [(&'static str, Arrivals); 2] {
        let (Database::Influxdb1(influx), Database::Victoriametrics(victoria)) =
            (&self.influx.database, &self.victoria.database)
        else {
            unreachable!("they were started as such")
        };
        [
            ("InfluxDB 1", arrivals::of_influx(influx, &self.lives)),
            ("VictoriaMetrics", arrivals::of_victoria(victoria, &self.lives)),
        ]
    }

    /// Lines that lie among the dead letters.
    pub fn rejected(&self) -> usize {
        SPOOLS.iter().map(|spool| dead_letters(&self.home.path(spool))).sum()
    }

    fn patient(&mut self, receiver: Receiver) -> &mut Patient {
        match receiver {
            Receiver::Influx => &mut self.influx,
            Receiver::Victoria => &mut self.victoria,
        }
    }

    fn kill_server(&mut self, receiver: Receiver, until: Instant) {
        self.patient(receiver).heal();
        if receiver == Receiver::Victoria {
            self.proxy.set(Mode::Silent);
            let Database::Victoriametrics(victoria) = &self.victoria.database else {
                unreachable!("it was started as such")
            };
            victoria.wait_for_disk();
        }
        let patient = self.patient(receiver);
        patient.database.server().kill9();
        patient.state = State::Dead { until };
        self.proxy.set(Mode::Pass);
    }

    /// Starts with a wrong address; once the collector has said so and some time has passed, with the right
    /// one.
    fn mistake(&mut self, number: usize) -> Result<()> {
        self.first_lines();
        self.terminate()?;
        let Mistake { of, output, words, .. } = &self.mistakes[number];
        let (words, [influx, victoria]) = (*words, self.outputs.clone());
        match of {
            Receiver::Influx => self.start_with([output.clone(), victoria]),
            Receiver::Victoria => self.start_with([influx, output.clone()]),
        }
        self.first_lines();
        self.wait(words);
        let some = Duration::from_millis(self.rng.u64(..3_000));
        self.pass(some);
        if self.rng.u8(..3) == 0 {
            self.kill()?
        } else {
            drop(self.terminate()?)
        }
        self.start_right();
        Ok(())
    }

    /// The servers' faults end meanwhile, if their time is over.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.influx.heal_when_due();
            self.victoria.heal_when_due();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn first_lines(&mut self) {
        let (home, collector) = (&self.home, self.collector.as_mut().expect("it runs"));
        collector.wait_until("the first lines", |_| pushed(home) > 0);
    }

    /// Until the collector has said those words; as [`Scene::pass`].
    fn wait(&mut self, words: &str) {
        let Self { influx, victoria, collector, .. } = self;
        let collector = collector.as_mut().expect("it runs");
        collector.wait_until(words, |said| {
            influx.heal_when_due();
            victoria.heal_when_due();
            said.contains(words)
        });
    }

    fn start_right(&mut self) {
        self.start_with(self.outputs.clone());
    }

    fn start_with(&mut self, outputs: [String; 2]) {
        let _ = fs::remove_file(self.home.path("progress"));
        let run = format!("run = \"{}\"\n", self.lives.len());
        let config = LOAD.config(&self.home, &[&run, &outputs[0], &outputs[1]]);
        self.collector = Some(self.home.start(&config));
    }

    /// Ends the collector as people do; its books are checked.
    fn terminate(&mut self) -> Result<Ended> {
        let collector = self.collector.take().expect("it runs");
        collector.terminate();
        let ended = self.bury(collector.end(), false)?;
        let books = ended.books();
        let exact = books.values().all(|books| books.balance() && books.dropped.is_empty());
        ensure!(
            ended.code == Some(0) && books.len() == 2 && exact,
            "{:?}: books that tell of a loss\n{}",
            ended.code,
            ended.stderr
        );
        Ok(ended)
    }

    fn kill(&mut self) -> Result<()> {
        let collector = self.collector.take().expect("it runs");
        self.bury(collector.kill9(), true).map(drop)
    }

    fn bury(&mut self, ended: Ended, killed: bool) -> Result<Ended> {
        for words in ["panic", "damaged", "are not configured", "is not configured: they wait"] {
            ensure!(!ended.stderr.contains(words), "{words}\n{}", ended.stderr);
        }
        let run = self.lives.len().to_string();
        self.lives.push(Life { run, pushed: pushed(&self.home), killed });
        Ok(ended)
    }
}

/// The folders of the spools, of InfluxDB and of VictoriaMetrics.
const SPOOLS: [&str; 2] = ["spool-influx", "spool-victoria"];

fn dead_letters(spool: &Path) -> usize {
    let files = fs::read_dir(spool).into_iter().flatten().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|end| end == "rejected"));
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.map(|text| text.lines().filter(|line| !line.starts_with('#')).count()).sum()
}
