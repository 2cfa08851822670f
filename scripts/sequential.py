"""The next item of a sequence: sequence models, and models of rows, beside DiffuRec's figures.

python scripts/sequential.py [--datasets beauty_next,toys_next] [--methods SASRec] [--seeds 3]

The data sets are folders that scripts/prepare_data.py made with --protocol leave_one_out
(datasets/README.md). DiffuRec's figures stand beside those of the same sizes as its data. Runs, a
CSV and a page go to results/.
"""

import tomllib

from arguments import checked, listed
from reproduce import make_study
from reproduction.runs import (
    Run,
    add_run_arguments,
    check_run_arguments,
    is_here,
    mean_and_std,
    require_methods,
    seeds_on_disk,
)

from DiffRec.data_utils import SPLITS
from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser
from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.settings import Positive

WHAT = "sequential"
DATASETS = ("beauty_next", "toys_next", "ml-1m_next")
PUBLISHED = tomllib.loads((REPOSITORY / "baselines/presets/sequential.toml").read_text())
METRICS = PUBLISHED["metrics"]
RANKED = (("rank_seen", "1"),)  # as DiffuRec's figures are made
KEYS = (*RANKED, ("padding_mask", "keys"))
AT_ONCE = (
    *RANKED, ("trained_on", "positions"), ("batch_size", "128"), ("precision", "bf16")
)  # fmt: skip
RECENCY = (("w_at", "inference"), ("w_min", "0.03"))
# What a row is called: the model, and the flags in which it differs from its preset.
ROWS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "Popularity": ("Popularity", ()),
    "EASE": ("EASE", ()),
    "EASE, recent items weigh more": ("EASE", RECENCY),
    "ACVAE": ("ACVAE", RANKED),
    "GRU4Rec": ("GRU4Rec", RANKED),
    "SASRec": ("SASRec", RANKED),
    "SASRec, binary loss": ("SASRec", (*RANKED, ("loss", "bce"))),
    "DiffuRec": ("DiffuRec", RANKED),
    "DiffuRec, padding hidden": ("DiffuRec", KEYS),
    "DiffuRec, padding hidden, one reverse step": ("DiffuRec", (*KEYS, ("reverse", "direct"))),
    "DiffuRec, padding hidden, λ = 0": (
        "DiffuRec", (*KEYS, ("lambda_mean", "0"), ("lambda_std", "0"), ("reverse", "direct")),
    ),
    "DiffuRec, all positions at once": (
        "DiffuRec", AT_ONCE,
    ),
    "DiffuRec, all positions at once, one reverse step": (
        "DiffuRec", (*AT_ONCE, ("reverse", "direct")),
    ),
    "DiffRec-Du, as printed": ("DiffRec-Du", RANKED),
    "DiffRec-Du, loss of the output": (
        "DiffRec-Du", (*RANKED, ("rec_loss", "network"), ("loss_reduction", "mean")),
    ),
}  # fmt: skip
ONE_SEED = ("Popularity", "EASE")  # which have none


def run_of(row: str, dataset: str, seed: int) -> Run:
    method, flags = ROWS[row]
    return Run(method, dataset, seed, flags)


def page(found: dict[str, dict[str, list[dict]]]) -> str:
    """Markdown. found: by data set and row the records."""
    parts = [
        "## The next item of a sequence",
        "Each user's last item is test, the one before it validation, and all items are ranked; "
        "test metrics as shares, mean ± standard deviation over seeds. Sequence models rank what a "
        "user has seen too, as the published figures do; for models of rows it is masked. Settings "
        "are the models' defaults or presets.",
    ]
    for dataset, rows in found.items():
        header = ["model", "seeds", "best epoch", *METRICS]
        lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
        data = next(iter(rows.values()))[0]["data"]
        sizes = [data["users"], data["items"], sum(data[split] for split in SPLITS)]
        same = sizes == PUBLISHED["sizes"].get(dataset)  # else they are of other data
        for name, values in PUBLISHED.get(dataset, {}).items() if same else ():
            cells = [f"*{name}: published*", "", "", *(f"{value:.4f}" for value in values)]
            lines.append("| " + " | ".join(cells) + " |")
        for row, records in rows.items():
            epochs = ", ".join(str(record["best_epoch"]) for record in records)
            cells = [row, str(len(records)), epochs]
            cells += [mean_and_std([r["test"][name] for r in records]) for name in METRICS]
            lines.append("| " + " | ".join(cells) + " |")
        parts += [f"### {dataset}", "\n".join(lines)]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--datasets", type=listed, default=DATASETS)
    parser.add_argument("--methods", type=listed, default=(), help="only rows of these models")
    parser.add_argument("--seeds", type=checked(Positive), default=3, help="of trained models")
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    known = sorted({method for method, _ in ROWS.values()})
    require_methods(args.methods, known)
    check_run_arguments(args)
    for dataset in args.datasets:
        if not is_here(dataset):
            print(f"skipped: {dataset} is not here (datasets/README.md says how it is made).")
    folder, wanted, plan = args.results / "runs", [], {}
    for dataset in dict.fromkeys([*DATASETS, *args.datasets]):
        for row, (method, _) in ROWS.items():
            seeds: set[int] = set()
            asked = method in (args.methods or known) and dataset in args.datasets
            if asked and is_here(dataset):
                seeds = set(range(1, (1 if method in ONE_SEED else args.seeds) + 1))
            wanted += [run_of(row, dataset, seed) for seed in sorted(seeds)]
            seeds |= seeds_on_disk(run_of(row, dataset, 0), folder)
            plan[dataset, row] = [run_of(row, dataset, seed) for seed in sorted(seeds)]

    def write(records: dict[Run, dict]) -> str:
        found: dict[str, dict[str, list[dict]]] = {}
        for (dataset, row), runs in plan.items():
            some = [records[run] for run in runs if run in records]
            if some:
                found.setdefault(dataset, {})[row] = some
        return page(found)

    every = list(dict.fromkeys(run for runs in plan.values() for run in runs))
    make_study(WHAT, wanted, every, write, args)


if __name__ == "__main__":
    command(main)
