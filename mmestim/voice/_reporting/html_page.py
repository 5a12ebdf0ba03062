"""The frame of a report: a page that needs nothing from elsewhere, on a screen, on paper, by keyboard."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from .printable import printable

_STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --quiet: #555; --line: #bbb; --mark: #0055a4; --found: #9c2a00; }
* { box-sizing: border-box; }
body { color: var(--ink); background: #fff; font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem;
  padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
caption { text-align: left; color: var(--quiet); padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd;
  overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
.found { color: var(--found); font-weight: 600; }
.quiet { color: var(--quiet); }
a, button { color: #0046a0; } :focus-visible { outline: 3px solid #0046a0; outline-offset: 2px; }
button { font: inherit; background: #fff; border: 1px solid currentColor; border-radius: .25rem; cursor: pointer; }
figure { margin: 1rem 0; }
.picture { position: relative; overflow: hidden; border: 1px solid var(--line); min-height: 9rem; }
.picture img { display: block; position: absolute; width: 100%; height: 100%; }
.mark { position: absolute; min-width: 3px; border: 2px solid var(--mark); background: #0055a426; overflow: visible; }
.mark span { position: absolute; left: 0; top: 0; background: #fff; color: var(--mark); border: 1px solid var(--mark);
  font-size: .75rem; line-height: 1; padding: 1px 3px; white-space: nowrap; }
.mark.late span { left: auto; right: 0; }
.times { display: flex; justify-content: space-between; font-size: .8rem; color: var(--quiet); }
audio { display: block; width: 100%; margin: .25rem 0; }
.bar { display: inline-block; width: 6rem; height: .7rem; border: 1px solid var(--quiet); margin-right: .5rem;
  vertical-align: middle; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.bar i { display: block; height: 100%; background: var(--mark); }
@media print {
  body { max-width: none; font-size: 10pt; }
  section { break-inside: auto; } figure, tr { break-inside: avoid; }
  audio, button { display: none; } a { color: inherit; text-decoration: none; }
  .picture, .mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

# Places and pictures play from where they are clicked; without it the players do all the same.
_SCRIPT = """
const play = (section, time) => {
  for (const player of section.querySelectorAll('audio')) {
    const start = Number(player.dataset.start), end = Number(player.dataset.end);
    if (time < start || time > end) continue;
    player.currentTime = Math.max(0, time - start);
    player.play();
    return;
  }
};
for (const place of document.querySelectorAll('[data-time]')) {
  const section = place.closest('section'), time = Number(place.dataset.time);
  const inside = [...section.querySelectorAll('audio')].some(
    player => time >= Number(player.dataset.start) && time <= Number(player.dataset.end));
  if (!inside) continue;
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = '\\u25b6 ' + place.textContent;
  button.setAttribute('aria-label', 'Play ' + place.textContent);
  button.addEventListener('click', () => play(section, Math.max(0, time - 1)));
  place.replaceWith(button);
}
for (const picture of document.querySelectorAll('.picture')) {
  picture.addEventListener('click', event => {
    const box = picture.getBoundingClientRect();
    play(picture.closest('section'), (event.clientX - box.left) / box.width * Number(picture.dataset.duration));
  });
}
"""


def page(title: str, body: Iterable[str]) -> Iterator[bytes]:
    """The page, in pieces; `body` is HTML already."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    # Whatever a name may smuggle in, nothing is fetched and no other script is run.
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    head = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{text(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
    )
    yield head.encode()
    for part in body:
        yield f"{part}\n".encode()
    yield f"</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n".encode()


def text(content: object) -> str:
    """Any text as HTML, also of attributes."""
    return escape(printable(str(content)))


def name(content: str) -> str:
    """The name of a file as HTML: letters that run from right to left do not turn what is around them."""
    return f'<bdi dir="auto">{text(content)}</bdi>'


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are HTML already, and those of columns that begin with # are numbers."""
    kinds = [' class="number"' if column.startswith("#") else "" for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{text(column.lstrip("#"))}</th>' for column, kind in zip(columns, kinds, strict=True)
    )
    lines = (
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{text(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table>"
    )


def facts(entries: Iterable[tuple[str, str]]) -> str:
    """Terms and what is to be said of them, as HTML."""
    return "<dl>" + "".join(f"<dt>{text(term)}</dt><dd>{text(said)}</dd>" for term, said in entries) + "</dl>"
