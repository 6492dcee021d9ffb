//! A database of any kind that the collector writes to.

use crate::Stored;
use crate::contract::{Contract, V2, V3};
use crate::running::Home;
use crate::servers::{Influx, Server, Victoria};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

/// It runs, and is empty.
pub enum Database {
    /// The real one.
    Influxdb1(Influx),
    /// The real one.
    Victoriametrics(Victoria),
    /// What keeps to its contract.
    Influxdb2(Contract),
    /// What keeps to its contract.
    Influxdb3(Contract),
}

impl Database {
    #[must_use]
    pub fn influxdb1() -> Self {
        Self::Influxdb1(Influx::start())
    }

    #[must_use]
    pub fn victoriametrics() -> Self {
        Self::Victoriametrics(Victoria::start())
    }

    #[must_use]
    pub fn influxdb2() -> Self {
        Self::Influxdb2(Contract::v2(V2::default()))
    }

    #[must_use]
    pub fn influxdb3() -> Self {
        Self::Influxdb3(Contract::v3(V3::default()))
    }

    /// As the configuration names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Influxdb1(_) => "influxdb1",
            Self::Victoriametrics(_) => "victoriametrics",
            Self::Influxdb2(_) => "influxdb2",
            Self::Influxdb3(_) => "influxdb3",
        }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Influxdb1(influx) => influx.server.address(),
            Self::Victoriametrics(victoria) => victoria.server.address(),
            Self::Influxdb2(contract) | Self::Influxdb3(contract) => contract.address(),
        }
    }

    /// The process of a real one.
    ///
    /// # Panics
    /// It is none.
    pub fn server(&mut self) -> &mut Server {
        match self {
            Self::Influxdb1(influx) => &mut influx.server,
            Self::Victoriametrics(victoria) => &mut victoria.server,
            Self::Influxdb2(_) | Self::Influxdb3(_) => panic!("it is no process"),
        }
    }

    /// The section of an output that writes to it, itself or by way of a proxy at that address; `more` are
    /// further keys.
    ///
    /// # Panics
    /// The file of the token cannot be written.
    #[must_use]
    pub fn output(&self, home: &Home, address: SocketAddr, more: &str) -> String {
        let token = |text: &str| {
            let path = home.path(self.kind());
            fs::write(&path, text).expect("a file for the token");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
            format!("token_file = \"{}\"", path.display())
        };
        let place = match self {
            Self::Influxdb1(_) => "database = \"telegraf\"".to_owned(),
            // Line for line what the others get: system_forms has what its users see.
            Self::Victoriametrics(_) => "histogram = \"fields\"\ncounters = \"delta\"".to_owned(),
            Self::Influxdb2(_) => {
                let V2 { org, bucket, token: secret, .. } = V2::default();
                format!("org = \"{org}\"\nbucket = \"{bucket}\"\n{}", token(&secret))
            }
            Self::Influxdb3(_) => {
                format!("database = \"telegraf\"\n{}", token(&V3::default().token))
            }
        };
        let kind = self.kind();
        format!("[[output]]\nkind = \"{kind}\"\nurl = \"http://{address}\"\n{place}\n{more}\n")
    }

    #[must_use]
    pub fn stored(&self) -> &dyn Stored {
        match self {
            Self::Influxdb1(influx) => influx,
            Self::Victoriametrics(victoria) => victoria,
            Self::Influxdb2(contract) | Self::Influxdb3(contract) => contract,
        }
    }

    /// How many lines of the load it has by now; costs little. VictoriaMetrics counts those twice that it
    /// was sent twice.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Influxdb1(influx) => influx.count("stream", "value"),
            Self::Victoriametrics(victoria) => victoria.searchable("stream_value"),
            Self::Influxdb2(contract) | Self::Influxdb3(contract) => {
                contract.count("stream") as u64
            }
        }
    }
}
