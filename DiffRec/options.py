"""The command line every main shares: flags in groups, the release's spelling, and presets.

A flag given on the command line beats the preset, and the preset beats the flag's default.
"""

import argparse
import math
import re
import tomllib
from pathlib import Path

from DiffRec.data_utils import default_dataset
from DiffRec.errors import InputError
from DiffRec.evaluate_utils import METRIC_USERS, METRICS, RECALL_DENOMINATORS
from DiffRec.models.gaussian_diffusion import (
    LOSS_REDUCTIONS,
    LOSS_WEIGHTS,
    MEAN_TYPES,
    NOISE_SCHEDULES,
)
from DiffRec.models.layers import ACTIVATIONS
from DiffRec.recommender import OPTIMIZERS

# Where a run happens and what it writes; everything else decides its numbers and is kept with them.
NOT_SETTINGS = {
    *("data_path", "cuda", "gpu", "save_path", "log_name", "round"),
    *("changed", "result_json", "resume", "preset", "dataset", "seed", "checkpoint"),
    *("emb_path", "latent", "autoencoder", "recommend", "k", "users", "exclude_seen"),
    *("history", "raw_ids", "export_vectors", "convert"),
    *("model", "export_item_emb", "item_emb"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str):
        raise InputError(f"{message} (see --help).")


def boolean(text: str) -> bool:
    """0/1, true/false, yes/no, in any case. (The release read every value as true.)"""
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected 0, 1, true or false, got {text!r}")
    return known[text.lower()]


def number(kind: type, smallest: float, inclusive: bool = True):
    """A type for argparse: an int or float that is at least (or above) ``smallest``."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        inside = value is not None and (value >= smallest if inclusive else value > smallest)
        if not inside or math.isinf(value):
            bound = f"{'at least' if inclusive else 'above'} {smallest}"
            raise argparse.ArgumentTypeError(f"expected {kind.__name__} {bound}, got {text!r}")
        return value

    return parse


POSITIVE = number(int, 1)
COUNT = number(int, 0)
RATE = number(float, 0, inclusive=False)
NOT_NEGATIVE = number(float, 0)


def rate_below_1(text: str) -> float:
    """A share that may be 0 but not 1, as of dropout."""
    value = NOT_NEGATIVE(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected float below 1, got {text!r}")
    return value


def integers(text: str) -> list[int]:
    """A list of positive integers, [200,600] or "200 600" or 200,600; [] is the empty list."""
    inner = re.sub(r"^\[(.*)\]$", r"\1", text.strip())
    parts = [part for part in re.split(r"[,\s]+", inner.strip()) if part]
    if not all(re.fullmatch(r"\+?\d+", part) and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(
            f"expected positive integers like [200,600] or 200 600, got {text!r}"
        )
    return [int(part) for part in parts]


class IntegerList(argparse.Action):
    """Collects the words of a list flag, however the shell cut them, into one list."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, nargs="+", **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            setattr(namespace, self.dest, integers(" ".join(values)))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def add_flag(group, name: str, default: bool, help: str) -> None:
    """A boolean that may stand alone (true) or take a value."""
    group.add_argument(name, type=boolean, nargs="?", const=True, default=default, help=help)


def base_parser(description: str, folder: Path) -> Parser:
    """The flags that do not depend on the model; ``folder`` is that of the main."""
    parser = Parser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add_data_options(parser)
    add_machine_options(parser)

    run = parser.add_argument_group("run")
    run.add_argument("--preset", default="auto", help="auto: the data set's; none; or its name")
    run.add_argument("--seed", type=COUNT, default=1, help="of everything random, below 2**32")
    run.add_argument(
        "--save_path", type=Path, default=folder / "saved_models", help="folder of checkpoints"
    )
    run.add_argument("--log_name", default="log", help="ends the name of the run's files")
    run.add_argument("--round", type=int, default=1, help="a label of yours; changes nothing")
    run.add_argument("--result_json", type=Path, help="write settings and metrics to this file")
    add_flag(run, "--resume", False, "continue this run where it was stopped")

    train = parser.add_argument_group("training")
    train.add_argument(
        "--batch_size",
        "--train_batch_size",
        type=POSITIVE,
        default=400,
        help="users per batch, or pairs",
    )
    train.add_argument("--epochs", type=POSITIVE, default=1000, help="at most")
    train.add_argument("--eval_every", type=POSITIVE, default=5, help="epochs between evaluations")
    train.add_argument(
        "--patience", type=POSITIVE, default=20, help="epochs without a better model"
    )
    train.add_argument("--select_by", default="recall@20", help="validation metric of the best")
    train.add_argument(
        "--selection_decimals", type=int, default=4,
        help="round it so before comparing, as released; -1: do not",
    )  # fmt: skip
    train.add_argument(
        "--precision", choices=("float32", "tf32", "bf16"), default="float32",
        help="of matrix products; the others trade exactness for speed",
    )  # fmt: skip
    add_flag(train, "--compile", False, "torch.compile the network")
    add_evaluation_options(parser)
    return parser


def add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", help="such as ml-1m_clean, which it is if neither is given")
    group.add_argument("--data_path", type=Path, help="the data set's folder or its parent")
    add_flag(group, "--drop_unknown", False, "leave out test users and items unknown to train")
    group.add_argument(
        "--random_noise", type=float, default=0.0,
        help="share of random false interactions added to train and validation (Figure 4)",
    )  # fmt: skip


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--cuda", type=boolean, nargs="?", const=True, default=None,
        help="use a GPU; by default one is used if there is one",
    )  # fmt: skip
    group.add_argument("--gpu", default="0", help="which GPU")


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--topN", action=IntegerList, default=[10, 20, 50, 100], help="cut-offs of the metrics"
    )
    add_flag(group, "--tst_w_val", False, "test with train and validation as input")
    group.add_argument(
        "--recall_denominator", choices=RECALL_DENOMINATORS, default="relevant",
        help="hits / all relevant items, as released, or / min(K, relevant)",
    )  # fmt: skip
    group.add_argument(
        "--metric_users", choices=METRIC_USERS, default="all",
        help="average over all users, as released, or those with items to find",
    )  # fmt: skip


