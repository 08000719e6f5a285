"""``python -m unison`` is the ``unison`` command."""

import sys

from unison.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
