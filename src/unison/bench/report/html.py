"""How does a report become one page that opens anywhere, sorts its tables and prints?"""

from html import escape

from unison.bench.report.document import Document, Section, Table
from unison.bench.report.markdown import numeric
from unison.bench.report.printable import printable
from unison.evaluate import page


def render(document: Document) -> str:
    """Return a report as a page that needs nothing but itself."""
    sections = [_section(i, section) for i, section in enumerate(document.sections, 1)]
    pairs = [(printable(name), printable(value)) for name, value in document.settings]
    sections.append(page.section("settings", "Settings", page.settings(pairs)))
    links = "".join(
        f'<li><a href="#part-{i}">{_text(section.heading)}</a></li>'
        for i, section in enumerate(document.sections, 1)
    )
    if len(document.sections) > 1:
        sections.insert(0, f'<nav aria-label="Contents"><ul>{links}</ul></nav>')
    return page.whole(
        printable(document.title),
        [printable(text) for text in document.summary],
        sections,
        style=_STYLE,
        script=_SCRIPT,
    )


def _section(number: int, section: Section) -> str:
    heading = printable(section.heading)
    pictures = "".join(
        page.picture(f.png, f.dark, printable(f.caption), printable(f.alt)) for f in section.figures
    )
    content = [
        *page.paragraphs([printable(text) for text in section.paragraphs]),
        *(_table(f"{heading}, table {i}", table) for i, table in enumerate(section.tables, 1)),
        f'<div class="figures">{pictures}</div>' if pictures else "",
    ]
    return page.section(f"part-{number}", heading, "".join(content) or "<p>Nothing.</p>")


def _table(label: str, table: Table) -> str:
    """Return a table in a box of its own that scrolls where it is wider than the page."""
    right = [' class="number"' if each else "" for each in numeric(table)]
    head = "".join(
        f'<th scope="col"{kind}>{_text(name)}</th>'
        for name, kind in zip(table.columns, right, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, right, strict=True))
        + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">'
        f'<table class="data"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{note}"
    )


def _text(text: str) -> str:
    return escape(printable(text))


_STYLE = """
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;list-style:none;font-size:.875rem}
a{color:var(--accent)}
.wide{overflow-x:auto;margin:1.25rem 0 .5rem;width:fit-content;
  max-width:calc(100% + max(0px,(100vw - 72rem)/2))}
.wide+.note{margin-top:0}
.data td{white-space:pre-wrap;overflow-wrap:break-word;max-width:24rem}
.data thead th{border-bottom:1px solid var(--ink);vertical-align:bottom}
.data .number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.data tbody tr:hover{background:var(--glow)}
.data button{font:inherit;color:inherit;text-align:inherit;background:none;border:0;padding:0;
  cursor:pointer;position:relative}
.data button:hover{color:var(--ink)}
.data button::after{content:"\\2195";position:absolute;left:100%;opacity:0}
.data button:hover::after{opacity:.6}
.data [aria-sort=ascending] button::after{content:"\\2191";opacity:1}
.data [aria-sort=descending] button::after{content:"\\2193";opacity:1}
.figures{margin-top:1.5rem}
@media print{
  @page{size:landscape}
  body{max-width:none;padding:0;font-size:.8rem}
  nav{display:none}
  .wide{overflow:visible}
  .data,.note,figcaption{font-size:.65rem}
  .data td{min-width:0}
  .data .number{white-space:normal}
  .data button::after{content:""}
  thead{display:table-header-group}
  tr,figure{break-inside:avoid}
  h2,h3{break-after:avoid}
}
"""

_SCRIPT = """
"use strict";
const leading = /^[-+\\u2212]?\\d[\\d.,]*(e[-+]?\\d+)?/;
const value = (row, column) => {
  const text = row.cells[column].textContent.trim();
  const found = leading.exec(text);
  if (text === "" || text === "\\u2014") return null;
  return found ? Number(found[0].replace("\\u2212", "-").replaceAll(",", "")) : text;
};
const compare = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
};
for (const table of document.querySelectorAll(".data")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => [value(row, column), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return down ? compare(b, a) : compare(a, b);
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
"""