def add_optimizer_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("optimiser")
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="AdamW")
    group.add_argument("--lr", "--learning_rate", type=RATE, default=1e-4, help="learning rate")
    group.add_argument("--weight_decay", type=NOT_NEGATIVE, default=0.0)


def add_network_options(parser: argparse.ArgumentParser, prefix: str, dims: list[int]) -> None:
    """The denoising network's flags; ``prefix`` is put before "dims"."""
    group = parser.add_argument_group("network")
    group.add_argument(
        f"--{prefix}dims", "--dims_dnn", action=IntegerList, default=dims,
        help="hidden sizes from the bottleneck outwards: [200,600] is I-600-200-600-I",
    )  # fmt: skip
    group.add_argument(
        "--emb_size", "--embedding_size", type=POSITIVE, default=10, help="of the step embedding"
    )
    group.add_argument("--time_type", choices=["cat"], default="cat", help="how it joins the input")
    group.add_argument("--mlp_act_func", choices=list(ACTIVATIONS), default="tanh")
    add_flag(group, "--norm", False, "scale each input row to unit length")
    group.add_argument("--dropout", type=float, default=0.5, help="on the noised input")


NOISE = ("steps", "noise_schedule", "noise_scale", "noise_min", "noise_max", "beta_fixed")


def add_noise_options(group, beta_fixed: bool) -> None:
    """The flags in ``NOISE``, of the forward process: how far, and how noisily."""
    group.add_argument("--steps", type=int, default=100, help="T")
    group.add_argument("--noise_schedule", choices=NOISE_SCHEDULES, default="linear-var")
    group.add_argument("--noise_scale", type=float, default=0.1, help="s of Eq. 4")
    group.add_argument("--noise_min", type=float, default=0.0001, help="alpha_min of Eq. 4")
    group.add_argument("--noise_max", type=float, default=0.02, help="alpha_max of Eq. 4")
    add_flag(group, "--beta_fixed", beta_fixed, "overwrite beta_1 with 1e-5")


