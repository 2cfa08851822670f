"""Settings: each is defined once, as a field of a frozen class.

A field has a type with its bounds or choices, a default, a help text, and other spellings (the
release's or RecBole's). From that come the flags of every command, the checks of presets, of
checkpoint headers and of Python calls, and docs/options.md. `Settings` decide the numbers of a run
and are kept with them; `RunOptions` say where it happens and what it reads and writes, and no file
can set them.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from DiffRec.engine.errors import InputError
from DiffRec.evaluate_utils import (
    CUT_OFFS,
    METRIC_USERS,
    METRICS,
    PUBLISHED_METRICS,
    RECALL_DENOMINATORS,
    words,
)

# Types


def integers(value: object) -> object:
    """The numbers in [200,600], 200,600 or "200 600"; [] is the empty list."""
    if not isinstance(value, str):
        return value
    inner = re.sub(r"^\[(.*)\]$", r"\1", value.strip())
    parts = [part for part in re.split(r"[,\s]+", inner.strip()) if part]
    if not all(re.fullmatch(r"\+?\d+", part) for part in parts):
        raise ValueError("must be positive integers like [200,600] or 200 600")
    return tuple(int(part) for part in parts)


def not_empty(value: object) -> object:
    """A path that is named: an empty one would be the folder one happens to be in."""
    if value == "":
        raise ValueError("must name a file or folder")
    return value


def at_home(path: Path) -> Path:
    """A path with somebody's home in the place of ~."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("must not begin with the home of nobody") from error


LARGEST = 2**31 - 1  # of any size or count: what the arrays behind it can be indexed with
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
ShareOrAll = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^/\\\x00-\x1f]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# So few that what stands in a file cannot ask for hours: layers, and steps over all items.
Few = Annotated[int, Field(ge=1, le=10_000)]
MOST_STEPS = 1000
Repeats = Annotated[int, Field(ge=1, le=MOST_STEPS)]  # of a whole network
Layers = Annotated[int, Field(ge=1, le=50)]
Sizes = Annotated[tuple[Positive, ...], BeforeValidator(integers), Field(max_length=50)]
Folder = Annotated[Path, BeforeValidator(not_empty), AfterValidator(at_home)]


Kind = TypeVar("Kind", bound="Settings")


def setting(default: Any, help: str, *spellings: str, in_training: bool = False) -> Any:
    """A field: its default, what it means, and further names of its flag. in_training: whether of a
    model's settings it is one that scores do not depend on once the model is trained."""
    about: Any = {"spellings": list(spellings), "in_training": in_training}
    return Field(default, description=help, json_schema_extra=about)


class Settings(pydantic.BaseModel):
    """Base of all settings. A class attribute ``defaults`` gives inherited fields other defaults.

    Attributes:
        title: what its flags are headed with.
        idle: {setting: (switch, value)}: the setting does nothing while the switch has this value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    title: ClassVar[str] = ""
    defaults: ClassVar[dict[str, Any]] = {}
    idle: ClassVar[dict[str, tuple[str, Any]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        changed = cls.__dict__.get("defaults", {})
        if not changed:
            return
        cls.of(changed)
        for name, default in changed.items():
            cls.model_fields[name].default = default
        cls.model_rebuild(force=True)

    @classmethod
    def of(cls, *values: Mapping[str, Any]) -> Self:
        """From names and values, later ones over earlier; InputError says what is wrong."""
        merged = {name: value for part in values for name, value in part.items()}
        try:
            return cls(**merged)
        except pydantic.ValidationError as error:
            raise InputError(sentence(error.errors()[0], cls)) from error

    @classmethod
    def read_in_training(cls) -> set[str]:
        """Names of the settings that are read when a model is trained, and never again."""
        told: Any = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {name for name, about in told.items() if about and about.get("in_training")}

    @classmethod
    def check(cls, name: str, value: Any) -> None:
        """InputError if a setting cannot have this value, whatever the others are."""
        try:
            cls(**{name: value})
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            if first["loc"]:  # not what several do not agree on
                raise InputError(sentence(first, cls)) from error

    @classmethod
    def names(cls) -> set[str]:
        return set(cls.model_fields)

    @classmethod
    def own(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of ``values`` that are settings of this class."""
        return {name: value for name, value in values.items() if name in cls.model_fields}

    def part(self, kind: type[Kind]) -> Kind:
        """The settings of one part, by its class."""
        return kind(**kind.own(dict(self)))

    def require_used(self, told: Collection[str]) -> None:
        """InputError for a setting among the names ``told`` that does nothing, unless what makes it
        idle was told too."""
        for kind in type(self).__mro__:
            for name, (switch, value) in kind.__dict__.get("idle", {}).items():
                if name in told and switch not in told and getattr(self, switch) == value:
                    raise InputError(f"{name} does nothing while {switch} is {value}.")

    def dump(self) -> dict[str, Any]:
        """Names and values as JSON has them: the form of records, headers and presets."""
        return self.model_dump(mode="json")


