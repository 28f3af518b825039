"""``python -m lift_eval.cli`` is ``lift-eval``."""

from __future__ import annotations

import sys

from lift_eval.cli import main

if __name__ == "__main__":
    sys.exit(main())
