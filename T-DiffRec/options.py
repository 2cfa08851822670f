"""The flags of T-DiffRec and LT-DiffRec: those of the model underneath, and the weights'."""

from pathlib import Path

from DiffRec import options as diffrec
from L_DiffRec import options as l_diffrec
from T_DiffRec.data_utils import SCHEDULES, VALID_WEIGHTS


def wants_latent(argv: list[str]) -> bool:
    """Whether --latent asks for LT-DiffRec, on which the other flags depend."""
    parser = diffrec.Parser(add_help=False, allow_abbrev=False)
    diffrec.add_flag(parser, "--latent", False, "")
    return parser.parse_known_args(argv)[0].latent


def make_parser(description: str, folder: Path, latent: bool) -> diffrec.Parser:
    """The parser of T-DiffRec, or of LT-DiffRec if ``latent``."""
    parser = (l_diffrec if latent else diffrec).make_parser(description, folder)
    if latent:
        parser.set_defaults(lamda=0.0001)  # the release's defaults differ in this
    group = parser.add_argument_group("time")
    diffrec.add_flag(group, "--latent", latent, "train LT-DiffRec; L-DiffRec's flags then apply")
    group.add_argument("--w_min", type=float, default=0.1, help="weight of the oldest interaction")
    group.add_argument("--w_max", type=float, default=1.0, help="weight of the latest")
    group.add_argument("--w_schedule", choices=SCHEDULES, default="linear", help="between them")
    group.add_argument(
        "--w_valid", choices=VALID_WEIGHTS, default="released",
        help="with --tst_w_val: validation items weigh 1, or the ramp is drawn over both",
    )  # fmt: skip
    group.add_argument(
        "--timestamps", type=lambda text: str(Path(text).expanduser().resolve()),
        help="a .npy file with the time of each row of train_list, if not its order",
    )  # fmt: skip
    return parser


def run_name(latent: bool) -> dict[str, str]:
    """What stands before each setting in the names of runs."""
    base = l_diffrec.RUN_NAME if latent else diffrec.RUN_NAME
    return {**base, "wmin": "w_min", "wmax": "w_max"}
