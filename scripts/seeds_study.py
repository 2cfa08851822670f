"""How likely is a published figure? Many seeds of the published settings:

python scripts/seeds_study.py [--dataset ml-1m_clean] [--methods DiffRec,L-DiffRec] [--seeds 50]

The distribution of the test metric over seeds, with the paper's figure in it, and what to expect of
the best of n seeds, where validation says which is best. Runs, a CSV, a picture and a page go to
results/; runs of the tables are used again.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pictures
from arguments import listed
from reproduce import full_name, make_study
from reproduction import markdown
from reproduction.runs import (
    Run,
    add_run_arguments,
    can_run,
    check_run_arguments,
    mean_and_std,
    require_methods,
    require_released_evaluation,
    seeds_on_disk,
)
from reproduction.tables import METRICS

from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.paper import paper_figures
from DiffRec.engine.settings import Positive
from DiffRec.engine.variant import REGISTRY

WHAT = "seeds_study"
METHODS = ("DiffRec", "L-DiffRec")
SELECT_BY = SHOWN = "recall@20"
LABEL = "Recall@20"


def best_of(valid: Sequence[float], test: Sequence[float]) -> list[float]:
    """For each n from 1 to N the expected test value of the best of n seeds, of which validation
    says which is best, drawn from the N without repetition:

        Σ_i C(i - 1, n - 1) / C(N, n) · test_(i),  i counting from the worst on validation.

    Seeds that are equal on validation share their test values' mean.
    """
    N = len(valid)
    equal = {v: statistics.mean(t for w, t in zip(valid, test, strict=True) if w == v)
             for v in set(valid)}  # fmt: skip
    ranked = [equal[v] for v in sorted(valid)]
    return [
        sum(math.comb(i, n - 1) * value for i, value in enumerate(ranked)) / math.comb(N, n)
        for n in range(1, N + 1)
    ]


def values(records: Sequence[dict], split: str, metric: str) -> list[float]:
    return [record[split][metric] for record in records]


def draw(found: dict[str, list[dict]], dataset: str, path: Path) -> None:
    """Above, for each method, how many seeds have which test value; below, the best of n."""
    pyplot = pictures.drawing(path.name)
    picture, axes = pyplot.subplots(
        2, len(found), figsize=(max(4.8 * len(found), 6), 6.4), layout="constrained", squeeze=False
    )
    for column, (method, records) in enumerate(found.items()):
        above, below = axes[:, column]
        valid, test = values(records, "valid", SELECT_BY), values(records, "test", SHOWN)
        colour = pictures.COLOURS[column]
        paper = paper_figures(method, dataset).get(SHOWN)
        above.hist(test, bins=12, color=colour, alpha=0.6)
        above.plot(
            test, [0.02] * len(test), "|", color="black", markersize=7, alpha=0.6,
            transform=above.get_xaxis_transform(),
        )  # fmt: skip
        above.yaxis.get_major_locator().set_params(integer=True)
        above.set(title=f"{method}, {len(test)} seeds", xlabel=f"test {LABEL}", ylabel="seeds")
        n = range(1, len(test) + 1)
        below.plot(n, best_of(valid, test), color=colour, label="chosen on validation")
        below.plot(n, best_of(test, test), ":", color=colour, label="chosen on test")
        below.set(xlabel="n, the best of so many seeds", ylabel=f"expected test {LABEL}")
        if paper is not None:
            above.axvline(paper, color="black", linestyle="--")
            below.axhline(paper, color="black", linestyle="--", label=f"paper: {paper:.4f}")
        below.legend(frameon=False)
        for axis in (above, below):
            axis.grid(axis="y", alpha=0.3)
    picture.suptitle(f"The published settings with many seeds, {dataset}", fontsize=11)
    for ending in (".png", ".svg"):
        pictures.save(picture, path.with_suffix(ending))
    pyplot.close(picture)


def sentence(method: str, records: Sequence[dict], paper: float | None) -> str:
    """What the seeds of a method say of the paper's figure."""
    valid, test = values(records, "valid", SELECT_BY), values(records, "test", SHOWN)
    best = best_of(valid, test)
    chosen = "; ".join(f"of {n}, {best[n - 1]:.4f}" for n in (2, 5, 20, 50) if n <= len(best))
    related = (
        f" Over seeds, validation and test correlate by {statistics.correlation(valid, test):.2f}."
        if len(set(valid)) > 1 and len(set(test)) > 1 else ""
    )  # fmt: skip
    text = (
        f"**{method}**: {LABEL} {mean_and_std(test)} over {len(test)} seeds, from {min(test):.4f} "
        f"to {max(test):.4f}. The expected value of the best by validation: {chosen}.{related}"
    )
    if paper is None:
        return text
    reached = sum(value >= paper for value in test)
    away = ""
    if len(set(test)) > 1:
        deviations = (paper - statistics.mean(test)) / statistics.stdev(test)
        side = "above" if deviations > 0 else "below"
        away = f" lies {abs(deviations):.1f} standard deviations {side} the mean, and"
    return f"{text} The paper's {paper:.4f}{away} is reached by {reached} of {len(test)} seeds."


