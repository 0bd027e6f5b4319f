"""The report: a result and what became of it, as one page to send to a colleague.

The page stands alone: one HTML file of text, tables and inline SVG, without a script, a font or an address that a
reader's machine would ask for; the same result gives the same bytes. `gathering` reads, `drawing` and `curves` draw,
`telling` says, `page` puts them together.
"""
