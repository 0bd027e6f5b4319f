"""A look into a file of questions: its columns, how many rows can be used, and the first of them as plain text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from pages.parts.choices import FILE_TYPES
from pages.parts.escape import plain
from pages.parts.messages import show_error, told
from pages.parts.uploads import MOST_MB
from sts_core.errors import UserError
from sts_core.figures.numbers import count, size
from sts_core.text.sources import read_records, read_rows

FIRST, LONGEST = 3, 400
"""Rows that are shown, and letters of one."""


class Look(NamedTuple):
    """What a file holds."""

    columns: list[str]
    records: int
    first: list[str]
    """The first rows as text."""
    usable: int
    error: UserError | None
    """Why no row of it can be used with these columns."""


def look_into(side: str, data: str, columns: dict[str, str], pool: str) -> None:
    """Draw it, folded and read only when opened; nothing where `data` is no file here."""
    file = _file(data)
    if file is None:
        return
    box = st.expander(
        f"Look into {plain(file.name)}",
        key=f"look_{side}",
        type="compact",
        icon=":material/table_rows:",
        on_change="rerun",
    )
    if box.open:
        with box, told():
            _draw(file, {name.removeprefix(f"{side}_"): column for name, column in columns.items() if column}, pool)


def _draw(file: Path, columns: dict[str, str], pool: str) -> None:
    stat = file.stat()
    if stat.st_size > MOST_MB * 1e6:
        st.caption(f"It has {size(stat.st_size)}: too large to look into here. It is read when it is checked.")
        return
    need = ("question", *(("answer",) if pool != "query" else ()), "worked")
    seen = _look(str(file), stat.st_mtime_ns, stat.st_size, tuple(sorted(columns.items())), need)
    st.caption(f"Columns: {', '.join(plain(name) for name in seen.columns)}")
    if seen.error:
        show_error(UserError(seen.error.message, "Name the right column above, or mend the file."))
    else:
        st.caption(f"{count(seen.usable)} of {count(seen.records)} rows can be used.")
    st.code("\n".join(seen.first), language=None, wrap_lines=True)


@st.cache_data(max_entries=16, show_spinner="Reading the file …")
def _look(file: str, changed: int, size: int, columns: tuple[tuple[str, str], ...], need: tuple[str, ...]) -> Look:
    """`changed` and `size` are there so that a file that was written anew is read anew."""
    records = read_records(Path(file))
    names = list(dict.fromkeys(str(name) for record in records[:1000] for name in record if name is not None))
    first = [_text(record) for record in records[:FIRST]]
    try:
        usable, error = len(read_rows(Path(file), dict(columns), need).rows), None
    except UserError as wrong:
        usable, error = 0, wrong
    return Look(names, len(records), first, usable, error)


def _text(record: dict[str, object]) -> str:
    text = json.dumps(record, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _file(data: str) -> Path | None:
    """The file behind a name; of a folder of domains the first one."""
    try:
        path = Path(data).expanduser()
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file())
            return next((p for p in files if p.suffix.lstrip(".").lower() in FILE_TYPES), None)
        return path if path.suffix.lstrip(".").lower() in FILE_TYPES and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no path at all: a NUL in it, a home folder of nobody
        return None
