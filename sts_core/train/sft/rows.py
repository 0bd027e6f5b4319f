"""Which rows train, and as which tokens: prompt and completion, the loss on the completion alone.

A set is split by `text.sides`: the queried half is never trained on. Of the kept half, in hash order, the last rows are
kept back for evaluation and the rest trains; a row that served as a demonstration may train too. The same question is
always on one side. A row is what the model's own template makes of one question and its answer, no system message
added, exactly one BOS; the completion begins with the answer and holds the mark that ends it. This is what TRL makes
of a prompt/completion row, but the head stays when a long question loses its beginning.

Of a mixture (`train.mixture`) every row trains: it was cut into sides when it was made.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.text.prompts import SIGNS_A_TOKEN, Prompter
from sts_core.text.sides import held_out, split
from sts_core.text.sources import Row, Rows, locate, read_rows
from sts_core.train.mixture.manifest import Mixture, folder_of, read_mixture
from sts_core.train.sft.spec import SetSpec, SftSpec

IGNORED = -100
"""The label of a token that is not learned."""


class TrainingRow(NamedTuple):
    """One row as the trainer takes it."""

    number: int
    """0-based record number in the file."""
    ids: list[int]
    labels: list[int]
    """The ids, with `IGNORED` for what is not learned."""

    @property
    def learned(self) -> int:
        """Tokens the loss is taken over."""
        return sum(label != IGNORED for label in self.labels)


class RowSet(NamedTuple):
    """A training set, ready to train on."""

    rows: list[TrainingRow]
    """In the seeded order."""
    evaluation: list[Row]
    """Of the kept half, never trained on, in hash order."""
    queried: int
    """Rows of the half that is never trained on."""
    dropped: dict[str, int]
    shortened: int
    """Rows that lost the beginning of their question."""
    records: int
    warnings: list[str]
    mixture: Mixture | None = None
    """What the rows are of, where they are a mixture's: then their numbers are lines of its file."""

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the rows."""
        return sum(len(row.ids) for row in self.rows)

    def public(self) -> dict[str, Any]:
        """For manifests: which rows of the file were used."""
        return {
            "train_rows": sorted(row.number for row in self.rows),
            "evaluation_rows": [row.number for row in self.evaluation],
            "dropped": self.dropped, "shortened": self.shortened, "records": self.records, "tokens": self.tokens,
            **({"mixture": {"sha256": self.mixture.sha256, "counts": self.mixture.counts}} if self.mixture else {}),
        }  # fmt: skip


class _Part(NamedTuple):
    """The rows of a training set, cut."""

    read: Rows
    training: list[Row]
    evaluation: list[Row]
    queried: int
    mixture: Mixture | None = None


def training_rows(spec: SftSpec, tokenizer: Any, context: int) -> RowSet:
    """The rows of a spec; all that can be wrong with the data is told here, before any weight is loaded."""
    read, training, evaluation, queried, mixture = _part(spec)
    limit = min(spec.max_tokens, context)
    encoder = Encoder(tokenizer, limit)
    dropped: Counter[str] = Counter(read.dropped)
    rows: list[TrainingRow] = []
    shortened = 0
    for row in training:
        made = encoder.encode(row, (row.answer or "") if mixture else answer_of(row, spec.target))
        if isinstance(made, str):
            dropped[made] += 1
        else:
            rows.append(made.row)
            shortened += made.shortened
    if not rows:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in dropped.items())
        raise UserError(f"No row can be trained on ({reasons})", "Check the rows and their columns.")
    random.Random(f"{spec.seed}/training rows").shuffle(rows)
    warnings = _warnings(spec, rows, training, dropped, shortened, limit)
    return RowSet(rows, evaluation, queried, dict(dropped), shortened, read.records, warnings, mixture)


def mixture_of(target: SetSpec) -> Mixture | None:
    """The mixture that a training set names, held against its manifest; None where it names rows of another kind."""
    folder = folder_of(target.data)
    if folder is None:
        return None
    mixture = read_mixture(folder)
    if target.columns:
        raise UserError("A mixture has no columns to map", "Leave target.columns out.")
    if target.answer not in ("answer", mixture.target_answer):
        raise UserError(
            f"target.answer is {target.answer!r}, but the mixture was made with {mixture.target_answer!r}",
            "Leave target.answer out, or make another mixture.",
        )
    return mixture


def training_sha256(target: SetSpec) -> str:
    """Of the file that is trained on."""
    mixture = mixture_of(target)
    return sha256_file(locate(target.data)) if mixture is None else mixture.sha256


def evaluated_target(target: SetSpec) -> SetSpec:
    """The set whose kept rows show what was learned: the target itself, or the one that a mixture was made for."""
    mixture = mixture_of(target)
    if mixture is None:
        return target
    return SetSpec(mixture.target.data, mixture.target.columns, mixture.target_answer)


def _part(spec: SftSpec) -> _Part:
    """What trains, and what is kept back: of a mixture all rows train, and none of them is evaluated."""
    mixture = mixture_of(spec.target)
    read = read_target(evaluated_target(spec.target))
    training, evaluation = held_out(read.rows, spec.evaluate.target_rows)
    queried = len(split(read.rows).queried)
    if mixture is None:
        if not training:
            raise _too_few(read)
        return _Part(read, training, evaluation, queried)
    rows = [Row(line, one.question, one.answer, one.answer) for line, one in enumerate(mixture.rows)]
    evaluation = [row for row in evaluation if row.question.strip() not in mixture.questions]
    return _Part(Rows(rows, {}, len(rows)), rows, evaluation, queried, mixture)


def read_target(target: SetSpec) -> Rows:
    """The set's usable rows, both halves; with `cot` asked for, a column of that name must be there."""
    need = ("question", "worked" if target.answer == "cot" else "answer")
    columns = dict(target.columns)
    if target.answer == "cot":
        columns.setdefault("cot", "cot")
    return read_rows(locate(target.data), columns, need)


