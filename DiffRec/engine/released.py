"""Reads the checkpoints of the authors' release, which are whole pickled modules, without trust.

A pickle can call any function it names. These files are read by PyTorch's restricted unpickler
with an allow-list: tensors and plain data are built as usual, and every module class is replaced by
an inert record of its attributes. A file that names anything else is refused with that name, and
nothing in it is executed. The diffusion's settings are not in the files; their names tell them.
"""

import contextlib
import dataclasses
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DiffRec.engine.errors import InputError

MOST_MODULES = 10_000  # in a file; the release's have a dozen


class Record:
    """Stands in for a pickled module: its attributes, and no behaviour. Those that are read are
    named here; a file may lack them, or have anything there."""

    _parameters: dict | None
    _buffers: dict | None
    _modules: dict | None
    out_dims: Any
    time_emb_dim: Any
    norm: Any

    def __setstate__(self, state) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


class ScalarType:
    """Stands in for a NumPy dtype of an integer or float."""

    def __init__(self, code: str, *_):
        if not re.fullmatch(r"[iuf][1248]", code):
            raise InputError(f"a checkpoint holds a NumPy value of type {code!r}.")
        self.code = code

    def __setstate__(self, state) -> None:
        """The byte order, which is the machine's own in every file seen."""


def scalar(dtype: ScalarType, data: bytes) -> int | float:
    """The Python number of a pickled NumPy scalar."""
    return np.frombuffer(data, dtype.code, count=1)[0].item()


def stand_in_for(name: str) -> tuple[type, str]:
    """A class of records under the last part of ``name``, and the name."""
    return type(name.rsplit(".", 1)[-1], (Record,), {}), name


NETWORK, NETWORK_NAME = stand_in_for("models.DNN.DNN")
AUTOENCODER, AUTOENCODER_NAME = stand_in_for("models.Autoencoder.AutoEncoder")
MODULES = dict(
    stand_in_for(f"torch.nn.modules.{name}")[::-1]
    for name in (
        *("linear.Linear", "container.Sequential", "container.ModuleList", "dropout.Dropout"),
        *("activation.Tanh", "activation.ReLU", "activation.Sigmoid", "activation.LeakyReLU"),
    )
)
ALLOWED: list[Callable | tuple[Callable, str]] = [
    (NETWORK, NETWORK_NAME),
    (AUTOENCODER, AUTOENCODER_NAME),
    *((record, name) for name, record in MODULES.items()),
    (ScalarType, "numpy.dtype"),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]
ACTIVATION_NAMES = {"Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid", "LeakyReLU": "leaky_relu"}


def require_unpacked(path: Path) -> None:
    """InputError for an archive that would grow when it is read: torch.save packs nothing."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{path} is no whole file of torch.save ({error}).") from error
    if size > path.stat().st_size:
        raise InputError(f"{path} is packed, as torch.save packs nothing: it was not read.")


def read(path: Path, expected: type[Record], what: str) -> Record:
    """The pickled module in ``path`` as a record; InputError unless it is of that class.

    what: words for that, for messages.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    require_unpacked(path)
    try:
        with torch.serialization.safe_globals(ALLOWED):
            module = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except InputError:
        raise
    except Exception as error:  # a damaged or foreign file can make the reader raise anything
        found = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)", str(error))
        if found:
            name = (found[1] or found[2]).rstrip(".")
            raise InputError(
                f"{path} names {name}, which no checkpoint of the release does: it was not read."
            ) from error
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path} is not a whole checkpoint of the release ({reason}).") from error
    if not isinstance(module, expected):
        raise InputError(f"{path} holds a {type(module).__name__}, where {what} is expected.")
    return module


