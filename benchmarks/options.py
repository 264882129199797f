"""What the drivers' options have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def between(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers in a range: every run is bounded in count and time."""

    def parse(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a whole number between {least} and {most}")
        return int(text)

    return parse
