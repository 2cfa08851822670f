"""The flags of the baselines: those that every main has, and the model's own."""

from pathlib import Path

from baselines.models import MODELS, LightGCN, MultiDAEpp
from baselines.recommender import ClosedForm
from DiffRec import options

FOLDER = Path(__file__).resolve().parent
DIFFREC_PRESETS = FOLDER.parent / "DiffRec" / "presets" / "DiffRec.toml"
PRESETS = FOLDER / "presets" / "baselines.toml"
BESIDE_THE_DATA = Path("<beside the data>")


def wanted_model(argv: list[str]) -> str:
    """The --model, on which the other flags depend."""
    parser = options.Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model", choices=list(MODELS), required=not {"-h", "--help"} & set(argv))
    return parser.parse_known_args(argv)[0].model or "MultiVAE"


def make_parser(description: str, name: str) -> options.Parser:
    """The parser of the model ``name``."""
    model = MODELS[name]
    parser = options.base_parser(description, FOLDER)
    parser.add_argument("--model", choices=list(MODELS), default=name, help="which baseline")
    if not issubclass(model, ClosedForm):
        options.add_optimizer_options(parser)
    group = parser.add_argument_group(name)
    model.add_options(group)
    if model is LightGCN:
        group.add_argument(
            "--export_item_emb", type=Path, nargs="?", const=BESIDE_THE_DATA,
            help="write the best model's item embeddings to this file; by default beside the data",
        )  # fmt: skip
        group.add_argument(
            "--item_emb", choices=("propagated", "layer-0"), default="propagated",
            help="which of them",
        )  # fmt: skip
    parser.set_defaults(**model.defaults)
    return parser


def fixed_presets(name: str) -> dict[str, dict]:
    """What the paper fixes for each data set: for MultiDAE++ DiffRec's published noise."""
    if MODELS[name] is not MultiDAEpp:
        return {}
    return {
        dataset: {k: v for k, v in settings.items() if k in options.NOISE}
        for dataset, settings in options.read_presets(DIFFREC_PRESETS).items()
    }


def presets_of(name: str) -> dict[str, dict]:
    """The model's settings for each data set: the fixed ones, and those chosen on validation."""
    chosen = options.read_presets(PRESETS).get(name, {})
    fixed = fixed_presets(name)
    return {
        dataset: {**fixed.get(dataset, {}), **chosen.get(dataset, {})}
        for dataset in {**chosen, **fixed}
    }


def run_name(name: str) -> dict[str, str]:
    """What stands before each setting in the names of runs: the model, and its own flags."""
    everyones = {*vars(options.base_parser("", FOLDER).parse_args([])), *options.NOT_SETTINGS}
    own = vars(make_parser("", name).parse_args([])).keys() - everyones
    shared = {} if issubclass(MODELS[name], ClosedForm) else {"bs": "batch_size"}
    return {"": "model", **shared, **{flag: flag for flag in sorted(own)}}
