"""How much a warm start saves when new weeks come:

python scripts/warm_start_study.py RATINGS --format movielens-1m

The ratings are cut in time. A model is trained on those before the cut; then on all of them from
random weights, and once more from the older model's weights. Told are the epochs and the CPU
seconds, those of the evaluations too, until validation is as good as the best of the cold run.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import reproduction  # noqa: F401  (which registers all models)
from arguments import listed

from DiffRec import Dataset, InputError, Run, load_dataset, train
from DiffRec.engine.commands import command
from DiffRec.engine.files import write_csv
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Few, Folder, Positive, Share
from DiffRec.engine.variant import variant_of
from DiffRec.preparation import readers, writer
from DiffRec.preparation.protocol import prepare

QUALITIES = (0.95, 0.98, 1.0)  # of the best cold validation


def cut_data(ratings: readers.Ratings, share: float, folder: Path) -> tuple[Dataset, Dataset]:
    """The data set of the first ``share`` of the ratings in time, and that of all of them."""
    table = ratings.table()
    first = table[table["timestamp"] <= table["timestamp"].quantile(share)]
    for name, part in (("old", readers.from_table(first)), ("new", ratings)):
        writer.write(folder / name, prepare(part, protocol="paper"))
    return load_dataset(data_path=folder / "old"), load_dataset(data_path=folder / "new")


@dataclasses.dataclass
class Timed:
    """A run, and the CPU seconds that had gone by at each of its evaluations."""

    run: Run
    seconds: list[float]

    def reached(self, wanted: float) -> tuple[int | str, float | str]:
        """Epochs and CPU seconds until validation was at least ``wanted``; "" if it never was."""
        select_by = self.run.record["settings"]["select_by"]
        for row, seconds in zip(self.run.history, self.seconds, strict=True):
            if row[select_by] >= wanted:
                return row["epoch"], round(seconds, 1)
        return "", ""


def study(
    name: str, old: Dataset, new: Dataset, preset: str, seed: int, folder: Path, **settings
) -> list[dict]:
    """A row for the cold and one for the warm run of a model and seed."""
    model = variant_of(name).model
    of_model = {key: settings.pop(key) for key in list(settings) if key in model.Settings.names()}

    def fit(dataset: Dataset, **more) -> Timed:
        start, seconds = time.process_time(), []
        fresh = model.for_dataset(dataset, preset=preset, seed=seed, **of_model)
        run = train(
            fresh, dataset, preset=preset, seed=seed, save_path=folder,
            on_evaluation=lambda row: seconds.append(time.process_time() - start),
            **settings, **more,
        )  # fmt: skip
        return Timed(run, seconds)

    before, cold = fit(old), fit(new)
    warm = fit(new, warm_start=before.run.checkpoint)
    select_by = cold.run.record["settings"]["select_by"]
    best = max(row[select_by] for row in cold.run.history)
    rows = []
    for kind, timed in (("cold", cold), ("warm", warm)):
        run = timed.run
        row = {"model": name, "seed": seed, "start": kind, "valid": run.valid[select_by],
               "test": run.test[select_by], "best_epoch": run.best_epoch,
               "cpu_seconds": round(timed.seconds[-1], 1)}  # fmt: skip
        for quality in QUALITIES:
            epochs, seconds = timed.reached(quality * best)
            row |= {f"epochs_to_{quality:.0%}": epochs, f"seconds_to_{quality:.0%}": seconds}
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("ratings", type=checked(Folder), help="a file of ratings")
    parser.add_argument("--format", choices=list(readers.FORMATS), default="movielens-1m")
    parser.add_argument("--models", type=listed, default=("DiffRec", "L-DiffRec", "T-DiffRec"))
    parser.add_argument("--share", type=checked(Share), default=0.9, help="of ratings before")
    parser.add_argument("--preset", default="ml-1m_clean", help="settings of all runs")
    parser.add_argument("--n_cate", type=checked(Positive), default=1, help="of latent models")
    parser.add_argument("--steps", type=checked(Few), default=5, help="T; few are fast")
    parser.add_argument("--epochs", type=checked(Positive), default=60, help="at most")
    parser.add_argument("--patience", type=checked(Positive), default=8, help="in epochs")
    parser.add_argument("--seeds", type=checked(Positive), default=3)
    parser.add_argument("--out", type=checked(Folder), default=Path("warm_start.csv"))
    args = parser.parse_args(argv)
    if not args.share:
        raise InputError("share must be above 0: there is nothing to start from.")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        ratings = readers.read(args.ratings, args.format)
        old, new = cut_data(ratings, args.share, Path(place))
        print(f"{old.n_users} users and {old.n_items} items before the cut, "
              f"{new.n_users} and {new.n_items} in all")  # fmt: skip
        for name in args.models:
            own = variant_of(name).model.Settings.names()
            more = {"n_cate": args.n_cate, "steps": args.steps}
            more = {key: value for key, value in more.items() if key in own}
            for seed in range(1, args.seeds + 1):
                rows += study(
                    name, old, new, args.preset, seed, Path(place) / "saved", epochs=args.epochs,
                    patience=args.patience, eval_every=1, topN=[20], metrics=["recall"], **more,
                )  # fmt: skip
                for row in rows[-2:]:
                    print(*(f"{key}={value}" for key, value in row.items()))
                write_csv(args.out, rows)


if __name__ == "__main__":
    command(main)
