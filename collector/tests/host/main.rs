//! The real program with real plugins: the examples of this package, each a shared library.

mod c_plugins;
mod check;
mod command_line;
mod conformance;
mod guards;
mod http;
mod isolation;
mod itself;
mod living;
mod messages;
mod older;
mod outputs;
mod page;
mod process;
mod quiet;
mod refused;
mod reload;
mod service;
mod stacks;
mod stop;
mod terminal;
mod trust;
