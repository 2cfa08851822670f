"""What is put into places: odd numbers, words and structures."""

import json
import math
import os
from typing import Any

from hypothesis import strategies as st

DEEP = "@deep@"  # stands for 5,000 lists in each other, which json.dumps could not write
HUGE = (2**31 - 1, 2**31, 10**9, 10**13, 10**18, 2**63, 2**64, 10**30)
NUMBERS = st.sampled_from(
    [-1, 0, 1, 2, 3, 5, 100, 10**4, 10**6, *HUGE, -(10**18), -(10**30), 0.5, -0.5, 1e-320, 1e20,
     1e308, -1e308, math.nan, math.inf, -math.inf]
)  # fmt: skip
WORDS = st.sampled_from(
    ["", " ", "x", "nan", "inf", "-1", "0", "1e999", "1e30", "1" * 5000, "x" * 100_000, "../../x",
     "/", "..", ".", "a/b", "~nosuchuser/x", "\u0000", "\ud800", "ß∂漢",
     "\n", "[", "[]", "[1,", "[1,2", "[[1]]",
     "1,2,3", "[5]", "[99999999999999999999]", "{}", "null", "None", "true", "recall@20",
     "recall@5", "EASE", "%s%n", "'", '"', "--x", "-"]
)  # fmt: skip
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.integers(), st.floats(), st.text())
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3),
    st.dictionaries(st.text(max_size=3), PLAIN, max_size=2),
    st.sampled_from([DEEP, [1] * 10**5, [[[1]]], {"a": {"b": []}}, [10**9], [6, 10**9], [-1]]),
)
TYPICAL = st.one_of(NUMBERS, WORDS, VALUES)


def as_json(value: Any) -> str:
    return json.dumps(value).replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000)


class Touch:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)
