"""What features are called, by whom, and how well it holds: judges' labels in tables, a person's words beside them.

    cache()/labels/SAE-REVISION/MODEL-REVISION/JUDGE.parquet     one row a feature that this judge was asked about
    cache()/labels/SAE-REVISION/MODEL-REVISION/again/…           scores of the same labels on a fine-tuned model
    cache()/labels/SAE-REVISION/person.json                      labels, notes and stars a person gave

No judge ever writes the person's file, so what a person said stays. Every writer holds the SAE's lock and replaces a
file whole, so two of them lose nothing and a reader never meets half a file. Labels that ship with the program lie in
the same layout in the demo's folder and are only read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sts_core import folders
from sts_core.errors import UserError, nearest
from sts_core.results.label_text import MOST_LABEL, MOST_NOTE, plain

PERSON = "person"
"""The judge of a label that a person gave."""
AGAIN = "again"
MOST_FEATURES = 2**31 - 1
_REVISION = re.compile(r"[\w.+-]{1,128}", re.ASCII)
_SCHEMA = pa.schema(
    [
        ("feature", pa.int32()), ("label", pa.string()), ("explanation", pa.string()), ("judge", pa.string()),
        ("detection", pa.float64()), ("evidence", pa.string()), ("at", pa.string()), ("asked", pa.string()),
    ]
)  # fmt: skip
COLUMNS = tuple(_SCHEMA.names)


class Label(NamedTuple):
    """What one judge said of a feature."""

    feature: int
    label: str | None
    """One of the label set; None where the judge gave none (a tie, silence, an answer that is no label)."""
    explanation: str = ""
    judge: str = ""
    detection: float = math.nan
    """Balanced accuracy on held-out examples; NaN where it was not measured."""
    evidence: str = "{}"
    """JSON: what the label rests on."""
    at: str = ""
    asked: str = ""
    """A digest of the question: with another label set or other examples the judge is asked again."""


def write_labels(sae: str, model: str, judge: str, labels: Iterable[Label], again: bool = False) -> Path:
    """Add a judge's labels to its table; a feature that is there is replaced. Safe beside other writers.

    With `again` they are labels of another model whose score was measured anew on this one (`rescored_of`).
    """
    fresh = {label.feature: label._replace(judge=judge, at=label.at or now()) for label in labels}
    place = _table(sae, model, judge, again)
    with _alone(sae):
        folders.ensure(place.parent)
        kept = {label.feature: label for label in _read(place)} if place.exists() else {}
        rows = [label for _, label in sorted((kept | fresh).items())]
        columns = list(zip(*rows, strict=True)) or [() for _ in COLUMNS]
        table = pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        folders.atomic_write(place, sink.getvalue().to_pybytes())
    return place


def forget_labels(sae: str, judge: str) -> int:
    """Remove all that a judge said of the features here, an imported file's labels too; how many. What ships stays."""
    own = folders.cache() / "labels" / _named(sae)
    with _alone(sae):
        places = sorted(own.glob(f"*/{_file_name(judge)}.parquet"))
        if not places:
            judges = sorted({label.judge for path in own.glob("*/*.parquet") for label in _read(path)})
            hint = f"Here are those of: {', '.join(judges)[:400]}." if judges else "No judge's labels were made here."
            raise UserError(f"There are no labels of {judge[:80]!r} to forget{nearest(judge, judges)}", hint)
        count = sum(len(_read(path)) for path in places)
        for path in [*places, *own.glob(f"*/{AGAIN}/{_file_name(judge)}.parquet")]:
            path.unlink(missing_ok=True)
    return count


def read_labels(sae: str, model: str, judge: str) -> list[Label]:
    """A judge's labels, by feature, those made here over those that ship; none when it was never asked."""
    own = _table(sae, model, judge)
    found: dict[int, Label] = {}
    for root in _roots():
        place = root / own.relative_to(folders.cache() / "labels")
        found |= {label.feature: label for label in _read(place)} if place.exists() else {}
    return [label for _, label in sorted(found.items())]


