"""The look of every report.html: one self-contained page, no scripts, no network, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from gnomon import __version__, atomic

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --bad: #c0392b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.lead { opacity: .75; margin: 0 0 1.5rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
.facts th { width: 13rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; }
img { max-width: 100%; border-radius: 6px; border: 1px solid var(--line); }
code { background: var(--soft); padding: .1em .35em; border-radius: 4px; }
.bad { color: var(--bad); } .note { border-left: 3px solid var(--line); padding-left: .8rem; }
footer { margin-top: 3rem; opacity: .6; font-size: .85rem; }
"""


def write_page(path: Path, title: str, lead: str, sections: Iterable[str]) -> None:
    """Write a whole page; `sections` are HTML made by the functions below."""
    body = "\n".join(sections)
    atomic.write_text(
        path,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>
{body}
<footer>gnomon {__version__}; all facts of this page are in <code>result.json</code> beside it.</footer>
</body></html>
""",
    )


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text cells, escaped here."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in pairs)
    return f'<table class="facts">{rows}</table>'


def picture(source: str, alt: str) -> str:
    """A picture that lies beside the page; `source` is its name relative to it."""
    from urllib.parse import quote

    return f'<p><img src="{escape(quote(source))}" alt="{escape(alt)}"></p>'


def note(text: str, *, bad: bool = False) -> str:
    kind = "note bad" if bad else "note"
    return f'<p class="{kind}">{escape(text)}</p>'
