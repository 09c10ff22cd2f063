"""The frame of a report's page: its style, and the parts around its sections."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from acl_runtime.text.names import printable

# A page under this policy can load nothing and run nothing, whatever text gets into it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --paper: #fff; --ink: #1b2230; --pale: #5b6574;
  --line: #e1e5eb; --ok: #17693f; --ok-paper: #e4f3ea; --ng: #a3211a; --ng-paper: #fbe7e5; --accent: #2f5d8c;
  --track: #e6e9ee; }
@media (prefers-color-scheme: dark) { :root { --page: #11141a; --paper: #191e26; --ink: #e7eaf0;
  --pale: #9aa4b4; --line: #2b323d; --ok: #6fd69d; --ok-paper: #16301f; --ng: #ff9d92; --ng-paper: #3a1a18;
  --accent: #8db8e8; --track: #2a313c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1160px; margin: 0 auto; padding: 48px 24px 64px; }
h1 { font-size: 2.1rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 12px; font-weight: 650; }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 56px 0 6px; font-weight: 650; }
h3 { font-size: 1rem; margin: 0; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 46rem; }
.lead { font-size: 1.1rem; color: var(--pale); }
.pale { color: var(--pale); }
.number span { display: block; } .number, td, dd { font-variant-numeric: tabular-nums; }
dl.facts { display: flex; flex-wrap: wrap; gap: 1px; margin: 28px 0 0; background: var(--line);
  border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
dl.facts div { flex: 1 1 190px; background: var(--paper); padding: 12px 16px; }
dl.facts dt { font-size: .78rem; color: var(--pale); }
dl.facts dd { margin: 0; font-weight: 550; overflow-wrap: break-word; }
.scale { max-width: 420px; margin: 18px 0 20px; }
.scale img { height: 12px; border-radius: 6px; object-fit: fill; }
.scale figcaption { display: flex; justify-content: space-between; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 14px; padding: 16px;
  margin-bottom: 16px; break-inside: avoid; }
.card > h3 { margin-bottom: 10px; }
.views { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)) 150px; gap: 14px; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; max-height: 420px; object-fit: contain;
  border-radius: 8px; background: var(--track); }
figcaption { font-size: .8rem; color: var(--pale); margin-top: 6px; line-height: 1.35; }
.verdict { display: flex; flex-direction: column; gap: 8px; font-size: .88rem; }
.badge { font-size: 1.35rem; font-weight: 700; line-height: 1; padding: 10px 14px; border-radius: 9px;
  text-align: center; letter-spacing: .04em; }
.badge.ok { color: var(--ok); background: var(--ok-paper); }
.badge.ng { color: var(--ng); background: var(--ng-paper); }
.right, .wrong, .unknown { font-weight: 600; }
.right { color: var(--ok); } .wrong { color: var(--ng); } .unknown { color: var(--pale); font-weight: 400; }
.meter { display: block; width: 100%; height: 16px; }
.meter .track { fill: var(--track); } .meter .level { fill: var(--accent); }
.meter line { stroke: var(--ink); stroke-width: 2; }
.wide { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 14px;
  margin-top: 16px; padding: 4px 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: 9px 16px; text-align: right; white-space: nowrap; }
th { font-weight: 550; color: var(--pale); font-size: .82rem; }
th:first-child, td:first-child, .name { text-align: left; }
tbody tr { border-top: 1px solid var(--line); }
tr.mean td, tfoot td { font-weight: 650; } tfoot tr { border-top: 1px solid var(--line); }
.notes { padding-left: 1.2em; max-width: 46rem; } .notes li { margin-bottom: 6px; }
footer { margin-top: 56px; padding-top: 16px; border-top: 1px solid var(--line); font-size: .82rem;
  color: var(--pale); }
@media screen and (max-width: 760px) { main { padding: 28px 16px 48px; } h1 { font-size: 1.6rem; }
  .views { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
  .verdict { grid-column: 1 / -1; grid-row: 1; flex-flow: row wrap; align-items: center; gap: 8px 14px; }
  .number { display: flex; gap: 14px; } th, td { padding: 8px 12px; }
  th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); } }
@media print { body { background: #fff; font-size: 11px; } main { max-width: none; padding: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } h2 { margin-top: 24px; }
  h2 { break-inside: avoid; break-after: avoid; }
  .views { grid-template-columns: repeat(4, minmax(0, 1fr)) 100px; }
  .card { margin-bottom: 10px; padding: 10px; } th, td { padding: 4px 6px; white-space: normal; } }
"""


def to_html(text: str) -> str:
    """Text, whatever it holds, so that a page shows it and takes none of it for HTML."""
    return escape(printable(text))


def page(title: str, body: str, *, style: str = "") -> str:
    """A whole page around sections that are HTML already; `title` is text, `style` is added to the style."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{to_html(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<main>
{body}
<footer>This page is one file: it runs no script and loads nothing from elsewhere.</footer>
</main>
</body>
</html>
"""


def section(heading: str, *parts: str, name: str = "", up: str = "") -> str:
    """Parts that are HTML already, under a heading that is text.

    Links lead to `#name`; beside the heading is one to the section called `up`, if that is given.
    """
    opening = f'<section id="{name}">' if name else "<section>"
    link = f'<a class="up" href="#{up}">&uarr; summary</a>' if up else ""
    return "\n".join((opening, f"<h2>{to_html(heading)}{link}</h2>", *parts, "</section>"))


def facts_list(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values, text, as a row of boxes; nothing for none."""
    if not facts:
        return ""
    items = "".join(f"<div><dt>{to_html(name)}</dt><dd>{to_html(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>'


def notes_list(notes: Sequence[str]) -> str:
    """Sentences, text, as a list."""
    items = "".join(f"<li>{to_html(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>'