def labels_of(sae: str, model: str | None = None, judge: str | None = None) -> pd.DataFrame:
    """One row a feature: `feature, label, explanation, judge, detection, human, note, starred, evidence, at`.

    A person's label wins over every judge's; among judges the newest that gave a label or an explanation, of those
    that read this `model` (any, when left out) and, if named, of this `judge` alone. `human` says that a person gave
    the label; explanation and score of a judge stay only under a label that is the judge's too.
    """
    frames = [_frame(path) for path in _tables(sae, model)]
    judged = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    if judge is not None:
        judged = judged[judged["judge"] == judge]
    said = judged["label"].notna() | (judged["explanation"].fillna("") != "")
    judged = judged.assign(said=said).sort_values(["said", "at"], kind="stable")
    judged = judged.drop_duplicates("feature", keep="last").drop(columns=["said", "asked"]).set_index("feature")
    return _with_person(judged, read_person(sae))


def rescored_of(sae: str) -> pd.DataFrame:
    """`model, feature, label, judge, detection, evidence, at`: how labels hold on fine-tuned models, by revision."""
    places = [p for root in _roots() for p in sorted((root / _named(sae)).glob(f"*/{AGAIN}/*.parquet"))]
    frames = [_frame(path).assign(model=path.parent.parent.name) for path in places]
    wanted = ["model", "feature", "label", "judge", "detection", "evidence", "at"]
    return pd.concat(frames, ignore_index=True)[wanted] if frames else pd.DataFrame(columns=wanted)


def label_of(sae: str, feature: int, model: str | None = None) -> dict[str, Any] | None:
    """The row of one feature in `labels_of`, or None."""
    frame = labels_of(sae, model)
    found = frame[frame["feature"] == feature]
    return None if found.empty else {str(key): value for key, value in found.iloc[0].items()}


def set_label(sae: str, feature: int, label: str | None) -> None:
    """A person's label for a feature; None or an empty one takes it back, and the judges' stands again."""
    words = plain(label or "", MOST_LABEL)
    _change(sae, "labels", feature, {"label": words, "at": now()} if words else None)


def set_note(sae: str, feature: int, note: str) -> None:
    """A person's note on a feature; an empty one removes it."""
    _change(sae, "notes", feature, plain(note, MOST_NOTE, lines=True) or None)


def set_star(sae: str, feature: int, starred: bool) -> None:
    """Mark a feature, or no longer."""
    _change(sae, "stars", feature, True if starred else None)


class Person(NamedTuple):
    """What a person said, by feature."""

    labels: dict[int, dict[str, str]]
    notes: dict[int, str]
    stars: dict[int, bool]

    def under(self, newer: Person) -> Person:
        """Both, the newer entry where there are two."""
        return Person(self.labels | newer.labels, self.notes | newer.notes, self.stars | newer.stars)


def read_person(sae: str) -> Person:
    """The person's own file, over what ships with the program."""
    found = Person({}, {}, {})
    for root in _roots():
        read = _read_person(root / _named(sae) / "person.json")
        found = found.under(read)
    return found


def write_person(sae: str, person: Person) -> None:
    """Add to what a person said. A label there is replaced by a later one alone, a note by none."""
    with _alone(sae) as folder:
        own = _read_person(folder / "person.json")
        later = {f: e for f, e in person.labels.items() if f not in own.labels or e["at"] > own.labels[f]["at"]}
        _save(folder, own.labels | later, person.notes | own.notes, person.stars | own.stars)


def now() -> str:
    """The time as tables keep it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _frame(path: Path) -> pd.DataFrame:
    frame: pd.DataFrame = _arrow(path).to_pandas()
    return frame


def _arrow(path: Path) -> pa.Table:
    """A label table as it lies there; refuse one that is damaged or no label table."""
    try:
        return pq.read_table(path).select(list(COLUMNS)).cast(_SCHEMA)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        why = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"The label table {path.name} cannot be read: {why}", "Delete it and label again.") from None


def checked_feature(feature: Any) -> int:
    """A feature's number; refuse what is none."""
    if type(feature) is not int or not 0 <= feature <= MOST_FEATURES:
        raise UserError(f"{str(feature)[:40]!r} is no feature's number", "Features are numbered from 0.")
    return feature


