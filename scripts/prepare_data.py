"""Make a data set's folder: python scripts/prepare_data.py ml-1m | synthetic"""

from pathlib import Path

from DiffRec.data_utils import REPOSITORY
from DiffRec.errors import InputError
from DiffRec.experiment import command
from DiffRec.options import COUNT, Parser
from DiffRec.preparation import download, protocol, readers, synthetic

DATASETS = REPOSITORY / "datasets"


def prepare_ml_1m(raw: Path | None = None, folder: Path | None = None) -> Path:
    """datasets/ml-1m_clean from the official archive, which is downloaded unless given."""
    raw = raw or download.download(*download.ML_1M, DATASETS / "raw" / "ml-1m.zip")
    folder = folder or DATASETS / "ml-1m_clean"
    protocol.write(folder, *protocol.prepare(readers.read_movielens_1m(raw)))
    return folder


def prepare_synthetic(seed: int = 1, folder: Path | None = None) -> Path:
    """datasets/synthetic: ratings with ML-1M's character, through the same protocol."""
    folder = folder or DATASETS / "synthetic"
    protocol.write(folder, *protocol.prepare(synthetic.make_ratings(seed=seed)))
    return folder


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("name", choices=("ml-1m", "synthetic"))
    parser.add_argument("--raw", type=Path, help="ml-1m.zip or ratings.dat, if you have it")
    parser.add_argument("--out", type=Path, help="folder to write; datasets/<name> by default")
    parser.add_argument("--seed", type=COUNT, default=1, help="of the synthetic data")
    args = parser.parse_args(argv)
    if args.raw and args.name == "synthetic":
        raise InputError("--raw goes with ml-1m; the synthetic data are made from --seed.")
    folder = (
        prepare_ml_1m(args.raw, args.out)
        if args.name == "ml-1m"
        else prepare_synthetic(args.seed, args.out)
    )
    print(f"{folder} is ready.")


if __name__ == "__main__":
    command(main)
