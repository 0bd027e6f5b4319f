"""What the ledger's page knows: every prediction with its score, read in one go so that the page shows one moment."""

from __future__ import annotations

from typing import NamedTuple

from pages.parts.run_data import KIND, counts
from sts_core.figures.frame import short
from sts_core.figures.ledger import LONGEST_NAME, Row
from sts_core.figures.words import target_name
from sts_core.jobs.watch import running
from sts_core.results.ledger import Entry
from sts_core.results.ledger_overall import Overall, overall
from sts_core.store import keeper, ledger, reading
from sts_core.store.results import listing

KEY_LETTERS = 12
"""How much of a result's key stands in a link."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Due(NamedTuple):
    """What makes the page draw itself again."""

    filling: bool
    """The job folders are still being read in for the first time."""
    going: bool
    """A run is under way, by its folder or by what has been read in: its end is seen when its last word is read."""


class Ledger(NamedTuple):
    """All of it."""

    entries: list[Entry]
    """The newest first."""
    whole: Overall
    without: int
    """Runs that were evaluated without a prediction."""
    kept: frozenset[str]
    """Keys of the results that are still here."""

    @property
    def scored(self) -> list[Entry]:
        """Those with a score that counts: a mixture is not what was foretold."""
        return [entry for entry in self.entries if entry.found is not None and not entry.mixed]


def due() -> Due:
    """Whether a line may come or change by itself."""
    standing = keeper.keep()
    going = counts().active > 0 or running(KIND) is not None
    return Due(standing.owns and standing.taken is None, going)


def read() -> Ledger:
    """The ledger as it stands. A score that was found once is not computed again."""
    with reading.read() as view:
        entries = ledger.entries(view.connection)
        without = ledger.without_prediction(view.connection)
    return Ledger(entries, overall(entries), without, frozenset(stored.key for stored in listing()))


def rows(entries: list[Entry]) -> list[Row]:
    """The scored ones with the names they have in a figure: when they were written, and what was trained on.

    Where letters run out before the names differ, the hour tells them apart.
    """
    names = [f"{written_on(entry)} {target_name(entry.foretold.data)}" for entry in entries]
    if len({short(name, LONGEST_NAME) for name in names}) < len(names):
        hours = [entry.foretold.written for entry in entries]
        names = [
            f"{written_on(entry)}, {when:%H:%M}" if when else name
            for entry, when, name in zip(entries, hours, names, strict=True)
        ]
    return [Row(name, entry) for name, entry in zip(names, entries, strict=True)]


def written_on(entry: Entry) -> str:
    """`20 Nov`, in UTC; nothing where it was not told."""
    when = entry.foretold.written
    return "" if when is None else f"{when.day} {_MONTHS[when.month - 1]}"


def run_query(entry: Entry) -> dict[str, str]:
    """What a link to the run's page carries."""
    return {"run": entry.foretold.run}


def transfer_query(entry: Entry) -> dict[str, str]:
    """What a link to Transfer carries: this prediction's result, held against the evaluation that counts."""
    by = entry.evaluated.by if entry.evaluated else entry.foretold.run
    return {"result": entry.foretold.key[:KEY_LETTERS], "actual": f"run:{by}"}
