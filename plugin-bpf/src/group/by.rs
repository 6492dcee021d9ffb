//! What rows can be grouped by.

/// The option `by` of a tool: nothing, or one of the dimensions that it names.
///
/// ```
/// plugin_bpf::by!(By: Comm, Cgroup);
/// plugin_api::options! {
///     /// What `[plugin.demo]` takes.
///     pub struct Options {
///         /// What the rows of demo_by are grouped by.
///         by: By = By::Nothing,
///     }
/// }
/// let given = <Options as plugin_api::Options>::from_json(r#"{"by":"comm"}"#).unwrap();
/// assert!(given.by == By::Comm);
/// ```
///
/// Dimensions: `Comm`, `Cgroup`, `PidNs`, `Cpu`, `Uid`, `Jvm`, and of sockets `LocalPort`, `RemotePort`, `LocalPrefix`,
/// `RemotePrefix`.
#[macro_export]
macro_rules! by {
    ($name:ident: $($dimension:ident),+ $(,)?) => {
        $crate::by!(@choice $name [] $($dimension)+);
    };
    (@choice $name:ident [$($done:tt)*] Comm $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Name of the thread. */ Comm = "comm",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] Cgroup $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Path of the cgroup. */ Cgroup = "cgroup",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] PidNs $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** PID namespace. */ PidNs = "pid_ns",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] Cpu $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Number of the CPU. */ Cpu = "cpu",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] Uid $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Number of the user. */ Uid = "uid",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] Jvm $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Main class of the JVM. */ Jvm = "jvm",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] LocalPort $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Port of this host's end. */ LocalPort = "local_port",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] RemotePort $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Port of the other end. */ RemotePort = "remote_port",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] LocalPrefix $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Network of this host's end. */ LocalPrefix = "local_prefix",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*] RemotePrefix $($rest:ident)*) => {
        $crate::by!(@choice $name [$($done)* /** Network of the other end. */ RemotePrefix = "remote_prefix",] $($rest)*);
    };
    (@choice $name:ident [$($done:tt)*]) => {
        $crate::plugin_api::choice! {
            /// What rows are grouped by.
            pub enum $name {
                /// Nothing.
                Nothing = "",
                $($done)*
            }
        }
    };
    (@choice $name:ident [$($done:tt)*] $other:ident $($rest:ident)*) => {
        ::core::compile_error!(concat!(
            "by! knows the dimensions Comm, Cgroup, PidNs, Cpu, Uid, Jvm, LocalPort, RemotePort, LocalPrefix and \
             RemotePrefix, not ",
            stringify!($other)
        ));
    };
}
