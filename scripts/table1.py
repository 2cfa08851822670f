"""Table 1: the sizes of the data sets that are here, beside the paper's.

python scripts/table1.py [--data_path FOLDER_OF_DATA_SETS]
"""

import os
from pathlib import Path

from DiffRec import load_dataset, report
from DiffRec.data_utils import REPOSITORY, holds_dataset
from DiffRec.experiment import command
from DiffRec.options import Parser

HOW_TO_GET = {
    "ml-1m_clean": "bash scripts/get_data.sh ml-1m, or the authors' archive",
    "ml-1m_noisy": "the authors' archive, or bash scripts/get_data.sh ml-1m --noise 0.1",
    **{f"{name}_{kind}": f"the authors' archive, or bash scripts/get_data.sh {name}"
       for name in ("yelp", "amazon-book") for kind in ("clean", "noisy")},
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data_path", type=Path, help="the folder that holds the data sets")
    args = parser.parse_args(argv)
    root = args.data_path or os.environ.get("DIFFREC_DATASETS") or REPOSITORY / "datasets"
    print("| data set | | users | items | interactions |\n| --- | --- | ---: | ---: | ---: |")
    missing = []
    for name, sizes in report.paper_sizes().items():
        print(f"| {name} | paper | {' | '.join(f'{size:,}' for size in sizes)} |")
        if not holds_dataset(Path(root) / name):
            missing.append(name)
            continue
        dataset = load_dataset(name, root)
        rows = sum(len(part.items) for part in (dataset.train, dataset.valid, dataset.test))
        ours = dataset.n_users, dataset.n_items, rows
        print(f"| | here | {' | '.join(f'{size:,}' for size in ours)} |")
    for name in missing:
        print(f"\nmissing: {name} ({HOW_TO_GET[name]}; see datasets/README.md)")


if __name__ == "__main__":
    command(main)
