"""Make a data set's folder from ratings:

python scripts/prepare_data.py ml-1m                       downloaded, or from --raw
python scripts/prepare_data.py ml-100k                     likewise
python scripts/prepare_data.py FILE --format csv --columns who,what,stars,when --out FOLDER
python scripts/prepare_data.py --synthetic                 made-up ratings of ML-1M's character
python scripts/prepare_data.py --synthetic like:yelp       a twin with Table 1's sizes of Yelp

Natural noise: --noise 0.1; other protocols: --protocol paper|global, --ratio 8:1:1. The next item
of a sequence: --protocol leave_one_out, from ratings, or --format sequences from a user's items in
order, a line each, or the arrays users, items and order of an .npz file. Where the package is
installed this is the command diffrec-prepare.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from DiffRec.data_utils import command_to_prepare, read_stats
from DiffRec.engine.commands import command
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Count, Folder, NotNegative, Seed
from DiffRec.preparation import readers
from DiffRec.preparation.folders import (
    MOVIELENS,
    make_movielens,
    make_synthetic,
    make_twin,
    prepare_folder,
)
from DiffRec.preparation.protocol import DEFAULT_SHARES, PROTOCOLS, Shares

LICENSED = {
    "yelp": (
        "yelp_dataset.tar (about 4.4 GB) from https://www.yelp.com/dataset, after accepting its "
        "terms; it holds yelp_academic_dataset_review.json with user_id, business_id, stars and "
        f"date; then: {command_to_prepare()} yelp_dataset.tar --format yelp "
        "--out datasets/yelp_own_clean, which scripts/table2.sh --datasets yelp_own takes"
    ),
    "amazon-book": (
        "the ratings of Books (ratings_Books.csv, user, item, rating and time, about 900 MB) from "
        f"https://jmcauley.ucsd.edu/data/amazon/; then: {command_to_prepare()} ratings_Books.csv "
        "--format amazon-csv --out datasets/amazon-book_own_clean, which scripts/table2.sh "
        "--datasets amazon-book_own takes"
    ),
}
SAID = {
    "released": "each user's interactions are cut in time into train, test and validation",
    "paper": "each user's interactions are cut in time into train, validation and test",
    "global": "all interactions are cut at two times into train, validation and test",
    "leave_one_out": "each user's last item is test, and the one before it validation",
}


def how_of(args: argparse.Namespace, protocol: str = "released") -> dict[str, Any]:
    """The arguments of `prepare` that are given; ``protocol`` unless another is."""
    names = ("min_rating", "core", "ratio", "noise", "random_noise", "seed")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if "ratio" in given:
        given["shares"] = given.pop("ratio")
    return {"protocol": args.protocol or protocol, **given}


def make_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "source", nargs="?", default=None, help="ml-1m, ml-100k, or a file of ratings"
    )
    parser.add_argument(
        "--synthetic", nargs="?", const="small", default=None, metavar="like:NAME",
        help="make data up instead",
    )  # fmt: skip
    parser.add_argument(
        "--raw", type=checked(Folder), default=None,
        help="the archive of ml-1m or ml-100k, if you have it",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=checked(Folder), default=None, help="folder to write; in datasets/ by default"
    )
    parser.add_argument(
        "--format",
        choices=[*readers.FORMATS, readers.SEQUENCES],
        default=None,
        help="of a file of your own",
    )
    parser.add_argument(
        "--columns", default=None,
        help="its user, item, rating and time columns: a,b,c,d; of a log without ratings its user, "
        "item and time columns: a,b,c",
    )  # fmt: skip
    parser.add_argument(
        "--min_rating",
        type=checked(NotNegative),
        default=None,
        help="interactions start here; 4 unless all rows of a log count",
    )
    parser.add_argument(
        "--core", type=checked(Count), default=10, help="least of each user and item"
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=None,
        help="7:1:2 of each user's time as the released files, into train, test and validation in "
        "this order; as the paper says, into train, validation and test; two cuts in time for "
        "all users; or each user's last item for test and the one before for validation; by "
        "default paper for a file of your own, else released",
    )  # fmt: skip
    parser.add_argument(
        "--ratio", type=checked(Shares), default=None,
        help="train:validation:test, with the protocol paper or global; 1:0:0: all of it is train",
    )  # fmt: skip
    parser.add_argument(
        "--noise", type=checked(NotNegative), default=0.0,
        help="natural noise in train and validation, as a share of the interactions",
    )  # fmt: skip
    parser.add_argument(
        "--random_noise", type=checked(NotNegative), default=0.0,
        help="random false interactions, as a share of each user's in train and validation",
    )  # fmt: skip
    parser.add_argument(
        "--drop_incomplete", action="store_true", default=False,
        help="leave rows out that lack an id, a rating or a time, where they would be an error",
    )  # fmt: skip
    parser.add_argument("--seed", type=checked(Seed), default=1, help="of noise and synthetic data")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    source, made_up = args.source, args.synthetic
    own = made_up is None and source not in (None, "synthetic", *MOVIELENS)
    how = how_of(args, "paper" if own else "released")
    if source == "synthetic":
        source, made_up = None, made_up or "small"
    if (source is None) == (made_up is None):
        raise InputError("name either a source of ratings or --synthetic.")
    if args.raw and source not in MOVIELENS:
        raise InputError(f"--raw goes with {' or '.join(MOVIELENS)}.")
    if args.drop_incomplete and not own:
        raise InputError("--drop_incomplete goes with a file of your own.")
    if source in LICENSED:
        raise InputError(f"{source} may not be downloaded automatically: get {LICENSED[source]}.")
    if made_up is not None and made_up.startswith("like:"):
        if how != {**how_of(parser.parse_args([])), "seed": args.seed}:
            raise InputError("a twin has fixed sizes: only --seed and --out go with it.")
        folder = make_twin(made_up.removeprefix("like:"), args.out, args.seed)
    elif made_up == "small":
        folder = make_synthetic(args.out, **how)
    elif made_up is not None:
        raise InputError(f"--synthetic takes like:NAME or nothing, got {made_up!r}.")
    elif source in MOVIELENS:
        folder = make_movielens(source, args.raw, args.out, **how)
    elif args.format is None or args.out is None:
        raise InputError("a file of your own needs --format and --out.")
    else:
        folder = prepare_folder(
            source, args.out, args.format, args.columns, drop_incomplete=args.drop_incomplete, **how
        )
    if own:
        shares = ":".join(f"{share:g}" for share in args.ratio or DEFAULT_SHARES)
        ratio = "" if how["protocol"] == "leave_one_out" else f", ratio {shares}"
        print(f"protocol {how['protocol']}: {SAID[how['protocol']]}{ratio}.")
    kept = read_stats(folder)
    print(
        f"{folder} is ready: {kept['users']:,} users, {kept['items']:,} items, "
        f"{kept['interactions']:,} interactions ({kept['train']:,} / {kept['valid']:,} / "
        f"{kept['test']:,} train / valid / test)."
    )
    if own and kept["test"] and how["protocol"] != "leave_one_out":  # where they are left out
        without = kept["users"] - users_of(folder / "test_list.npy")
        if without:
            print(
                f"{without:,} users have no item in test: metrics count them as 0, or leave them "
                f"out with --metric_users with_items."
            )


def users_of(path: Path) -> int:
    """How many users a list has; it is in order of them."""
    users = np.load(path, mmap_mode="r")[:, 0]
    return int(np.count_nonzero(np.diff(users))) + bool(len(users))


def console() -> None:
    command(main)
