"""``python -m explainable_model``."""

import sys

from explainable_model.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
