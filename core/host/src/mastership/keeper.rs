//! Reports the end of a lease on time, also while the driver is late.

use std::sync::Arc;

use futures_lite::FutureExt;

use crate::{runtime::Runtime, shared::Shared};

/// Wakes those who wait for a change of the lease when it ends. It runs beside the driver, because a driver that does not run is one of
/// the reasons for which leases end. It never returns.
pub(crate) async fn keep<R: Runtime>(shared: Arc<Shared>) {
    loop {
        let changed = shared.lease_changed();
        let now = shared.now();
        let end = shared.lock().usable(now).map(|usable| usable.valid_until);
        let Some(end) = end else {
            changed.await;
            continue;
        };
        let has_ended = async {
            R::sleep(end.since(now)).await;
            true
        };
        let is_renewed = async {
            changed.await;
            false
        };
        // A timer may be early.
        if is_renewed.or(has_ended).await && shared.now() >= end {
            shared.lease_has_changed();
        }
    }
}
