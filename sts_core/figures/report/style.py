"""The report's style: one sheet for a screen in light and dark, a phone and paper. It is the only style there is."""

from __future__ import annotations

import base64
import hashlib

from sts_core.figures.theme import FONT, HUES, TOKENS, Mode


def sheet() -> str:
    """The whole style, the colours being those of the pages."""
    return f"""
:root {{ color-scheme: light dark; {_colors("light")} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colors("dark")} }} }}
* {{ box-sizing: border-box; }}
html {{ font-family: {FONT}; font-size: 16px; line-height: 1.55; color: var(--ink); background: var(--paper);
  -webkit-text-size-adjust: 100%; font-variant-numeric: tabular-nums; }}
body {{ margin: 0; }}
main {{ max-width: 940px; margin: 0 auto; padding: 3rem 1.25rem 4rem; overflow-wrap: break-word; }}
header {{ border-bottom: 1px solid var(--line); padding-bottom: 1.5rem; margin-bottom: 1rem; }}
.eyebrow {{ color: var(--muted); font-size: .82rem; margin: 0 0 .9rem; display: flex; gap: .6rem;
  align-items: center; }}
.eyebrow svg {{ width: 22px; height: 22px; flex: none; }}
.eyebrow path {{ fill: var(--accent); }}
h1 {{ font-size: 2rem; line-height: 1.22; letter-spacing: -.012em; font-weight: 650; margin: 0 0 .8rem;
  max-width: 44rem;
  text-wrap: balance; }}
h2 {{ font-size: 1.3rem; line-height: 1.3; font-weight: 650; margin: 3rem 0 .6rem; letter-spacing: -.005em; }}
h3 {{ font-size: .98rem; line-height: 1.35; font-weight: 600; margin: 0 0 .7rem; }}
p {{ margin: 0 0 .8rem; max-width: 44rem; }}
.lead {{ font-size: 1.06rem; color: var(--muted); }}
ul {{ margin: 0 0 1rem; padding-left: 1.15rem; max-width: 46rem; }}
li {{ margin: 0 0 .4rem; }}
.badges {{ display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 0 1rem; padding: 0; list-style: none; }}
.badges li {{ font-size: .8rem; padding: .12rem .6rem; border-radius: 1rem; border: 1px solid var(--line);
  margin: 0; }}
.badges .good {{ border-color: var(--accent); color: var(--accent); }}
.badges .warn {{ border-color: var(--rise); color: var(--rise); }}
.meta {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem 1.4rem;
  margin: 1.2rem 0 0; }}
.meta div {{ min-width: 0; }}
.meta .long {{ grid-column: 1 / -1; }}
dt {{ color: var(--muted); font-size: .78rem; }}
dd {{ margin: 0; font-size: .92rem; }}
figure {{ margin: 1.4rem 0 1rem; }}
figcaption {{ color: var(--muted); font-size: .82rem; line-height: 1.45; margin-top: .5rem; }}
figcaption p {{ margin: 0 0 .15rem; max-width: none; }}
.pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.6rem; }}
.pair > * {{ min-width: 0; }}
svg {{ display: block; width: 100%; height: auto; font-family: inherit; font-size: 12.5px; }}
.wide svg {{ overflow: visible; }}
.narrow {{ display: none; }}
.scroll {{ overflow-x: auto; margin: 0 0 1.4rem; }}
.scroll:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 3px; }}
table {{ border-collapse: collapse; font-size: .86rem; width: 100%; }}
.cap {{ color: var(--muted); font-size: .82rem; line-height: 1.45; margin: 1.6rem 0 .3rem; max-width: none; }}
th, td {{ text-align: left; padding: .34rem .9rem .34rem 0; border-bottom: 1px solid var(--line);
  vertical-align: baseline; }}
td:not(.n) {{ overflow-wrap: anywhere; }}
th {{ font-weight: 500; }}
tbody th {{ white-space: nowrap; }}
thead th {{ color: var(--muted); font-size: .78rem; border-bottom-color: var(--muted); vertical-align: bottom; }}
td.n, th.n {{ text-align: right; white-space: nowrap; }}
tbody tr.first {{ background: var(--panel); }}
tbody tr.first th {{ font-weight: 650; }}
pre {{ background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto;
  font: .8rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: .6rem 0 1rem; }}
pre:focus-visible {{ outline: 2px solid var(--accent); }}
details {{ margin: .6rem 0; }}
summary {{ cursor: pointer; font-size: .92rem; }}
summary:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 3px; }}
footer {{ margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .82rem; }}
text {{ fill: var(--ink); }}
text.muted {{ fill: var(--muted); font-size: 11.5px; }}
text.small {{ font-size: 11.5px; }}
text.bold {{ font-weight: 650; font-size: 13px; }}
text.accent {{ fill: var(--accent); }}
text.quiet {{ fill: var(--muted); }}
text.halo {{ paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }}
.grid {{ stroke: var(--line); }}
.zero {{ stroke: var(--muted); }}
.whisker {{ stroke: var(--ink); stroke-width: 1.4; }}
.whisker.accent {{ stroke: var(--accent); }}
.error {{ stroke: var(--muted); }}
.band {{ fill: var(--accent); fill-opacity: .12; }}
.fit {{ stroke: var(--accent); stroke-width: 1.6; fill: none; }}
.ring {{ fill: none; stroke: var(--ink); stroke-width: 1.6; }}
.curve {{ fill: none; stroke-width: 2.2; stroke-linejoin: round; }}
.curve.accent {{ stroke: var(--accent); }}
.curve.quiet {{ stroke: var(--muted); stroke-width: 1.4; }}
.dashed {{ stroke-dasharray: 7 4; }}
.dotted {{ stroke-dasharray: 2 4; }}
.dot {{ stroke: var(--paper); stroke-width: 1.5; }}
.dot.accent {{ fill: var(--accent); }}
.dot.quiet {{ fill: var(--muted); }}
.bar {{ fill-opacity: .34; }}
.mark {{ stroke: var(--paper); stroke-width: 1.2; stroke-linejoin: round; }}
{"".join(f".hue{i} {{ fill: var(--hue{i}); }} " for i in range(len(HUES)))}
@media screen and (max-width: 860px) {{
  .pair {{ grid-template-columns: 1fr; }}
  .pair .wide {{ max-width: 600px; }}
}}
@media screen and (max-width: 700px) {{
  main {{ padding: 1.6rem 1rem 3rem; }}
  h1 {{ font-size: 1.45rem; }}
  h2 {{ margin-top: 2.3rem; }}
  .wide {{ display: none; }}
  .narrow {{ display: block; }}
}}
@media print {{
  :root {{ color-scheme: light; {_colors("light")} }}
  html {{ font-size: 12.5px; }}
  main {{ max-width: none; padding: 0; }}
  h2, h3, .cap {{ break-after: avoid; }}
  details::details-content {{ content-visibility: visible; block-size: auto; }}
  figure, tr, li, .badges, .meta {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
  pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
  table {{ font-size: .8rem; }}
  th, td {{ padding-right: .5rem; }}
}}
@page {{ margin: 16mm 15mm; }}
"""


def digest(style: str) -> str:
    """What the page's policy names this sheet by, so that no other style is taken."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def _colors(mode: Mode) -> str:
    tokens = TOKENS[mode]._asdict()
    hues = {f"hue{i}": pair[mode == "dark"] for i, pair in enumerate(HUES)}
    return " ".join(f"--{name}: {color};" for name, color in (tokens | hues).items())
