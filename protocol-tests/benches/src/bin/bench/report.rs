//! The figures as people read them, and as programs do.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use serde_json::{Value, json};

use crate::{scenarios::Scenario, target::Sample};

/// All runs of one scenario.
#[derive(Debug)]
pub(crate) struct Runs {
    /// What was run.
    pub(crate) scenario: &'static Scenario,
    /// What came of it, by entrant, in the order of the runs.
    pub(crate) samples: BTreeMap<&'static str, Vec<Sample>>,
    /// Why entrants gave no figures.
    pub(crate) failures: BTreeMap<&'static str, String>,
}

impl Runs {
    /// The median of every figure.
    fn medians(&self) -> BTreeMap<&str, Sample> {
        let of = |samples: &Vec<Sample>| -> Sample {
            let keys = samples.iter().flat_map(Sample::keys);
            keys.map(|key| (*key, median(samples.iter().filter_map(|s| s.get(key)).copied())))
                .collect()
        };
        self.samples.iter().map(|(name, samples)| (*name, of(samples))).collect()
    }

    /// A section with a table, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("text takes any write");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let medians = self.medians();
        let names = self.scenario.entrants.iter().map(|entrant| entrant.name);
        let names: Vec<_> = names.filter(|name| medians.contains_key(name)).collect();
        writeln!(text, "\n## {}: {}\n", self.scenario.name, self.scenario.title)?;
        writeln!(text, "| | {} |", names.join(" | "))?;
        writeln!(text, "| --- |{}", " ---: |".repeat(names.len()))?;
        for metric in self.scenario.metrics {
            write!(text, "| {metric} |")?;
            let first = names.first().and_then(|name| medians[name].get(metric)).copied();
            for name in &names {
                match (medians[name].get(metric), first) {
                    (None, _) => write!(text, " - |")?,
                    (Some(figure), Some(first)) if *name != names[0] && first > 0.0 => {
                        write!(text, " {} ({:.2} ×) |", short(*figure), figure / first)?;
                    }
                    (Some(figure), _) => write!(text, " {} |", short(*figure))?,
                }
            }
            writeln!(text)?;
        }
        for (name, why) in &self.failures {
            writeln!(text, "\n{name}: {why}")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let targets = self.scenario.targets.iter();
        let verdicts = targets.filter_map(|target| target.judge(self.scenario, &self.medians()));
        let verdict = |verdict: crate::target::Verdict| {
            json!({
                "target": verdict.text,
                "figure": verdict.figure,
                "limit": verdict.limit,
                "met": verdict.met,
            })
        };
        json!({
            "scenario": self.scenario.name,
            "title": self.scenario.title,
            "medians": self.medians(),
            "runs": self.samples,
            "failures": self.failures,
            "targets": verdicts.map(verdict).collect::<Vec<_>>(),
        })
    }
}

/// The figures of all scenarios against what is wanted of them, as Markdown.
pub(crate) fn targets(all: &[Runs]) -> String {
    let mut text =
        "\n## targets\n\n| target | figure | limit | |\n| --- | ---: | ---: | --- |\n".to_owned();
    for runs in all {
        let medians = runs.medians();
        let targets = runs.scenario.targets.iter();
        for verdict in targets.filter_map(|target| target.judge(runs.scenario, &medians)) {
            let met = if verdict.met { "met" } else { "**missed**" };
            let (figure, limit) = (short(verdict.figure), short(verdict.limit));
            let name = runs.scenario.name;
            let line = format!("| {name}: {} | {figure} | {limit} | {met} |\n", verdict.text);
            text.push_str(&line);
        }
    }
    text
}

/// The whole report as JSON.
pub(crate) fn json(about: &About, all: &[Runs]) -> Value {
    json!({
        "about": about.lines,
        "scenarios": all.iter().map(Runs::json).collect::<Vec<_>>(),
    })
}

/// Where and how the figures came to be.
#[derive(Debug)]
pub(crate) struct About {
    lines: BTreeMap<&'static str, String>,
}

impl About {
    /// This machine, now.
    pub(crate) fn new(runs: u32) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
        };
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let text = output.map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let processor = field(&read("/proc/cpuinfo"), "model name");
        Self {
            lines: BTreeMap::from([
                ("command", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
                ("commit", said("git", &["describe", "--always", "--dirty"])),
                ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
                ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
                ("load before", read("/proc/loadavg").trim().to_owned()),
                ("memory", field(&read("/proc/meminfo"), "MemTotal")),
                ("processor", format!("{cores} × {processor}")),
                ("runs", format!("{runs}, interleaved; all figures are medians")),
            ]),
        }
    }

    /// As a list in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let lines: Vec<_> =
            self.lines.iter().map(|(name, value)| format!("- {name}: {value}")).collect();
        lines.join("\n")
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// A figure with about three digits that count.
fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle() {
        for (values, expected) in
            [(&[][..], 0.0), (&[3.0], 3.0), (&[9.0, 1.0], 5.0), (&[9.0, 1.0, 2.0], 2.0)]
        {
            let median = median(values.iter().copied());
            assert!((median - expected).abs() < f64::EPSILON, "{values:?}: {median}");
        }
    }
}
