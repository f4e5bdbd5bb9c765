"""The report's page: its template, and the pieces of HTML that its sections are made of. All text is escaped here."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from latent.reporting.plots import COLOURS, DASHES
from latent.reporting.tables import TextTable

EMPTY = '<i class="quiet">(empty)</i>'

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1d1f23; --quiet: #666b73; --paper: #fdfdfc; --rule: #dddfe2 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e4e6; --quiet: #9da2aa; --paper: #16181b; --rule: #34383d }
  svg, .key { filter: brightness(1.25) }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 3rem 1.25rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0 0 .75rem; font-size: 2rem; line-height: 1.2; font-weight: 650; letter-spacing: -.015em }
h2 { margin: 3.25rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule); font-size: 1.25rem;
  font-weight: 650 }
h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 650 }
p { margin: 0 0 .75rem; max-width: 44rem }
ul { margin: 0; padding: 0; list-style: none }
li { margin: 0 0 .5rem }
.lead { font-size: 1.15rem }
.quiet, .same, figcaption { color: var(--quiet); font-size: .875rem }
.columns { display: grid; gap: 1.75rem 2.25rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)) }
.figures { display: grid; gap: 1.5rem 1.75rem; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)) }
.key { display: inline-block; width: 1.75rem; margin-right: .5rem; border-top: 3px; vertical-align: .25em }
.dot { display: inline-block; width: .6rem; height: .6rem; margin-right: .4rem; border-radius: 50% }
.keys > span { display: inline-block; margin-right: 1.5rem }
figure .keys > span { margin-right: 1rem; font-size: .8125rem }
.wide { max-width: 40rem }
.flag { padding: .4rem .75rem; border-left: 4px solid #d55e00 }
.verdict { margin: 0 0 .35rem; font-size: 1.5rem; line-height: 1.2; font-weight: 650 }
figure { display: flex; flex-direction: column; justify-content: space-between; margin: 0; break-inside: avoid }
svg { display: block; width: 100%; height: auto }
img { display: block; max-width: 100%; height: auto; margin-bottom: .5rem }
svg text { font-family: inherit !important }
.title { margin-bottom: .25rem }
.scroll { margin-bottom: 1.25rem; overflow-x: auto }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .35rem 1.5rem .35rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top;
  white-space: pre }
thead th { border-bottom: 2px solid var(--ink) }
tbody th { position: sticky; left: 0; background: var(--paper); font-weight: 400; color: var(--quiet) }
.judged tbody tr:first-child td { font-weight: 650 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; margin: 0 }
dt { font-weight: 650 }
dd { margin: 0 }
.sentence { display: block; font-family: Charter, "Bitstream Charter", Georgia, "Liberation Serif", serif;
  font-size: 1.0625rem; line-height: 1.4; text-align: start }
.pair { padding: 0 0 .1rem .75rem; border-left: 2px solid var(--rule) }
.pair .sentence:first-child { color: var(--quiet); font-size: 1rem }
.path li { display: grid; grid-template-columns: 2.5rem 1fr; align-items: baseline }
.path li > .quiet:first-child { font-variant-numeric: tabular-nums }
.repeat .sentence { color: var(--quiet) }
.same { margin: 0 .5rem; font-family: system-ui, sans-serif; white-space: nowrap }
@media (max-width: 40rem) {
  body { padding-top: 1.5rem }
  h2 { margin-top: 2.25rem }
  dl { display: block }
  dd { margin-bottom: .6rem }
  th, td { padding-right: 1rem }
  tbody th { min-width: 9rem; max-width: 9.5rem; white-space: pre-wrap; overflow-wrap: anywhere }
}
</style>
</head>
<body>
<header>
<h1 dir="auto">$title</h1>
<p class="lead">$lead</p>
</header>
$sections
</body>
</html>
""")


def page(title: str, lead: str, sections: Mapping[str, str]) -> str:
    """The whole page; `lead` and the sections' bodies are HTML, all else is text."""
    bodies = (f"<section>\n<h2>{escape(name)}</h2>\n{body}\n</section>" for name, body in sections.items())
    return PAGE.substitute(title=escape(title), lead=lead, sections="\n".join(bodies))


def name_of(text: str) -> str:
    """A name within a line, whose own direction of writing stays its own."""
    return f"<bdi>{escape(text)}</bdi>"


def key(number: int) -> str:
    """The line by which the curves of run `number` are known."""
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    return f'<span class="key" style="border-top-style: {dash}; border-top-color: {colour}"></span>'


def keys(names: Sequence[str]) -> str:
    """Every run's key."""
    spans = (f"<span>{key(number)}{name_of(name)}</span>" for number, name in enumerate(names))
    return f'<p class="keys">{"".join(spans)}</p>'


def dots(colours: Mapping[str, str]) -> str:
    """What the colours of a map's points stand for, by name."""
    spans = (
        f'<span><span class="dot" style="background: {colour}"></span>{name_of(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<p class="keys">{"".join(spans)}</p>'


def columns(names: Sequence[str], contents: Sequence[str]) -> str:
    """Runs side by side, or one under the other where the page is narrow; those without content are left out."""
    articles = [
        f"<article>\n<h3>{key(number)}{name_of(name)}</h3>\n{content}\n</article>"
        for number, (name, content) in enumerate(zip(names, contents, strict=True))
        if content
    ]
    return '<div class="columns">\n' + "\n".join(articles) + "\n</div>"


def table(content: TextTable, style: str = "") -> str:
    """A table that scrolls by itself where the page is narrow, its title above it."""
    heads = "".join(f'<th scope="col" dir="auto">{escape(head)}</th>' for head in content.heads)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in content.rows
    )
    return (
        f'<p class="quiet title" dir="auto">{escape(content.title)}</p>\n<div class="scroll {style}" tabindex="0">\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def sentence(text: str, is_same: bool = False) -> str:
    """A sentence in its own direction of writing, with a mark where it is the one before it."""
    mark = ' <span class="same">the same</span>' if is_same else ""
    return f'<span class="sentence" dir="auto">{escape(text) or EMPTY}{mark}</span>'


def picture(png: bytes, label: str) -> str:
    """A PNG within the page; `label` says what it shows."""
    return f'<img alt="{escape(label)}" src="data:image/png;base64,{b64encode(png).decode()}">'


def remark(text: str) -> str:
    """A quiet line."""
    return f'<p class="quiet" dir="auto">{escape(text)}</p>'


def items(contents: Sequence[str]) -> str:
    """A list of elements that are HTML already."""
    return "<ul>\n" + "\n".join(contents) + "\n</ul>" if contents else '<p class="quiet">None.</p>'


def figures(pictures: Sequence[str]) -> str:
    """Figures in a grid."""
    return '<div class="figures">\n' + "\n".join(pictures) + "\n</div>"
