//! The real program with real plugins: the examples of this package, each a shared library.

mod command_line;
mod guards;
mod http;
mod itself;
mod older;
mod outputs;
mod process;
mod refused;
mod stop;
