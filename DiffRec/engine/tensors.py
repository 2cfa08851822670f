"""What the tensors of a file must be before a model takes them: no file is trusted.

A wrong shape, type or index would make libraries read where they should not, or give scores that
mean nothing. And nothing is built, on the word of a header, that is far larger than what the file
holds.
"""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from DiffRec.engine.errors import InputError

LARGEST_WEIGHT = 1e18  # in size: sums of products of what is larger are infinite in float32
ROOM = 10**7  # numbers in a tensor that a model may make besides those of the file


@dataclasses.dataclass(frozen=True)
class Expected:
    """A tensor of a file.

    Attributes:
        shape: its sizes; a letter stands for any, the same wherever it stands.
        at_most: of an index tensor, the largest value; a letter is a size. The smallest is 0.
        ascending: whether its values begin with 0 and never fall.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32
    at_most: int | str | None = None
    ascending: bool = False


def digest_of_tensors(named: Mapping[str, torch.Tensor]) -> str:
    """A SHA-256 of tensors and their names."""
    found = hashlib.sha256()
    for name, tensor in named.items():
        found.update(name.encode())
        as_bytes = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        found.update(as_bytes.numpy().data)
    return found.hexdigest()


def of_tensor(tensor: torch.Tensor) -> Expected:
    """One like this."""
    return Expected(tuple(tensor.shape), tensor.dtype)


def require(
    path: str | Path, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, Expected]
) -> None:
    """InputError, naming the tensor, unless a file holds exactly what is expected."""

    def refuse(name: str, what: str) -> None:
        raise InputError(f"the weights in {path} do not fit the model: {name} {what}.")

    for name in sorted(set(expected) - set(tensors)):
        refuse(name, "is missing")
    for name in sorted(set(tensors) - set(expected)):
        refuse(name, "is not the model's")
    sizes: dict[Any, Any] = {}  # by letter
    for name, wanted in expected.items():
        tensor = tensors[name]
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.dtype != wanted.dtype:
            refuse(name, f"is of type {tensor.dtype}, not {wanted.dtype}")
        shape = tuple(tensor.shape)
        if len(shape) == len(wanted.shape):
            for size, word in zip(shape, wanted.shape, strict=True):
                if isinstance(word, str):
                    sizes.setdefault(word, size)
        right = tuple(sizes.get(word, word) for word in wanted.shape)
        if shape != right:
            refuse(name, f"has shape {shape}, not {right}")
    for name, wanted in expected.items():
        tensor = tensors[name]
        if not tensor.numel():
            continue
        if tensor.is_floating_point():
            if not (tensor.abs().max() <= LARGEST_WEIGHT):
                refuse(name, "holds values that are not numbers, or too large to compute with")
            continue
        if wanted.at_most is not None:
            limit = sizes.get(wanted.at_most, wanted.at_most)
            low, high = int(tensor.min()), int(tensor.max())
            if low < 0 or high > limit:
                refuse(name, f"holds {low if low < 0 else high}, outside of 0 to {limit}")
        if wanted.ascending and (int(tensor[0]) != 0 or bool((tensor.diff() < 0).any())):
            refuse(name, "does not begin with 0 and rise")


class _AtMost(TorchFunctionMode):
    """Inside, no new tensor has more than so many numbers."""

    MAKERS = frozenset(
        (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange,
         torch.linspace, torch.eye, torch.randperm)
    )  # fmt: skip

    def __init__(self, limit: int, path: str | Path):
        self.limit, self.path = limit, path

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.MAKERS:
            sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
            numbers = [size for size in sizes if isinstance(size, int)]
            count = max(numbers, default=0)
            if func not in (torch.arange, torch.linspace):
                count = math.prod(numbers)
            if count > self.limit:
                raise InputError(
                    f"{self.path} describes a model of which it does not hold the weights."
                )
        return func(*args, **(kwargs or {}))


def held(tensor: torch.Tensor) -> int:
    """How many numbers are really there: a view can show one of them a billion times."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return 0
    return min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())


@contextlib.contextmanager
def no_larger_than(tensors: Mapping[str, torch.Tensor], path: str | Path) -> Iterator[None]:
    """Inside, a model is built for these tensors: InputError, before memory is taken, for one that
    is far larger."""
    largest = max(map(held, tensors.values()), default=0)
    with _AtMost(largest + ROOM, path):
        yield
