"""The paper's own figures, and results beside them."""

import functools
import tomllib
from collections.abc import Mapping
from typing import Any

from DiffRec.data_utils import REPOSITORY


@functools.cache
def published() -> dict:
    return tomllib.loads((REPOSITORY / "DiffRec" / "presets" / "paper.toml").read_text())


def paper_figures(variant: str, dataset: str) -> dict[str, float]:
    """The paper's test metrics of a method on a data set; empty where it has none."""
    row = published().get(dataset, {}).get(variant, [])
    return dict(zip(published()["metrics"], row, strict=False))


def comparable_figures(variant: str, dataset: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """`paper_figures`, if those of a run with these settings may be compared with them."""
    other = settings["tst_w_val"] or settings["random_noise"]
    return {} if other else paper_figures(variant, dataset)


def metrics_table(valid: dict, test: dict, paper: dict | None = None) -> str:
    """The metrics as aligned text: a row for each, and a column for each split that has any."""
    paper = paper or {}
    columns = {"valid": valid, "test": test, "paper": paper}
    columns = {name: column for name, column in columns.items() if column}
    header = f"{'metric':<14}" + "".join(f"{name:>8}" for name in columns)
    lines = [header, "-" * len(header)]
    for metric in test or valid:
        values = (
            f"{column[metric]:8.4f}" if metric in column else "" for column in columns.values()
        )
        lines.append(f"{metric:<14}{''.join(values)}")
    return "\n".join(lines)


def paper_resources(variant: str, dataset: str) -> tuple[int, int] | None:
    """Tables 6 and 7: millions of parameters and MB of GPU memory, where the paper gives them."""
    row = published()["resources"].get(dataset, {}).get(variant)
    return None if row is None else tuple(row)


def paper_sizes() -> dict[str, tuple[int, int, int]]:
    """Table 1: users, items and interactions of each data set."""
    return {name: tuple(row) for name, row in published()["sizes"].items()}
