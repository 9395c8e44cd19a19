//! The timings page as HTML.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::human;
use super::analysis::{KINDS, axis_step, critical_chain, summarize};
use super::{About, Message, Row, Standing};
use crate::progress::TaskKind;

const STYLE: &str = include_str!("page.css");

/// Writes into a string, which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        writeln!($out, $($arg)*).expect("a string takes all that memory holds")
    };
}

/// The whole page.
pub(super) fn render(about: &About, rows: &[Row], messages: &[Message], total: Duration) -> String {
    let scale = Scale::new(rows, total);
    let chain = critical_chain(rows);
    let mut out = String::with_capacity(16 * 1024 + rows.len() * 1024);
    head(&mut out, about, total);
    facts(&mut out, rows, total);
    kinds(&mut out, rows, &scale);
    waterfall(&mut out, rows, &chain, &scale);
    critical(&mut out, rows, &chain, &scale);
    notes(&mut out, messages);
    put!(out, "</main>\n</body>\n</html>");
    out
}

/// Places times on the page, as percentages of the whole.
struct Scale {
    length: Duration,
}

impl Scale {
    fn new(rows: &[Row], total: Duration) -> Self {
        let last = rows.iter().map(|row| row.ended).max().unwrap_or_default();
        Self { length: total.max(last).max(Duration::from_millis(1)) }
    }

    fn percent(&self, time: Duration) -> f64 {
        100.0 * time.as_secs_f64() / self.length.as_secs_f64()
    }

    fn span(&self, began: Duration, ended: Duration) -> String {
        let width = self.percent(ended.saturating_sub(began));
        format!("left:{:.3}%;width:{width:.3}%", self.percent(began))
    }
}

fn head(out: &mut String, about: &About, total: Duration) {
    let total = human::duration(total);
    let command = escape(&about.command);
    put!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    put!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    put!(out, "<meta name=\"color-scheme\" content=\"light dark\">");
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    put!(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">");
    put!(out, "<title>Build timings: {total}</title>\n<style>\n{STYLE}</style>\n</head>");
    put!(out, "<body>\n<header>\n<h1>Build timings</h1>");
    if !command.is_empty() {
        put!(out, "<p class=\"command\"><code>{command}</code></p>");
    }
    let began = about.began.and_then(wall_clock).map(|time| format!("began {time}"));
    let version =
        (!about.version.is_empty()).then(|| format!("gondola {}", escape(&about.version)));
    let line: Vec<String> = began.into_iter().chain(version).collect();
    put!(out, "<p class=\"quiet\">{}</p>\n</header>\n<main>", line.join(" · "));
}

fn wall_clock(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.to_string().replace('T', " ").replace('Z', " UTC"))
}

fn facts(out: &mut String, rows: &[Row], total: Duration) {
    let count =
        |wanted: fn(&Standing) -> bool| rows.iter().filter(|row| wanted(&row.standing)).count();
    let moved = |kind| summarize(rows, kind).bytes;
    let skipped = count(|standing| matches!(standing, Standing::Skipped(_)));
    let failed = count(|standing| matches!(standing, Standing::Failed));
    put!(out, "<dl class=\"facts\">");
    let mut fact = |name: &str, value: &str, class: &str| {
        put!(out, "<div class=\"{class}\"><dt>{name}</dt><dd>{value}</dd></div>");
    };
    fact("Total", &human::duration(total), "total");
    fact("Tasks", &rows.len().to_string(), "");
    fact("Not needed", &skipped.to_string(), "");
    fact("Downloaded", &human::bytes(moved(TaskKind::Download)), "");
    fact("Uploaded", &human::bytes(moved(TaskKind::Upload)), "");
    if failed > 0 {
        fact("Failed", &failed.to_string(), "bad");
    }
    put!(out, "</dl>");
}

/// The table of kinds: when each was busy, what it handled. Its boxes filter the waterfall.
fn kinds(out: &mut String, rows: &[Row], scale: &Scale) {
    put!(out, "<section>\n<h2>By kind</h2>\n<div class=\"scroll\"><table class=\"kinds\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Show</th><th scope=\"col\" class=\"number\">Tasks</th>"
    );
    put!(out, "<th scope=\"col\" class=\"number\">Not needed</th>");
    put!(
        out,
        "<th scope=\"col\" class=\"number\">Busy</th><th scope=\"col\" class=\"number\">Bytes</th>"
    );
    put!(
        out,
        "<th scope=\"col\" class=\"number\">Rate</th><th scope=\"col\">When</th></tr></thead>\n<tbody>"
    );
    for kind in KINDS {
        let summary = summarize(rows, kind);
        if summary.tasks == 0 {
            continue;
        }
        let name = kind.as_str();
        let busy = summary.busy();
        put!(out, "<tr class=\"{name}\"><th scope=\"row\"><label>");
        put!(
            out,
            "<input type=\"checkbox\" id=\"show-{name}\" checked> <i class=\"dot\"></i>{name}"
        );
        put!(out, "</label></th><td class=\"number\">{}</td>", summary.tasks);
        put!(out, "<td class=\"number\">{}</td>", some_count(summary.skipped));
        put!(out, "<td class=\"number\">{}</td>", human::duration(busy));
        put!(out, "<td class=\"number\">{}</td>", some_bytes(summary.bytes));
        let rate = human::rate(summary.bytes, busy).unwrap_or_default();
        put!(out, "<td class=\"number\">{rate}</td><td class=\"track\" aria-hidden=\"true\">");
        for (began, ended) in &summary.spans {
            put!(out, "<i class=\"span\" style=\"{}\"></i>", scale.span(*began, *ended));
        }
        put!(out, "</td></tr>");
    }
    put!(out, "</tbody></table></div>\n</section>");
}

