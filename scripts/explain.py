"""Why a user is recommended what: python scripts/explain.py --checkpoint FILE USER [--out WHY.png]

The user's history, the list, and for each recommendation the items of the history that speak for
it: by how much its score falls when an item is left out, all else as it was. As text, and as a
picture of the items that matter most. Users and items are raw ids where the data folder has
user_map.csv and item_map.csv, and items have titles where item_map.csv has a column title.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pictures
import reproduction  # noqa: F401  (registers the models)
import torch
from arguments import add_from_file, data_of, header_of, models_from

from DiffRec import Interactions, Recommender
from DiffRec.engine.commands import command
from DiffRec.engine.contract import any_model, rows_at_once
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import require_writable
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.ids import IdMap
from DiffRec.engine.serving import rows_to_serve
from DiffRec.engine.settings import Folder, Positive
from DiffRec.evaluate_utils import mask_seen, top_k

SPEAKING = 3  # items of the history that are told for each recommendation
COLUMNS = 12  # of the picture, at most
LETTERS = 28  # of a name in it


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A list and what speaks for it.

    Attributes:
        history: (H,) the user's items, oldest first.
        items, scores: (K,) the list, best first.
        changes: (K, H) by how much each score falls without each item of the history.
    """

    history: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    changes: np.ndarray


def without_each(row: Interactions) -> Interactions:
    """H rows from one of H items: the n-th lacks the n-th item; the others keep their weights."""
    n = len(row.items)
    kept = ~torch.eye(n, dtype=torch.bool)
    where = torch.arange(n).repeat(n, 1)[kept]
    offsets = torch.arange(n + 1) * (n - 1)
    values = None if row.values is None else row.values[where]
    return Interactions(offsets, row.items[where], values, row.n_items)


@torch.inference_mode()
def explain(model: Recommender, row: Interactions, seen: Interactions, k: int) -> Explanation:
    """row, seen: of one user, what the model is given and what is not recommended."""
    model.require_rows("nothing in a history speaks for a recommendation")
    if model.draws_noise:
        raise InputError("this model draws noise at inference, which would hide what speaks.")
    if not len(row.items):
        raise InputError("this user has no history: nothing speaks for a recommendation.")
    score = model.kept_scorer()
    (scores,) = score(row)
    items = top_k(mask_seen(scores[None].clone(), seen), min(k, model.n_items))[0]
    items = items[~torch.isin(items, seen.items)]  # where fewer than k others are left
    if not len(items):
        raise InputError("this user has every item: nothing is left to recommend.")
    fewer = without_each(row)
    parts = [score(part)[:, items] for part in fewer.batches(rows_at_once(model.n_items))]
    changes = (scores[items] - torch.cat(parts)).T
    arrays = row.items, items, scores[items], changes
    return Explanation(*(array.numpy() for array in arrays))


def titles_of(folder: Path, names: np.ndarray) -> list[str]:
    """What to call each item: its raw id, and its title where item_map.csv has one."""
    path = folder / "item_map.csv"
    words = [str(name) for name in names]
    if path.is_file():
        import pandas as pd  # here, since it takes half a second

        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if "title" in table.columns:
            told = dict(zip(table["raw_item"], table["title"], strict=True))
            words = [f"{word} {told[word]}".rstrip() for word in words]
    return words


def text(found: Explanation, names: list[str]) -> str:
    """The history in order of time, and the list with what speaks most for each of it."""
    history = [names[item] for item in found.history]
    lines = [f"history, oldest first ({len(history)}): {', '.join(history)}", ""]
    rows = zip(found.items, found.scores, found.changes, strict=True)
    for rank, (item, score, changes) in enumerate(rows, start=1):
        most = np.argsort(-changes, kind="stable")[:SPEAKING]
        told = [f"{history[n]} ({changes[n]:+.4f})" for n in most if changes[n] > 0]
        lines += [f"{rank:3d}. {names[item]}  {score:.4f}", f"     {'; '.join(told) or 'nothing'}"]
    return "\n".join(lines)


def shortened(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def draw(found: Explanation, names: list[str], title: str, path: Path) -> None:
    """A row for each recommendation and a column for each item that matters most to any."""
    pyplot = pictures.drawing(path.name)
    most = np.argsort(-np.abs(found.changes).max(axis=0), kind="stable")[:COLUMNS]
    most = np.sort(most)  # in order of time again
    shown = found.changes[:, most]
    across, down = (
        [pictures.plain(shortened(names[n])) for n in some]
        for some in (found.history[most], found.items)
    )
    picture, axis = pyplot.subplots(
        figsize=(3 + 0.55 * len(across), 2.4 + 0.34 * len(down)), layout="constrained"
    )
    limit = np.abs(shown).max() or 1.0
    image = axis.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axis.set_xticks(range(len(across)), across, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(down)), down)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="item of the history, left out", ylabel="recommendation, best first")
    axis.set_title(pictures.plain(title), fontsize=10)
    picture.colorbar(image, ax=axis, label="fall of the score")
    pictures.save(picture, path)
    pyplot.close(picture)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(__doc__)
    parser.add_argument("user", help="by raw id, or by number where there are none")
    parser.add_argument("--checkpoint", type=checked(Folder), required=True)
    parser.add_argument("--dataset", default=None, help="by default the checkpoint's")
    parser.add_argument("--data_path", type=checked(Folder), default=None)
    parser.add_argument("--k", type=checked(Positive), default=10, help="length of the list")
    add_from_file(parser)
    parser.add_argument(
        "--out", type=checked(Folder), default=Path("explanation.png"), help="of the picture"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    models_from(argv)
    args = make_parser().parse_args(argv)
    pictures.require_format(args.out)
    require_writable(args.out, [args.checkpoint])
    model = any_model(args.checkpoint)
    header = header_of(args.checkpoint)
    data = data_of(args.checkpoint, header, args.dataset, args.data_path)
    users = IdMap.of_folder("user", data.path, data.n_users)
    items = IdMap.of_folder("item", data.path, data.n_items)
    (number,) = users.to_numbers([args.user])
    which = torch.tensor([number])
    seen = data.left_out().rows(which)
    found = explain(model, rows_to_serve(header, data, model).rows(which), seen, args.k)
    names = titles_of(data.path, items.names())
    title = f"{model.variant} on {data.name}: user {args.user}"
    print(title, text(found, names), sep="\n")
    draw(found, names, title, args.out)
    print(f"picture: {args.out}")


if __name__ == "__main__":
    command(main)
