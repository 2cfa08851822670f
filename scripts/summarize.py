"""Mean and standard deviation over the seeds of every finished run, beside the paper's figures.

python scripts/summarize.py [RUNS] [--out results/retraining.md]
"""

import collections
import json
import statistics
from pathlib import Path

from DiffRec import report
from DiffRec.data_utils import REPOSITORY
from DiffRec.errors import InputError
from DiffRec.experiment import command
from DiffRec.files import written_whole
from DiffRec.options import Parser

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def read_runs(folder: Path) -> dict[tuple[str, str], list[dict]]:
    """The result records in ``folder`` by data set and variant, seeds ascending."""
    runs = collections.defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        runs[record["dataset"], record["variant"]].append(record)
    if not runs:
        raise InputError(f"there are no results in {folder}: make some with scripts/seeds.sh.")
    for (dataset, variant), records in runs.items():
        first = records[0]["settings"]
        differing = {k for r in records for k in first if r["settings"].get(k) != first[k]}
        if differing:
            raise InputError(
                f"the results of {variant} on {dataset} in {folder} differ in {sorted(differing)}: "
                f"keep runs of different settings in different folders."
            )
    return {key: sorted(runs[key], key=lambda r: r["seed"]) for key in sorted(runs)}


def mean_and_std(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def table(runs: dict[tuple[str, str], list[dict]]) -> str:
    """Markdown: a row of ours and, where the paper has one, a row of its figures."""
    lines = [
        "| data set | method | R@10 | R@20 | N@10 | N@20 |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (dataset, variant), records in runs.items():
        paper = report.paper_figures(variant, dataset, records[0]["settings"])
        if paper:
            cells = " | ".join(f"{paper[metric]:.4f}" for metric in METRICS)
            lines.append(f"| {dataset} | {variant}, paper | {cells} |")
        cells = " | ".join(mean_and_std([r["test"][m] for r in records]) for m in METRICS)
        lines.append(f"| {dataset} | {variant}, ours ({len(records)} seeds) | {cells} |")
    return "\n".join(lines)


def resources(runs: dict[tuple[str, str], list[dict]]) -> str:
    """Markdown: what a run of each took."""
    lines = [
        "| data set | method | parameters | best epoch | training s | evaluation s | memory MB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (dataset, variant), records in runs.items():
        median = {
            what: statistics.median(get(r) for r in records)
            for what, get in {
                "epoch": lambda r: r["best_epoch"],
                "training": lambda r: r["seconds"]["training"],
                "evaluation": lambda r: r["seconds"]["evaluation"],
                "memory": lambda r: r["peak_memory_mb"],
            }.items()
        }
        lines.append(
            f"| {dataset} | {variant} | {records[0]['parameters']:,} | {median['epoch']:g} | "
            f"{median['training']:.0f} | {median['evaluation']:.0f} | {median['memory']:.0f} |"
        )
    return "\n".join(lines)


def provenance(runs: dict[tuple[str, str], list[dict]]) -> str:
    """Markdown: the command, commit and machine of each row's runs."""
    lines = []
    for (dataset, variant), records in runs.items():
        seeds = ", ".join(str(r["seed"]) for r in records)
        commits = ", ".join(sorted({str(r["machine"]["commit"]) for r in records}))
        machine = records[0]["machine"]
        lines.append(
            f"- {variant} on {dataset}: `{records[0]['command']}`; "
            f"seeds {seeds}; commit {commits}; {machine['device']}, "
            f"{machine['threads']} threads, torch {machine['torch']}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=Path, default=REPOSITORY / "results" / "runs")
    parser.add_argument("--out", type=Path, help="write there as well")
    args = parser.parse_args(argv)
    runs = read_runs(args.runs)
    text = "\n\n".join(
        [
            "# Retraining with the published settings",
            "Test metrics, mean ± standard deviation over seeds; the model of each run was chosen "
            "by Recall@20 on validation. Made by `python scripts/summarize.py`.",
            table(runs),
            "What a run took, medians over seeds:",
            resources(runs),
            "How they were made:",
            provenance(runs),
        ]
    )
    print(text)
    if args.out:
        with written_whole(args.out) as temporary:
            temporary.write_text(text + "\n")


if __name__ == "__main__":
    command(main)