@functools.cache
def joined(name: str, *parts: type[Settings]) -> type[Settings]:
    """One class with the settings of several."""
    made = pydantic.create_model(name, __base__=parts[::-1])  # whose fields come in this order

    def reduced(self: Settings) -> tuple:  # as no module has the class by its name
        return again, (name, parts, {field: getattr(self, field) for field in made.model_fields})

    made.__reduce__ = reduced  # type: ignore[assignment]
    return made


def again(name: str, parts: tuple[type[Settings], ...], values: dict[str, Any]) -> Settings:
    """Settings of a class that `joined` makes, from a pickle."""
    return joined(name, *parts)(**values)


SAID = {
    "bool_parsing": "must be 0, 1, true or false",
    "bool_type": "must be 0, 1, true or false",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "int_type": "must be an integer",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "tuple_type": "must be a list",
    "path_type": "must be a path",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must be a word that a file's name can hold",
}


def sentence(error: Mapping[str, Any], kind: type[Settings]) -> str:
    """What pydantic complains of first, in a sentence."""
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        told: Any = {field: about.json_schema_extra for field, about in kind.model_fields.items()}
        spelled = [field for field in told if told[field] and name in told[field]["spellings"]]
        near = spelled or difflib.get_close_matches(name, kind.model_fields, 1)
        return f"there is no setting {name}{f': did you mean {near[0]}?' if near else '.'}"
    message = SAID.get(error["type"], error["msg"])
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    if not name:  # of several settings together: the message says which
        return message
    value = error["input"]
    plain = value is None or isinstance(value, (str, int, float, list, tuple, dict, Path))
    return f"{name} {message}, got {repr(value) if plain else type(value).__name__}."


@dataclasses.dataclass(frozen=True)
class Between:
    """A range that a search draws numbers from: evenly, or with ``log`` evenly in the logarithm."""

    low: float
    high: float
    log: bool = False


Ranges = Mapping[str, Sequence[Any] | Between]  # by setting: values to choose from, or a range


# The engine's settings


class DataSettings(Settings):
    """What of a data set is used."""

    title = "data"
    drop_unknown: bool = setting(False, "leave out test users and items that train does not know")
    drop_repeated: bool = setting(
        False, "of a pair that a list repeats keep the last row; otherwise it is an error"
    )
    random_noise: ShareOrAll = setting(
        0.0, "share of random false interactions added to train and validation (Figure 4); 0: none"
    )


class EvaluationSettings(Settings):
    """How models are evaluated: see `DiffRec.evaluate_utils.evaluate`."""

    title = "evaluation"
    topN: Annotated[Sizes, Field(min_length=1)] = setting(CUT_OFFS, "cut-offs of the metrics")
    metrics: Annotated[
        tuple[Literal[METRICS], ...], BeforeValidator(words), Field(min_length=1)
    ] = setting(PUBLISHED_METRICS, "what is measured at each cut-off")
    tst_w_val: bool = setting(False, "give models validation as input too when they are tested")
    recall_denominator: Literal[RECALL_DENOMINATORS] = setting(
        "relevant",
        "recall divides the hits by all relevant items, as released, or by min(K, relevant)",
    )
    metric_users: Literal[METRIC_USERS] = setting(
        "all", "average over all users, as released, or over those with items to find"
    )
    rank_seen: bool = setting(False, "rank the items that a user has seen too; 0: they are masked")


