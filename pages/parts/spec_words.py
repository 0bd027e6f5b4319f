"""What a spec says of its keys, in the words of the page's fields, with the key beside for who has the file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sts_core.errors import UserError


def by_field(text: str, fields: Mapping[str, str]) -> str:
    """`micro_batch is 0` as `Rows at once (micro_batch) is 0`; `fields`: a spec's key -> what the page calls it.

    A key that is an English word is meant only where the text begins with it and says what it is.
    """
    words = [key for key in fields if key.isalpha() and key != "betas"]  # which means nothing else
    names = [re.escape(key) for key in fields if key not in words]
    found = re.compile(rf"^({'|'.join(words)})(?= is )|(\(?)\b({'|'.join(names)})\b(\)?)")

    def called(match: re.Match[str]) -> str:
        key, before, after = match[1] or match[3], match[2] or "", match[4] or ""
        field = fields[key]
        if field.lower() == key:
            return f"{before}{field}{after}"
        return f"({field}, {key})" if before and after else f"{before}{field} ({key}){after}"

    return found.sub(called, text)


def in_fields(error: UserError, fields: Mapping[str, str]) -> UserError:
    """The error and its hint, by field."""
    return UserError(by_field(error.message, fields), by_field(error.hint, fields))
