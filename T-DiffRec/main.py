"""Train T-DiffRec, or with --latent LT-DiffRec: python T-DiffRec/main.py --dataset ml-1m_clean"""

import sys

from DiffRec.engine.commands import command, train_by
from T_DiffRec import variants


def main(argv: list[str] | None = None) -> dict:
    """See `DiffRec.engine.commands.train_by`."""
    argv = sys.argv[1:] if argv is None else argv
    return train_by(variants(argv)[0], argv, __doc__)


def console() -> None:
    command(main)


if __name__ == "__main__":
    console()
