//! A table as HTML. Styles are inline, and those that matter of the kind that JupyterLab leaves in
//! a notebook that it does not trust (it drops variables and `underline dotted`, for instance): one
//! that is stored, exported or sanitised keeps them.

use super::super::escape;
use super::{Cell, Table};

/// Greys that show on light and dark.
const RULE: &str = "1px solid rgba(128,128,128,.6)";
const HAIRLINE: &str = "1px solid rgba(128,128,128,.28)";
const MUTED: &str = "opacity:.72";

pub(super) fn html(table: &Table) -> String {
    let mut out = String::from(
        "<div style=\"overflow-x:auto;color:inherit\"><table style=\"border-collapse:collapse;border:none;margin:.3em 0;color:inherit;\
         background:transparent;font-size:.95em;line-height:1.35;font-variant-numeric:tabular-nums\">",
    );
    if !table.title.is_empty() {
        out += &format!(
            "<caption style=\"caption-side:top;text-align:left;font-weight:600;padding:0 0 .35em;color:inherit\">{}</caption>",
            escape(&table.title)
        );
    }
    if table.has_header() {
        out += &format!("<thead><tr style=\"border-bottom:{RULE};background:transparent\">");
        for c in 0..table.width() {
            let (name, definition) =
                table.columns.get(c).map_or(("", ""), |column| (&column.name, &column.definition));
            out += &format!(
                "<th scope=\"col\" style=\"{};font-weight:600;vertical-align:bottom\">{}</th>",
                place(table.right(c)),
                defined(name, definition)
            );
        }
        out += "</tr></thead>";
    }
    out += "<tbody>";
    (0..table.rows.len()).for_each(|r| out += &row(table, r));
    out += "</tbody></table>";
    if !table.caption.is_empty() {
        out += &format!(
            "<div style=\"{MUTED};font-size:.88em;max-width:60em;margin:.2em 0 .5em\">{}</div>",
            escape(&table.caption)
        );
    }
    out += &definitions(table);
    out += "</div>";
    out
}

fn row(table: &Table, r: usize) -> String {
    let row = &table.rows[r];
    let mut out = format!("<tr style=\"border-bottom:{HAIRLINE};background:transparent\">");
    for c in 0..table.width() {
        let cell = row.cells.get(c).unwrap_or(&Cell::Missing);
        let content = match cell {
            _ if c == 0 => defined(cell.shown(), &row.definition),
            Cell::Bar { share, shown } => format!("{}{}", bar(*share), escape(shown)),
            cell => escape(cell.shown()),
        };
        let weight = match cell {
            Cell::Missing => ";opacity:.5",
            _ if table.is_best(r, c) => ";font-weight:700",
            // Names of settings step back behind their values.
            _ if c == 0 && !table.has_header() => ";opacity:.72",
            _ => "",
        };
        out += &format!("<td style=\"{}{weight}\">{content}</td>", place(table.right(c)));
    }
    out + "</tr>"
}

fn place(right: bool) -> String {
    format!(
        "text-align:{};padding:.22em .8em .22em 0;border:none;white-space:pre-wrap",
        if right { "right;padding-left:.8em" } else { "left" }
    )
}

/// A bar of which a share is filled, in front of its number.
fn bar(share: f64) -> String {
    let percent = if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    format!(
        "<span style=\"display:inline-block;width:6em;height:.7em;margin-right:.5em;border-radius:2px;background:rgba(128,128,128,.22)\">\
         <span style=\"display:block;width:{percent:.1}%;height:100%;border-radius:2px;background:rgba(66,133,214,.85)\"></span></span>"
    )
}

/// The name, with its definition as a tooltip.
fn defined(name: &str, definition: &str) -> String {
    if definition.is_empty() {
        return escape(name);
    }
    format!(
        "<span title=\"{}\" style=\"border-bottom:1px dotted;cursor:help\">{}</span>",
        escape(definition),
        escape(name)
    )
}

/// Tooltips do not show on paper or on a touch screen: the same definitions in a list that opens.
fn definitions(table: &Table) -> String {
    let of_columns = table.columns.iter().map(|c| (c.name.as_str(), c.definition.as_str()));
    let of_rows =
        table.rows.iter().map(|r| (r.cells.first().map_or("", Cell::shown), r.definition.as_str()));
    let items: String = of_columns
        .chain(of_rows)
        .filter(|(_, definition)| !definition.is_empty())
        .map(|(name, definition)| {
            format!("<div><b>{}</b>: {}</div>", escape(name), escape(definition))
        })
        .collect();
    if items.is_empty() {
        return items;
    }
    format!(
        "<details style=\"font-size:.88em;max-width:60em;margin:.2em 0 .5em\"><summary style=\"{MUTED};cursor:pointer\">definitions\
         </summary><div style=\"padding:.3em 0 0 1em\">{items}</div></details>"
    )
}
