//! What should hold of the figures.

use std::collections::BTreeMap;

use crate::{
    scenarios::{Entrant, Scenario},
    servers::Server,
};

/// Figures by name.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// A figure of one entrant against those of others, in the same run.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) entrant: &'static str,
    pub(crate) metric: &'static str,
    side: Side,
    times: f64,
    of: Of,
    plus: f64,
}

/// On which side of the limit to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    AtLeast,
    AtMost,
}

/// What a limit is a multiple of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    /// The best figure of somebody else's server.
    BestPeer,
    /// The figure of that entrant.
    Entrant(&'static str),
    /// One: the limit is absolute.
    One,
}

/// A target and what came of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The target in words.
    pub(crate) text: String,
    /// What was measured.
    pub(crate) figure: f64,
    /// The limit.
    pub(crate) limit: f64,
    /// Whether it holds.
    pub(crate) met: bool,
}

impl Target {
    /// `metric` of `entrant` is at most `times` that of `of`.
    pub(crate) const fn at_most(
        entrant: &'static str,
        metric: &'static str,
        times: f64,
        of: Of,
    ) -> Self {
        Self { entrant, metric, side: Side::AtMost, times, of, plus: 0.0 }
    }

    /// `metric` of `entrant` is at least `times` that of `of`.
    pub(crate) const fn at_least(
        entrant: &'static str,
        metric: &'static str,
        times: f64,
        of: Of,
    ) -> Self {
        Self { entrant, metric, side: Side::AtLeast, times, of, plus: 0.0 }
    }

    /// The same with so much more allowed.
    pub(crate) const fn plus(self, plus: f64) -> Self {
        Self { plus, ..self }
    }

    /// What came of it, if all that it needs was measured.
    pub(crate) fn judge(
        &self,
        scenario: &Scenario,
        medians: &BTreeMap<&str, Sample>,
    ) -> Option<Verdict> {
        let figure_of = |entrant: &str| medians.get(entrant)?.get(self.metric).copied();
        let peers = || {
            let peers = scenario.entrants.iter().filter(|entrant| is_peer(entrant));
            peers.filter_map(|peer| figure_of(peer.name))
        };
        let base = match (self.of, self.side) {
            (Of::One, _) => 1.0,
            (Of::Entrant(name), _) => figure_of(name)?,
            (Of::BestPeer, Side::AtLeast) => peers().reduce(f64::max)?,
            (Of::BestPeer, Side::AtMost) => peers().reduce(f64::min)?,
        };
        let (figure, limit) = (figure_of(self.entrant)?, self.times * base + self.plus);
        let met = match self.side {
            Side::AtLeast => figure >= limit,
            Side::AtMost => figure <= limit,
        };
        Some(Verdict { text: self.text(), figure, limit, met })
    }

    fn text(&self) -> String {
        let side = match self.side {
            Side::AtLeast => "≥",
            Side::AtMost => "≤",
        };
        let of = match self.of {
            Of::BestPeer => " × the best peer",
            Of::Entrant(name) => &format!(" × {name}"),
            Of::One => "",
        };
        let plus = if self.plus > 0.0 { format!(" + {}", self.plus) } else { String::new() };
        format!("{}: {} {side} {}{of}{plus}", self.entrant, self.metric, self.times)
    }
}

fn is_peer(entrant: &Entrant) -> bool {
    entrant.server.is_some_and(Server::is_peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::SCENARIOS;

    #[test]
    fn targets_name_what_is_measured() {
        for scenario in SCENARIOS {
            let names: Vec<_> = scenario.entrants.iter().map(|entrant| entrant.name).collect();
            for target in scenario.targets {
                assert!(names.contains(&target.entrant), "{target:?}");
                assert!(scenario.metrics.contains(&target.metric), "{target:?}");
                if let Of::Entrant(name) = target.of {
                    assert!(names.contains(&name), "{target:?}");
                }
            }
        }
    }

    #[test]
    fn target_is_judged_on_its_side_of_the_limit() {
        let stream = &SCENARIOS[0];
        let medians = |windlass: f64| {
            [("floor", 100.0), ("windlass", windlass), ("tusd", 20.0), ("rustus", 30.0)]
                .map(|(name, figure)| (name, Sample::from([("x", figure)])))
                .into()
        };
        for (target, figure, limit, met) in [
            (Target::at_least("windlass", "x", 0.8, FLOOR), 80.0, 80.0, true),
            (Target::at_least("windlass", "x", 0.8, FLOOR), 79.0, 80.0, false),
            (Target::at_most("windlass", "x", 0.8, FLOOR).plus(5.0), 85.0, 85.0, true),
            (Target::at_most("windlass", "x", 5.0, Of::One), 6.0, 5.0, false),
            (Target::at_least("windlass", "x", 2.0, Of::BestPeer), 60.0, 60.0, true),
            (Target::at_most("windlass", "x", 2.0, Of::BestPeer), 41.0, 40.0, false),
        ] {
            let verdict = target.judge(stream, &medians(figure)).expect("all is measured");
            assert_eq!((verdict.limit, verdict.met), (limit, met), "{target:?}");
        }
        let nobody = Target::at_most("windlass", "x", 1.0, Of::Entrant("nobody"));
        assert!(nobody.judge(stream, &medians(1.0)).is_none());
    }

    const FLOOR: Of = Of::Entrant("floor");
}