def _with_person(judged: pd.DataFrame, person: Person) -> pd.DataFrame:
    touched = sorted({*person.labels, *person.notes, *person.stars})
    everyone = judged.index.union(pd.Index(touched, dtype="int64"))
    frame = judged.reindex(everyone.sort_values())
    frame.index.name = "feature"
    own = pd.Series({f: entry["label"] for f, entry in person.labels.items()}, dtype=object).reindex(frame.index)
    human = own.notna()
    changed = human & (own != frame["label"])
    frame["label"] = own.where(human, frame["label"]).astype(object)
    frame["explanation"] = frame["explanation"].where(~changed, None).fillna("").astype(object)
    frame["detection"] = frame["detection"].astype(float).where(~changed)
    frame["judge"] = frame["judge"].where(~human, PERSON).fillna("").astype(object)
    frame["evidence"] = frame["evidence"].where(~changed, None).fillna("{}").astype(object)
    said_at = pd.Series({f: entry["at"] for f, entry in person.labels.items()}, dtype=object).reindex(frame.index)
    frame["at"] = said_at.where(human, frame["at"]).fillna("").astype(object)
    frame["label"] = frame["label"].astype(object).where(frame["label"].notna(), None)
    frame["human"] = human.astype(bool)
    frame["note"] = pd.Series(person.notes, dtype=object).reindex(frame.index).fillna("").astype(object)
    frame["starred"] = frame.index.isin(list(person.stars))
    wanted = ["label", "explanation", "judge", "detection", "human", "note", "starred", "evidence", "at"]
    return frame[wanted].reset_index().astype({"feature": "int64"})


def _change(sae: str, what: str, feature: int, value: Any) -> None:
    """Set, or with None remove, one entry of the person's file. Stars that ship are not taken back, only one's own."""
    number = checked_feature(feature)
    with _alone(sae) as folder:
        person = _read_person(folder / "person.json")
        entries: dict[int, Any] = getattr(person, what)
        if value is None:
            entries.pop(number, None)
        else:
            entries[number] = value
        _save(folder, *person)


def _save(folder: Path, labels: dict[int, Any], notes: dict[int, str], stars: dict[int, bool]) -> None:
    value = {"labels": _by_text(labels), "notes": _by_text(notes), "stars": sorted(stars)}
    folders.atomic_json(folder / "person.json", value)


def _read_person(path: Path) -> Person:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Person(
            {int(f): {"label": str(e["label"]), "at": str(e["at"])} for f, e in value["labels"].items()},
            {int(f): str(note) for f, note in value["notes"].items()},
            {int(f): True for f in value["stars"]},
        )
    except FileNotFoundError:
        return Person({}, {}, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"Your own labels in {path} cannot be read", "Mend the file, or move it away to begin anew."
        ) from None


def _by_text(entries: dict[int, Any]) -> dict[str, Any]:
    return {str(feature): entry for feature, entry in sorted(entries.items())}


def _read(path: Path) -> list[Label]:
    columns = _arrow(path).to_pydict()
    return [Label(*row) for row in zip(*(columns[name] for name in COLUMNS), strict=True)]


def _roots() -> list[Path]:
    """Where labels lie: what ships first, so that what was said here is the newer."""
    return [folders.DEMO / "labels", folders.cache() / "labels"]


def _tables(sae: str, model: str | None) -> Sequence[Path]:
    pattern = f"{_named(model) if model else '*'}/*.parquet"
    return [path for root in _roots() for path in sorted((root / _named(sae)).glob(pattern))]


def _table(sae: str, model: str, judge: str, again: bool = False) -> Path:
    folder = folders.cache() / "labels" / _named(sae) / _named(model)
    return (folder / AGAIN if again else folder) / f"{_file_name(judge)}.parquet"


def _file_name(judge: str) -> str:
    """A judge's name as a file's: what a path could mistake is spelled in hex, a long one ends in its digest."""
    name = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else f"~{ord(sign):x}" for sign in judge)
    return name if len(name) <= 100 else f"{name[:80]}~{hashlib.sha256(judge.encode()).hexdigest()[:16]}"


def _named(revision: str) -> str:
    if not _REVISION.fullmatch(revision) or set(revision) <= {"."}:
        raise UserError(f"{revision[:80]!r} is no revision of a model or a SAE", "Take it from the manifest.")
    return revision


@contextmanager
def _alone(sae: str) -> Iterator[Path]:
    """The SAE's folder, for one writer at a time; the next waits its turn. Falls with the process."""
    folder = folders.ensure(folders.cache() / "labels" / _named(sae))
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder
