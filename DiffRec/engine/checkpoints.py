"""Checkpoints: one safetensors file with the weights and a JSON header that says what they are.

The header holds ``format``, ``version`` (of the project that wrote it), ``variant``, ``dataset``,
``settings``, ``seed``, ``best_epoch``, ``valid``, ``test`` and ``data`` (`Dataset.fingerprint`);
beside it lie the raw ids of the items, where the data have them, and how many train interactions
each item has. Nothing in the file can execute, and no setting in it says where anything is written.

Headers and recorded runs of older formats are carried forward by ``RENAMED`` and ``REMOVED``.
"""

import glob
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from DiffRec.data_utils import Dataset
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import hash_of, write_safetensors
from DiffRec.engine.ids import IdMap
from DiffRec.engine.settings import LARGEST, Settings

FORMAT = 2
# A file that holds some of the items alone; all of them together are NAME.safetensors.
PART = re.compile(r"(?P<name>.+)\.part(?P<number>\d+)of(?P<size>\d+)\.safetensors")
KINDS = {"format": int, "variant": str, "dataset": str, "settings": dict, "seed": int}
# What a header may have besides: version (of this package) is not read; how a run began is told by
# its preset, by the name of the checkpoint of a warm start, and by whether a model was trained on.
MORE = {
    "best_epoch": int, "valid": dict, "test": dict, "preset": str, "warm_start": str,
    "went_on": bool,
}  # fmt: skip
HEADER = (*KINDS, *MORE, "version", "data")

# What changed from a format to the next one: settings by their old name and their new one, and
# settings that are gone, with the only value of theirs that needs nobody's attention.
RENAMED: dict[int, dict[str, str]] = {}
REMOVED: dict[int, dict[str, Any]] = {1: {"timestamps": None}}  # an option now: it names a file


# What stands along each axis of a tensor: see `DiffRec.engine.contract.Recommender.axes`.
Axes = tuple[torch.Tensor | None, ...]


def split_of(axes: Axes) -> tuple[int | None, int]:
    """The axis of a tensor along which items stand, and how many these are."""
    for axis, labels in enumerate(axes):
        if labels is not None and (labels >= 0).any():
            return axis, int((labels >= 0).sum())
    return None, 0


def migrated(settings: Mapping[str, Any], format: int) -> dict[str, Any]:
    """Settings of an older format under today's names; InputError for a value that has no place
    today, and for a format that there never was."""
    if type(format) is not int or not 1 <= format <= FORMAT:
        raise InputError(f"there is no format {format!r:.40}.")
    found = dict(settings)
    for step in range(format, FORMAT):
        renamed = RENAMED.get(step, {})
        found = {renamed.get(name, name): value for name, value in found.items()}
        for name, harmless in REMOVED.get(step, {}).items():
            if found.pop(name, harmless) != harmless:
                raise InputError(
                    f"it was made with {name} {settings[name]}, which is no setting any more: give "
                    f"it as --{name}."
                )
    return found


def completed(path: str | Path, header: dict, kind: type[Settings]) -> dict:
    """The header with all of today's settings, which are ``kind``: migrated, checked, and with
    defaults for new ones."""
    try:
        settings = kind.of(migrated(header["settings"], header["format"]))
    except InputError as error:
        raise InputError(f"{path} has settings that do not fit: {error}") from error
    return {**header, "settings": settings.dump()}


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers, on the CPU; what has several names has a copy for each."""
    found, seen = {}, set()
    for name, tensor in model.state_dict().items():
        own = tensor.detach().cpu()
        memory = own.untyped_storage().data_ptr()
        found[name] = own.clone() if memory in seen else own
        seen.add(memory)
    return found


def save(
    path: str | Path,
    model: nn.Module,
    header: dict,
    item_ids: np.ndarray | None = None,
    popularity: torch.Tensor | None = None,
    part: dict | None = None,
) -> None:
    """Write ``path`` whole or not at all; on failure the previous file is still there. part: which
    items these are, and where they stand in the weights, if they are not all
    (`Recommender.part_of_items`)."""
    about = {**header, "format": FORMAT, "version": version("diffrec")}
    metadata = {"diffrec": json.dumps(about)}
    if item_ids is not None:
        metadata["item_ids"] = json.dumps(item_ids.tolist())
    if popularity is not None:
        metadata["popularity"] = json.dumps(popularity.tolist())
    if part is not None:
        metadata["part"] = json.dumps(part)
    write_safetensors(path, weights_of(model), metadata)


def load(path: str | Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Header and weights of a checkpoint, whole or in parts; InputError for a missing one."""
    path = Path(path)
    header = read_header(path)
    if not path.is_file():
        return header, load_items(path, 0, header["data"]["items"])
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return header, weights


