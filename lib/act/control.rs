//! baa-control: the control API that leases live in, on a machine of one's own. hyper speaks HTTP, tokio
//! waits; what is asked of the store goes to threads of its own, so that nothing that waits for a disk holds
//! up the others.

pub mod api;
pub mod authorization;
pub mod listener;
pub mod metrics;
pub mod page;
pub mod places;
pub mod quota;
mod requests;
pub mod server;
pub mod store_queue;
