//! Which tasks a tool looks at.

use super::cgroup::Cgroups;
use crate::object::sees_all_threads;
use plugin_api::{Context as _, Result, ensure};

const TGIDS: usize = 16;
const COMMS: usize = 8;
/// TASK_COMM_LEN, with the NUL at the end.
const COMM_LEN: usize = 16;

/// Which tasks a tool looks at, as `filter.bpf.h` tests it in the kernel: by process, by name and by cgroup.
/// What is not set wants everything; of several, all must match.
///
/// A tool whose BPF program includes that header hands it to [`Setup::filter`](crate::Setup::filter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Filter {
    cgroup: u64,
    cgroup_level: u32,
    tgids: u32,
    comms: u32,
    except: u32,
    tgid: [u32; TGIDS],
    comm: [[u8; COMM_LEN]; COMMS],
}

// SAFETY: integers and arrays of them; the fields' sizes are multiples of their alignment, in falling order
// of it, and the sum is the size that the assertion below names: there is no padding.
unsafe impl crate::Record for Filter {}
const _: () = assert!(size_of::<Filter>() == 8 + 4 * 4 + 4 * TGIDS + COMM_LEN * COMMS);

impl Filter {
    /// The options `pid`, `comm` and `cgroup`, as tools have them:
    ///
    /// ```
    /// plugin_api::options! {
    ///     /// What `[plugin.demo]` takes.
    ///     pub struct Options {
    ///         /// Only these processes, at most 16, by their ids in the initial namespace; empty: all.
    ///         pid: Vec<u64> [1..=4_194_304] = Vec::new(),
    ///         /// Only threads with these names, at most 8; empty: all.
    ///         comm: Vec<String> = Vec::new(),
    ///         /// Only this cgroup and those below it, such as `/system.slice`; empty: all.
    ///         cgroup: String = String::new(),
    ///     }
    /// }
    /// # use plugin_bpf::group::Filter;
    /// # let options = <Options as plugin_api::Options>::from_json("{}").unwrap();
    /// let filter = Filter::of(&options.pid, &options.comm, &options.cgroup);
    /// assert_eq!(filter.unwrap(), Filter::default());
    /// ```
    ///
    /// # Errors
    /// There are too many, or no task can match.
    pub fn of(pid: &[u64], comm: &[String], cgroup: &str) -> Result<Self> {
        let id = |id: &u64| u32::try_from(*id).with_context(|| format!("pid: {id} is no process"));
        let tgids = pid.iter().map(id).collect::<Result<Vec<_>>>()?;
        Self::default().tgids(&tgids)?.comms(comm)?.cgroup(cgroup)
    }

    /// Only threads of these processes, at most 16, by their ids in the initial namespace. None: any.
    ///
    /// # Errors
    /// There are too many.
    pub fn tgids(mut self, tgids: &[u32]) -> Result<Self> {
        ensure!(
            tgids.len() <= TGIDS,
            "pid: {} processes, at most {TGIDS} can be chosen",
            tgids.len()
        );
        self.tgid[..tgids.len()].copy_from_slice(tgids);
        self.tgids = tgids.len() as u32;
        Ok(self)
    }

    /// Not this process, unless it is among those of [`Filter::tgids`], so set these before: for tools that would
    /// see how the collector sends their lines.
    ///
    /// In a namespace of process ids the process does not know its id in the initial one, and is not left out.
    #[must_use]
    pub fn except_own(mut self) -> Self {
        let own = std::process::id();
        let named = self.tgid[..self.tgids as usize].contains(&own);
        self.except = if sees_all_threads() && !named { own } else { 0 };
        self
    }