# Checkpoints in parts, by items ------------------------------------------------------------------


def part_path(path: Path, rank: int, size: int) -> Path:
    return path.with_name(f"{path.stem}.part{rank + 1}of{size}.safetensors")


def part_paths(path: Path, suffix: str = "") -> list[Path]:
    """The parts of a checkpoint that are there, or the files beside them with a suffix."""
    pattern = f"{glob.escape(path.stem)}.part*of*.safetensors{suffix}"
    found = path.parent.glob(pattern)
    return sorted(p for p in found if PART.fullmatch(p.name.removesuffix(suffix)))


def whole_path(path: Path) -> Path:
    """What a checkpoint is called, of whose parts ``path`` may be one."""
    found = PART.fullmatch(path.name)
    return path.with_name(f"{found['name']}.safetensors") if found else path


def file_hash(path: Path) -> str:
    """SHA-256 of a checkpoint's file, or of its parts'."""
    return hash_of(*([path] if path.is_file() else part_paths(path)))


def parts_of(path: Path) -> list[tuple[Path, dict]]:
    """The parts of a checkpoint in the order of their items, and what each tells of itself;
    InputError unless together they are one."""
    paths = part_paths(path)
    if not paths:
        raise InputError(f"there is no checkpoint {path}.")
    found, best = [], set()
    for part in paths:
        try:
            metadata = read_metadata(part)
            told = json.loads(metadata["part"])
            header = json.loads(metadata["diffrec"])
            best.add(json.dumps([header[n] for n in ("settings", "seed", "best_epoch", "data")]))
            whole = all(type(told[name]) is int for name in ("first", "stop"))
            whole = whole and all(
                len(split) == 2 and all(type(n) is int and n >= 0 for n in split)
                for split in told["axes"].values()
            )
            items = header["data"]["items"]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise InputError(f"{part} is no part of a checkpoint of this project.")
        found.append((part, told))
    found.sort(key=lambda pair: pair[1]["first"])
    ends = [0, *(told["stop"] for _, told in found)]
    if len(best) > 1 or [told["first"] for _, told in found] != ends[:-1] or ends[-1] != items:
        raise InputError(
            f"the parts of {path} do not make one checkpoint: one is missing, or they are of "
            f"different runs or epochs."
        )
    return found