def answer_of(row: Row, target: SetSpec) -> str:
    """What is learned of a row: its answer, or its worked answer where that was asked for."""
    return (row.worked if target.answer == "cot" else row.answer) or ""


class Encoded(NamedTuple):
    """A row and whether its question lost its beginning."""

    row: TrainingRow
    shortened: bool


class Encoder:
    """Makes tokens and labels of a question and its answer."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self._tokenizer = tokenizer
        self._prompter = Prompter(tokenizer)
        self._limit = limit
        self._end = self._prompter.skeleton(2).pieces[2]

    def encode(self, row: Row, answer: str) -> Encoded | str:
        """The row, or the reason why it cannot be trained on."""
        most = self._limit * SIGNS_A_TOKEN
        if len(answer) > most:
            return "answer longer than max_tokens"
        question = row.question[-most:]
        texts = [question, answer]
        try:
            if not all(self._prompter.is_plain(text) for text in texts):
                return "holds the template's special tokens, or is not valid Unicode"
        except UnicodeEncodeError:
            return "not valid Unicode"
        if not self._prompter.passes(texts):
            return "changed by the chat template"
        prompt = self._prompter.prompt(texts, pooled=2)
        ids, begin = list(prompt.ids), self._completion(prompt.text, answer, list(prompt.ids))
        if not self._end and self._tokenizer.eos_token_id not in (None, ids[-1]):
            ids.append(self._tokenizer.eos_token_id)  # a plain prompt has no mark of its own where an answer ends
        if begin >= len(ids):
            return "no token of its own"
        cut = max(0, len(ids) - self._limit)
        question_end = prompt.spans[0][1]
        if cut > max(0, question_end - prompt.head):
            return "answer longer than max_tokens"
        ids = [*ids[: prompt.head], *ids[prompt.head + cut :]]
        begin -= cut
        labels = [IGNORED] * begin + ids[begin:]
        return Encoded(TrainingRow(row.number, ids, labels), bool(cut) or len(question) < len(row.question))

    def _completion(self, text: str, answer: str, ids: list[int]) -> int:
        """Where the completion begins: after the tokens that the text up to the answer shares with the whole."""
        body = text[: len(text) - len(self._end)]
        answer = answer if body.endswith(answer) else answer.strip()  # some templates trim
        # A blank before the answer is the model's to write: a prompt that waits for an answer ends without one.
        asked = body[: len(body) - len(answer)].rstrip(" ")
        before = self._tokenizer(asked, add_special_tokens=False)["input_ids"]
        bos = self._tokenizer.bos_token_id
        if ids[:1] == [bos] and before[:1] != [bos]:
            before = [bos, *before]
        return next((i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before))


def _warnings(
    spec: SftSpec, rows: list[TrainingRow], training: list[Row], dropped: Counter[str], shortened: int, limit: int
) -> list[str]:
    told = []
    if shortened:
        why = "max_tokens" if limit == spec.max_tokens else "the model's context"
        told.append(f"{shortened:,} of {len(rows):,} rows lose the beginning of their question: {why} is {limit:,}.")
    if lost := sum(dropped.values()):
        whys = ", ".join(f"{why}: {n:,}" for why, n in dropped.items())
        told.append(f"{'1 row' if lost == 1 else f'{lost:,} rows'} cannot be used: {whys}.")
    alike = len(training) - len({row.question.strip() for row in training})
    if alike:
        told.append(f"{alike:,} training rows repeat the question of another.")
    if len(rows) < spec.batch:
        told.append(f"{len(rows):,} training rows are fewer than one batch of {spec.batch:,}.")
    return told


def _too_few(read: Rows) -> UserError:
    lost = ", ".join(f"{why}: {n}" for why, n in read.dropped.items())
    most = max(read.dropped, key=lambda why: read.dropped[why], default="")
    hint = "Add rows with questions of their own."
    if most and read.dropped[most] > read.records / 2:
        hint = "Mend those rows, or map the right columns: columns = { question = …, answer = … }."
    kept = ": half a set, or all that repeats one question, is kept for queries" if read.rows else ""
    usable = f"{len(read.rows):,} usable rows of {read.records:,}{f' ({lost})' if lost else ''}"
    return UserError(f"{usable} leave none to train on{kept}", hint)
