"""Data that the paper does not have: the models beside simple ones, and DiffRec by the settings of
other data.

python scripts/other_data.py [--datasets yelp-cdr_clean,ml-100k_clean] [--methods EASE] [--seeds 1]

No published settings are for one's own data. For every preset of DiffRec this tells how near it
comes, on validation, to the best model that is known there, on ML-1M too; what comes nearest on
the whole is the preset "own_data" of data that have none. A search's preset (scripts/search.py)
counts once it is there. Runs, a CSV and a page go to results/.
"""

import statistics

from reproduction.runs import Run, mean_and_std
from reproduction.tables import METRICS
from row_study import Flags, Found, make_parser, make_rows

from DiffRec.engine.commands import command
from DiffRec.engine.variant import variant_of

WHAT = "other_data"
DATASETS = (
    "ml-100k_clean", "ml-1m_clean", "ml-1m_noisy", "yelp-cdr_clean", "amazon-book-cdr_clean"
)  # fmt: skip
SELECT_BY = "recall@20"
SEARCHED = (("preset", "{dataset}_tuned"),)
RECENCY = (("w_at", "inference"), ("w_min", "0.03"))
ONE_CLUSTER = (("n_cate", "1"),)  # which needs no item embeddings
OF_ML_1M = (("preset", "ml-1m_clean"),)
# DiffRec by the settings of other data, of which those for one's own are chosen.
PRESETS = {
    "the release's defaults": "none",
    "of ML-1M": "ml-1m_clean",
    "of ML-1M, searched": "ml-1m_clean_tuned",
    "of ML-1M with noise": "ml-1m_noisy",
    "of ML-1M with noise, searched": "ml-1m_noisy_tuned",
    "of Yelp": "yelp_clean",
    "of Amazon-book": "amazon-book_clean",
    "found by a search on these data": "{dataset}_tuned",
}
ROWS: dict[str, tuple[str, Flags]] = {
    "Popularity": ("Popularity", ()),
    "ItemKNN": ("ItemKNN", ()),
    "ItemKNN, searched": ("ItemKNN", SEARCHED),
    "RP3beta": ("RP3beta", ()),
    "EASE": ("EASE", ()),
    "EASE, searched": ("EASE", SEARCHED),
    "EASE, searched, recent items weigh more": ("EASE", (*SEARCHED, *RECENCY)),
    "MultiVAE": ("MultiVAE", ()),
    "MultiVAE, searched": ("MultiVAE", SEARCHED),
    "LightGCN": ("LightGCN", ()),
    "LightGCN, searched": ("LightGCN", SEARCHED),
    "GiffCF": ("GiffCF", ()),
    **{f"DiffRec, {label}": ("DiffRec", (("preset", name),)) for label, name in PRESETS.items()},
    "T-DiffRec, of ML-1M": ("T-DiffRec", OF_ML_1M),
    "L-DiffRec of one cluster, the release's defaults": (
        "L-DiffRec", (("preset", "none"), *ONE_CLUSTER),
    ),
    "L-DiffRec of one cluster, of ML-1M": ("L-DiffRec", (*OF_ML_1M, *ONE_CLUSTER)),
    "LT-DiffRec of one cluster, of ML-1M": ("LT-DiffRec", (*OF_ML_1M, *ONE_CLUSTER)),
    "ACVAE": ("ACVAE", ()),
}  # fmt: skip
WITH_ORDER = ("EASE, searched, recent items weigh more", "T-DiffRec, of ML-1M",
              "LT-DiffRec of one cluster, of ML-1M", "ACVAE")  # fmt: skip
ONE_SEED = ("Popularity", "ItemKNN", "RP3beta", "EASE")  # which have none


def run_of(row: str, dataset: str, seed: int) -> Run | None:
    """A row's run; None where its preset does not exist. A data set's own preset goes unnamed, so
    that the runs of the tables are these."""
    method, flags = ROWS[row]
    flags = tuple((name, value.format(dataset=dataset)) for name, value in flags)
    presets = [value for name, value in flags if name == "preset"]
    known = variant_of(method).known_presets()
    if any(name not in ("none", *known) for name in presets):
        return None
    return Run(method, dataset, seed, tuple(flag for flag in flags if flag != ("preset", dataset)))


def valid(records: list[dict]) -> float:
    return statistics.mean(record["valid"][SELECT_BY] for record in records)


def shares(found: Found) -> dict[str, dict[str, float]]:
    """By setting of DiffRec and data set: validation Recall@20 as a share of the best model's that
    uses no order."""
    told: dict[str, dict[str, float]] = {}
    for dataset, rows in found.items():
        best = max(valid(records) for row, records in rows.items() if row not in WITH_ORDER)
        for label in PRESETS:
            if records := rows.get(f"DiffRec, {label}"):
                told.setdefault(label, {})[dataset] = valid(records) / best
    return told


def comparison(found: Found) -> list[str]:
    """How near each setting of DiffRec comes to the best model: a table, and who comes nearest."""
    told = shares(found)
    datasets = [name for name in found if any(name in some for some in told.values())]
    if not datasets:
        return []
    lines = [
        "| settings of DiffRec | " + " | ".join(datasets) + " | mean |",
        "| --- |" + " ---: |" * (len(datasets) + 1),
    ]
    for label, values in told.items():
        cells = [f"{100 * values[name]:.1f}" if name in values else "" for name in datasets]
        every = len(values) == len(datasets)
        mean = f"{100 * statistics.mean(values.values()):.1f}" if every else ""
        lines.append("| " + " | ".join([label, *cells, mean]) + " |")
    return [
        f"### How near DiffRec comes\n\nIts {SELECT_BY} on validation in % of that of the best "
        "model without order that the tables below have for these data, by the settings it is "
        "trained with.",
        "\n".join(lines),
    ]


def page(found: Found) -> str:
    """Markdown."""
    parts = [
        "## Data that the paper does not have",
        "Beside ML-1M: ML-100K, and the Yelp and Amazon-book of a later work of the authors, which "
        "are not the paper's. Test metrics, mean ± standard deviation over seeds. Without a word "
        "on settings these are the model's defaults, or the data set's preset; searched: by "
        "`scripts/search.py`, on validation; recent items weigh more: at inference, w_min .03, "
        "which ML-1M's validation chose.",
        *comparison(found),
    ]
    for dataset, rows in found.items():
        header = ["model", "seeds", "best epoch", *METRICS, "valid R@20"]
        lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
        for row, records in rows.items():
            epoch = statistics.median(record["best_epoch"] for record in records)
            cells = [row, str(len(records)), f"{epoch:g}"]
            cells += [mean_and_std([r["test"][name] for r in records]) for name in METRICS.values()]
            lines.append("| " + " | ".join([*cells, f"{valid(records):.4f}"]) + " |")
        parts += [f"### {dataset}", "\n".join(lines)]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    args = make_parser(__doc__, DATASETS, 1).parse_args(argv)
    how = "datasets/README.md says how data are prepared"
    make_rows(WHAT, ROWS, run_of, page, args, DATASETS, ONE_SEED, how)


if __name__ == "__main__":
    command(main)
