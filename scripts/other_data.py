"""Data that the paper does not have: the models beside simple ones, and DiffRec by the settings of
other data.

python scripts/other_data.py [--datasets yelp-cdr_clean,ml-100k_clean] [--methods EASE] [--seeds 1]

No published settings are for one's own data. For every preset of DiffRec this tells how near it
comes, on validation, to the best model that is known there, on ML-1M too, so that own data can
begin with what comes nearest on the whole (docs/own-data.md). A search's preset (scripts/search.py)
counts once it is there. Runs, a CSV and a page go to results/.
"""

import statistics

from reproduction import markdown
from reproduction.runs import OTHER_DATA, Run, means
from reproduction.tables import METRICS
from row_study import RECENT, STRETCH, Flags, Found, make_parser, make_rows

from DiffRec.engine.commands import command
from DiffRec.engine.variant import TUNED, variant_of

WHAT = "other_data"
DATASETS = ("ml-1m_clean", "ml-1m_noisy", *OTHER_DATA)
SELECT_BY = "recall@20"
SEARCHED = (("preset", "{dataset}" + TUNED),)
ONE_CLUSTER = (("n_cate", "1"),)  # which needs no item embeddings
OF_ML_1M = (("preset", "ml-1m_clean"),)
SEARCHED_HERE = "found by a search on these data"
# DiffRec by the settings of other data.
PRESETS = {
    "the release's defaults": "none",
    "of ML-1M": "ml-1m_clean",
    "of ML-1M, searched": "ml-1m_clean" + TUNED,
    "of ML-1M with noise": "ml-1m_noisy",
    "of ML-1M with noise, searched": "ml-1m_noisy" + TUNED,
    "of Yelp": "yelp_clean",
    "of Amazon-book": "amazon-book_clean",
    SEARCHED_HERE: "{dataset}" + TUNED,
}
ROWS: dict[str, tuple[str, Flags]] = {
    "Popularity": ("Popularity", ()),
    "ItemKNN": ("ItemKNN", ()),
    "ItemKNN, searched": ("ItemKNN", SEARCHED),
    "RP3beta": ("RP3beta", ()),
    "EASE": ("EASE", ()),
    "EASE, searched": ("EASE", SEARCHED),
    "EASE, searched, recent items weigh more": ("EASE", (*SEARCHED, *RECENT)),
    "MultiVAE": ("MultiVAE", ()),
    "MultiVAE, searched": ("MultiVAE", SEARCHED),
    "MultiVAE, recent items weigh more in training too": ("MultiVAE", (("w_at", "both"),)),
    "MultiVAE, searched, recent items weigh more in training too": (
        "MultiVAE", (*SEARCHED, ("w_at", "both")),
    ),
    "LightGCN": ("LightGCN", ()),
    "LightGCN, searched": ("LightGCN", SEARCHED),
    "LightGCN, vectors of 256 numbers": ("LightGCN", (("emb_size", "256"),)),
    "LightGCN, every interaction in an epoch": ("LightGCN", (("positives", "interactions"),)),
    "GiffCF": ("GiffCF", ()),
    "GiffCF, item embeddings learn faster": ("GiffCF", (("lr", "0.003"), ("patience", "100"))),
    "GiffCF, mixers begin positive": ("GiffCF", (("patience", "100"), ("mixers", "positive"))),
    "GiffCF, mixers begin positive, evaluated as on its authors' Yelp": (
        "GiffCF", (("mixers", "positive"), ("eval_every", "5"), ("patience", "50")),
    ),
    **{f"DiffRec, {label}": ("DiffRec", (("preset", name),)) for label, name in PRESETS.items()},
    "T-DiffRec, of ML-1M": ("T-DiffRec", OF_ML_1M),
    "L-DiffRec of one cluster, the release's defaults": (
        "L-DiffRec", (("preset", "none"), *ONE_CLUSTER),
    ),
    "L-DiffRec of one cluster, of ML-1M": ("L-DiffRec", (*OF_ML_1M, *ONE_CLUSTER)),
    "LT-DiffRec of one cluster, of ML-1M": ("LT-DiffRec", (*OF_ML_1M, *ONE_CLUSTER)),
    "LT-DiffRec of one cluster, of ML-1M, all items weigh .55": (
        "LT-DiffRec", (*OF_ML_1M, *ONE_CLUSTER, ("w_min", "0.55"), ("w_max", "0.55")),
    ),
    "ACVAE": ("ACVAE", ()),
    "SASRec": ("SASRec", ()),
    "SASRec, random stretches": ("SASRec", STRETCH),
}  # fmt: skip
WITH_ORDER = ("EASE, searched, recent items weigh more",
              "MultiVAE, recent items weigh more in training too",
              "MultiVAE, searched, recent items weigh more in training too", "T-DiffRec, of ML-1M",
              "LT-DiffRec of one cluster, of ML-1M", "ACVAE", "SASRec",
              "SASRec, random stretches")  # fmt: skip


