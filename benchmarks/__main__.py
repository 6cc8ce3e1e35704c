"""``python -m benchmarks coverage | methods``."""

import sys

from benchmarks import coverage, methods

COMMANDS = {"coverage": coverage.main, "methods": methods.main}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(COMMANDS)}}} [options]")
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
