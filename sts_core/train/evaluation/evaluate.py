"""Our own batched scorer: answer log-likelihood and multiple-choice accuracy, row by row (METHOD 6).

Everything is teacher-forced after the chat prompt, zero-shot unless the set brings demonstrations. Of a row:

* `nll`: −1/T Σ ln p(tₖ | prompt, t₁…tₖ₋₁) over the T tokens of the gold answer, in nats a token. The gold answer is the
  letter where there are options, else the answer itself; what ends the turn is not part of it.
* `nll_choice`: −ln of the gold letter's share of what the letters hold together: whether the model knows which, not
  whether it answers with a letter at all. Even odds of four letters give ln 4.
* `nll_text`: as `nll`, of the gold option in words, where there are options.
* `accuracy`: 1 where no option's letter is likelier than the gold one, else 0; a tie of k letters gives 1/k. Letters of
  several tokens are compared by the sum of their log-likelihoods.
* `first_choice`: the share of the gold answer's tokens that are the likeliest of the whole vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sts_core.nets.describe import find_model
from sts_core.nets.device import choose_device, choose_dtype, steady_memory
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.outcomes.rows import BEFORE, RowValue, Score, scores, write_rows
from sts_core.train.evaluation.models import load_language_model
from sts_core.train.evaluation.pieces import Asked
from sts_core.train.evaluation.preparing import Prepared, prepare
from sts_core.train.evaluation.scoring import Scored, Scorer
from sts_core.train.evaluation.sets import EvalSet
from sts_core.train.evaluation.spec import DEFAULT_METRICS


def evaluate(
    model_place: str,
    sets: Sequence[EvalSet],
    out: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    watch: Watcher = silent,
    *,
    phase: str = BEFORE,
    metrics: Sequence[str] = DEFAULT_METRICS,
    remember: bool = False,
) -> list[Score]:
    """Score a saved model: an embedded name, a folder, an adapter's folder or a hub id.

    With `out`, the values of every row go to `out/rows.parquet` under this phase. With `remember` they are kept, and a
    set that the same model was scored on before is not scored again.
    """
    from sts_core.train.evaluation.remembered import score_or_recall

    info = find_model(model_place)
    prepared = prepare(sets, load_tokenizer(info), info.context, metrics)
    device = choose_device(device)
    how = (device, choose_dtype(dtype, device))

    def load() -> Any:
        model = load_language_model(info, *how)
        steady_memory()
        return model

    if remember:
        return _finish(score_or_recall(load, info, how, prepared, metrics, watch, phase), out, phase)
    return _finish(score_rows(load(), prepared, metrics, watch, phase), out, phase)


def evaluate_live(
    model: Any,
    tokenizer: Any,
    sets: Sequence[EvalSet],
    out: Path | None = None,
    watch: Watcher = silent,
    *,
    phase: str = BEFORE,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> list[Score]:
    """Score a model that is in memory, where it is and as it is; neither its mode nor any random state is changed."""
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 2**31))
    prepared = prepare(sets, tokenizer, context, metrics)
    return _finish(score_rows(model, prepared, metrics, watch, phase), out, phase)


def score_rows(
    model: Any, prepared: Prepared, metrics: Sequence[str], watch: Watcher = silent, phase: str = BEFORE
) -> list[RowValue]:
    """The metrics of every row, set after set."""
    done = 0
    found: list[RowValue] = []
    scorer = Scorer(model)
    with _resting(model):
        for name, asked in prepared.asked.items():

            def ran(tokens: int, stage: str = f"evaluating {name} {phase}") -> None:
                nonlocal done
                done += tokens
                watch(Progress(stage, done, prepared.tokens))

            found += _score_set(scorer, name, asked, metrics, ran)
    return found


def _score_set(
    scorer: Scorer, name: str, asked: list[Asked], metrics: Sequence[str], ran: Callable[[int], None]
) -> list[RowValue]:
    scored = iter(scorer.score([piece for one in asked for piece in one.pieces], ran))
    found = []
    for one in asked:
        values = _values(one, [next(scored) for _ in one.pieces])
        found += [RowValue(name, one.question.row, m, values[m]) for m in metrics if m in values]
    return found


def _values(one: Asked, scored: list[Scored]) -> dict[str, float]:
    """The metrics of a row that it has."""
    if not one.question.options:
        own = scored[0]
        gold = list(one.pieces[0].ids[one.pieces[0].start :])
        return {"nll": _nll(own), "first_choice": _share_equal(own.first_choice, gold)}
    right = one.question.letters.index(one.question.gold)
    if one.letters_at is not None:
        read, tokens = scored[one.letters_at], one.pieces[one.letters_at].also
        likelihoods, nll = read.also, -read.also[right]
        first = float(read.first_choice[0] == tokens[right])
    else:
        likelihoods = [sum(entry.logps) for entry in scored[: len(one.question.letters)]]
        piece = one.pieces[right]
        nll = _nll(scored[right])
        first = _share_equal(scored[right].first_choice, list(piece.ids[piece.start :]))
    values = {"nll": nll, "accuracy": _best(likelihoods, right), "first_choice": first}
    values["nll_choice"] = _log_sum(likelihoods) - likelihoods[right]
    if one.text_at is not None:
        values["nll_text"] = _nll(scored[one.text_at])
    return values


def _nll(scored: Scored) -> float:
    return -sum(scored.logps) / len(scored.logps)


def _share_equal(chosen: list[int], gold: list[int]) -> float:
    return sum(a == b for a, b in zip(chosen, gold, strict=True)) / len(gold)


def _log_sum(logs: Sequence[float]) -> float:
    """ln Σ exp, the largest taken out first."""
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs))


def _best(likelihoods: list[float], right: int) -> float:
    most = max(likelihoods)
    return 1 / likelihoods.count(most) if likelihoods[right] == most else 0.0


def _finish(rows: list[RowValue], out: Path | None, phase: str) -> list[Score]:
    if out is not None:
        write_rows(out, phase, rows)
    return scores(rows)


@contextmanager
def _resting(model: Any) -> Iterator[None]:
    """The model does not train meanwhile: every part is set back to the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
