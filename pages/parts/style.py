"""The little that theme options do not reach: measure, a one-line bar, even figures. It holds no data."""

from __future__ import annotations

import streamlit as st

from sts_core.figures.theme import TOKENS, Mode

_CSS = """
<style>
[data-testid="stMainBlockContainer"] { max-width: 1440px; padding-inline: clamp(1rem, 3.2vw, 3.5rem); }
[data-testid="stMain"] { font-variant-numeric: tabular-nums; }
.st-key-context { padding-bottom: .35rem; border-bottom: 1px solid #8884; }
.st-key-chips { min-width: 0; overflow-x: auto; scrollbar-width: none; margin-left: -.4rem; }
.st-key-chips button { white-space: nowrap; padding: .1rem .4rem; min-height: 2rem; }
.st-key-chips button p { font-size: .87rem; }
.st-key-answer h1 { max-width: 62rem; padding-block: .75rem .25rem; line-height: 1.22; }
.st-key-checks p { font-size: .92rem; line-height: 1.4; }
.st-key-checks [data-testid="stMarkdownContainer"] { padding-left: 1.45rem; text-indent: -1.45rem; }
.st-key-checks p span { text-indent: 0; }
.st-key-jobline p { font-size: .8rem; white-space: nowrap; }
.st-key-preflight h2, .st-key-facts h2 { font-size: 1rem; padding: 0 0 .25rem; }
.st-key-feature h2 { padding: 0; }
[data-testid="stButtonGroup"] button[data-selected="true"] { color: inherit !important; }
.st-key-chips button:hover, .st-key-chips button:focus { color: inherit !important; }
[data-testid="stSliderThumbValue"], [data-testid="stSliderThumbValue"] p { color: inherit; }
@media (min-width: 641px) { .st-key-chips { flex-wrap: wrap; row-gap: 0; } }
@media (max-width: 640px) {
  .st-key-answer h1 { font-size: 1.45rem; }
  .st-key-chips { mask-image: linear-gradient(to right, #000 82%, transparent); padding-right: 3rem; }
}
</style>
"""


def apply_style() -> None:
    """Put the static rules on the page."""
    st.html(_CSS)


def icon() -> str:
    """The mark alone, for the browser's tab."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><g fill="#4E72DA"><rect x="1" y="2" width="22" '
        'height="5" rx="1"/><rect x="1" y="9.5" width="15" height="5" rx="1"/><rect x="1" y="17" width="9" height="5" '
        'rx="1"/></g></svg>'
    )


def mode() -> Mode:
    """The appearance the reader's browser shows, for figures, whose colours are set when they are made."""
    return "dark" if st.context.theme.type == "dark" else "light"


def wordmark() -> str:
    """The project's name with its mark, three bars with their errors, as an SVG in this appearance's ink."""
    tokens = TOKENS[mode()]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="152" height="24" viewBox="0 0 152 24">'
        f'<g fill="{tokens.accent}"><rect x="0" y="3" width="17" height="4" rx="1"/>'
        '<rect x="0" y="10" width="12" height="4" rx="1"/><rect x="0" y="17" width="7" height="4" rx="1"/></g>'
        f'<g stroke="{tokens.ink}" stroke-width="1.2"><path d="M14 5h6M9 12h6M4 19h6"/></g>'
        f'<text x="28" y="17.5" font-family="Inter, -apple-system, Segoe UI, Roboto, sans-serif" font-size="15" '
        f'font-weight="600" fill="{tokens.ink}">STS Explorer</text></svg>'
    )
