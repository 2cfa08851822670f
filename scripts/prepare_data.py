"""Make a data set's folder from ratings:

python scripts/prepare_data.py ml-1m                      downloads MovieLens-1M, or takes --raw
python scripts/prepare_data.py synthetic                  made-up ratings of ML-1M's character
python scripts/prepare_data.py FILE --format csv --columns who,what,stars,when --out FOLDER
"""

from pathlib import Path

from DiffRec.data_utils import REPOSITORY
from DiffRec.errors import InputError
from DiffRec.experiment import command
from DiffRec.options import COUNT, NOT_NEGATIVE, POSITIVE, Parser
from DiffRec.preparation import download, readers, synthetic, writer
from DiffRec.preparation.protocol import PROTOCOLS, prepare

DATASETS = REPOSITORY / "datasets"


def prepare_ml_1m(raw: Path | None = None, folder: Path | None = None, **how) -> Path:
    """datasets/ml-1m_clean from the official archive, which is downloaded unless given."""
    raw = raw or download.download(*download.ML_1M, DATASETS / "raw" / "ml-1m.zip")
    folder = folder or DATASETS / ("ml-1m_noisy" if how.get("noise") else "ml-1m_clean")
    writer.write(folder, prepare(readers.read(raw, "movielens-1m"), **how), {"prepared": how})
    return folder


def prepare_synthetic(folder: Path | None = None, seed: int = 1, **how) -> Path:
    """datasets/synthetic: ratings with ML-1M's character, through the same protocol."""
    folder = folder or DATASETS / "synthetic"
    ratings = readers.from_table(synthetic.make_ratings(seed=seed))
    writer.write(folder, prepare(ratings, seed=seed, **how), {"prepared": {"seed": seed, **how}})
    return folder


def prepare_file(
    path: Path, format: str | None, columns: str | None, folder: Path | None, **how
) -> Path:
    """A data set of one's own, from any file `readers.FORMATS` has a name for."""
    if format is None or folder is None:
        raise InputError("a file of your own needs --format and --out.")
    ratings = readers.read(path, format, columns.split(",") if columns else None)
    writer.write(folder, prepare(ratings, **how), {"prepared": how})
    return folder


def parse_ratio(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = map(float, text.split(":"))
    except ValueError as error:
        raise InputError(f"ratio must look like 8:1:1, got {text!r}.") from error
    return first, second, third


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("source", help="ml-1m, synthetic, or a file of ratings")
    parser.add_argument("--raw", type=Path, help="ml-1m.zip or ratings.dat, if you have it")
    parser.add_argument("--out", type=Path, help="folder to write; in datasets/ by default")
    parser.add_argument("--format", choices=list(readers.FORMATS), help="of a file of your own")
    parser.add_argument("--columns", help="its user, item, rating and time columns: a,b,c,d")
    parser.add_argument("--min_rating", type=float, default=4.0, help="interactions start here")
    parser.add_argument("--core", type=POSITIVE, default=10, help="least of each user and item")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="released",
        help="7:2:1 as the released files, 7:1:2 as the paper, or two cuts in time for all",
    )  # fmt: skip
    parser.add_argument("--ratio", help="train:validation:test, not with the released protocol")
    parser.add_argument(
        "--noise", type=NOT_NEGATIVE, default=0.0,
        help="natural noise in train and validation, as a share of the interactions",
    )  # fmt: skip
    parser.add_argument("--seed", type=COUNT, default=1, help="of noise and synthetic data")
    args = parser.parse_args(argv)
    how = {
        "min_rating": args.min_rating, "core": args.core, "protocol": args.protocol,
        "shares": parse_ratio(args.ratio), "noise": args.noise, "seed": args.seed,
    }  # fmt: skip
    if args.source == "ml-1m":
        folder = prepare_ml_1m(args.raw, args.out, **how)
    elif args.raw:
        raise InputError("--raw goes with ml-1m.")
    elif args.source == "synthetic":
        folder = prepare_synthetic(args.out, **how)
    else:
        folder = prepare_file(Path(args.source), args.format, args.columns, args.out, **how)
    print(f"{folder} is ready.")


if __name__ == "__main__":
    command(main)
