"""What is every page made of? One HTML file that needs only itself, and lets nothing else in.

Style, script and pictures lie inside the file and its content policy forbids everything else, so it
opens offline and text that looks like markup stays text: every string that is not ours is escaped,
and only our script may run.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from unison.evaluate.theme import DARK, LIGHT, Theme


def whole(
    title: str,
    summary: Sequence[str],
    sections: Sequence[str],
    *,
    style: str = "",
    script: str = "",
) -> str:
    """Return a page.

    Args:
        title: Plain text.
        summary: Paragraphs of plain text under the title.
        sections: Markup, as :func:`section` makes it.
        style: Rules beside those that every page has.
        script: Run once the page is there; the page must be readable without it.
    """
    style = (
        _variables(LIGHT)
        + f"@media(prefers-color-scheme:dark){{{_variables(DARK)}}}"
        + (_STYLE + style)
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    title = escape(title)
    body = [
        f"<header><h1>{title}</h1>",
        *paragraphs(summary),
        "</header><main>",
        *sections,
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def section(name: str, title: str, content: str) -> str:
    """Return a part of a page under its heading; nothing where there is no content.

    Args:
        name: Unique on the page, of letters, digits and hyphens.
        title: Plain text.
        content: Markup.
    """
    if not content:
        return ""
    heading = f'<h2 id="{name}">{escape(title)}</h2>'
    return f'<section aria-labelledby="{name}">{heading}{content}</section>'


def paragraphs(texts: Sequence[str]) -> list[str]:
    """Return plain texts as paragraphs."""
    return [f"<p>{escape(text)}</p>" for text in texts]


def picture(png: bytes, dark: bytes | None, caption: str, alt: str) -> str:
    """Return a figure with its caption, and another picture for dark paper if there is one."""
    source = dark and (f'<source media="(prefers-color-scheme: dark)" srcset="{_data_url(dark)}">')
    image = f'<img src="{_data_url(png)}" alt="{escape(alt)}">'
    words = f"<figcaption>{escape(caption)}</figcaption>"
    return f"<figure><picture>{source or ''}{image}</picture>{words}</figure>"


def settings(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a table of two columns."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in pairs
    )
    return f'<table class="settings">{rows}</table>' if rows else ""


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _variables(theme: Theme) -> str:
    """Return the page's colours: those of the figures, so that figures have no visible edge."""
    return (
        f":root{{--paper:{theme.paper};--ink:{theme.ink};--faint:{theme.faint};"
        f"--muted:{theme.muted};--accent:{theme.palette[0]};--glow:{theme.glow}}}"
    )


_STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:2rem 1.25rem 4rem;background:var(--paper);
  color:var(--ink);font:1rem/1.55 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.15;margin:0 0 .75rem;letter-spacing:-.015em}
h2{font-size:1.25rem;margin:3rem 0 1rem;padding-bottom:.35rem;border-bottom:1px solid var(--faint)}
h3{font-size:1.1rem;margin:2rem 0 .5rem}
h4{font-size:.95rem;margin:0 0 .5rem}
header p,section>p,figcaption{max-width:42rem}
.note,figcaption,small{color:var(--muted)}
.note,figcaption{font-size:.875rem}
.figures{display:grid;gap:2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr))}
figure{margin:0}
img{max-width:40rem;width:100%;height:auto;display:block}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
table{border-collapse:collapse;font-size:.875rem}
th,td{text-align:left;vertical-align:top;padding:.35rem 1rem .35rem 0;
  border-bottom:1px solid var(--faint)}
th{font-weight:400;color:var(--muted)}
.settings{width:100%;max-width:42rem}
.settings :is(th,td){overflow-wrap:anywhere}
.settings th{width:35%}
"""
