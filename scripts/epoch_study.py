"""What the choice of the epoch is worth:

python scripts/epoch_study.py [--dataset ml-1m_clean] [--methods DiffRec,L-DiffRec] [--seeds 10]
                              [--patience 150]

Each evaluation of a run is measured on validation and on test. The epoch that is best on validation
is what all other pages have; the one that is best on test is what no figure may have: it bounds
what another rule of stopping could give, among the epochs that these runs have. Each method has its
published settings, these with another --patience where one is given, and those of a search where
there are any. A CSV and a page go to results/; seeds that the CSV has are not run again, unless
their preset was changed since.
"""

import argparse
import hashlib
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence

from arguments import listed
from reproduce import full_name, gather
from reproduction import markdown
from reproduction.runs import (
    RESULTS,
    is_here,
    mean_and_std,
    require_methods,
    require_released_evaluation,
    tell_missing,
)
from tqdm import tqdm

from DiffRec import Dataset, load_dataset, train
from DiffRec.engine.commands import command
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import read_csv, write_csv, write_text
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.machine import code_version
from DiffRec.engine.paper import paper_figures
from DiffRec.engine.settings import Folder, Positive
from DiffRec.engine.variant import REGISTRY, TUNED, variant_of

WHAT = "epoch_study"
METRICS = {"R@20": "recall@20", "N@20": "ndcg@20"}
SELECT_BY = "recall@20"
Row = dict[str, str]
MEASURED = tuple(f"{split}_{name}" for split in ("valid", "test") for name in METRICS.values())
OF_RUN = ("dataset", "method", "preset", "patience", "seed")  # patience: empty for the preset's
COLUMNS = (*OF_RUN, "epoch", *MEASURED, "preset_sha256", "commit")
NEWER = ("patience", "preset_sha256")  # which a CSV of before 2026-11-29 lacks


def check_row(row: Row) -> None:
    """ValueError for what is no evaluation."""
    int(row["seed"]), int(row["epoch"]), int(row["patience"] or 0)
    for name in MEASURED:
        float(row[name])


def preset_hash(method: str, preset: str) -> str:
    """Of what a preset sets; of one that is gone, none."""
    found = variant_of(method).known_presets().get(preset)
    told = json.dumps(found, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12] if found is not None else ""


