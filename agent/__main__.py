"""``python -m agent`` is ``tailkeeper``."""

import sys

from agent.cli import main

sys.exit(main())
