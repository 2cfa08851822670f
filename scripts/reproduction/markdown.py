"""Tables in Markdown."""

from collections.abc import Sequence


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def head(names: Sequence[str], words: int = 1) -> list[str]:
    """The first two lines. words: so many columns hold words, the rest numbers."""
    return [line(names), "|" + " --- |" * words + " ---: |" * (len(names) - words)]