def run_of(row: str, dataset: str, seed: int) -> Run | None:
    """A row's run; None where its preset does not exist. A data set's own preset goes unnamed, so
    that the runs of the tables are these."""
    method, flags = ROWS[row]
    given = {name: value.format(dataset=dataset) for name, value in flags}
    preset = given.get("preset", "none")
    if preset not in ("none", *variant_of(method).known_presets()):
        return None
    if preset == dataset:
        del given["preset"]
    return Run(method, dataset, seed, tuple(given.items()))


def valid(records: list[dict]) -> float:
    return statistics.mean(record["valid"][SELECT_BY] for record in records)


def shares(found: Found) -> dict[str, dict[str, float]]:
    """By setting of DiffRec and data set: validation Recall@20 as a share of the best model's that
    uses no order."""
    told: dict[str, dict[str, float]] = {}
    for dataset, rows in found.items():
        others = [valid(records) for row, records in rows.items() if row not in WITH_ORDER]
        for label in PRESETS if others else ():
            if records := rows.get(f"DiffRec, {label}"):
                told.setdefault(label, {})[dataset] = valid(records) / max(others)
    return told


def comparison(found: Found) -> list[str]:
    """How near each setting of DiffRec comes to the best model: a table, and who comes nearest."""
    told = shares(found)
    datasets = [name for name in found if any(name in some for some in told.values())]
    if not datasets:
        return []
    of_others = [values for label, values in told.items() if label != SEARCHED_HERE]
    shared = [name for name in datasets if all(name in values for values in of_others)]
    lines = markdown.head(["settings of DiffRec", *datasets, "mean"])
    for label, values in told.items():
        cells = [f"{100 * values[name]:.1f}" if name in values else "" for name in datasets]
        every = shared and all(name in values for name in shared)
        mean = f"{100 * statistics.mean(values[name] for name in shared):.1f}" if every else ""
        lines.append(markdown.line([label, *cells, mean]))
    return [
        f"### How near DiffRec comes\n\nIts {SELECT_BY} on validation in % of that of the best "
        "model without order that the tables below have for these data, by the settings it is "
        f"trained with. Mean: over {', '.join(shared) or 'none'}, where all settings of other data "
        "were tried.",
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
        "which ML-1M's validation chose, or in training too, as in T-DiffRec, from .1 on.",
        *comparison(found),
    ]
    for dataset, rows in found.items():
        header = ["model", "seeds", "best epoch (median)", *METRICS, "valid R@20"]
        lines = markdown.head(header)
        for row, records in rows.items():
            epoch = statistics.median(record["best_epoch"] for record in records)
            cells = [row, str(len(records)), f"{epoch:g}", *means(records, METRICS.values())]
            lines.append(markdown.line([*cells, f"{valid(records):.4f}"]))
        parts += [f"### {dataset}", "\n".join(lines)]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    args = make_parser(__doc__, DATASETS, 1).parse_args(argv)
    make_rows(WHAT, ROWS, run_of, page, args, DATASETS)


if __name__ == "__main__":
    command(main)
