"""``python -m autorl_bench``: the same as the command ``autorl-bench``."""

import sys

from autorl_bench.cli import main

sys.exit(main())
