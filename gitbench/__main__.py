"""`python -m gitbench`."""

import sys

from gitbench.cli import main

sys.exit(main())
