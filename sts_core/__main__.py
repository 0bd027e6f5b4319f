"""`python -m sts_core …` is `sts …`; a Ctrl-C is quiet from the first import on."""

import sys


def main() -> int:
    """The command's exit status."""
    try:
        from sts_core.cli import main as command

        return command()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
