"""What is in a data set: python scripts/data_report.py FOLDER [--out PICTURE.png] [--check]"""

from pathlib import Path

from pictures import require_format

from DiffRec import load_dataset
from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder
from DiffRec.preparation import inspection


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=checked(Folder))
    parser.add_argument(
        "--out", type=checked(Folder), default=None,
        help="of the picture; <folder>.png here by default",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", default=False, help="is a released data set whole?"
    )
    args = parser.parse_args(argv)
    if args.out:
        require_format(args.out)
    dataset = load_dataset(data_path=args.folder)
    for name, value in inspection.describe(dataset).items():
        print(
            f"{name:<42}{value:>14,.4g}" if isinstance(value, float) else f"{name:<42}{value:>14,}"
        )
    if args.check:
        print(inspection.check_whole(dataset))
    out = args.out or Path(f"{dataset.name}.png")
    inspection.picture(dataset, out)
    print(f"picture: {out}")


if __name__ == "__main__":
    command(main)
