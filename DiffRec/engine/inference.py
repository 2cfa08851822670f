"""What every inference.py does: find a checkpoint, restore its model, evaluate it or serve it."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DiffRec.data_utils import Dataset, find_dataset, holds_dataset, home
from DiffRec.engine import checkpoints
from DiffRec.engine.commands import load, make_parser
from DiffRec.engine.contract import Recommender
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import hash_of, require_writable, write_json
from DiffRec.engine.filters import filters_of
from DiffRec.engine.flags import Parser, given
from DiffRec.engine.ids import IdMap, file_of, split_ids
from DiffRec.engine.machine import choose_device, machine, peak_memory_mb
from DiffRec.engine.paper import comparable_figures, metrics_table
from DiffRec.engine.ranks import here, joined, mixed
from DiffRec.engine.serving import (
    check_format,
    export_vectors,
    is_final,
    recommendation_tables,
    rows_to_serve,
    write_recommendations,
    write_tables,
)
from DiffRec.engine.settings import EvaluationSettings, InferenceOptions, Settings
from DiffRec.engine.streaming import recommend_for_histories
from DiffRec.engine.training import evaluate_model
from DiffRec.engine.variant import Variant
from DiffRec.interactions import Interactions


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint's content: ``header`` as `DiffRec.engine.checkpoints` describes it, with all of
    today's settings, and the weights; None where each of several processes reads those of its own
    items. ``known``: settings that the training had by what the files say; of a released one a
    preset fills in the others."""

    path: Path
    variant: Variant
    header: dict
    weights: dict[str, torch.Tensor] | None
    known: Mapping[str, Any]

    def model(self, settings: Settings, item_shards: int = 1) -> Recommender:
        """The model, with these settings in the place of the header's."""
        header, kind = {**self.header, "settings": settings.dump()}, self.variant.model
        if self.weights is None:
            return kind.restore_split(header, self.path, item_shards).eval()
        return kind.restore(header, self.weights, self.path).eval()


def locate(folder: Path, dataset: str, variants: Sequence[Variant]) -> Path:
    """The one checkpoint of a data set in a folder, by the beginning of its name: the data set, or
    the model before it."""
    heads = [f"{dataset}_", *(f"{variant.name}_{dataset}_" for variant in variants)]
    found = [
        path
        for ending in (".pth", ".safetensors")
        for path in sorted(folder.glob(f"*{ending}"))
        if path.name.startswith(tuple(heads)) and not path.stem.endswith("_AE")
    ]
    found = list(dict.fromkeys(map(checkpoints.whole_path, found)))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"several checkpoints in {folder} are of {dataset} ({names}): choose one "
                         f"with --checkpoint.")  # fmt: skip
    raise InputError(
        f"{folder} has no file whose name begins as that of a checkpoint of {dataset}: put the "
        f"released ones there, or name a file, or a data set with --dataset."
    )


def autoencoder_beside(path: Path) -> Path:
    """Where the second file of a released latent model lies."""
    return path.with_name(f"{path.stem}_AE{path.suffix}")


def restore_released(
    path: Path, second: Path | None, dataset: str | None, variants: Sequence[Variant]
) -> Restored:
    """A model of the authors' release; file and name tell its settings, or else the preset."""
    beside = autoencoder_beside(path)
    if second is None and beside.is_file():
        second = beside
    files = 1 if second is None else 2
    fitting = [
        (variant, variant.read_released)
        for variant in variants
        if variant.read_released and variant.released_files == files
    ]
    if not fitting:
        raise InputError(
            f"{path} comes with an autoencoder, which {variants[0].name} does not have."
            if second
            else f"{variants[0].name} needs {beside.name} beside {path}, or --autoencoder FILE."
        )
    variant, read = fitting[0]
    found = read(path, second)

    presets = variant.known_presets()
    dataset = dataset or next((name for name in presets if path.name.startswith(name)), None)
    if dataset is None:
        raise InputError(f"the name of {path} does not tell its data set: give --dataset.")
    if not found.named and dataset not in presets:
        raise InputError(
            f"the name of {path} tells no settings and {dataset} has no preset: give --steps, "
            f"--noise_scale, --noise_min and --noise_max with a file named like the release's."
        )
    if not found.named:
        print(f"note: the name of {path.name} tells no settings; those of the preset {dataset}.")
    settings = variant.settings.of(presets.get(dataset, {}), found.named, found.settings).dump()
    header = {
        "variant": variant.name, "dataset": dataset, "settings": settings, "seed": 1,
        "data": {"items": found.n_items},
    }  # fmt: skip
    known = {name: settings[name] for name in {*found.named, *found.settings}}
    return Restored(path, variant, header, found.weights, known)


