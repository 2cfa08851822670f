"""Data, training and recommendations in one go; scripts/quickstart.sh sets up and calls this."""

import os
import sys
from pathlib import Path

from DiffRec import DiffRec, InputError, load_dataset
from DiffRec.data_utils import Dataset
from DiffRec.engine.commands import command, parse, train_by
from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.variant import variant_of
from DiffRec.preparation import folders

SAVED = REPOSITORY / "DiffRec" / "saved_models" / "quickstart"


def get_data() -> Path:
    """The first of: DIFFREC_DATASETS, datasets/, the official download, synthetic data."""
    places = [folders.DATASETS / "ml-1m_clean"]
    if os.environ.get("DIFFREC_DATASETS"):
        places.insert(0, Path(os.environ["DIFFREC_DATASETS"]) / "ml-1m_clean")
    for folder in places:
        if (folder / "train_list.npy").is_file():
            print(f"data: {folder}")
            return folder
    try:
        print("data: downloading MovieLens-1M from grouplens.org (6 MB)")
        return folders.make_movielens("ml-1m")
    except InputError as error:
        print(f"      {error}")
        print(
            "data: SYNTHETIC. MovieLens-1M is not here and could not be downloaded, so this run "
            "uses made-up ratings of similar character; its figures say nothing about the paper's."
        )
        return folders.make_synthetic()


def show_recommendations(dataset: Dataset, checkpoint: Path, users: list[int]) -> None:
    """The top 10 of each user given train and validation; a star marks an item of the test set."""
    model = DiffRec.load(checkpoint)
    history = dataset.seen()
    rows = [history.slice(user, user + 1) for user in users]
    print("\ntop-10 recommendations (item ids; * is in the user's test set)")
    for user, row in zip(users, rows, strict=True):
        items, _ = model.recommend(row, k=10)
        relevant = set(dataset.test.slice(user, user + 1).items.tolist())
        marked = [f"{item}{'*' if item in relevant else ''}" for item in items[0].tolist()]
        print(f"user {user} ({len(row.items)} interactions): {'  '.join(marked)}")


def main(argv: list[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(argv):
        parse(variant_of(DiffRec.variant), ["--help"], __doc__)
    folder = get_data()
    keep = ["--save_path", str(SAVED), "--result_json", str(SAVED / "result.json")]
    start = ["--data_path", str(folder), "--preset", "ml-1m_clean", *keep]
    variant, words = variant_of(DiffRec.variant), [*start, *argv]
    _, options = parse(variant, words, __doc__)
    checkpoint = options.save_path / train_by(variant, words, __doc__)["checkpoint"]
    show_recommendations(load_dataset(data_path=folder), checkpoint, [0, 1, 2])


if __name__ == "__main__":
    command(main)
