"""Data, training and recommendations in one go; scripts/quickstart.sh sets up and calls this."""

import json
import os
import subprocess
import sys
from pathlib import Path

from prepare_data import DATASETS, prepare_movielens, prepare_synthetic

from DiffRec import DiffRec, load_dataset
from DiffRec.data_utils import REPOSITORY, Dataset, join
from DiffRec.errors import InputError
from DiffRec.experiment import command

SAVED = REPOSITORY / "DiffRec" / "saved_models" / "quickstart"


def get_data() -> Path:
    """The first of: DIFFREC_DATASETS, datasets/, the official download, synthetic data."""
    places = [DATASETS / "ml-1m_clean"]
    if os.environ.get("DIFFREC_DATASETS"):
        places.insert(0, Path(os.environ["DIFFREC_DATASETS"]) / "ml-1m_clean")
    for folder in places:
        if (folder / "train_list.npy").is_file():
            print(f"data: {folder}")
            return folder
    try:
        print("data: downloading MovieLens-1M from grouplens.org (6 MB)")
        return prepare_movielens("ml-1m")
    except InputError as error:
        print(f"      {error}")
        print(
            "data: SYNTHETIC. MovieLens-1M is not here and could not be downloaded, so this run "
            "uses made-up ratings of similar character; its figures say nothing about the paper's."
        )
        return prepare_synthetic()


def show_recommendations(dataset: Dataset, checkpoint: Path, users: list[int]) -> None:
    """The top 10 of each user given train and validation; a star marks an item of the test set."""
    model = DiffRec.load(checkpoint)
    history = join(dataset.train, dataset.valid)
    rows = [history.slice(user, user + 1) for user in users]
    print("\ntop-10 recommendations (item ids; * is in the user's test set)")
    for user, row in zip(users, rows, strict=True):
        items, _ = model.recommend(row, k=10)
        relevant = set(dataset.test.slice(user, user + 1).items.tolist())
        marked = [f"{item}{'*' if item in relevant else ''}" for item in items[0].tolist()]
        print(f"user {user} ({len(row.items)} interactions): {'  '.join(marked)}")


def main() -> None:
    folder = get_data()
    result = SAVED / "result.json"
    train = [sys.executable, REPOSITORY / "DiffRec" / "main.py", "--data_path", folder]
    keep = ["--save_path", SAVED, "--result_json", result, "--preset", "ml-1m_clean"]
    finished = subprocess.run([*train, *keep, *sys.argv[1:]], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)
    record = json.loads(result.read_text())
    show_recommendations(load_dataset(data_path=folder), SAVED / record["checkpoint"], [0, 1, 2])


if __name__ == "__main__":
    command(main)