def restore_own(path: Path, variants: Sequence[Variant], item_shards: int) -> Restored:
    """A model that training wrote; of one in parts any of them names it."""
    path = checkpoints.whole_path(path)
    weights: dict[str, torch.Tensor] | None = None
    if item_shards == 1:
        header, weights = checkpoints.load(path)
    else:
        header = checkpoints.read_header(path)
    by_name = {variant.name: variant for variant in variants}
    checkpoints.require_variant(path, header, *by_name)
    variant = by_name[header["variant"]]
    header = checkpoints.completed(path, header, variant.settings)
    return Restored(path, variant, header, weights, header["settings"])


def restore(options: InferenceOptions, variants: Sequence[Variant]) -> Restored:
    """The checkpoint that the options name, or the only one of the data set in its folder."""
    path = options.checkpoint
    ours = path is not None and path.suffix == ".safetensors"
    if not ours and variants[0].read_released is None:
        raise InputError("name a .safetensors file that training wrote with --checkpoint.")
    if path is None or path.is_dir():
        folder = path or home() / "checkpoints" / variants[0].name
        path = locate(folder, options.dataset or "ml-1m_clean", variants)
        print(f"checkpoint: {path.name}")
    if path.suffix == ".safetensors":
        if options.autoencoder is not None:
            raise InputError("autoencoder goes with a released .pth file.")
        return restore_own(path, variants, options.item_shards)
    if options.item_shards > 1:
        raise InputError("item_shards goes with a .safetensors file that training wrote.")
    return restore_released(path, options.autoencoder, options.dataset, variants)


def parse(
    variants: Sequence[Variant], argv: Sequence[str], description: str
) -> tuple[Restored, Settings, InferenceOptions]:
    """The checkpoint, and settings and options in which flags beat what the checkpoint says."""
    if {"-h", "--help"} & set(argv):
        make_parser(variants[0], description, variants[0].inference_options).parse_args(["--help"])
    kind = variants[0].inference_options
    first = Parser(add_help=False)
    first.add_settings(kind)
    told, _ = first.parse_known_args(argv)
    require_together(vars(told))
    restored = restore(kind.of(vars(told)), variants)
    variant, header = restored.variant, restored.header
    flags = given(make_parser(variant, description, variant.inference_options), argv)
    defaults = {"dataset": header["dataset"], "seed": header["seed"]}
    if "data_path" in flags and holds_dataset(Path(flags["data_path"]).expanduser()):
        del defaults["dataset"]  # a data set's own folder says itself what it holds
    options = variant.inference_options.of(defaults, variant.inference_options.own(flags))
    settings = variant.settings.of(header["settings"], variant.settings.own(flags))
    settings.require_used(flags)
    require_as_trained(variant.model, restored.known, settings.dump())
    return restored, settings, options


def require_as_trained(
    model: type[Recommender], trained: Mapping[str, Any], asked: Mapping[str, Any]
) -> None:
    """InputError for a setting that only a training reads, and that was another there: it would do
    nothing, and the record of this evaluation would not be true."""
    fixed = (model.Training.names() - EvaluationSettings.names()) | model.read_in_training()
    if asked.get("w_at") == "both":  # of recency's settings the one that tells of the training
        fixed |= {"w_at"}
    for name in sorted(fixed & set(trained)):
        if trained[name] != asked[name]:
            raise InputError(
                f"{name} is of the training, where it was {trained[name]}: inference has no use "
                f"for another."
            )


# What lists of any kind are made by, and what those of a data set's users alone.
OF_LISTS = ("k", "exclude_seen", "min_history", "only_items", "without_items", "categories",
            "per_category", "item_dates", "newer_than")  # fmt: skip
OF_USERS = ("export_vectors", "users", "history_from", "exclude_test", "exclude_disliked")
OF_TRAINING = ("preset", "warm_start", "final", "tensorboard", "keep_state", "long_names")


