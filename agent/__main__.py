"""``python -m agent`` is ``tailkeeper``."""

import gc
import sys


def main() -> int:
    """Run the command that the command line names; returns its exit status.

    What is imported lives as long as the process: it is not searched for garbage, now (30 ms of a start) or later.
    """
    gc.disable()
    from agent import cli

    gc.freeze()
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