fn waterfall(out: &mut String, rows: &[Row], chain: &[usize], scale: &Scale) {
    let step = axis_step(scale.length);
    put!(out, "<section>\n<h2>Waterfall</h2>");
    put!(
        out,
        "<p class=\"quiet\">Each line is a task; point at a bar, or move to it with the Tab key, for more. "
    );
    put!(out, "<i class=\"key critical\"></i> decided when the build ended, ");
    put!(out, "<i class=\"key wait\"></i> waited for the first byte, ");
    put!(
        out,
        "<i class=\"key skipped\"></i> was not needed, <i class=\"key failed\"></i> failed.</p>"
    );
    put!(
        out,
        "<div class=\"scroll\"><table class=\"waterfall\" style=\"--step:{:.3}%\">",
        scale.percent(step)
    );
    put!(
        out,
        "<thead><tr><th scope=\"col\">Task</th><th scope=\"col\" class=\"number\">Bytes</th>"
    );
    put!(out, "<th scope=\"col\" class=\"axis\"><span class=\"unseen\">When</span>");
    let mut mark = Duration::ZERO;
    while mark <= scale.length {
        let place = scale.percent(mark);
        let class = if place > 96.0 { " class=\"last\"" } else { "" };
        put!(out, "<i{class} style=\"left:{place:.3}%\">{}</i>", mark_text(mark));
        mark += step;
    }
    put!(out, "</th></tr></thead>\n<tbody>");
    for (index, row) in rows.iter().enumerate() {
        waterfall_row(out, row, chain.contains(&index), scale);
    }
    put!(out, "</tbody></table></div>\n</section>");
}

fn waterfall_row(out: &mut String, row: &Row, is_critical: bool, scale: &Scale) {
    let kind = row.task.kind.as_str();
    let name = escape(&human::line(&row.task.name));
    put!(
        out,
        "<tr class=\"{kind}\"><th scope=\"row\" title=\"{name}\"><i class=\"dot\"></i><span class=\"kind\">{kind}</span> {name}</th>"
    );
    put!(out, "<td class=\"number\">{}</td><td class=\"track\">", some_bytes(row.task.bytes));
    let (class, label) = match row.standing {
        Standing::Done => ("", human::duration(row.time())),
        Standing::Skipped(why) => (" skipped", escape(why)),
        Standing::Failed => (" failed", format!("failed, {}", human::duration(row.time()))),
        Standing::Stopped => (" skipped", format!("stopped, {}", human::duration(row.time()))),
        Standing::Running => {
            (" running", format!("still running, {}", human::duration(row.time())))
        }
    };
    let critical = if is_critical { " critical" } else { "" };
    let facts = details(row, is_critical);
    let spoken: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let place = scale.span(row.task.began, row.ended);
    put!(
        out,
        "<div class=\"bar{class}{critical}\" style=\"{place}\" tabindex=\"0\" role=\"img\" aria-label=\"{kind} {name}: {}\">",
        spoken.join(", ")
    );
    if let Some(share) = waiting_share(row) {
        put!(out, "<i class=\"wait\" style=\"width:{share:.3}%\"></i>");
    }
    let ends = if scale.percent(row.ended) > 82.0 { " before" } else { "" };
    put!(out, "<span class=\"label{ends}\">{label}</span>");
    let side = if scale.percent(row.task.began) > 55.0 { " right" } else { "" };
    put!(out, "<dl class=\"tip{side}\"><dt class=\"name\">{kind} {name}</dt><dd></dd>");
    for (name, value) in facts {
        put!(out, "<dt>{name}</dt><dd>{value}</dd>");
    }
    put!(out, "</dl></div></td></tr>");
}

/// How much of a transfer's time went by before its first byte, in percent. Where that is nearly
/// all of it, the bytes were counted in one go at the end and say nothing.
fn waiting_share(row: &Row) -> Option<f64> {
    let moves = matches!(row.task.kind, TaskKind::Download | TaskKind::Upload);
    let waited = row.task.moved.filter(|_| moves)?.saturating_sub(row.task.began);
    let share = 100.0 * waited.as_secs_f64() / row.time().as_secs_f64();
    (share > 0.0 && share < 90.0).then_some(share)
}

