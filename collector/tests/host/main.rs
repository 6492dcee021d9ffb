//! The real program with real plugins: the examples of this package, each a shared library.

mod check;
mod command_line;
mod guards;
mod http;
mod itself;
mod messages;
mod older;
mod outputs;
mod process;
mod quiet;
mod refused;
mod stop;
mod terminal;
mod trust;
