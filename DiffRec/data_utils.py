"""A data set: its train, validation and test interactions, and the folder they are read from."""

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DiffRec.engine.arrays import read_array
from DiffRec.engine.errors import InputError, require_path
from DiffRec.interactions import Interactions, join

REPOSITORY = Path(__file__).resolve().parent.parent  # or, installed, where packages lie
IS_CHECKOUT = (REPOSITORY / "pyproject.toml").is_file()
SPLITS = ("train", "valid", "test")
# The paper's, of whose archives validation is the latest part of a user's time, behind test.
RELEASED = tuple(
    f"{name}_{kind}" for name in ("amazon-book", "yelp", "ml-1m") for kind in ("clean", "noisy")
)
# The largest id that a list may hold: memory is taken for every id below it.
SPARSEST, ROOM = 10, 1000
# What a data set may say of how models are evaluated on it.
EVALUATION = {
    "topN": list, "metrics": list, "tst_w_val": bool, "rank_seen": bool, "select_by": str,
    "metric_users": str,
}  # fmt: skip
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Train, validation and test interactions over the same users and items.

    Attributes:
        path: the folder they came from.
        drop_unknown, drop_repeated, random_noise, noise_seed: how they were read (`load_dataset`).
        evaluation: how the folder says that models are evaluated on them (`read_evaluation`).
        reordered: whether train was put into an order that the folder's files of times do not tell.
        first_item: the number of the first item here, and ``whole`` the fingerprint of all, where
            these are some of the items alone (`columns`).
    """

    name: str
    path: Path
    train: Interactions
    valid: Interactions
    test: Interactions
    drop_unknown: bool = False
    random_noise: float = 0.0
    noise_seed: int | None = None
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    drop_repeated: bool = False
    first_item: int = 0
    whole: Mapping[str, Any] | None = None
    reordered: bool = False

    @property
    def n_users(self) -> int:
        return len(self.train)

    @property
    def n_items(self) -> int:
        return self.train.n_items

    @property
    def catalogue(self) -> int:
        """How many items there are, where these are some of them alone too (`columns`)."""
        return self.whole["items"] if self.whole else self.n_items

    def to(self, device: torch.device | str) -> "Dataset":
        moved: dict[str, Any] = {
            field.name: part.to(device)
            for field in dataclasses.fields(self)
            if isinstance(part := getattr(self, field.name), Interactions)
        }
        return dataclasses.replace(self, **moved)

    def columns(self, first: int, stop: int) -> "Dataset":
        """The same users with the items first..stop-1 alone, numbered from 0."""
        parts: dict[str, Any] = {
            field.name: part.columns(first, stop)
            for field in dataclasses.fields(self)
            if isinstance(part := getattr(self, field.name), Interactions)
        }
        return dataclasses.replace(self, first_item=first, whole=self.fingerprint(), **parts)

    def count(self, split: str) -> int:
        """How many interactions a split has, of all items."""
        return self.whole[split] if self.whole else len(getattr(self, split).items)

    def input_rows(self, with_valid: bool = False) -> Interactions:
        """What a model is given when it is evaluated: train, and validation if asked for."""
        return join(self.train, self.valid) if with_valid else self.train

    def seen(self, with_test: bool = False) -> Interactions:
        """What each user has in train and validation, and in test if asked for."""
        seen = join(self.train, self.valid)
        return join(seen, self.test) if with_test else seen

    def popularity(self) -> torch.Tensor:
        """(I,) int64 on the CPU: how many train interactions each item has."""
        return torch.bincount(self.train.items.cpu(), minlength=self.n_items)

    def disliked(self) -> Interactions | None:
        """What each user rated below the threshold of interactions, from disliked_list.npy beside
        the lists, which scripts/prepare_data.py writes; None without it."""
        path = self.path / "disliked_list.npy"
        if not path.is_file():
            return None
        pairs = read_pairs(path)
        pairs = pairs[(pairs < (self.n_users, self.n_items)).all(axis=1)]
        return Interactions.from_pairs(pairs, self.n_users, self.n_items)

    def left_out(self, with_test: bool = True, with_disliked: bool = True) -> Interactions:
        """What lists for users leave out: `seen`, and if asked for what they disliked."""
        seen = self.seen(with_test)
        disliked = self.disliked() if with_disliked else None
        return seen if disliked is None else join(seen, disliked.to(seen.device))

    def asked_again(self) -> dict[str, int]:
        """How many rows of validation and of test an earlier list has too."""
        known: list[np.ndarray] = []  # the keys of each earlier list that has any, in order
        found = {}
        for earlier, split in itertools.pairwise(SPLITS):
            keys, wanted = np.sort(getattr(self, earlier).keys()), getattr(self, split).keys()
            known += [keys] if len(keys) else []
            again = np.zeros(len(wanted), dtype=bool)
            for keys in known:
                again |= keys[np.searchsorted(keys, wanted).clip(max=len(keys) - 1)] == wanted
            found[split] = int(again.sum())
        return found

    def everything(self) -> "Dataset":
        """The same with all three lists as train and nothing in the others.

        A user's items are in order of time where the folder tells it (`times_of_pairs`) and train
        was not ``reordered``, else those of train come first, then validation's, then test's; of
        the paper's data test's, then validation's.
        """
        later = ("test", "valid") if self.name in RELEASED else ("valid", "test")
        train = functools.reduce(join, (getattr(self, split) for split in ("train", *later)))
        known = None if self.reordered else times_of_pairs(self)
        if known is not None:
            keys, times = known
            wanted, users = train.keys(), train.row_index().cpu().numpy()
            places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            if len(keys) and (keys[places] == wanted).all():  # else the folder's lists are others
                order = torch.from_numpy(np.lexsort((times[places], users)))
                train = dataclasses.replace(train, items=train.items[order.to(train.device)])
        nothing = Interactions.from_pairs(
            np.empty((0, 2), dtype=np.int64), self.n_users, self.n_items
        ).to(train.device)
        return dataclasses.replace(self, train=train, valid=nothing, test=nothing)

    def is_wholly(self, known: Mapping[str, Any]) -> bool:
        """Whether data of the fingerprint ``known`` are `everything` of these, and these are not;
        False where it has no hash."""
        total = sum(len(getattr(self, split).items) for split in SPLITS)
        if "sha256" not in known or known["train"] != total or known == self.fingerprint():
            return False
        # Models of an earlier version had the paper's data in the order of others.
        ways = [self, *([dataclasses.replace(self, name="")] if self.name in RELEASED else [])]
        return any(known == way.everything().fingerprint() for way in ways)

    def fingerprint(self) -> dict:
        """Sizes and a hash of the three lists, with all items: equal for equal data, and kept in
        checkpoints."""
        if self.whole:
            return dict(self.whole)
        parts = {
            split: (
                getattr(self, split).offsets.numpy(),
                [getattr(self, split).items.cpu().numpy()],
            )
            for split in SPLITS
        }
        return fingerprint(self.n_users, self.n_items, parts)


def require_dataset(data: object) -> None:
    """InputError for what is no data set, such as the folder of one."""
    if not isinstance(data, Dataset):
        raise InputError(f"data must be a Dataset, as load_dataset gives it, not {type(data)}.")


def fingerprint(
    n_users: int, n_items: int, parts: Mapping[str, tuple[np.ndarray, Iterable[np.ndarray]]]
) -> dict:
    """`Dataset.fingerprint` of lists that need not be in memory: for each split the offsets of its
    rows, (U + 1,) int64, and the items behind one another, int32, some at a time."""
    digest = hashlib.sha256()
    sizes = {"users": n_users, "items": n_items}
    for split, (offsets, chunks) in parts.items():
        sizes[split] = int(offsets[-1])
        digest.update(offsets.tobytes())
        for items in chunks:
            digest.update(items.tobytes())
    return {**sizes, "sha256": digest.hexdigest()[:16]}


def home(folder: Path = REPOSITORY) -> Path:
    """Where datasets, checkpoints and saved models lie if no place is named: the checkout, or the
    ``folder`` in it; and where that is an installed package's, the folder one is in."""
    installed = not IS_CHECKOUT and folder.is_relative_to(REPOSITORY)
    return Path.cwd() if installed else folder


