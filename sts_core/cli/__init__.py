"""The same product without a browser: `sts …`, or `python -m sts_core …`.

Exit 0 done, 1 failed, 2 the person must change something: then one line `error: …` and one line `hint: …` on stderr.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import warnings

import typer
from typer.exceptions import TyperException

from sts_core.cli import (
    baselines,
    catalogue,
    comparing,
    correlating,
    demo,
    evaluating,
    examples,
    exporting,
    finetuning,
    house,
    importing,
    jobs,
    labelling,
    ledger,
    measuring,
    mixing,
    probing,
    sweeping,
    training,
)
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

_DISK = {
    errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EDQUOT, errno.EISDIR,
    errno.ENOTDIR, errno.EBUSY, errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EIO,
}  # fmt: skip
"""What a disk or a path can refuse, and a person can mend."""

_INTERRUPTED = 130

_program = typer.Typer(
    name="sts",
    help="What will fine-tuning change elsewhere? Told before it is done, from a sparse autoencoder's features.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
house.add_to(_program)
demo.add_to(_program)
catalogue.add_to(_program)
measuring.add_to(_program)
mixing.add_to(_program)
comparing.add_to(_program)
correlating.add_to(_program)
baselines.add_to(_program)
sweeping.add_to(_program)
ledger.add_to(_program)
examples.add_to(_program)
labelling.add_to(_program)
probing.add_to(_program)
evaluating.add_to(_program)
training.add_to(_program)
finetuning.add_to(_program)
jobs.add_to(_program)
exporting.add_to(_program)
importing.add_to(_program)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status instead of leaving."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # what libraries plan is no news for a person
    try:
        code = _program(args=arguments, standalone_mode=False)
    except UserError as error:
        return refuse(error.message, error.hint)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            return 0
        command = getattr(getattr(error, "ctx", None), "command_path", "sts")
        return refuse(error.format_message(), f"See `{command} --help`.")
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return refuse(f"{_place(error)}: {error.strerror}", "Check the path, its permissions and the space left.")
    if code == _INTERRUPTED:
        typer.echo("interrupted", err=True)
    return code if isinstance(code, int) else 0


def _place(error: OSError) -> str:
    """What could not be read or written; of a file that was to be put in place when whole, its name to be."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "The disk"
    return re.sub(r"(^|/)\.([^/]+)\.[a-z0-9_]{8}$", r"\1\2", name)


def refuse(message: str, hint: str) -> int:
    """Tell what a person must change, in two lines."""
    typer.echo(f"error: {_one_line(message)}", err=True)
    typer.echo(f"hint: {_one_line(hint) or 'See `sts --help`.'}", err=True)
    return 2


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))
