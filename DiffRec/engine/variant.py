"""The one list of models: what a model is called, set by, built from and read from.

Each package registers its models when it is imported. Commands, tables, search and conversion ask
this list, and nobody takes a name apart.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from DiffRec.data_utils import home
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import hash_of
from DiffRec.engine.flags import shown
from DiffRec.engine.settings import (
    Between,
    DataSettings,
    InferenceOptions,
    RunOptions,
    Settings,
    Word,
    at_home,
    joined,
)

if TYPE_CHECKING:
    from DiffRec.data_utils import Dataset
    from DiffRec.engine.contract import Recommender
    from DiffRec.engine.released import Released

OWN_DATA = "own_data"  # the preset of data that have none of their own
TUNED = "_tuned"  # the end of the name of a preset that a search found for the data set
FREE = ("epochs", "patience")  # in which a run may differ from the one whose state it goes on with
LONGEST_HEAD = 36  # letters of a run's name before its seed and hash: with .safetensors.state 78


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model and what commands must know of it.

    Attributes:
        model: its class, which has its name and its settings.
        folder: that of its main.py and inference.py.
        presets: a TOML file with a section of settings for each data set, or a function that gives
            the sections.
        flags: what its main.py must be told to train this model and no other.
        run_name: what stands before each setting in the long names of runs; a word alone for None.
        options: of training, and ``inference_options`` of inference.
        prepare: what the options make of the data, before any model is built.
        read_released: reads the release's checkpoint of it, a file and for latent models a second
            one; None if there are none.
        released_files: how many files that are.
        presets_file, section: where a search writes the preset that it finds: a TOML file, and the
            tables around the preset's own; by default the file of ``presets``, and none.
        group: the table's kind of method it is: ours, of the paper's baselines, or a simple one.
    """

    model: "type[Recommender]"
    folder: Path
    presets: Path | Callable[[], dict[str, dict]]
    flags: tuple[str, ...] = ()
    run_name: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    options: type[RunOptions] = RunOptions
    inference_options: type[InferenceOptions] = InferenceOptions
    prepare: "Callable[[Dataset, RunOptions], Dataset]" = lambda dataset, options: dataset
    read_released: "Callable[[Path, Path | None], Released] | None" = None
    released_files: int = 1
    presets_file: Path | None = None
    section: tuple[str, ...] = ()
    group: str = "ours"

    @property
    def name(self) -> str:
        return self.model.variant

    @property
    def settings(self) -> type[Settings]:
        """All that decides the numbers of its runs: of the model, its training and its data."""
        return settings_of(self.model)

    @property
    def saved_models(self) -> Path:
        """Where its checkpoints go if no folder is named."""
        return home(self.folder) / "saved_models"

    def known_presets(self, path: Path | None = None) -> dict[str, dict]:
        """The settings of each preset, by its name, in the file ``path`` or by default the model's
        own; ``like`` names another that a preset goes on from."""
        if path is not None:
            found = functools.reduce(lambda part, key: part.get(key, {}), self.section,
                                     read_presets(path))  # fmt: skip
        else:
            found = self.presets() if callable(self.presets) else read_presets(self.presets)
        whole = {}
        for name, some in found.items():
            own = dict(some)
            like = own.pop("like", None)
            if like is not None and like not in found:
                raise InputError(f"preset {name} of {self.name} is like {like}, which is none.")
            whole[name] = own if like is None else {**found[like], **own}
        return whole

    def published_presets(self) -> dict[str, dict]:
        """Those of the paper's data sets, none of which was found by a search."""
        known = self.known_presets()
        return {
            name: some for name, some in known.items()
            if name != OWN_DATA and not name.endswith(TUNED)
        }  # fmt: skip

    def preset_for(self, dataset: str) -> str:
        """The preset of a data set: its own, else that for own data, else none."""
        known = self.known_presets()
        return next((name for name in (dataset, OWN_DATA) if name in known), "none")

    def preset(self, name: str) -> dict:
        """A preset's settings; none for "none", and those in a file for "FILE:NAME". InputError if
        there is no such preset, or if it sets what does not exist."""
        if name == "none":
            return {}
        file, _, name = name.rpartition(":")
        known = self.known_presets(at_home(Path(file)) if file else None)
        if name not in known:
            raise InputError(
                f"there is no preset {name} of {self.name}{f' in {file}' if file else ''}: choose "
                f"one of {', '.join([*known, *(() if file else ('none',))])}."
            )
        unknown = sorted(set(known[name]) - self.settings.names())
        if unknown:
            raise InputError(f"preset {name} sets what {self.name} does not have: {unknown}.")
        return known[name]

    def name_of_run(
        self, dataset: str, settings: Mapping[str, Any], seed: int, log_name: str = "log",
        data: str = "", identity: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """The name of a run's files: DiffRec_ml-1m_clean_seed1_0a1b2c3d.

        The hash is of the run's whole name, of the data's hash, ``data``, of what else tells the
        model from others, ``identity`` (`Recommender.identity`), and of all settings that are not
        the default's, but those in which a run may be made longer: no run overwrites the files of
        another, and a new setting renames none.
        """
        start = self.settings().dump()
        changed = {
            name: value
            for name, value in settings.items()
            if name not in FREE and value != start[name]
        }
        told = [self.name, dataset, seed, log_name, changed, *filter(None, (data, identity))]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
        head = "_".join([self.name, dataset, *([log_name] if log_name != "log" else [])])
        return f"{head[:LONGEST_HEAD]}_seed{seed}_{digest}"

    def long_name_of_run(
        self, dataset: str, settings: Mapping[str, Any], seed: int, log_name: str, preset: str
    ) -> str:
        """The name of a run's files in the manner of the released checkpoints, with its settings.

        What ``run_name`` does not show, and is neither default nor of the preset, is told apart by
        a short hash. Other data of this name, and other item clusters, are not.
        """
        words = []
        for prefix, name in self.run_name.items():
            value = "" if name is None else str(settings[name]).replace(" ", "")
            words.append(f"{prefix}{value}")
        words += [log_name, f"seed{seed}"]
        start = self.settings.of(self.preset(preset)).dump()
        named = {*self.run_name.values(), *FREE}
        changed = sorted(
            (name, str(value))
            for name, value in settings.items()
            if name not in named and value != start[name]
        )
        if changed:
            words.append(hashlib.sha256(repr(changed).encode()).hexdigest()[:6])
        return "_".join([dataset, *words])


@functools.cache
def read_presets(path: Path) -> dict[str, dict]:
    """The sections of a preset file, one for each data set."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a file of presets ({error}).") from error


def settings_of(model: "type[Recommender]") -> type[Settings]:
    """The settings of a model, its training and its data, as one class."""
    return joined(f"{model.__name__}Run", model.Settings, model.Training, DataSettings)


REGISTRY: dict[str, Variant] = {}
CODE: dict[str, str] = {}  # hashes of files of models, by the names of their modules


def register(*variants: Variant) -> None:
    """Put models on the list; a name that is there already is replaced. InputError for a class
    without a name of its own, for settings that no command could take, and for ranges of what is no
    setting."""
    for variant in variants:
        kind = variant.model
        if "variant" not in vars(kind):
            raise InputError(f"{kind.__name__} needs a variant, a name of its own.")
        require_word(kind.variant)
        require_settings(variant)
        own = kind.Settings.names() | kind.Training.names() | DataSettings.names()
        for name, values in kind.ranges.items():
            if name not in own:
                raise InputError(f"{kind.variant} has a range for {name}, which is no setting.")
            if not isinstance(values, (Between, list, tuple)):
                raise InputError(f"{kind.variant}'s range of {name} must be a list, or Between.")
    REGISTRY.update({variant.name: variant for variant in variants})


def require_word(name: str) -> None:
    """InputError for a name that no file could have."""
    try:
        pydantic.TypeAdapter(Word).validate_python(name)
    except pydantic.ValidationError as error:
        raise InputError(
            f"a variant must be a word that a file's name can hold: {name}."
        ) from error


def read_back(kind: type[Settings], name: str) -> Any:
    """What a flag would make of a setting's default."""
    try:
        return getattr(kind.of({name: shown(kind.model_fields[name].default)}), name)
    except InputError:
        return None


def require_settings(variant: Variant) -> None:
    """InputError unless a command can take all settings of a model and its training."""
    model, training = variant.model.Settings, variant.model.Training
    for part in (model, training):
        for name, field in part.model_fields.items():
            if field.json_schema_extra is None:
                raise InputError(f"{part.__name__}.{name} must be a setting(default, help).")
            if field.default is not None and read_back(part, name) != field.default:
                raise InputError(
                    f"{part.__name__}.{name}: a flag could not give its default, "
                    f"{field.default!r}; a list of sizes is of the type Sizes."
                )
    commands = variant.options.names() | variant.inference_options.names()
    if taken := sorted((model.names() | training.names()) & commands):
        raise InputError(f"{variant.name} has the setting {taken[0]}, which all commands have.")
    if taken := sorted(model.names() & (training.names() | DataSettings.names())):
        raise InputError(
            f"{variant.name} has the setting {taken[0]}, which is one of training or data."
        )


def register_from(path: Path) -> None:
    """Run a Python file in which models are registered; InputError if there is none."""
    run_once(path.resolve())


@functools.cache
def run_once(path: Path) -> None:
    """So that a model has one class, however often its file is named; it may import from others
    beside it."""
    found = importlib.util.spec_from_file_location(f"from_file_{path.stem}", path)
    if found is None or found.loader is None or not path.is_file():
        raise InputError(f"{path} is no Python file.")
    sys.path.append(str(path.parent))
    CODE[found.name] = hash_of(path)
    module = sys.modules[found.name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)


def code_of(model: "Recommender") -> str | None:
    """A hash of the file that registered a model, as `register_from` ran it; None for others."""
    return CODE.get(type(model).__module__)


def variant_of(name: str) -> Variant:
    """The registered model of a name; InputError if there is none."""
    if name not in REGISTRY:
        raise InputError(
            f"there is no model {name}: choose from {', '.join(REGISTRY)}, or register yours "
            f"(docs/extending.md)."
        )
    return REGISTRY[name]


def own_variant(model: "Recommender") -> Variant:
    """The registered model of a model's own class; InputError if its name is another class's, whose
    files it would overwrite and take for its own, and for what is no model."""
    if not hasattr(model, "variant"):
        raise InputError(f"train takes a model, not {type(model).__name__}.")
    variant, kind = variant_of(model.variant), type(model)
    if hasattr(model, "_orig_mod"):
        raise InputError("train a model itself, with compile=True, not what torch.compile gives.")
    if variant.model is not kind and variant.model.__qualname__ == kind.__qualname__:
        raise InputError(f"{kind.__name__} was defined anew: register it again.")
    if variant.model is not kind:
        raise InputError(
            f"{kind.__name__} calls itself {model.variant}, which is {variant.model.__name__}'s "
            f"name: give it a variant of its own, and register it (docs/extending.md)."
        )
    return variant
