//! From whoever makes lines to the queues of all outputs.

use super::Outlet;
use super::queue::Queue;
use crate::batch::Batch;
use crate::encoder::Page;
use crate::form::Form;
use plugin_api::Tick;
use std::sync::Arc;
use std::time::Instant;

/// The queues of all outputs. Sending never waits: an output that is slow or dead loses its own oldest lines,
/// counted, and holds up nobody else.
#[derive(Clone, Debug)]
pub struct Routes(Arc<[(Form, Arc<Queue>)]>);

impl Routes {
    /// To these outputs.
    #[must_use]
    pub fn to(outlets: &[Outlet]) -> Self {
        Self(outlets.iter().map(|outlet| (outlet.form(), outlet.queue())).collect())
    }

    /// The forms that some output asks for.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        let mut forms = Vec::new();
        for (form, _) in self.0.iter() {
            if !forms.contains(form) {
                forms.push(*form);
            }
        }
        forms
    }

    /// Hands the lines of a call to every output, in the form that it asks for.
    pub fn send(&self, plugin: &Arc<str>, tick: Tick, pages: Vec<Page>) {
        for Page { form, lines, bytes } in pages.into_iter().filter(|page| page.lines > 0) {
            let batch = Arc::new(Batch { plugin: Arc::clone(plugin), tick, lines, bytes });
            for (_, queue) in self.0.iter().filter(|(wanted, _)| *wanted == form) {
                queue.push(Arc::clone(&batch));
            }
        }
    }

    /// Nothing comes any more that is worth waiting for: outputs may deliver what they have until then. What a
    /// plugin sends all the same, one that hung and was left behind, is lost and counted.
    pub fn close(&self, deadline: Instant) {
        self.0.iter().for_each(|(_, queue)| queue.close(deadline));
    }
}
