"""The model's own answers, before it is fine-tuned: the paper's way of mixing a domain in without teaching it anything.

A question is put as training puts it, and the answer ends where the template's next marker, or the text that begins
another turn, would stand. Batches are of like length and always made of the same questions, and each draws with a seed
of its own, so a generation that was killed goes on to the same answers: whole batches are kept, torn ones done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo
from sts_core.nets.device import choose_device, choose_dtype, hand_back, is_out_of_memory
from sts_core.text.prompts import Prompter, is_unicode
from sts_core.train.mixture.manifest import Said, said_line
from sts_core.train.mixture.spec import GenerateSpec

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = {"cpu": 8, "mps": 16, "cuda": 64}
_STAND_IN = "x"


class Question(NamedTuple):
    """What is asked."""

    set: str
    row: int
    text: str


Answers = dict[tuple[str, int], Said]


class Answerer:
    """A model that answers questions into a file, batch by batch. Its weights are loaded for the first of them."""

    def __init__(self, info: ModelInfo, tokenizer: Any, how: GenerateSpec, seed: int, file: Path) -> None:
        self._info, self._tokenizer, self._how, self._seed, self._file = info, tokenizer, how, seed, file
        self._prompter = Prompter(tokenizer)
        self._device = choose_device(how.device)
        self._end = self._prompter.skeleton(3).pieces[2]
        """What stands between an answer and the next question."""
        self._model: Any = None
        self._on_file = _read(file)

    def answer(self, questions: Sequence[Question], ran: Callable[[int], None]) -> Answers:
        """Every question's answer; those on file are taken from there. `ran` hears of each batch's size."""
        found: Answers = {}
        for batch in self._batches(questions):
            keys = [(one.set, one.row) for one, _ in batch]
            if not all(key in self._on_file for key in keys):
                said = self._ask(batch)
                self._keep(keys, said)
                hand_back()
            found |= {key: self._on_file[key] for key in keys}
            ran(len(batch))
        return found

    def _keep(self, keys: list[tuple[str, int]], said: list[Said]) -> None:
        self._on_file |= dict(zip(keys, said, strict=True))
        lines = [said_line(*key, one) for key, one in zip(keys, said, strict=True)]
        with self._file.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())

    def _batches(self, questions: Sequence[Question]) -> Iterator[list[tuple[Question, list[int]]]]:
        """Longest first, so that the memory peaks at once."""
        size = self._how.batch or _BATCH[self._device.split(":")[0]]
        asked = [(one, self._prompt(one.text)) for one in questions]
        asked.sort(key=lambda entry: (-len(entry[1]), entry[0].set, entry[0].row))
        for first in range(0, len(asked), size):
            yield asked[first : first + size]

    def _prompt(self, question: str) -> list[int]:
        """The tokens before the answer, exactly as in training; a blank before it is the model's to write."""
        whole = self._prompter.prompt([question, _STAND_IN], pooled=1)
        closing = self._prompter.skeleton(2).pieces[2]
        text = whole.text[: len(whole.text) - len(closing) - len(_STAND_IN)].rstrip(" ")
        ids: list[int] = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        bos = self._tokenizer.bos_token_id
        return [bos, *ids] if whole.ids[0] == bos and ids[:1] != [bos] else ids

    def _ask(self, batch: list[tuple[Question, list[int]]]) -> list[Said]:
        """One batch; one that does not fit the memory is halved."""
        import torch

        try:
            return self._generate(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise UserError(
                    f"One question with an answer of {self._how.max_tokens:,} tokens does not fit the memory",
                    "Lower generate.max_tokens, or choose another device.",
                ) from error
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._ask(batch[:half]) + self._ask(batch[half:])

    def _generate(self, batch: list[tuple[Question, list[int]]]) -> list[Said]:
        import torch
        from transformers import GenerationConfig

        model = self._loaded()
        longest = max(len(ids) for _, ids in batch)
        stops = sorted(self._prompter.special_ids)  # none of them can stand in a text that is trained on
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else [*stops, 0][0]
        ids = torch.full((len(batch), longest), pad)
        seen = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, (_, own) in enumerate(batch):  # on the left: what is written follows the last token
            ids[row, longest - len(own) :] = torch.tensor(own)
            seen[row, longest - len(own) :] = 1
        warm = self._how.temperature > 0
        drawn = {"do_sample": True, "temperature": float(self._how.temperature), "top_k": 0, "top_p": 1.0}
        config = GenerationConfig(
            max_new_tokens=self._how.max_tokens, eos_token_id=stops or None, pad_token_id=pad,
            **(drawn if warm else {"do_sample": False}),
        )  # fmt: skip
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(self._seed_of(batch))
            out = model.generate(ids.to(model.device), attention_mask=seen.to(model.device), generation_config=config)
        return [self._said(row) for row in out[:, longest:].cpu()]

    def _said(self, new: Tensor) -> Said:
        """The text up to the first marker; what looks like another turn, written in plain letters, is cut off too."""
        ids: list[int] = new.tolist()
        end = next((at for at, token in enumerate(ids) if token in self._prompter.special_ids), None)
        text = str(self._tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False))
        turn = text.find(self._end.rstrip()) if self._end.strip() else -1
        if not is_unicode(text):
            text = ""
        answer = (text if turn < 0 else text[:turn]).strip()
        return Said(answer, len(ids) if end is None else end, end is None and turn < 0)

    def _seed_of(self, batch: list[tuple[Question, list[int]]]) -> int:
        name = json.dumps([self._seed, *((one.set, one.row) for one, _ in batch)])
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")

    def _loaded(self) -> Any:
        if self._model is None:
            from transformers import GenerationConfig

            from sts_core.train.evaluation.models import load_language_model

            dtype = choose_dtype(self._how.dtype, self._device)
            self._model = load_language_model(self._info, self._device, dtype)
            # A model's own settings (penalties, top k) would fill in what a call leaves open: answers are plain ones.
            self._model.generation_config = GenerationConfig()
        return self._model


def _read(file: Path) -> Answers:
    """What earlier batches left; a line that a kill has torn is left out, and its batch asked again."""
    found: Answers = {}
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            one = json.loads(line)
            found[one["set"], one["row"]] = Said(one["answer"], one["tokens"], one["cut"])
        except (ValueError, KeyError, TypeError):
            continue
    if lines[-1]:  # what is appended next begins a line of its own
        with file.open("ab") as end:
            end.write(b"\n")
    return found
