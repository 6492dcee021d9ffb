//! From whoever makes lines to the queues of all outputs.

use super::Outlet;
use super::queue::Queue;
use crate::batch::Batch;
use crate::encoder::Page;
use crate::form::Form;
use plugin_api::Tick;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The queues of all outputs. Sending never waits: an output that is slow or dead loses its own oldest lines,
/// counted, and holds up nobody else.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<RwLock<Queues>>);

/// Each with the form of its lines.
type Queues = Vec<(Form, Arc<Queue>)>;

impl Routes {
    /// From now on to these.
    pub fn change<'a>(&self, outlets: impl Iterator<Item = &'a Outlet>) {
        let queues = outlets.map(|outlet| (outlet.form(), outlet.queue())).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = queues;
    }

    fn queues(&self) -> RwLockReadGuard<'_, Queues> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The forms that some output asks for.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        let mut forms = Vec::new();
        for (form, _) in &*self.queues() {
            if !forms.contains(form) {
                forms.push(*form);
            }
        }
        forms
    }

    /// Hands the lines of a call to every output, in the form that it asks for. Whose form the plugin did not know
    /// misses them. Outputs hear of a few lines when somebody calls [`Routes::wake`].
    pub fn send(&self, plugin: &Arc<str>, tick: Tick, pages: Vec<Page>) {
        let queues = self.queues();
        let batch = |lines, bytes| Batch { plugin: Arc::clone(plugin), tick, lines, bytes };
        let known = |form| pages.iter().any(|page| page.form == form);
        if let Some(lines) = pages.iter().map(|page| page.lines).max().filter(|lines| *lines > 0) {
            let missed = batch(lines, Vec::new());
            let unknown = queues.iter().filter(|(wanted, _)| !known(*wanted));
            unknown.for_each(|(_, queue)| queue.miss(&missed));
        }
        for Page { form, lines, bytes } in pages.into_iter().filter(|page| page.lines > 0) {
            let batch = Arc::new(batch(lines, bytes));
            for (_, queue) in queues.iter().filter(|(wanted, _)| *wanted == form) {
                queue.push(Arc::clone(&batch));
            }
        }
    }

    /// Wakes the outputs for which there are lines.
    pub fn wake(&self) {
        self.queues().iter().for_each(|(_, queue)| queue.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Tags;
    use crate::form::Buckets;
    use crate::output::books::Cause;
    use crate::output::queue::Gaps;

    #[test]
    fn an_output_whose_form_a_plugin_does_not_know_yet_misses_its_lines_and_counts_them() {
        let fields = Form::default();
        let le = Form { histogram: Buckets::Le, ..fields };
        let queue = |form| {
            let gaps = Gaps::new("out", form, &Tags::new(), false).unwrap();
            Arc::new(Queue::new(1000, gaps))
        };
        let [old, new] = [queue(fields), queue(le)];
        let queues = vec![(fields, Arc::clone(&old)), (le, Arc::clone(&new))];
        let routes = Routes(Arc::new(RwLock::new(queues)));
        let page = |form, lines| Page { form, lines, bytes: vec![b'\n'; lines as usize] };
        for pages in [
            vec![page(fields, 2)],
            vec![page(fields, 2), page(le, 30)],
            vec![page(fields, 0)],
            vec![page(fields, 0), page(le, 0)],
            vec![],
        ] {
            let tick = Tick { seq: 0, time_ns: 1_000_000_000, elapsed_ns: 1_000_000_000 };
            routes.send(&"p".into(), tick, pages);
        }
        let books = [old, new].map(|queue| queue.snapshot().total());
        assert_eq!(books.map(|books| books.produced), [4, 32]);
        assert_eq!(books.map(|books| books.waiting), [4, 30]);
        assert_eq!(books.map(|books| books.dropped[Cause::Form]), [0, 2]);
    }
}