def command_to_prepare() -> str:
    """What makes a folder of ratings is called."""
    return "scripts/prepare_data.py" if IS_CHECKOUT else "diffrec-prepare"


def times_of_pairs(dataset: Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """Each interaction's time, from the train_times.npy, valid_times.npy and test_times.npy beside
    the lists: the keys user · I + item, (n,) ascending, and their times, (n,); of a repeated pair
    the latest. None where one of the files is missing or random noise, which has no times, is in
    the data. InputError for a file that does not fit its list."""
    files = [dataset.path / f"{split}_times.npy" for split in SPLITS]
    if dataset.random_noise or not all(file.is_file() for file in files):
        return None
    keys_of, times_of = [], []  # each split
    for split, file in zip(SPLITS, files, strict=True):
        pairs, found = read_pairs(dataset.path / f"{split}_list.npy"), read_array(file, "times")
        if found.shape != (len(pairs),) or found.dtype.kind not in "fiu":
            raise InputError(f"{file} must hold a number for each of the {len(pairs)} rows.")
        inside = (pairs < (dataset.n_users, dataset.n_items)).all(axis=1)
        keys_of.append(pairs[inside, 0].astype(np.int64) * dataset.n_items + pairs[inside, 1])
        times_of.append(found[inside])
    keys, times = np.concatenate(keys_of), np.concatenate(times_of)
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    last = np.r_[keys[1:] != keys[:-1], True] if len(keys) else np.zeros(0, dtype=bool)
    return keys[last], times[last]


def holds_dataset(folder: Path) -> bool:
    """Whether a folder is a data set's own: it has at least one of the three lists."""
    return any((folder / f"{split}_list.npy").is_file() for split in SPLITS)


def default_dataset(data_path: Path | None) -> str:
    """The data set that is meant where none is named."""
    if data_path is not None and holds_dataset(data_path.expanduser()):
        return data_path.expanduser().resolve().name
    return "ml-1m_clean"


def find_dataset(dataset: str | None, data_path: str | Path | None) -> tuple[str, Path]:
    """Name and folder of a data set.

    ``data_path`` may be the data set's own folder or the parent of several; by default it is the
    environment variable DIFFREC_DATASETS, or else the folder datasets of `home`.
    """
    word = dataset is None or isinstance(dataset, str)
    if not word or (dataset is not None and (Path(dataset).name != dataset or dataset == "..")):
        raise InputError(
            f"a data set is named, not {dataset}: give its folder or that of several as data_path."
        )
    if data_path is not None:
        require_path("data_path is a folder's path", data_path)
    default = os.environ.get("DIFFREC_DATASETS") or home() / "datasets"
    root = Path(data_path or default).expanduser()
    if data_path is not None and holds_dataset(root):
        own = root.resolve().name
        if dataset not in (None, own):
            raise InputError(
                f"{root} holds the data set {own}, not {dataset}: leave dataset out, and name "
                f"settings to start from as preset."
            )
        return own, root
    dataset = dataset or default_dataset(None)
    folder = root / dataset
    if folder.is_dir():
        return dataset, folder
    if data_path is not None and not root.is_dir():
        told = f"is a file: prepare it with {command_to_prepare()} first"
        raise InputError(f"{root} {told if root.exists() else 'does not exist'}.")
    present = sorted(path.parent.name for path in root.glob("*/train_list.npy"))
    raise InputError(
        f"no data set {dataset} in {root} (there: {', '.join(present) or 'none'}): "
        f"get one with `{'bash scripts/get_data.sh' if IS_CHECKOUT else command_to_prepare()} "
        f"ml-1m`, or give as data_path a folder that holds train_list.npy, valid_list.npy and "
        f"test_list.npy."
    )


def read_stats(folder: Path) -> dict:
    """What stats.json says of a folder that was prepared here; empty where there is none."""
    path = folder / "stats.json"
    if not path.is_file():
        return {}
    try:
        stats = json.loads(path.read_text())
        if not isinstance(stats, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): prepare the data again.") from error
    return stats


def read_evaluation(folder: Path) -> dict[str, Any]:
    """How models are evaluated on a folder's data, where its stats.json says so: settings of the
    evaluation, which beat their defaults and are beaten by presets and flags."""
    told = read_stats(folder).get("evaluation", {})
    whole = isinstance(told, dict) and set(told) <= set(EVALUATION)
    if not whole or any(type(value) is not EVALUATION[name] for name, value in told.items()):
        raise InputError(
            f"{folder / 'stats.json'} must say of its evaluation {', '.join(EVALUATION)} alone, "
            f"lists, truth values or words."
        )
    return told


def counted_items(folder: Path, most: int) -> int:
    """I, as stats.json has it; InputError if it is no number up to ``most``."""
    count = read_stats(folder).get("items", 0)
    if type(count) is not int or not 0 <= count <= most:
        raise InputError(f"{folder / 'stats.json'} counts {count!r} items, which cannot be.")
    return count


def evaluation_beside(dataset: str | None, data_path: str | Path | None) -> dict[str, Any]:
    """`read_evaluation` of a data set by name; empty where it is not here."""
    try:
        _, folder = find_dataset(dataset, data_path)
    except InputError:
        return {}
    return read_evaluation(folder)


def read_pairs(path: Path) -> np.ndarray:
    """The (user, item) pairs of one split, (n, 2), checked; raises InputError."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing: put the file there, or get a data set as datasets/README.md says."
        )
    pairs = read_array(path, "integers")
    if pairs.dtype not in (np.int32, np.int64):
        raise InputError(f"{path} must hold int32 or int64 ids, but holds {pairs.dtype}.")
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"{path} must have shape (n, 2), user and item, but has {pairs.shape}.")
    negative = np.flatnonzero((pairs < 0).any(axis=1))
    if len(negative):
        row = negative[0]
        raise InputError(f"{path} row {row} holds a negative id: {tuple(pairs[row].tolist())}.")
    return pairs


def refuse_sparse(path: Path, pairs: np.ndarray) -> None:
    """InputError for ids far beyond the number of rows: work and memory are taken for every user
    and item below them."""
    largest = int(pairs.max())
    if largest >= min(np.iinfo(np.int32).max, SPARSEST * len(pairs) + ROOM):
        raise InputError(
            f"{path} holds the id {largest}, far beyond its {len(pairs)} rows: users and items "
            f"must be numbered from 0, as {command_to_prepare()} does."
        )


def last_of_repeated(pairs: np.ndarray) -> np.ndarray:
    """The rows of (n, 2) pairs without those that a later one repeats; their order stays."""
    keys = pairs[:, 0].astype(np.int64) * (int(pairs[:, 1].max(initial=0)) + 1) + pairs[:, 1]
    _, last = np.unique(keys[::-1], return_index=True)
    return pairs[np.sort(len(pairs) - 1 - last)]


def load_dataset(
    dataset: str | None = None,
    data_path: str | Path | None = None,
    drop_unknown: bool = False,
    random_noise: float = 0.0,
    seed: int = 1,
    drop_repeated: bool = False,
) -> Dataset:
    """Read train_list.npy, valid_list.npy and test_list.npy of a data set (see `find_dataset`).

    Users and items are those up to the largest ids of the train list, as in the release; where the
    folder's stats.json says how it is evaluated, it also counts the items. A user or item beyond
    them in validation or test is an InputError, or its rows are left out with ``drop_unknown``.
    ``random_noise`` and ``seed``: see `add_random_noise`. A pair that a list repeats is an
    InputError, or its last row counts with ``drop_repeated``. Missing files, wrong arrays, negative
    ids and an empty train list are InputErrors too.
    """
    name, folder = find_dataset(dataset, data_path)
    pairs = {split: read_pairs(folder / f"{split}_list.npy") for split in SPLITS}
    if not len(pairs["train"]):
        raise InputError(f"{folder / 'train_list.npy'} is empty: there is nothing to learn from.")
    refuse_sparse(folder / "train_list.npy", pairs["train"])
    n_users, n_items = (pairs["train"].max(axis=0) + 1).tolist()
    evaluation = read_evaluation(folder)
    if evaluation:
        most = n_items + len(pairs["valid"]) + len(pairs["test"])
        n_items = max(n_items, counted_items(folder, most))
    parts = {}
    for split in SPLITS:
        path = folder / f"{split}_list.npy"
        unknown = (pairs[split] >= (n_users, n_items)).any(axis=1)
        if unknown.any():
            if not drop_unknown:
                row = int(np.flatnonzero(unknown)[0])
                raise InputError(
                    f"{path} row {row} holds {tuple(pairs[split][row].tolist())}, but train_list "
                    f"only knows users below {n_users} and items below {n_items} ({unknown.sum()} "
                    f"such rows): remove them, or leave them out with drop_unknown."
                )
            log.info(
                "%s: left out %d rows of users or items unknown to train.", path.name, unknown.sum()
            )
            pairs[split] = pairs[split][~unknown]
        if drop_repeated:
            kept = last_of_repeated(pairs[split])
            if len(kept) < len(pairs[split]):
                log.info("%s: left out %d repeated rows.", path.name, len(pairs[split]) - len(kept))
            pairs[split] = kept
        parts[split] = Interactions.from_pairs(pairs[split], n_users, n_items, str(path))
    found = Dataset(
        name, folder, parts["train"], parts["valid"], parts["test"],
        drop_unknown=drop_unknown, drop_repeated=drop_repeated, evaluation=evaluation,
    )  # fmt: skip
    warn_of_seen(found)
    return add_random_noise(found, random_noise, seed) if random_noise else found


def warn_of_seen(dataset: Dataset) -> None:
    """Tell of what validation or test ask for though the user has it already: unless the folder
    says otherwise, ranking leaves that out, and it counts as missed."""
    if dataset.evaluation.get("rank_seen"):
        return
    for split, again in dataset.asked_again().items():
        if again:
            log.warning(
                "%s: %d of %d rows are in an earlier list too, which ranking leaves out: no model "
                "can find them.",
                dataset.path / f"{split}_list.npy", again, len(getattr(dataset, split).items),
            )  # fmt: skip


def add_random_noise(dataset: Dataset, proportion: float, seed: int) -> Dataset:
    """Random noises of Section 4.2.2 and Figure 4: false interactions in train and validation.

    Every user gets ``round(proportion · n)`` items drawn uniformly without repetition from those
    the user has in no split, n being the user's count in the split that receives them (fewer where
    not enough items are left). They take random places in the user's order; test is untouched.
    """
    if not (isinstance(proportion, (int, float)) and 0 < proportion <= 1):
        raise InputError(f"random_noise must lie in (0, 1], got {proportion}.")
    if dataset.evaluation:
        raise InputError(
            f"{dataset.name} leaves out one item of each user: a false one would be what is asked "
            f"for, so that random_noise must be 0."
        )
    random = np.random.default_rng(seed)
    n_users, n_items = dataset.n_users, dataset.n_items
    taken = np.unique(np.concatenate([getattr(dataset, split).keys() for split in SPLITS]))
    free = n_items - np.bincount(taken // n_items, minlength=n_users)

    noisy = {}
    for split in ("train", "valid"):
        part = getattr(dataset, split)
        wanted = np.round(proportion * part.lengths.numpy()).astype(np.int64)
        wanted = np.minimum(wanted, free)
        free -= wanted
        noise = _draw_items(random, wanted, taken, n_items)
        taken = np.union1d(taken, noise)
        noisy[split] = _mix_in(random, part, noise)
    return dataclasses.replace(
        dataset, train=noisy["train"], valid=noisy["valid"], random_noise=proportion,
        noise_seed=seed,
    )  # fmt: skip


def _draw_items(
    random: np.random.Generator, wanted: np.ndarray, taken: np.ndarray, n_items: int
) -> np.ndarray:
    """``wanted[u]`` items for each user u that are not in ``taken``, as sorted keys u·I + item."""
    parts, missing = [np.empty(0, dtype=np.int64)], wanted.copy()
    while missing.any():  # rejection: what is taken already, or drawn twice, is drawn again
        users = np.repeat(np.arange(len(missing)), missing)
        keys = np.unique(users * n_items + random.integers(n_items, size=len(users)))
        place = np.searchsorted(taken, keys)
        new = taken[np.minimum(place, len(taken) - 1)] != keys
        taken = np.insert(taken, place[new], keys[new])
        parts.append(keys[new])
        missing -= np.bincount(keys[new] // n_items, minlength=len(missing))
    return np.sort(np.concatenate(parts))


def _mix_in(random: np.random.Generator, part: Interactions, noise: np.ndarray) -> Interactions:
    """The interactions of ``part`` in their order, with those of ``noise`` at random places."""
    pairs = part.pairs()
    noise_users = noise // part.n_items
    lengths = part.lengths.numpy()
    position = np.arange(len(pairs)) - np.repeat(part.offsets.numpy()[:-1], lengths)
    # Anywhere from before the first, at place -1, to behind the last of n, at n.
    gaps = random.random(len(noise)) * (lengths[noise_users] + 1) - 1
    place = np.concatenate([position, gaps])
    users = np.concatenate([pairs[:, 0], noise_users])
    items = np.concatenate([pairs[:, 1], noise % part.n_items])
    order = np.lexsort((place, users))
    mixed = np.stack([users[order], items[order]], axis=1)
    return Interactions.from_pairs(mixed, len(part), part.n_items)
