"""What is in a data set: python scripts/data_report.py FOLDER [--out PICTURE.png] [--check]"""

from pathlib import Path

import numpy as np
import pictures

from DiffRec import Dataset, load_dataset
from DiffRec.data_utils import SPLITS
from DiffRec.engine.commands import command
from DiffRec.engine.files import require_writable
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder
from DiffRec.preparation import inspection


def draw(dataset: Dataset, path: Path) -> None:
    """Popularity of items, activity of users, and the splits over time, as one image."""
    pyplot = pictures.drawing(path.name)
    from matplotlib import ticker

    colours = {"train": "#3b6ea5", "valid": "#d8a24a", "test": "#a5453b"}
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    per_item = np.bincount(dataset.train.items.numpy(), minlength=dataset.n_items)
    axes[0].loglog(np.arange(1, dataset.n_items + 1), np.sort(per_item)[::-1], color="#3b6ea5")
    axes[0].set(title="Popularity", xlabel="rank of item", ylabel="train interactions of the item")
    per_user = np.sort(dataset.train.lengths.numpy().clip(min=1))
    axes[1].loglog(per_user, np.arange(dataset.n_users, 0, -1), color="#3b6ea5")
    axes[1].set(title="Activity", xlabel="train interactions", ylabel="users with at least so many")
    axes[1].xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes[1].xaxis.set_major_formatter("{x:,.0f}")
    axes[1].xaxis.set_minor_formatter(ticker.NullFormatter())
    days = inspection.days_of(dataset)
    if days is not None:
        axes[2].hist(days, bins=40, stacked=True, color=[colours[s] for s in SPLITS], label=SPLITS)
        axes[2].tick_params(axis="x", rotation=30)
        axes[2].set(title="Splits over time", xlabel="date", ylabel="interactions")
    else:
        counts = [len(getattr(dataset, split).items) for split in SPLITS]
        axes[2].bar(SPLITS, counts, color=[colours[s] for s in SPLITS])
        axes[2].set(title="Splits (no dates here)", xlabel="split", ylabel="interactions")
    if axes[2].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower right", ncols=len(SPLITS), frameon=False)  # off the bars
    figure.suptitle(
        f"{pictures.plain(dataset.name)}: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{sum(len(getattr(dataset, s).items) for s in SPLITS):,} interactions"
    )
    pictures.save(figure, path)
    pyplot.close(figure)


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
        pictures.require_format(args.out)
        require_writable(args.out)
    dataset = load_dataset(data_path=args.folder)
    for name, value in inspection.describe(dataset).items():
        print(
            f"{name:<42}{value:>14,.4g}" if isinstance(value, float) else f"{name:<42}{value:>14,}"
        )
    if args.check:
        print(inspection.check_whole(dataset))
    out = args.out or Path(f"{dataset.name}.png")
    draw(dataset, out)
    print(f"picture: {out}")


if __name__ == "__main__":
    command(main)