def require_together(told: Mapping[str, Any]) -> None:
    """InputError for one of the options ``told`` that would do nothing beside the others."""
    lists = {"recommend", "history", "histories"} & set(told)
    others = sorted(lists - {"recommend"})
    for name, value in told.items():
        if name in OF_TRAINING and value:
            raise InputError(f"{name} is of a training: inference has no use for it.")
        if name in OF_LISTS and not lists:
            raise InputError(f"{name} goes with recommend, history or histories.")
        if name in OF_USERS and others:
            raise InputError(f"{name} is of a data set's users: it does not go with {others[0]}.")
        if name in OF_USERS and not {"recommend", "export_vectors"} & set(told):
            raise InputError(f"{name} goes with recommend or export_vectors.")
        if name.startswith("exclude_") and not lists:
            raise InputError(f"{name} goes with recommend.")
    if told.get("resume") and "histories" not in told:
        raise InputError("resume goes with histories.")


def infer(
    variants: Sequence[Variant], argv: Sequence[str] | None, description: str = ""
) -> dict[str, Any] | None:
    """Evaluate a checkpoint as training does, or serve from it; returns the record of metrics."""
    argv = list(sys.argv[1:] if argv is None else argv)
    restored, settings, options = parse(variants, argv, description)
    asked = (options.recommend, options.export_vectors, options.history, options.histories)
    serving = any(what is not None for what in asked)
    if options.item_shards > 1 and (serving or options.convert):
        raise InputError("item_shards goes with an evaluation: leave it out, in one process.")
    if serving and (options.convert or options.result_json):
        raise InputError("convert and result_json go with an evaluation, not with serving.")
    if options.recommend:
        check_format(options.recommend)
    if options.histories is not None:
        recommend_to_many(restored, settings, options)
        return None
    if options.convert and options.convert.suffix != ".safetensors":
        raise InputError(f"convert writes a .safetensors file, and {options.convert} is none.")
    read = [
        restored.path, options.autoencoder or autoencoder_beside(restored.path), options.users,
        options.only_items, options.without_items, options.categories, options.item_dates,
    ]  # fmt: skip
    for path in (options.recommend, options.convert, options.result_json):
        require_writable(path, read)
    if options.history is not None:
        torch.manual_seed(options.seed)
        recommend_for_history(restored.model(settings), restored.path, options.history, options)
        return None

    device = choose_device(options.cuda, options.gpu)
    with joined(device):
        return evaluate_or_serve(restored, settings, options, device, serving)


def evaluate_or_serve(
    restored: Restored, settings: Settings, options: InferenceOptions, device: torch.device,
    serving: bool,
) -> dict[str, Any] | None:  # fmt: skip
    """On a data set; of several processes each evaluates some users, or has some of the items."""
    variant, header = restored.variant, restored.header
    dataset = load(variant, settings, options)
    checkpoints.require_items(restored.path, header, dataset, options.raw_ids)
    final = is_final(header, dataset)
    ranks = here()
    if serving and ranks.several:
        raise InputError(
            "lists for a data set's users are made by one process: several share --histories."
        )
    other = "sha256" in header["data"] and not final and dataset.fingerprint() != header["data"]
    if other and ranks.writes:
        print(f"note: {dataset.name} is not the data this checkpoint was trained on.")
    if not serving:
        require_lists(restored.path, dataset, final)
    training = settings.part(variant.model.Training)
    torch.manual_seed(options.seed)
    if options.item_shards > 1:  # each has the noise of its own items
        torch.manual_seed(mixed(options.seed, ranks.rank))
    model = restored.model(settings, options.item_shards).to(device)
    if not options.raw_ids:  # then `Recommender.require_data` does not compare them either
        model.item_ids = IdMap("item", model.n_items)
    dataset = dataset.to(device)
    if serving:
        about = {**header, "settings": settings.dump()}
        told = options.history_from
        if told == "auto":  # known here already
            told = "all" if final else "train"
        rows = rows_to_serve(about, dataset, model, told)
        serve(model, dataset, rows, options)
        return None

    dataset = model.prepare_data(dataset)
    metrics = evaluate_model(model, dataset, training, ranks)
    paper = comparable_figures(variant.name, dataset.name, settings.dump())
    if ranks.writes:
        print(metrics_table(metrics["valid"], metrics["test"], paper))
    about = {
        **header, **metrics, "settings": settings.dump(), "dataset": dataset.name,
        "seed": options.seed, "data": dataset.fingerprint(),
    }  # fmt: skip
    if options.convert and ranks.writes:
        items = IdMap.of_folder("item", dataset.path, dataset.n_items)
        checkpoints.save(options.convert, model, about, items.raw, dataset.popularity())
        print(f"{options.convert} is written.")
    record = {
        **about, "checkpoint": restored.path.name, "peak_memory_mb": peak_memory_mb(device),
        "machine": machine(device),
    }  # fmt: skip
    if options.result_json and ranks.writes:
        write_json(options.result_json, record)
    return record