def evaluations(method: str, preset: str, patience: str, data: Dataset, seed: int) -> list[Row]:
    """A row for each evaluation of a run; patience: "" for the preset's own."""
    found: list[Row] = []
    about = dict(zip(OF_RUN, (data.name, method, preset, patience, str(seed)), strict=True))
    more = {"patience": int(patience)} if patience else {}
    made_with = {"preset_sha256": preset_hash(method, preset), "commit": str(code_version())}

    def note(row: Mapping[str, float]) -> None:
        values = {
            f"{split}_{name}": f"{row[before + name]:.6f}"
            for split, before in (("valid", ""), ("test", "test_"))
            for name in METRICS.values()
        }
        found.append({**about, "epoch": str(row["epoch"]), **values, **made_with})

    kind = variant_of(method).model
    model = kind.for_dataset(data, preset=preset, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        train(model, data, preset=preset, seed=seed, save_path=folder, on_evaluation=note, **more)
    return found


def chosen_by(split: str, rows: Sequence[Row]) -> list[Row]:
    """Of each seed the evaluation with the best Recall@20 on a split, the first of equals, to the
    four decimals that training compares."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return [
        max(
            (row for row in rows if row["seed"] == seed),
            key=lambda row: round(float(row[f"{split}_{SELECT_BY}"]), 4),
        )
        for seed in seeds
    ]


def table(dataset: str, rows: Sequence[Row]) -> str:
    """Markdown: what either choice of the epoch gives on test."""
    header = ["method", "settings", "seeds"]
    header += [f"{short} {what}" for short in METRICS for what in ("paper", "ours", "best epoch")]
    lines = markdown.head([*header, "R@20 best epoch and seed", "reach the paper's"], words=2)
    kinds: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["method"], row["preset"], row["patience"]), []).append(row)
    for (method, preset, patience), some in kinds.items():
        honest, oracle = chosen_by("valid", some), chosen_by("test", some)
        paper = paper_figures(method, dataset)
        settings = "of a search" if preset.endswith(TUNED) else "published"
        settings += f", patience {patience}" if patience else ""
        cells = [method, settings, str(len(honest))]
        for name in METRICS.values():
            cells.append(f"{paper[name]:.4f}" if name in paper else "")
            for picked in (honest, oracle):
                cells.append(mean_and_std([float(row[f"test_{name}"]) for row in picked]))
        highest = [float(row[f"test_{SELECT_BY}"]) for row in oracle]
        reach = sum(value >= paper[SELECT_BY] for value in highest) if SELECT_BY in paper else ""
        lines.append(markdown.line([*cells, f"{max(highest):.4f}", str(reach)]))
    return "\n".join(lines)


def page(rows: Sequence[Row]) -> str:
    """Markdown: a table for each data set."""
    parts = [
        "## What the choice of the epoch is worth",
        "Test metrics, mean ± standard deviation over seeds. *ours*: of each run's evaluations the "
        "one that is best on validation, as everywhere here. *best epoch*: the one with the best "
        "Recall@20 on test, which no figure may have: it bounds what another rule of stopping "
        "could give, among the epochs of these runs, which end as their patience says (published: "
        "20 epochs without a better one); *best epoch and seed* what another seed could give too. "
        "The last column counts the seeds whose best epoch on test reaches the paper's Recall@20. "
        "These are runs of their own, at the commits below: those of other pages, of other "
        "commits, may differ in the last digits.",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        some = [row for row in rows if row["dataset"] == dataset]
        parts += [f"### {dataset}", table(dataset, some)]
    return "\n\n".join(parts)


def make_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--dataset", default="ml-1m_clean")
    parser.add_argument("--methods", type=listed, default=("DiffRec", "L-DiffRec"))
    parser.add_argument("--seeds", type=checked(Positive), default=10)
    parser.add_argument(
        "--patience", type=checked(Positive), default=None,
        help="run the published settings with this one too",
    )  # fmt: skip
    parser.add_argument("--results", type=checked(Folder), default=RESULTS, help="what gets them")
    return parser


def study(args: argparse.Namespace, dataset: str) -> list[Row]:
    """All evaluations, those of earlier calls first; the CSV has them after each run."""
    path = args.results / f"{WHAT}.csv"
    kept = read_csv(path, COLUMNS, check_row, NEWER) if path.is_file() else []
    require_methods({row["method"] for row in kept}, REGISTRY)
    rows = [
        row for row in kept if row["preset_sha256"] == preset_hash(row["method"], row["preset"])
    ]
    if changed := len(kept) - len(rows):
        print(f"{changed} evaluations in {path} are of presets that were changed: they go.")
    done = {tuple(row[name] for name in OF_RUN) for row in rows}
    kinds = [(dataset, ""), (f"{dataset}{TUNED}", "")]
    kinds += [(dataset, str(args.patience))] if args.patience else []
    asked = [
        (method, preset, patience, seed)
        for method in args.methods
        for preset, patience in kinds
        if preset in variant_of(method).known_presets()
        for seed in range(1, args.seeds + 1)
        if (dataset, method, preset, patience, str(seed)) not in done
    ]
    data = load_dataset(dataset)
    if not rows and not asked:
        raise InputError(f"no preset of {', '.join(args.methods)} is called {dataset}.")
    for method, preset, patience, seed in tqdm(asked, "runs", disable=None):
        rows += evaluations(method, preset, patience, data, seed)
        rows.sort(key=lambda row: (*(row[name] for name in OF_RUN[:-1]), int(row["seed"])))
        write_csv(path, rows)
    return rows


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    require_methods(args.methods, REGISTRY)
    dataset = full_name(args.dataset, "noisy" if args.dataset.endswith("_noisy") else "clean")
    if not is_here(dataset):
        tell_missing(dataset, planned=False)
        return
    require_released_evaluation(dataset, SELECT_BY)
    rows = study(args, dataset)
    flags = ["--dataset", dataset, "--methods", ",".join(args.methods), "--seeds", str(args.seeds)]
    flags += ["--patience", str(args.patience)] if args.patience else []
    made_by = shlex.join(["bash", f"scripts/{WHAT}.sh", *flags])
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    text = f"{page(rows)}\n\nMade by `{made_by}` ([{WHAT}.csv]({WHAT}.csv)); commits {commits}."
    write_text(args.results / f"{WHAT}.md", text)
    print(text)
    gather(args.results)


if __name__ == "__main__":
    command(main)