def load_items(path: Path, first: int, stop: int) -> dict[str, torch.Tensor]:
    """The weights of the items first..stop-1, and those that belong to none, from a checkpoint in
    parts, of which no more is read."""
    weights: dict[str, list[torch.Tensor]] = {}
    axes: dict[str, int] = {}
    for part, told in parts_of(path):
        low, high = max(first, told["first"]), min(stop, told["stop"])
        with safe_open(part, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                axis, count = told["axes"].get(name, (None, 0))
                if axis is None:
                    weights.setdefault(name, [file.get_tensor(name)])
                    continue
                axes[name], lazy = axis, file.get_slice(name)
                here = told["stop"] - told["first"]
                if axis > 1 or count != here or [*lazy.get_shape(), 0, 0][axis] < here:
                    raise InputError(f"{part} is no part of a checkpoint of this project.")
                cut = slice(low - told["first"], max(high - told["first"], low - told["first"]))
                rest = slice(count, lazy.get_shape()[axis])
                of_items = weights.setdefault(name, [lazy[rest] if axis == 0 else lazy[:, rest]])
                if low < high:
                    of_items.insert(-1, lazy[cut] if axis == 0 else lazy[:, cut])
    try:
        return {
            name: torch.cat(found, dim=axes[name]) if name in axes else found[0]
            for name, found in weights.items()
        }
    except RuntimeError as error:  # of shapes that do not fit each other
        raise InputError(f"the parts of {path} do not make one checkpoint.") from error


def of_items_alone(
    weights: Mapping[str, torch.Tensor], axes: Mapping[str, Axes], first: int, stop: int,
    n_items: int,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Of the weights of all items those of the items first..stop-1, and what belongs to none. axes:
    `Recommender.axes`, of any number of items."""
    found = dict(weights)
    for name, (axis, _) in {name: split_of(some) for name, some in axes.items()}.items():
        if axis is not None and name in weights and weights[name].dim() > axis:
            size = weights[name].shape[axis]
            own = weights[name].narrow(axis, min(first, size), max(min(stop, size) - first, 0))
            rest = weights[name].narrow(axis, min(n_items, size), max(size - n_items, 0))
            found[name] = torch.cat([own, rest], dim=axis)
    return found


def read_header(path: str | Path) -> dict:
    """The header of a checkpoint; InputError if the file is missing or not one."""
    path = Path(path)
    metadata = read_metadata(path)
    if "diffrec" not in metadata:
        raise InputError(f"{path} holds weights, but no header of this project.")
    try:
        header = json.loads(metadata["diffrec"])
        whole = all(type(header[name]) is kind for name, kind in KINDS.items())
        whole = whole and all(
            type(header[name]) is kind for name, kind in MORE.items() if name in header
        )
        whole = whole and header["format"] >= 1
        sizes = header["data"]["items"], header["data"].get("users", 1)
        whole = whole and all(type(size) is int and 0 < size <= LARGEST for size in sizes)
    except (ValueError, TypeError, LookupError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{path} has a header that is not one of this project's.")
    if header["format"] > FORMAT:
        raise InputError(
            f"{path} has checkpoint format {header['format']}, but this version reads up to "
            f"{FORMAT}: update the project."
        )
    unknown = sorted(set(header) - {*HEADER, *({"checkpoint"} if header["format"] == 1 else ())})
    if unknown:
        raise InputError(f"{path} has a header with what no checkpoint has: {unknown[0]}.")
    return {name: header[name] for name in HEADER if name in header}


def read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        parts = [read_metadata(part) for part, _ in parts_of(path)]
        lists: dict[str, str] = {
            name: f"[{', '.join(part[name].strip('[]') for part in parts)}]"
            for name in ("item_ids", "popularity") if all(name in part for part in parts)
        }  # fmt: skip
        return {"diffrec": parts[0]["diffrec"], **lists}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}).") from error


def of_items(path: str | Path, name: str, kinds: str, what: str, n_items: int) -> np.ndarray | None:
    """(I,) what a checkpoint says of each item under a name, of one of NumPy's kinds, or None if it
    says nothing; ``what`` is that in words."""
    path = Path(path)
    text = read_metadata(path).get(name) if path.suffix == ".safetensors" else None
    if text is None:
        return None
    try:
        found = np.array(json.loads(text))
        whole = found.shape == (n_items,) and found.dtype.kind in kinds
    except (ValueError, RecursionError, OverflowError):
        whole = False
    if not whole:
        raise InputError(f"{path} does not hold {what} for each of its {n_items} items.")
    return found


def item_ids(path: str | Path, n_items: int) -> IdMap | None:
    """The raw ids of the items that a checkpoint was trained on, or None if it has none."""
    raw = of_items(path, "item_ids", "iU", "a raw id", n_items)
    return None if raw is None else IdMap("item", n_items, raw)


def popularity(path: str | Path, n_items: int) -> torch.Tensor | None:
    """(I,) int64: how many train interactions each item had, or None if the file does not tell."""
    counts = of_items(path, "popularity", "i", "a count", n_items)
    return None if counts is None else torch.from_numpy(counts)


def require_variant(path: str | Path, header: dict, *variants: str) -> None:
    if header["variant"] not in variants:
        raise InputError(f"{path} holds {header['variant']}, not {' or '.join(variants)}.")


def require_items(
    path: str | Path, header: dict, dataset: Dataset, raw_ids: bool = True
) -> None:  # fmt: skip
    """Refuse to score a data set whose items are not those the model was trained on, in their
    order, as far as both tell their raw ids."""
    trained = header["data"]["items"]
    if trained != dataset.n_items:
        raise InputError(
            f"{path} was trained on {trained} items, but {dataset.name} has {dataset.n_items}."
        )
    known = item_ids(path, trained) if raw_ids else None
    if known is not None:
        known.require_same(IdMap.of_folder("item", dataset.path, trained), str(path), dataset.name)


def put_into(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Make checked ``weights`` those of a model: themselves, or where one has several names, which
    must remain one, their values."""
    named = list(model.named_parameters(remove_duplicate=False))
    tied = len({id(parameter) for _, parameter in named}) < len(named)
    model.load_state_dict(weights, assign=not tied)


def fill(model: nn.Module, weights: dict[str, torch.Tensor], path: str | Path) -> None:
    """Copy ``weights`` into ``model``; InputError if they do not fit it."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise InputError(f"the weights in {path} do not fit the model: {first}") from error