def add_diffusion_options(parser: argparse.ArgumentParser, beta_fixed: bool) -> None:
    group = parser.add_argument_group("diffusion")
    group.add_argument("--mean_type", choices=MEAN_TYPES, default="x0", help="what is predicted")
    add_noise_options(group, beta_fixed)
    group.add_argument("--sampling_steps", type=int, default=0, help="T', noising at inference")
    add_flag(group, "--sampling_noise", False, "add noise in every reverse step")
    add_flag(group, "--reweight", True, "weight the steps' losses as the ELBO does")
    group.add_argument("--loss_weight", choices=LOSS_WEIGHTS, default="released")
    group.add_argument("--loss_reduction", choices=LOSS_REDUCTIONS, default="mean")
    add_flag(group, "--importance_sampling", True, "draw steps by Eq. 14, or uniformly")
    group.add_argument("--history_num_per_term", type=int, default=10, help="losses per step")
    group.add_argument("--uniform_prob", type=float, default=0.001, help="spread over all steps")


def make_parser(description: str, folder: Path) -> Parser:
    """The parser of DiffRec."""
    parser = base_parser(description, folder)
    add_optimizer_options(parser)
    add_network_options(parser, prefix="", dims=[1000])
    add_diffusion_options(parser, beta_fixed=True)
    return parser


# What stands before each setting in the names of DiffRec's runs, as in the released checkpoints.
RUN_NAME = {
    "lr": "lr", "wd": "weight_decay", "bs": "batch_size", "dims": "dims", "emb": "emb_size",
    "": "mean_type", "steps": "steps", "scale": "noise_scale", "min": "noise_min",
    "max": "noise_max", "sample": "sampling_steps", "reweight": "reweight",
}  # fmt: skip


def read_presets(path: Path) -> dict[str, dict]:
    """The sections of a preset file, one per data set."""
    return tomllib.loads(path.read_text())


def parse(
    parser: Parser, argv: list[str] | None, presets: Path | dict[str, dict]
) -> argparse.Namespace:
    """Arguments with the preset under them; ``args.preset`` becomes the one that was used.

    presets: a preset file, or its sections.
    """
    first = parser.parse_args(argv)
    known = presets if isinstance(presets, dict) else read_presets(presets)
    name = first.preset
    if name == "auto":
        dataset = first.dataset or default_dataset(first.data_path)
        name = dataset if dataset in known else "none"
    if name != "none":
        if name not in known:
            raise InputError(
                f"there is no preset {name}: choose one of {', '.join([*known, 'none'])}."
            )
        unknown = set(known[name]) - set(vars(first))
        if unknown:
            raise InputError(f"preset {name} sets flags that do not exist: {sorted(unknown)}.")
        parser.set_defaults(**known[name])
    # What a run's name does not show but tells it from others: flags away from preset and default.
    plain = vars(parser.parse_args([]))
    args = parser.parse_args(argv)
    args.preset = name
    check(args)
    args.changed = {k: v for k, v in settings_of(args).items() if v != plain[k]}
    return args


def check(args: argparse.Namespace) -> None:
    """What no single flag can say is wrong."""
    if args.seed >= 2**32:
        raise InputError(f"seed must be below 2**32, got {args.seed}.")
    if args.patience <= args.eval_every:
        raise InputError(
            f"patience {args.patience} must be more than eval_every {args.eval_every}, or training "
            f"would end before the first evaluation."
        )
    if not args.topN:
        raise InputError("topN must hold at least one cut-off.")
    offered = [f"{metric}@{k}" for metric in METRICS for k in args.topN]
    if args.select_by not in offered:
        raise InputError(
            f"select_by must be one of the metrics at the cut-offs of --topN, such as "
            f"{offered[len(args.topN)]}, got {args.select_by}."
        )


def settings_of(args: argparse.Namespace) -> dict:
    """The options that decide a run's numbers."""
    return {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
