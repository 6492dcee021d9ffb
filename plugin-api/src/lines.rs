//! Where a call puts its lines.

use crate::abi::{HostCtx, NO_SCHEMA, Status, TICK_TIME, Val};
use crate::{Exported, Result, Row, TableDef, bail};
use abi_stable::std_types::{RSlice, RStr};
use smallvec::SmallVec;

/// An encoder: a pushed row is line protocol at once, in the collector's own buffer.
///
/// The collector adds the global tags, the plugin's configured tags, the tick's timestamp and
/// `interval_ns`, the measured time that the line covers.
pub struct Lines {
    host: HostCtx,
    /// Ids by table, found by address: a plugin has a handful.
    schemas: Vec<(&'static TableDef, u32)>,
}

impl Lines {
    pub(crate) fn new(host: HostCtx) -> Self {
        Self { host, schemas: Vec::new() }
    }

    /// The host of the coming call. Ids belong to the host's object that gave them.
    pub(crate) fn bind(&mut self, host: HostCtx) {
        if self.host.ctx.0 != host.ctx.0 {
            self.schemas.clear();
        }
        self.host = host;
    }

    /// Pushes one line that speaks of the time since the last tick.
    ///
    /// A tick has one line of a table with the same tags. A second one is dropped, as is a line over the plugin's
    /// caps; the host counts and logs it, and it is no error here: go on.
    ///
    /// # Errors
    /// The host refused the table (it logged why), or no field of the row has a value.
    pub fn push<R: Exported>(&mut self, row: R) -> Result<()> {
        self.send(&row, TICK_TIME)
    }

    /// Pushes one line with its own time, in nanoseconds since 1970 UTC: an event. Two lines of a table with
    /// equal tags and time would be one point for every database: the later one gets a nanosecond more, and so on
    /// for each further one, in the tick and the one after it. (VictoriaMetrics keeps milliseconds, and there both.)
    ///
    /// # Errors
    /// As [`Lines::push`].
    pub fn push_at<R: Exported>(&mut self, time_ns: i64, row: R) -> Result<()> {
        self.send(&row, time_ns)
    }

    fn send<R: Row>(&mut self, row: &R, time_ns: i64) -> Result<()> {
        let id = self.schema(R::TABLE);
        let mut tags = SmallVec::<[RStr<'_>; 8]>::new();
        let mut fields = SmallVec::<[Val<'_>; 16]>::new();
        row.values(&mut tags, &mut fields);
        let HostCtx { ctx, host } = self.host;
        match host.row()(ctx, id, RSlice::from_slice(&tags), RSlice::from_slice(&fields), time_ns) {
            Status::OK | Status::FULL => Ok(()),
            Status::INVALID => bail!("the collector refused a line of table `{}`", R::TABLE.name),
            Status::CLOSED => bail!("a line of table `{}` outside a call", R::TABLE.name),
            Status(other) => bail!("table `{}`: unknown status {other}", R::TABLE.name),
        }
    }

    fn schema(&mut self, table: &'static TableDef) -> u32 {
        if let Some((_, id)) = self.schemas.iter().find(|(t, _)| std::ptr::eq(*t, table)) {
            return *id;
        }
        let names = table.wire_fields();
        let tags: Vec<RStr<'_>> = table.tags.iter().map(|t| RStr::from_str(t.name)).collect();
        let fields: Vec<RStr<'_>> = names.iter().map(|f| RStr::from_str(f)).collect();
        let HostCtx { ctx, host } = self.host;
        let id = host.schema()(
            ctx,
            RStr::from_str(table.name),
            RSlice::from_slice(&tags),
            RSlice::from_slice(&fields),
        );
        if id != NO_SCHEMA {
            self.schemas.push((table, id));
        }
        id
    }
}
