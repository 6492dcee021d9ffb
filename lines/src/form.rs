//! The forms of lines: an output asks for one, so that its database's own functions read them right.

/// How an output wants its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form {
    /// The buckets of histograms.
    pub histogram: Buckets,
    /// Counters, with them counts, sums and buckets of histograms.
    pub counters: Counters,
}

impl Form {
    /// What `rate`, `increase` and `histogram_quantile` of VictoriaMetrics expect.
    pub const VICTORIAMETRICS: Self =
        Self { histogram: Buckets::Vmrange, counters: Counters::Cumulative };
    /// What Prometheus' remote write is translated from.
    pub const PROMETHEUS: Self = Self { histogram: Buckets::Typed, counters: Counters::Cumulative };
    /// What OTLP is translated from.
    pub const OTLP: Self = Self { histogram: Buckets::Typed, counters: Counters::Delta };
}

/// The buckets of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Buckets {
    /// A field per bucket that is not empty, on the histogram's own line: `bucket_2_4`.
    #[default]
    Fields,
    /// A line per bucket with the tag `le`: the values below it, those of all lower buckets included.
    Le,
    /// A line per bucket that is not empty, with the tag `vmrange`.
    Vmrange,
    /// As fields, on a line that says of itself what it is, for outputs that translate it ([`crate::typed`]): what
    /// counts is unsigned (`1u`) and nothing else is; a histogram has its first bucket always; texts are left out;
    /// `interval_ns` leads to the time of the tick before.
    Typed,
}

/// What a counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Counters {
    /// How much since the line before.
    #[default]
    Delta,
    /// How much since the collector started.
    Cumulative,
}

impl Buckets {
    /// All of them: those that can be configured come first.
    pub const ALL: [(&'static str, Self); 4] = [
        ("fields", Self::Fields),
        ("le", Self::Le),
        ("vmrange", Self::Vmrange),
        ("typed", Self::Typed),
    ];

    /// As in the configuration.
    pub const NAMED: [(&'static str, Self); 3] =
        [("fields", Self::Fields), ("le", Self::Le), ("vmrange", Self::Vmrange)];

    /// The tag that its lines have beside those of the histogram.
    #[must_use]
    pub const fn tag(self) -> Option<&'static str> {
        match self {
            Self::Fields | Self::Typed => None,
            Self::Le => Some("le"),
            Self::Vmrange => Some("vmrange"),
        }
    }

    /// The tag's value for the bucket of a power of two (see [`plugin_api::histogram::bucket`]).
    pub(crate) fn value(self, from: u64, below: Option<u64>) -> String {
        let below_text = |text: fn(u64) -> String| below.map_or("+Inf".to_owned(), text);
        match self {
            Self::Fields | Self::Typed => String::new(),
            Self::Le => below_text(|n| n.to_string()),
            Self::Vmrange => {
                let from = if from == 0 { "0".to_owned() } else { scientific(from) };
                format!("{from}...{}", below_text(scientific))
            }
        }
    }
}

impl Counters {
    /// As in the configuration.
    pub const NAMED: [(&'static str, Self); 2] =
        [("delta", Self::Delta), ("cumulative", Self::Cumulative)];
}

/// As VictoriaMetrics writes the bounds of its own histograms, `2.000e+00`, with as many digits more as the
/// number needs: a bound that is rounded is no bound.
fn scientific(n: u64) -> String {
    let digits = n.to_string();
    let (first, rest) = digits.split_at(1);
    let power = rest.len();
    format!("{first}.{:0<3}e+{power:02}", rest.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_exact_and_look_like_those_of_victoriametrics() {
        for (n, text) in [
            (2, "2.000e+00"),
            (16, "1.600e+01"),
            (1024, "1.024e+03"),
            (16_384, "1.6384e+04"),
            (1 << 63, "9.223372036854775808e+18"),
        ] {
            assert_eq!(scientific(n), text);
            assert_eq!(text.parse::<f64>().unwrap(), n as f64);
        }
        assert_eq!(Buckets::Vmrange.value(0, Some(2)), "0...2.000e+00");
        assert_eq!(Buckets::Vmrange.value(1 << 63, None), "9.223372036854775808e+18...+Inf");
        assert_eq!(Buckets::Le.value(2, Some(4)), "4");
        assert_eq!(Buckets::Le.value(1 << 63, None), "+Inf");
    }
}
