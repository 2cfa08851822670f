"""The next item of a sequence: sequence models, and models of rows, beside DiffuRec's figures.

python scripts/sequential.py [--datasets beauty_next,toys_next] [--methods SASRec] [--seeds 3]

The data sets are folders that scripts/prepare_data.py made with --protocol leave_one_out
(datasets/README.md). DiffuRec's figures stand beside those of the same sizes as its data. Runs, a
CSV and a page go to results/.
"""

import tomllib

from reproduction import markdown
from reproduction.runs import Run, means
from row_study import RECENT, STRETCH, Flags, Found, make_parser, make_rows

from DiffRec.data_utils import SPLITS
from DiffRec.engine.commands import command
from DiffRec.engine.machine import REPOSITORY

WHAT = "sequential"
DATASETS = ("beauty_next", "toys_next", "ml-1m_next")
PUBLISHED = tomllib.loads((REPOSITORY / "baselines/presets/sequential.toml").read_text())
METRICS = PUBLISHED["metrics"]
RANKED = (("rank_seen", "1"),)  # as DiffuRec's figures are made
KEYS = (("padding_mask", "keys"),)
BF16, DIRECT = (("precision", "bf16"),), (("reverse", "direct"),)
BEGUN_SMALL = (*BF16, *DIRECT, ("init_std", "0.02"))
QUICK = (*BEGUN_SMALL, ("eval_every", "2"))  # what most small rows share
SMALL = (*KEYS, *QUICK)
FALLING = (*SMALL, ("epochs", "16"), ("lr_step", "10"))
WIDE = (("emb_size", "128"), *BF16)
OF_DU = (*RANKED, *BF16, *DIRECT, ("epochs", "20"))
POSITIONS = (("trained_on", "positions"),)
AT_ONCE = (*POSITIONS, ("batch_size", "128"))
BY_32 = (*POSITIONS, ("batch_size", "32"))
AVERAGED = (*BY_32, *BEGUN_SMALL, ("eval_every", "4"), *STRETCH, ("ema", "0.999"))
# What a row is called: the model, and the flags in which it differs from its preset.
ROWS: dict[str, tuple[str, Flags]] = {
    "Popularity": ("Popularity", ()),
    "EASE": ("EASE", ()),
    "EASE, recent items weigh more": ("EASE", RECENT),
    "ACVAE": ("ACVAE", RANKED),
    "ACVAE, 15 epochs": ("ACVAE", (*RANKED, ("epochs", "15"))),
    "GRU4Rec": ("GRU4Rec", RANKED),
    "SASRec": ("SASRec", RANKED),
    "SASRec, d = 128": ("SASRec", (*RANKED, *WIDE)),
    "SASRec, d = 128, seen left out": ("SASRec", WIDE),
    "SASRec, d = 128, falling, seen left out": (
        "SASRec", (*WIDE, ("lr_step", "8"), ("epochs", "14")),
    ),
    "SASRec, binary loss": ("SASRec", (*RANKED, ("loss", "bce"))),
    "DiffuRec": ("DiffuRec", RANKED),
    "DiffuRec, padding hidden": ("DiffuRec", (*RANKED, *KEYS)),
    "DiffuRec, padding hidden, one reverse step": ("DiffuRec", (*RANKED, *KEYS, *DIRECT)),
    "DiffuRec, padding hidden, λ = 0": (
        "DiffuRec", (*RANKED, *KEYS, ("lambda_mean", "0"), ("lambda_std", "0"), *DIRECT),
    ),
    "DiffuRec, padding hidden, one reverse step, 65 epochs": (
        "DiffuRec", (*RANKED, *KEYS, *BF16, *DIRECT, ("eval_every", "5"), ("epochs", "65")),
    ),
    "DiffuRec, small": ("DiffuRec", (*RANKED, *SMALL, ("epochs", "20"))),
    "DiffuRec, small, padding seen, 4 epochs": (
        "DiffuRec", (*RANKED, *QUICK, ("epochs", "4")),
    ),
    "DiffuRec, small, falling": ("DiffuRec", (*RANKED, *FALLING)),
    "DiffuRec, small, falling late": (
        "DiffuRec", (*RANKED, *SMALL, ("epochs", "24"), ("lr_step", "18")),
    ),
    "DiffuRec, small, averaged": (
        "DiffuRec", (*RANKED, *SMALL, ("epochs", "24"), ("ema", "0.999")),
    ),
    "DiffuRec, small, falling, λ = 0": (
        "DiffuRec", (*RANKED, *FALLING, ("lambda_mean", "0"), ("lambda_std", "0")),
    ),
    "DiffuRec, small, falling, seen left out": ("DiffuRec", FALLING),
    "DiffuRec, all positions at once": ("DiffuRec", (*RANKED, *AT_ONCE, *BF16)),
    "DiffuRec, all positions at once, one reverse step": (
        "DiffuRec", (*RANKED, *AT_ONCE, *BF16, *DIRECT),
    ),
    "DiffuRec, small, all positions of 50 at once": (
        "DiffuRec", (*RANKED, *AT_ONCE, *QUICK, ("epochs", "60")),
    ),
    "DiffuRec, small, all positions of 50 at once, seen left out": (
        "DiffuRec", (*AT_ONCE, *QUICK, ("epochs", "30")),
    ),
    "DiffuRec, small, all positions of 100 at once": (
        "DiffuRec", (
            *RANKED, *BY_32, *QUICK, ("max_length", "100"), ("epochs", "18"),
        ),
    ),
    "DiffuRec, small, random stretches of 50": (
        "DiffuRec", (*RANKED, *AT_ONCE, *QUICK, *STRETCH, ("epochs", "116")),
    ),
    "DiffuRec, small, random stretches of 50, emb_dropout .1": (
        "DiffuRec", (
            *RANKED, *AT_ONCE, *QUICK, *STRETCH, ("emb_dropout", "0.1"), ("epochs", "60"),
            ("lr_step", "48"),
        ),
    ),
    "DiffuRec, small, random stretches of 50, batches of 32, averaged": (
        "DiffuRec", (*RANKED, *AVERAGED, ("epochs", "96")),
    ),
    "DiffuRec, small, random stretches of 100, batches of 32, averaged": (
        "DiffuRec", (*RANKED, *AVERAGED, ("max_length", "100"), ("epochs", "64")),
    ),
    "DiffRec-Du, as printed": ("DiffRec-Du", OF_DU),
    "DiffRec-Du, loss of the output": (
        "DiffRec-Du", (*OF_DU, ("rec_loss", "network"), ("loss_reduction", "mean")),
    ),
}  # fmt: skip