def require_lists(path: Path, dataset: Dataset, final: bool) -> None:
    """InputError where there is nothing to evaluate by."""
    if not len(dataset.valid.items) and not len(dataset.test.items):
        raise InputError(
            f"{dataset.name} has neither validation nor test: there is nothing to evaluate by."
        )
    if final:
        raise InputError(
            f"{path} was fitted on validation and test too: metrics on them would mean nothing."
        )


def serve(
    model: Recommender, dataset: Dataset, rows: Interactions, options: InferenceOptions
) -> None:
    """Write what --recommend and --export_vectors ask for. rows: what the model is told of each
    user."""
    folder = dataset.path if options.raw_ids else None
    users = IdMap.of_folder("user", folder, dataset.n_users)
    items = IdMap.of_folder("item", folder, dataset.n_items)
    chosen = np.arange(dataset.n_users)
    if options.users is not None:
        named = dict.fromkeys(users.to_numbers(split_ids(options.users)))
        chosen = np.array(list(named), dtype=np.int64)
    which = torch.from_numpy(chosen)
    history, names = rows.rows(which), users.to_raw(chosen)
    if options.recommend:
        if model.popularity is None:  # a file of a time when these were not kept
            model.popularity = dataset.popularity()
        seen = None
        if options.exclude_seen:
            seen = dataset.left_out(options.exclude_test, options.exclude_disliked).rows(which)
        written = write_recommendations(
            options.recommend, model, history, seen, options.k, names, items,
            filters_of(options, items), options.min_history,
        )  # fmt: skip
        print(f"{options.recommend}: {written:,} rows")
    if options.export_vectors:
        export_vectors(options.export_vectors, model, history, names, items.names())
        print(f"{options.export_vectors}: users, items and biases, and their ids")


def items_known(path: Path, n_items: int, options: InferenceOptions) -> IdMap:
    """What items are called: as the checkpoint says, or the folder of the data that are named."""
    if not options.raw_ids:
        return IdMap("item", n_items)
    known = checkpoints.item_ids(path, n_items)
    if known is not None:
        return known
    try:
        _, folder = find_dataset(options.dataset, options.data_path)
    except InputError:
        folder = None  # only for its map of raw ids, which need not be there
    return IdMap.of_folder("item", folder, n_items)


def recommend_for_history(
    model: Recommender, path: Path, told: str, options: InferenceOptions
) -> None:
    """Top-k for the items of --history, ``told``, as a table or into the file of --recommend."""
    model.require_rows("there is nothing to recommend by a history")
    items = items_known(path, model.n_items, options)
    numbers = items.to_numbers(split_ids(told))
    history = model.weigh(Interactions.from_histories([numbers], model.n_items))
    seen = history if options.exclude_seen else None
    names = np.array(["history"])
    (table,) = recommendation_tables(
        model, history, seen, options.k, names, items, filters=filters_of(options, items),
        min_history=options.min_history,
    )  # fmt: skip
    if options.recommend:
        write_tables(options.recommend, [table])
    else:
        print(table.drop(columns="user").to_string(index=False))


# What of the options the lists for histories depend on.
ASKED = ("k", "exclude_seen", "min_history", "only_items", "without_items", "categories",
         "per_category", "item_dates", "newer_than", "raw_ids", "seed")  # fmt: skip


def content(value: Any) -> Any:
    """What an option says: of one that names a file the hash too, since it may be changed."""
    path = file_of(value) if isinstance(value, str) else None
    return value if path is None else [value, hash_of(path)]


def recommend_to_many(restored: Restored, settings: Settings, options: InferenceOptions) -> None:
    """Top-k for the users of --histories, a part at a time."""
    if options.recommend is None or options.history:
        raise InputError("histories goes with recommend, and not with history.")
    assert options.histories is not None
    device = choose_device(options.cuda, options.gpu)
    model = restored.model(settings).to(device)
    model.require_rows("there is nothing to recommend by histories")
    items = items_known(restored.path, model.n_items, options)
    about = {
        "checkpoint": checkpoints.file_hash(restored.path), "settings": settings.dump(),
        **{name: content(value) for name, value in options.dump().items() if name in ASKED},
    }  # fmt: skip
    recommend_for_histories(
        options.histories, options.recommend, model, items, options.k, filters_of(options, items),
        options.min_history, options.exclude_seen, options.seed,
        about, options.resume,
    )  # fmt: skip