class TrainingSettings(EvaluationSettings):
    """The training loop of every model (`DiffRec.engine.training`)."""

    title = "training"
    idle: ClassVar = {"lr_factor": ("lr_step", 0)}
    batch_size: Positive = setting(
        400, "users in a batch; for models of pairs, pairs", "train_batch_size"
    )
    epochs: Positive = setting(1000, "train for at most so many epochs")
    eval_every: Positive = setting(5, "epochs from one evaluation to the next")
    patience: Positive = setting(20, "stop after so many epochs without a better model")
    select_by: str = setting("recall@20", "the validation metric that says which model is best")
    selection_decimals: int = setting(
        4, "round that metric so before comparing, as released; -1: do not round"
    )
    precision: Literal["float32", "tf32", "bf16"] = setting(
        "float32", "of matrix products; tf32 and bf16 trade exactness for speed"
    )
    compile: bool = setting(False, "torch.compile the network")
    lr_step: Count = setting(
        0, "multiply the learning rates by lr_factor after every so many epochs; 0: never"
    )
    lr_factor: Rate = setting(0.1, "what they are multiplied by")
    ema: Share = setting(
        0.0,
        "decay of a moving average of the weights, such as 0.99, which is evaluated and saved in "
        "their place; 0: the weights themselves",
    )

    def check_selection(self) -> None:
        """InputError for settings with which no training could choose a model."""
        if self.select_by.startswith("gini@"):
            raise InputError("select_by must be a metric that is better the higher it is: no gini.")
        if self.patience <= min(self.eval_every, self.epochs):
            raise InputError(
                f"patience {self.patience} must be more than eval_every {self.eval_every}, or "
                f"training would end before the first evaluation."
            )
        offered = [
            f"{metric}@{k}" for metric in self.metrics if metric != "gini" for k in self.topN
        ]
        if not offered:
            raise InputError("metrics must hold one that is better the higher it is, beside gini.")
        if self.select_by not in offered:
            raise InputError(
                f"select_by must be one of the metrics at the cut-offs of topN, such as "
                f"{offered[-1]}, got {self.select_by}."
            )


OPTIMIZERS = ("AdamW", "Adam", "Adamax", "SGD", "Adagrad", "Momentum")


class OptimizerSettings(TrainingSettings):
    """A training by one optimiser."""

    title = "optimiser"
    optimizer: Literal[OPTIMIZERS] = setting("AdamW", "the optimiser")
    lr: Rate = setting(1e-4, "learning rate", "learning_rate")


class DecaySettings(OptimizerSettings):
    """A training by one optimiser with weight decay."""

    title = "optimiser"
    weight_decay: NotNegative = setting(0.0, "weight decay of the optimiser")


# Where a run happens and what it writes


class DataOptions(Settings):
    """Where the data are."""

    title = "data"
    dataset: Annotated[str, Field(min_length=1)] | None = setting(
        None, "the data set's name; ml-1m_clean if neither it nor data_path is given"
    )
    data_path: Folder | None = setting(None, "the data set's own folder, or that of several")


class MachineOptions(Settings):
    """What computes."""

    title = "machine"
    cuda: bool | None = setting(None, "use a GPU; by default one is used if there is one")
    gpu: str = setting("0", "the number of the GPU")


