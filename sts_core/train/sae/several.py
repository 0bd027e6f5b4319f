"""One pass over the text that trains every SAE of a spec, and goes on where it was killed.

Each SAE is stepped by its own trainer, as SAELens' coordinator of several SAEs does, so that we can watch, stop, keep
the state and refuse a loss that is not finite. The SAEs of one layer see the same batches; one that has its tokens
stops, and a layer whose SAEs have all stopped is not read any more.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sts_core.progress import Progress, Watcher
from sts_core.train.sae.checkpoint import Checkpoint
from sts_core.train.sae.stream import Scale, Stream
from sts_core.train.sae.trainee import Trainee

CHECKPOINT_SECONDS = 120.0
"""Time of training between two checkpoints."""
_BUFFER = 1 << 16
"""Tokens in a layer's shuffling buffer; half of them are renewed at a time."""


class Pass:
    """The trainees, the stream that feeds them, and the checkpoint of both."""

    def __init__(self, trainees: list[Trainee], stream: Stream, checkpoint: Checkpoint, watch: Watcher) -> None:
        self.trainees = trainees
        self.stream = stream
        self.seconds = 0.0
        """Time spent on training, also before a kill."""
        self.begun = 1
        """How often it was begun or gone on with."""
        self._checkpoint = checkpoint
        self._watch = watch
        self._longest = max(trainees, key=lambda one: one.spec.tokens)

    @property
    def done(self) -> int:
        """Tokens that the longest training has seen."""
        return self._longest.spec.tokens - self._longest.left

    def begin(self, scales: dict[int, Scale]) -> None:
        """Start every SAE from a first look at the residuals of its layer."""
        for trainee in self.trainees:
            trainee.start(scales[trainee.spec.layer])

    def go_on(self, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Stand where the checkpoint was taken."""
        for trainee in self.trainees:
            trainee.restore(tensors, state["saes"][trainee.name])
        stream = self.stream
        stream.go_on(state["groups"])
        stream.tokens = list(state["tokens"])
        stream.dropped = {int(layer): count for layer, count in state["dropped"].items()}
        stream.limits = {int(layer): limit for layer, limit in state["limits"].items()}
        self.seconds, self.begun = state["seconds"], state["begun"] + 1
        torch.set_rng_state(tensors["random"])

    def run(self, total: int) -> None:
        """Train until every SAE has its tokens; `total` is the whole work that progress is told of."""
        if all(trainee.left <= 0 for trainee in self.trainees):
            return
        with _asked_to_stop() as asked:
            self._steps(asked, total)
            self._save()

    def _steps(self, asked: list[int], total: int) -> None:
        data = self._data(asked)
        saved = now = time.monotonic()
        while data:
            for layer, batches in list(data.items()):
                self._step(layer, next(batches).float())
                if all(one.left <= 0 for one in self._of(layer)):
                    self.stream.forget(layer)
                    del data[layer]
            self.seconds += time.monotonic() - now
            now = time.monotonic()
            self._watch(Progress("training the SAE", self.done, total))
            if asked or (data and now - saved >= CHECKPOINT_SECONDS):
                self._save()
                saved = time.monotonic()
            if asked:
                raise KeyboardInterrupt

    def _step(self, layer: int, batch: Tensor) -> None:
        for trainee in self._of(layer):
            if trainee.left > 0:
                trainee.step(batch)
                if trainee.left <= 0:
                    trainee.read = {"tokens": list(self.stream.tokens), "left_out": self.stream.dropped[layer]}

    def _of(self, layer: int) -> list[Trainee]:
        return [trainee for trainee in self.trainees if trainee.spec.layer == layer]

    def _data(self, asked: list[int]) -> dict[int, Iterator[Tensor]]:
        """By layer its shuffled batches, the largest buffer first: while it fills, the others fill too."""
        from sae_lens.training.mixing_buffer import mixing_buffer

        sizes: dict[int, int] = {}
        for one in self.trainees:
            if one.left > 0:
                size = max(one.spec.batch, min(_BUFFER, one.spec.tokens // 8))
                sizes[one.spec.layer] = max(size, sizes.get(one.spec.layer, 0))
            elif all(other.left <= 0 for other in self._of(one.spec.layer)):
                self.stream.forget(one.spec.layer)
        batch = self.trainees[0].spec.batch
        found: dict[int, Iterator[Tensor]] = {}
        for layer, size in sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0])):
            rows = self.stream.rows(layer, self._filling(size, asked, told=not found))
            found[layer] = mixing_buffer(size, batch, rows)
        return found

    def _filling(self, size: int, asked: list[int], told: bool) -> Callable[[int], None]:
        """Tells how far a shuffling buffer is before training begins; stops there when asked to."""
        read = 0

        def hear(count: int) -> None:
            nonlocal read
            if asked and read < size:  # a whole buffer takes long; the trainees stand as in the last checkpoint
                raise KeyboardInterrupt
            if told and read < size:
                read += count
                self._watch(Progress("filling the shuffling buffer", min(read, size), size))

        return hear

    def _save(self) -> None:
        stream = self.stream
        tensors = {"random": torch.get_rng_state()}
        for trainee in self.trainees:
            tensors |= trainee.tensors()
        state = {
            "groups": stream.given, "tokens": stream.tokens, "dropped": stream.dropped, "limits": stream.limits,
            "seconds": self.seconds, "begun": self.begun,
            "saes": {trainee.name: trainee.plain() for trainee in self.trainees},
        }  # fmt: skip
        self._checkpoint.save(tensors, state)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Not empty once Ctrl-C or SIGTERM has come; a second one stops at once. Only a main thread can hear them."""
    asked: list[int] = []

    def hear(number: int, _frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
