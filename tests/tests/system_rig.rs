//! The rig of the delivery tests does what those tests take for granted.

#[path = "system_rig/contracts.rs"]
mod contracts;
#[path = "system_rig/databases.rs"]
mod databases;
#[path = "system_rig/faults.rs"]
mod faults;
#[path = "system_rig/load.rs"]
mod load;
#[path = "system_rig/sockets.rs"]
mod sockets;