def weights_of(module: Record) -> dict[str, torch.Tensor]:
    """Parameters and buffers under the names a state dict gives them."""
    weights: dict[str, torch.Tensor] = {}
    waiting = [("", module)]
    for place, record in waiting:
        if len(waiting) > MOST_MODULES:  # one that holds itself has no end
            raise ValueError("it has too many modules")
        own = {**(record._parameters or {}), **(record._buffers or {})}
        weights |= {f"{place}{name}": t.detach() for name, t in own.items() if t is not None}
        waiting += [(f"{place}{name}.", child) for name, child in (record._modules or {}).items()]
    return weights


def activation_of(module: Record) -> str | None:
    """The name of the first activation layer inside, if any."""
    waiting = [module]
    for record in waiting:
        if len(waiting) > MOST_MODULES:
            raise ValueError("it has too many modules")
        for child in (record._modules or {}).values():
            if type(child).__name__ in ACTIVATION_NAMES:
                return ACTIVATION_NAMES[type(child).__name__]
            waiting.append(child)
    return None


@dataclasses.dataclass(frozen=True)
class Released:
    """A released checkpoint, understood.

    Attributes:
        weights: under our names.
        settings: those that the content tells.
        named: those that the file's name tells; {} if it tells no diffusion.
        n_items: I.
    """

    weights: dict[str, torch.Tensor]
    settings: dict
    named: dict
    n_items: int


# What reading an attribute that is missing, or is something else, can raise.
WRONG = (AttributeError, TypeError, ValueError, LookupError, RuntimeError, ArithmeticError)


@contextlib.contextmanager
def understood(path: Path):
    """Inside, whatever a module lacks that the release's have makes the file a foreign one."""
    try:
        yield
    except InputError:
        raise
    except WRONG as error:
        raise InputError(
            f"{path} is not built like a checkpoint of the release ({error})."
        ) from error


def read_network(path: Path, dims: str) -> tuple[dict[str, torch.Tensor], dict, int]:
    """The denoising network: its weights, the settings it tells, and the width of what it denoises.

    dims: the setting that has its hidden sizes. The release has two classes under one name. The
    latent one keeps activations between its layers, so that its linear layers are numbered 0, 2, 4
    where ours are 0, 1, 2.
    """
    module = read(path, NETWORK, "the denoising network")
    with understood(path):
        weights = {}
        layers: dict[str, dict[str, int]] = {"in_layers": {}, "out_layers": {}}
        for name, tensor in weights_of(module).items():
            group, *rest = name.split(".")
            if group not in layers:
                weights[f"dnn.{name}"] = tensor
                continue
            number = layers[group].setdefault(rest[0], len(layers[group]))
            weights[f"dnn.{group}.{number}.{rest[1]}"] = tensor
        out = [int(size) for size in module.out_dims]
        settings = {
            dims: out[:-1],
            "emb_size": int(module.time_emb_dim),
            "norm": bool(module.norm),
            "mlp_act_func": activation_of(module) or "tanh",
        }
        return weights, settings, out[-1]


# In a file's name, where the words stand that hold a setting's value, and what the value is.
Names = Mapping[str, tuple[str, type]]
NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
OF_DIFFUSION: Names = {
    "batch_size": (r"_bs(\d+)", int),
    "mean_type": (r"_(x0|eps)_", str),
    "steps": (r"_steps(\d+)", int),
    "noise_scale": (rf"_scale{NUMBER}", float),
    "noise_min": (rf"(?<!w)_min{NUMBER}", float),
    "noise_max": (rf"(?<!w)_max{NUMBER}", float),
    "sampling_steps": (r"_sample(\d+)", int),
}
NEEDED = ("steps", "noise_scale", "noise_min", "noise_max")


def settings_in_name(name: str, known: Names) -> dict:
    """The settings that a released file's name tells; {} if it tells no diffusion.

    The word behind reweight is not read: the release took every value, reweight0 too, as true, and
    inference does not depend on it.
    """
    found = {}
    for setting, (pattern, kind) in {**OF_DIFFUSION, **known}.items():
        match = re.search(pattern, name)
        if match:
            found[setting] = kind(match[1])
    return found if all(setting in found for setting in NEEDED) else {}