    /// Only threads with these names, at most 8, of 1 to 15 bytes. None: any. A thread's name is not always
    /// its process's.
    ///
    /// # Errors
    /// There are too many, or no thread can have that name.
    pub fn comms<C: AsRef<str>>(mut self, comms: &[C]) -> Result<Self> {
        ensure!(comms.len() <= COMMS, "comm: {} names, at most {COMMS} can be chosen", comms.len());
        for (place, comm) in self.comm.iter_mut().zip(comms) {
            let comm = comm.as_ref();
            ensure!(
                !comm.is_empty() && !comm.contains('\0'),
                "comm: {comm:?} is no name of a thread"
            );
            ensure!(
                comm.len() < COMM_LEN,
                "comm: {comm:?} is too long: the kernel keeps 15 bytes of a name, write {:?}",
                &comm[..comm.floor_char_boundary(COMM_LEN - 1)]
            );
            place[..comm.len()].copy_from_slice(comm.as_bytes());
        }
        self.comms = comms.len() as u32;
        Ok(self)
    }

    /// Only tasks in this cgroup and those below it, as `/system.slice` or
    /// `/sys/fs/cgroup/system.slice`. Empty: any.
    ///
    /// The path is looked up now: a service or container that is started again has a new cgroup under the same
    /// path, which the filter does not know. Its slice stays.
    ///
    /// # Errors
    /// There is no such cgroup now, or it cannot be told where in the tree it is.
    pub fn cgroup(mut self, path: &str) -> Result<Self> {
        if !path.is_empty() {
            let cgroups = Cgroups::find().with_context(|| format!("cgroup {path:?}"))?;
            (self.cgroup, self.cgroup_level) = cgroups.resolve(path)?;
        }
        Ok(self)
    }

    /// The bytes of `struct unity_filter`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        crate::bytes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(filter: Result<Filter>) -> String {
        format!("{:#}", filter.expect_err("refused"))
    }

    #[test]
    fn the_bytes_are_those_of_the_header() {
        assert_eq!(Filter::default().as_bytes(), [0; 216]);
        let filter = Filter::default().tgids(&[7, 0x0102]).and_then(|f| f.comms(&["bash", "é"]));
        let filter = Filter { cgroup: 5, cgroup_level: 3, ..filter.expect("right") };
        let bytes = filter.as_bytes();
        assert_eq!(bytes[..8], 5u64.to_ne_bytes());
        assert_eq!(bytes[8..12], 3u32.to_ne_bytes());
        assert_eq!(bytes[12..16], 2u32.to_ne_bytes());
        assert_eq!(bytes[16..24], [2u32.to_ne_bytes(), [0; 4]].concat());
        assert_eq!(bytes[24..32], [7u32.to_ne_bytes(), 0x0102u32.to_ne_bytes()].concat());
        assert_eq!(&bytes[88..104], b"bash\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&bytes[104..107], "é\0".as_bytes());
    }

    #[test]
    fn the_own_process_is_left_out_unless_it_is_named() {
        let own = std::process::id();
        let filter = |tgids: &[u32]| Filter::default().tgids(tgids).expect("few").except_own();
        let except = filter(&[own + 1]).except;
        assert!(except == own || except == 0, "0 where the namespace is not the initial one");
        assert_eq!((filter(&[own]).except, filter(&[]).except), (0, except));
        assert_eq!(filter(&[]).as_bytes()[20..24], except.to_ne_bytes());
    }

    #[test]
    fn what_cannot_match_is_refused_with_what_can() {
        let filter = Filter::default();
        assert!(refused(Filter::of(&[1 << 32], &[], "")).contains("4294967296 is no process"));
        assert!(refused(filter.tgids(&[1; 17])).contains("at most 16"));
        assert!(refused(filter.comms(&["a"; 9])).contains("at most 8"));
        assert!(refused(filter.comms(&["systemd-networkd"])).contains("write \"systemd-network\""));
        assert!(refused(filter.comms(&[""])).contains("no name"));
        assert!(refused(filter.cgroup("/no/such/cgroup")).contains("/no/such/cgroup"));
        assert!(filter.tgids(&[1; 16]).is_ok() && filter.comms(&["a"; 8]).is_ok());
        assert_eq!(filter.cgroup("").expect("any"), filter);
    }
}
