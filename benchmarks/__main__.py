"""``python -m benchmarks run | report | bundle | coverage | batch | engines | quality | opsets``."""

import sys
from importlib import import_module

# Each module is imported when it is used: measuring processes import this file, and not every runtime needs torch.
COMMANDS = {
    "run": ("benchmarks.run", "main"),
    "report": ("benchmarks.report", "main"),
    "bundle": ("benchmarks.run", "bundle"),
    "coverage": ("benchmarks.coverage", "main"),
    "batch": ("benchmarks.batch", "main"),
    "engines": ("benchmarks.engines", "main"),
    "quality": ("benchmarks.quality", "main"),
    "opsets": ("benchmarks.opsets", "main"),
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(COMMANDS)}}} [options]")
    module, name = COMMANDS[sys.argv[1]]
    sys.exit(getattr(import_module(module), name)(sys.argv[2:]))
