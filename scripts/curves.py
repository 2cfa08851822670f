"""Draw how trainings went: python scripts/curves.py RUN … [--metric ndcg@20] [--out curves.png]

A RUN is a result of --result_json, or the .csv that training writes beside its checkpoint. Drawn
are the loss and a metric of validation over the epochs, with the best epoch marked: by default the
metric that the first run was selected by, or, of a .csv, recall@20.
"""

import argparse
import csv
import dataclasses
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pictures
from arguments import short_names

from DiffRec.engine.commands import command
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder

DASHES = ("-", "--", ":")  # when colours begin anew


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run.

    Attributes:
        rows: of each evaluation the epoch, the loss, where there is one, and metrics.
        best_epoch: of the model that was kept; None where the file does not say.
        select_by: the metric that chose it; recall@20 where the file does not say.
    """

    rows: list[dict[str, float]]
    best_epoch: int | None
    select_by: str = "recall@20"

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Epochs and values of what has this name."""
        pairs = [(int(row["epoch"]), row[name]) for row in self.rows if name in row]
        return [epoch for epoch, _ in pairs], [value for _, value in pairs]

    def best(self, metric: str) -> tuple[int, float]:
        """The epoch of the kept model, or that of the highest value, and the value there."""
        epochs, values = self.series(metric)
        if self.best_epoch in epochs:
            return self.best_epoch, values[epochs.index(self.best_epoch)]
        highest = max(values)
        return epochs[values.index(highest)], highest


def read_curve(path: Path) -> Curve:
    """A curve from either kind of file; InputError if there is none in it."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    if path.suffix not in (".json", ".csv"):
        raise InputError(f"{path} is neither the .json of a result nor the .csv of a curve.")
    best, select_by = None, Curve.select_by
    try:
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            best = record.get("best_epoch")
            rows = record.get("history", [])
            select_by = str(record.get("settings", {}).get("select_by", select_by))
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:  # as Excel writes it
                rows = list(csv.DictReader(file, strict=True))
        rows = [{name: float(value) for name, value in row.items()} for row in rows]
        whole = all(row.get("epoch", math.nan).is_integer() for row in rows)
        whole = whole and all(math.isfinite(value) for row in rows for value in row.values())
        whole = whole and (best is None or type(best) is int)
    except (ValueError, TypeError, AttributeError, RecursionError, csv.Error):
        whole = False
    if not whole:
        raise InputError(f"{path} is damaged, or no file of a run.")
    if not rows:
        raise InputError(f"{path} has no history of its training: only later versions write one.")
    return Curve(rows, best, select_by)


def require_metric(path: Path, curve: Curve, metric: str) -> None:
    offered = [name for name in curve.rows[0] if name not in ("epoch", "loss")]
    if not offered:
        raise InputError(f"{path} has no metrics of validation, as one that --final trained.")
    if metric not in offered:
        raise InputError(f"{path} has no {metric}: choose from {', '.join(offered)}.")


def wrapped(name: str, width: int = 70) -> str:
    """A name in lines that end behind an underscore."""
    words = textwrap.wrap(name.replace("_", "_ "), width, break_on_hyphens=False)
    return "\n".join(line.replace("_ ", "_") for line in words)


def draw(names: Sequence[str], curves: Sequence[Curve], metric: str, path: Path) -> None:
    """Loss and metric side by side, a line for each run, and below them what is what."""
    pyplot = pictures.drawing(path.name)
    bests = [curve.best(metric) for curve in curves]
    labels = [
        pictures.plain(wrapped(f"{name}: {value:.4f} in epoch {epoch}"))
        for name, (epoch, value) in zip(names, bests, strict=True)
    ]
    lines = sum(label.count("\n") + 1 for label in labels)
    picture, (left, right) = pyplot.subplots(
        1, 2, figsize=(9.5, 3.9 + 0.2 * lines), layout="constrained", sharex=True
    )
    handles = []
    for n, (curve, (epoch, value)) in enumerate(zip(curves, bests, strict=True)):
        colour = pictures.COLOURS[n % len(pictures.COLOURS)]
        marker = pictures.MARKERS[n % len(pictures.MARKERS)]
        style = DASHES[n // len(pictures.COLOURS) % len(DASHES)]
        line = {"color": colour, "linestyle": style, "linewidth": 1.5}
        best = {"marker": marker, "markersize": 8, "markeredgecolor": "white"}
        epochs, losses = curve.series("loss")
        left.plot(epochs, losses, **line, **(best if len(losses) == 1 else {}))
        right.plot(*curve.series(metric), **line)
        right.plot([epoch], [value], color=colour, zorder=3, **best)
        handles += right.plot([], [], **line, **best)
    losses = [row["loss"] for curve in curves for row in curve.rows if "loss" in row]
    if not losses:
        left.text(0.5, 0.5, "computed at once: there is no loss", ha="center", va="center",
                  transform=left.transAxes)  # fmt: skip
    elif min(losses) > 0 and max(losses) > 10 * min(losses):
        from matplotlib.ticker import LogFormatter

        left.set_yscale("log")  # models have losses of their own, which no scale compares
        left.yaxis.set_major_formatter(LogFormatter())
        left.yaxis.set_minor_formatter(LogFormatter())
    left.set(xlabel="epoch", ylabel="mean loss per batch", title="Training")
    right.set(xlabel="epoch", ylabel=metric, title="Validation")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    picture.legend(
        handles, labels, loc="outside lower center", frameon=False, title="best epoch, marked"
    )
    pictures.save(picture, path)
    pyplot.close(picture)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(__doc__)
    parser.add_argument("runs", type=checked(Folder), nargs="+", metavar="RUN")
    parser.add_argument("--metric", default=None, help="of validation")
    parser.add_argument("--out", type=checked(Folder), default=Path("curves.png"))
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    pictures.require_format(args.out)
    curves = [read_curve(path) for path in args.runs]
    metric = args.metric or curves[0].select_by
    for path, curve in zip(args.runs, curves, strict=True):
        require_metric(path, curve, metric)
    draw(short_names(args.runs), curves, metric, args.out)
    print(f"picture: {args.out}")


if __name__ == "__main__":
    command(main)
