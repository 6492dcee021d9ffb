//! How old connections get.

use super::*;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

/// Gives this thread, and those that it starts, an /etc/hosts of its own.
fn own_hosts(hosts: &Path) -> rustix::io::Result<()> {
    // SAFETY: only mounts and the working directory are unshared; no descriptor changes its meaning.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount_bind(hosts, "/etc/hosts")
}

#[test]
fn a_changed_address_counts_when_the_connection_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    let name = |address: &str| fs::write(&hosts, format!("{address} influx.test\n")).unwrap();
    name("127.0.0.2");
    let a = Server::at("127.0.0.2:0", |_| Reaction::status(204), None, None);
    let b = Server::at(("127.0.0.3", a.port()), |_| Reaction::status(204), None, None);
    let mut config = config(&a);
    config.urls = vec![format!("http://influx.test:{}", a.port())];
    let result = thread::scope(|scope| {
        let run = || {
            own_hosts(&hosts)?;
            for (age, expected) in [(Duration::from_secs(3600), (2, 0)), (Duration::ZERO, (1, 1))] {
                name("127.0.0.2");
                config.connection_age = age;
                let before = (a.requests().len(), b.requests().len());
                let mut output = open(&config).unwrap();
                output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
                name("127.0.0.3");
                output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
                let now = (a.requests().len(), b.requests().len());
                assert_eq!((now.0 - before.0, now.1 - before.1), expected, "{age:?}");
            }
            Ok::<(), rustix::io::Errno>(())
        };
        scope.spawn(run).join().unwrap()
    });
    if let Err(why) = result {
        println!("SKIPPED: no mounts of our own: {why}");
    }
}

#[test]
fn a_connection_is_kept_until_it_is_old() {
    for (age, connections) in [(Duration::from_secs(3600), [0, 0, 0]), (Duration::ZERO, [0, 1, 2])]
    {
        let server = Server::start(|_| Reaction::status(204));
        let mut config = config(&server);
        config.connection_age = age;
        let mut output = open(&config).unwrap();
        for _ in 0..3 {
            output.deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
        }
        let seen: Vec<usize> = server.requests().iter().map(|request| request.connection).collect();
        assert_eq!(seen, connections);
    }
}

#[test]
fn a_link_local_address_is_reached_by_its_interface() {
    // Every machine that has IPv6 has ::1, but a link-local address only with a network.
    let Ok(interfaces) = fs::read_to_string("/proc/net/if_inet6") else {
        return println!("SKIPPED: no IPv6 here");
    };
    let found = interfaces.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = fields.first().filter(|hex| hex.starts_with("fe80"))?;
        let groups: Vec<&str> = (0..8).map(|i| &hex[i * 4..i * 4 + 4]).collect();
        Some((groups.join(":"), fields[5].to_owned(), fields[1].to_owned()))
    });
    let Some((address, interface, _)) = found else {
        return println!("SKIPPED: no link-local address here");
    };
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = Server::at(("::", port), |_| Reaction::status(204), None, None);
    let mut config = config(&server);
    config.urls = vec![format!("http://[{address}%25{interface}]:{port}")];
    open(&config).unwrap().deliver(&mut parcel(&["a v=1 1\n"]), None).unwrap();
    let host = server.requests()[0].header("host").unwrap().to_owned();
    assert!(!host.contains('%'), "{host}");
}
