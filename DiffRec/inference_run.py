"""The run every inference.py shares: find a checkpoint, restore its model, evaluate or serve."""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from DiffRec import checkpoints, options, released, report
from DiffRec.data_utils import REPOSITORY, Interactions, find_dataset
from DiffRec.errors import InputError
from DiffRec.experiment import prepare
from DiffRec.recommender import Recommender
from DiffRec.serving import (
    IdMap,
    check_format,
    export_vectors,
    recommendation_tables,
    split_ids,
    write_recommendations,
    write_tables,
)
from DiffRec.training import evaluate_model


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model an inference.py serves: its class, its flags, its presets, and whether it is latent
    (then the release keeps it in two files), and whether there are released checkpoints of it."""

    model: type[Recommender]
    make_parser: Callable[[], options.Parser]
    presets: Path
    latent: bool = False
    released: bool = True

    @property
    def name(self) -> str:
        return self.model.variant


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint's content: ``header`` as `DiffRec.checkpoints` describes it, and the weights."""

    path: Path
    variant: Variant
    header: dict
    weights: dict[str, torch.Tensor]


def locate(folder: Path, dataset: str) -> Path:
    """The one checkpoint of a data set in a folder, by the beginning of its name."""
    found = [
        path
        for ending in (".pth", ".safetensors")
        for path in sorted(folder.glob(f"{dataset}_*{ending}"))
        if not path.stem.endswith("_AE")
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise InputError(f"several checkpoints in {folder} are of {dataset} ({names}): choose one "
                         f"with --checkpoint.")  # fmt: skip
    raise InputError(
        f"there is no checkpoint of {dataset} in {folder}: put the released ones there, or name a "
        f"file with --checkpoint."
    )


def restore_released(
    path: Path, autoencoder: Path | None, dataset: str | None, variants: list[Variant]
) -> Restored:
    """A model of the authors' release; file and name tell its settings, or else the preset."""
    beside = path.with_name(f"{path.stem}_AE{path.suffix}")
    if autoencoder is None and beside.is_file():
        autoencoder = beside
    latent = autoencoder is not None
    fitting = [variant for variant in variants if variant.latent == latent]
    if not fitting:
        raise InputError(
            f"{path} comes with an autoencoder, which {variants[0].name} does not have."
            if latent
            else f"{variants[0].name} needs {beside.name} beside {path}, or --autoencoder FILE."
        )
    variant = fitting[0]
    parts = [released.read_network(path, latent)]
    if latent:
        parts.insert(0, released.read_autoencoder(autoencoder))

    presets = options.read_presets(variant.presets)
    dataset = dataset or next((name for name in presets if path.name.startswith(name)), None)
    if dataset is None:
        raise InputError(f"the name of {path} does not tell its data set: give --dataset.")
    told = released.settings_in_name(path.name)
    if not told and dataset not in presets:
        raise InputError(
            f"the name of {path} tells no settings and {dataset} has no preset: give --steps, "
            f"--noise_scale, --noise_min and --noise_max with a file named like the release's."
        )
    if not told:
        print(f"note: the name of {path.name} tells no settings; those of the preset {dataset}.")
    defaults = options.settings_of(variant.make_parser().parse_args([]))
    known = {key: value for key, value in told.items() if key in defaults}
    settings = {**defaults, **presets.get(dataset, {}), **known}
    for part in parts:
        settings |= part.settings
    weights = {name: tensor for part in parts for name, tensor in part.weights.items()}
    header = {
        "variant": variant.name, "dataset": dataset, "settings": settings, "seed": 1,
        "data": {"items": parts[0].n_items},
    }  # fmt: skip
    return Restored(path, variant, header, weights)


def restore(args: argparse.Namespace, variants: list[Variant]) -> Restored:
    """The checkpoint that the arguments name, or the only one of the data set in its folder."""
    path = args.checkpoint
    ours = path is not None and path.suffix == ".safetensors"
    if not ours and not variants[0].released:
        raise InputError("name a .safetensors file that training wrote with --checkpoint.")
    if path is None or path.is_dir():
        wanted = next(v for v in variants if len(variants) == 1 or v.latent == args.latent)
        path = locate(
            path or REPOSITORY / "checkpoints" / wanted.name, args.dataset or "ml-1m_clean"
        )
        print(f"checkpoint: {path.name}")
    if path.suffix != ".safetensors":
        return restore_released(path, args.autoencoder, args.dataset, variants)
    header, weights = checkpoints.load(path)
    by_name = {variant.name: variant for variant in variants}
    checkpoints.require_variant(path, header, *by_name)
    return Restored(path, by_name[header["variant"]], header, weights)


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("checkpoint")
    group.add_argument("--checkpoint", type=Path, help="a file, or a folder with one per data set")
    group.add_argument("--autoencoder", type=Path, help="of a released latent model; beside it")
    group.add_argument("--convert", type=Path, help="write it in our own format to this file")
    group = parser.add_argument_group("serving, instead of evaluating")
    group.add_argument("--recommend", type=Path, help="write top-k lists to a .csv or .parquet")
    group.add_argument("--k", type=options.POSITIVE, default=20, help="length of the lists")
    group.add_argument("--users", help="only these: 0,5,17 or a file of ids")
    options.add_flag(group, "--exclude_seen", True, "leave out train and validation items")
    group.add_argument("--history", help="items of a user not in the data, oldest first: 3,17,256")
    options.add_flag(group, "--raw_ids", True, "users and items by raw id where there are maps")
    group.add_argument("--export_vectors", type=Path, help="write user and item vectors there")


def parse(variants: list[Variant], argv: list[str] | None) -> tuple[argparse.Namespace, Restored]:
    """The checkpoint and the arguments, in which flags beat what the checkpoint says."""
    argv = sys.argv[1:] if argv is None else argv
    first = options.Parser(add_help=False, allow_abbrev=False)
    add_inference_options(first)
    first.add_argument("--dataset")
    options.add_flag(first, "--latent", False, "")
    if {"-h", "--help"} & set(argv):
        parser = variants[0].make_parser()
        add_inference_options(parser)
        parser.parse_args(["--help"])
    restored = restore(first.parse_known_args(argv)[0], variants)
    header = restored.header
    parser = restored.variant.make_parser()
    add_inference_options(parser)
    unknown = set(header["settings"]) - set(vars(parser.parse_args([])))
    if unknown:
        raise InputError(f"the checkpoint has settings this version lacks: {sorted(unknown)}.")
    defaults = {"dataset": header["dataset"], "seed": header["seed"]}
    parser.set_defaults(**header["settings"], **defaults)
    args = parser.parse_args(argv)
    options.check(args)
    return args, restored


def infer(variants: list[Variant], argv: list[str] | None) -> dict | None:
    """Evaluate a checkpoint as training does, or serve from it; returns the record of metrics."""
    args, restored = parse(variants, argv)
    header = {**restored.header, "settings": options.settings_of(args)}
    model = restored.variant.model.from_checkpoint(header, restored.weights)
    checkpoints.fill(model, restored.weights, restored.path, assign=True)
    if args.history is not None:
        recommend_for_history(model.eval(), args)
        return None

    dataset, device = prepare(args)
    model = model.to(device).eval()
    dataset = model.prepare_data(dataset)
    checkpoints.require_items(restored.path, header, dataset)
    if "sha256" in header["data"] and dataset.fingerprint() != header["data"]:
        print(f"note: {dataset.name} is not the data this checkpoint was trained on.")
    if args.recommend or args.export_vectors:
        serve(model, dataset, args)
        return None

    metrics = evaluate_model(model, dataset, header["settings"])
    paper = report.paper_figures(model.variant, dataset.name, header["settings"])
    print(report.metrics_table(metrics["valid"], metrics["test"], paper))
    record = {
        **header,
        **metrics,
        "dataset": dataset.name,
        "seed": args.seed,
        "data": dataset.fingerprint(),
        "checkpoint": restored.path.name,
    }
    if args.convert:
        checkpoints.save(args.convert, model, record)
        print(f"{args.convert} is written.")
    if args.result_json:
        about = {"peak_memory_mb": report.peak_memory_mb(device), "machine": report.machine(device)}
        report.write_json(args.result_json, {**record, **about})
    return record


def serve(model: Recommender, dataset, args: argparse.Namespace) -> None:
    """Write what --recommend and --export_vectors ask for."""
    folder = dataset.path if args.raw_ids else None
    users = IdMap.of_folder("user", folder, dataset.n_users)
    items = IdMap.of_folder("item", folder, dataset.n_items)
    if args.recommend:
        chosen = None if args.users is None else users.to_numbers(split_ids(args.users))
        written = write_recommendations(
            args.recommend, model, dataset, chosen, args.k, args.exclude_seen, args.tst_w_val,
            users, items, args.batch_size,
        )  # fmt: skip
        print(f"{args.recommend}: {written:,} rows")
    if args.export_vectors:
        export_vectors(args.export_vectors, model, dataset, args.batch_size)
        print(f"{args.export_vectors}: users, items and biases")


def recommend_for_history(model: Recommender, args: argparse.Namespace) -> None:
    """Top-k for the items of --history, as a table or into the file of --recommend."""
    if args.recommend:
        check_format(args.recommend)
    try:
        folder = find_dataset(args.dataset, args.data_path)[1] if args.raw_ids else None
    except InputError:
        folder = None  # only for its map of raw ids, which need not be there
    items = IdMap.of_folder("item", folder, model.n_items)
    numbers = items.to_numbers(split_ids(args.history))
    history = model.weigh(Interactions.from_histories([numbers], model.n_items))
    tables = recommendation_tables(
        model, history, history if args.exclude_seen else None, args.k, ["history"], items, 1
    )
    (table,) = tables
    if args.recommend:
        write_tables(args.recommend, [table])
    else:
        print(table.drop(columns="user").to_string(index=False))
