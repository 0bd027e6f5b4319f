"""`python -m sts_core …` is `sts …`."""

import sys

from sts_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