/// What is known of a task: names and values, escaped.
fn details(row: &Row, is_critical: bool) -> Vec<(&'static str, String)> {
    let task = &row.task;
    let mut facts = vec![
        (
            "outcome",
            match row.standing {
                Standing::Done => "done".to_owned(),
                Standing::Skipped(why) => format!("not needed: {}", escape(why)),
                Standing::Failed => "failed".to_owned(),
                Standing::Stopped => "stopped: something else failed".to_owned(),
                Standing::Running => "still running".to_owned(),
            },
        ),
        ("began at", human::duration(task.began)),
        ("ended at", human::duration(row.ended)),
        ("took", human::duration(row.time())),
    ];
    if let (Some(moved), Some(_)) = (task.moved, waiting_share(row)) {
        facts.push(("first byte after", human::duration(moved.saturating_sub(task.began))));
    }
    match task.total_bytes {
        Some(total) if total != task.bytes => {
            facts.push((
                "bytes",
                format!("{} of {}", human::bytes(task.bytes), human::bytes(total)),
            ));
        }
        _ if task.bytes > 0 => facts.push(("bytes", human::bytes(task.bytes))),
        _ => {}
    }
    if let Some(rate) = human::rate(task.bytes, row.time()) {
        facts.push(("rate", rate));
    }
    if is_critical {
        facts.push(("critical", "yes".to_owned()));
    }
    facts
}

/// The chain that decided the total, with the time between its tasks.
fn critical(out: &mut String, rows: &[Row], chain: &[usize], scale: &Scale) {
    if chain.is_empty() {
        return;
    }
    put!(out, "<section>\n<h2>What the total is made of</h2>");
    put!(
        out,
        "<p class=\"quiet\">Back from the task that ended last, each time to the one that ended last before it began: make these shorter and the build ends sooner.</p>"
    );
    put!(
        out,
        "<div class=\"scroll\"><table class=\"chain\"><thead><tr><th scope=\"col\">Task</th><th scope=\"col\" class=\"number\">Began at</th>"
    );
    put!(
        out,
        "<th scope=\"col\" class=\"number\">Took</th><th scope=\"col\" class=\"number\">Share</th><th scope=\"col\"><span class=\"unseen\">Share, drawn</span></th></tr></thead>\n<tbody>"
    );
    let mut reached = Duration::ZERO;
    for index in chain {
        let task = &rows[*index].task;
        if task.began > reached + scale.length / 100 {
            chain_row(out, "gap", "between tasks", (reached, task.began), scale);
        }
        let name = escape(&human::line(&task.name));
        let kind = task.kind.as_str();
        let title = format!("<i class=\"dot\"></i><span class=\"kind\">{kind}</span> {name}");
        chain_row(out, kind, &title, (task.began, rows[*index].ended), scale);
        reached = rows[*index].ended;
    }
    put!(out, "</tbody></table></div>\n</section>");
}

fn chain_row(
    out: &mut String,
    class: &str,
    title: &str,
    (began, ended): (Duration, Duration),
    scale: &Scale,
) {
    let took = ended.saturating_sub(began);
    let share = scale.percent(took);
    put!(
        out,
        "<tr class=\"{class}\"><th scope=\"row\">{title}</th><td class=\"number\">{}</td>",
        human::duration(began)
    );
    put!(
        out,
        "<td class=\"number\">{}</td><td class=\"number\">{share:.0}%</td>",
        human::duration(took)
    );
    put!(
        out,
        "<td class=\"track\" aria-hidden=\"true\"><i class=\"span\" style=\"left:0;width:{share:.3}%\"></i></td></tr>"
    );
}

fn notes(out: &mut String, messages: &[Message]) {
    if messages.is_empty() {
        return;
    }
    put!(out, "<section>\n<h2>Notes</h2>\n<ul class=\"notes\">");
    for message in messages {
        let (class, label) = if message.is_warning { ("warning", "warning") } else { ("", "note") };
        let text = escape(&human::block(&message.text));
        put!(
            out,
            "<li class=\"{class}\"><b>{label}</b> <span class=\"quiet\">{}</span> <pre>{text}</pre></li>",
            human::duration(message.at)
        );
    }
    put!(out, "</ul>\n</section>");
}

/// A mark on the axis: `0`, `500ms`, `1.5s`, `2m`.
fn mark_text(mark: Duration) -> String {
    match mark.as_millis() {
        0 => "0".to_owned(),
        millis if millis < 60_000 && millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis if millis >= 60_000 && millis % 60_000 == 0 => format!("{}m", millis / 60_000),
        _ => human::duration(mark),
    }
}

fn some_bytes(count: u64) -> String {
    if count == 0 { String::new() } else { human::bytes(count) }
}

fn some_count(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

/// Text for elements and for attributes in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