class RunOptions(MachineOptions, DataOptions):
    """Where a training happens, and what it reads and writes."""

    title = "run"
    preset: str = setting(
        "auto",
        "settings to start from: auto (the data set's, or those for own data), none, a name, or "
        "FILE:NAME for one that a search wrote to a file",
    )
    seed: Seed = setting(1, "the seed of all random numbers")
    save_path: Folder | None = setting(
        None, "folder for checkpoints; by default saved_models beside main.py, or, installed, here"
    )
    log_name: Word = setting("log", "a word at the end of the names of the run's files")
    round: int = setting(1, "a label of yours; it changes nothing")
    result_json: Folder | None = setting(None, "write settings and metrics to this file")
    resume: bool = setting(False, "go on with this run where it was stopped")
    keep_state: bool = setting(
        False, "keep the state of a run that is done, so that --resume can make it longer"
    )
    long_names: bool = setting(
        False, "name the run's files by all its settings, as the released checkpoints are"
    )
    warm_start: Folder | None = setting(
        None,
        "begin with the weights of this checkpoint of the same model and settings, trained on "
        "older data; items are found by their raw ids",
    )
    final: Folder | None = setting(
        None,
        "train on everything, the lists of validation and test too, with the settings, the seed "
        "and the best epoch of this finished run's checkpoint; nothing is evaluated",
    )
    item_shards: Positive = setting(
        1,
        "split the items over so many processes, which torchrun starts: each holds the weights of "
        "its own",
    )
    tensorboard: Folder | None = setting(
        None, "write curves for TensorBoard to this folder (pip install tensorboard)"
    )


class InferenceOptions(RunOptions):
    """What a trained model is asked for."""

    title = "checkpoint and serving"
    checkpoint: Folder | None = setting(
        None, "the file to read, or a folder with one for each data set"
    )
    autoencoder: Folder | None = setting(
        None, "second file of a released latent model; by default the one beside it"
    )
    convert: Folder | None = setting(None, "write the model to this file, in our own format")
    recommend: Folder | None = setting(None, "write top-k lists to this .csv or .parquet file")
    k: Positive = setting(20, "length of the lists")
    users: str | None = setting(
        None, "lists for these users alone: 0,5,17, or a file with an id in a line"
    )
    exclude_seen: bool = setting(True, "leave out what a user has in train or validation")
    exclude_test: bool = setting(
        True, "leave out what a user has in test too, where exclude_seen is 1"
    )
    history_from: Literal["auto", "train", "all"] = setting(
        "auto",
        "what a model is told of users to recommend to: train, as published, with validation if "
        "tst_w_val is 1, or all three lists; auto: all for a model that was fitted on all "
        "(--final), else train",
    )
    history: str | None = setting(
        None, "recommend to a user who is not in the data: item ids, oldest first, as 3,17,256"
    )
    histories: Folder | None = setting(
        None,
        "recommend to the users of this .parquet or .csv file, or folder of Parquet files, however "
        "many: columns user, item and perhaps timestamp, sorted by user, or item is a list and a "
        "row a user; lists are a folder of parts, and --resume goes on with it",
    )
    exclude_disliked: bool = setting(
        True,
        "leave out what a user rated below the threshold too, where exclude_seen is 1 and "
        "disliked_list.npy beside the data tells it",
    )
    min_history: Count = setting(
        1, "users of whom fewer items are known get the most popular ones; 0: never"
    )
    only_items: str | None = setting(
        None, "recommend these items alone: 3,17,256, or a file with an id in a line"
    )
    without_items: str | None = setting(None, "recommend none of these items: likewise")
    categories: Folder | None = setting(
        None, "a .csv file with the columns item and category, for per_category"
    )
    per_category: Positive | None = setting(
        None, "at most so many items of a category in a list; items without one are not counted"
    )
    item_dates: Folder | None = setting(
        None, "a .csv file with the columns item and date, for newer_than"
    )
    newer_than: str | None = setting(
        None, "recommend items alone whose date is later than this one, such as 2024-05-31"
    )
    raw_ids: bool = setting(True, "users and items by raw id, where these are known")
    export_vectors: Folder | None = setting(None, "write user and item vectors to this folder")