def page(found: dict[str, list[dict]], dataset: str) -> str:
    """Markdown: the picture, a table, and what it says."""
    header = ["method", "seeds", *(f"{short} {what}" for short in METRICS
              for what in ("paper", "ours", "best", "reach it"))]  # fmt: skip
    lines = markdown.head(header)
    for method, records in found.items():
        cells, paper = [method, str(len(records))], paper_figures(method, dataset)
        for name in METRICS.values():
            test = values(records, "test", name)
            known = paper.get(name)
            reached = "" if known is None else str(sum(value >= known for value in test))
            cells += ["" if known is None else f"{known:.4f}", mean_and_std(test),
                      f"{max(test):.4f}", reached]  # fmt: skip
        lines.append(markdown.line(cells))
    return "\n\n".join(
        [
            "## How likely is a published figure?",
            f"![Many seeds of the published settings]({WHAT}.png)",
            f"The published settings on {dataset} with many seeds; each run keeps the epoch that "
            f"is best on validation. How many seeds reach the paper's figure, each metric for "
            f"itself:",
            "\n".join(lines),
            *(
                sentence(method, records, paper_figures(method, dataset).get(SHOWN))
                for method, records in found.items()
            ),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--dataset", default="ml-1m_clean")
    parser.add_argument("--methods", type=listed, default=METHODS, help="DiffRec,L-DiffRec,…")
    parser.add_argument("--seeds", type=checked(Positive), default=50)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    require_methods(args.methods, REGISTRY)
    check_run_arguments(args)
    dataset = full_name(args.dataset, "noisy" if args.dataset.endswith("_noisy") else "clean")
    if not can_run(dataset, args):
        return
    require_released_evaluation(dataset, SELECT_BY)
    asked = [Run(name, dataset, seed) for name in args.methods for seed in range(1, args.seeds + 1)]
    done = [  # those of an earlier call stay on the page
        Run(name, dataset, seed)
        for name in dict.fromkeys([*METHODS, *args.methods])
        for seed in sorted(seeds_on_disk(Run(name, dataset, 0), args.results / "runs"))
    ]
    every = sorted(dict.fromkeys([*done, *asked]), key=lambda run: (run.method, run.seed))

    def write(records: dict[Run, dict]) -> str:
        found = {
            name: [record for run, record in records.items() if run.method == name]
            for name in dict.fromkeys(run.method for run in every)
        }
        found = {name: some for name, some in found.items() if some}
        draw(found, dataset, args.results / f"{WHAT}.png")
        return page(found, dataset)

    make_study(WHAT, asked, every, write, args)


if __name__ == "__main__":
    command(main)