def run_of(row: str, dataset: str, seed: int) -> Run:
    method, flags = ROWS[row]
    return Run(method, dataset, seed, flags)


def page(found: Found) -> str:
    """Markdown."""
    parts = [
        "## The next item of a sequence",
        "Each user's last item is test, the one before it validation, and all items are ranked; "
        "test metrics as shares, mean ± standard deviation over seeds. Unless a row says "
        "otherwise, sequence models rank what a user has seen too, as the published figures do, "
        "and models of rows leave it out: nobody's test item is among it, so that to leave it out "
        "can only help. Settings are the models' defaults or presets, but: *small*, one reverse "
        "step, padding hidden, and item vectors that begin with a standard deviation of .02 "
        "instead of 1; *falling*, a learning rate that is a tenth after epoch 10 (SASRec: 8), "
        "*late* after epoch 18; *averaged*, an exponential moving average of the weights, .999. "
        "DiffRec-Du's are one reverse step and 20 epochs. The command of each run is in its file "
        "in runs/.",
    ]
    for dataset, rows in found.items():
        header = ["model", "seeds", "best epoch", *METRICS]
        lines = markdown.head(header)
        data = next(iter(rows.values()))[0]["data"]
        sizes = [data["users"], data["items"], sum(data[split] for split in SPLITS)]
        same = sizes == PUBLISHED["sizes"].get(dataset)  # else they are of other data
        for name, values in PUBLISHED.get(dataset, {}).items() if same else ():
            cells = [f"*{name}: published*", "", "", *(f"{value:.4f}" for value in values)]
            lines.append(markdown.line(cells))
        for row, records in rows.items():
            epochs = ", ".join(str(record["best_epoch"]) for record in records)
            lines.append(markdown.line([row, str(len(records)), epochs, *means(records, METRICS)]))
        parts += [f"### {dataset}", "\n".join(lines)]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    args = make_parser(__doc__, DATASETS, 3).parse_args(argv)
    make_rows(WHAT, ROWS, run_of, page, args, DATASETS)


if __name__ == "__main__":
    command(main)
