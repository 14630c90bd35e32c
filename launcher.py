"""`astuner` for debuggers: the same arguments, in this very process (see .vscode/launch.json)."""

import sys

from astune.cli import main

if __name__ == "__main__":
    sys.exit(main())
