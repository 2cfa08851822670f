"""Train DiffRec: python DiffRec/main.py --dataset ml-1m_clean"""

from DiffRec import DiffRec
from DiffRec.engine.commands import command, train_by
from DiffRec.engine.variant import variant_of


def main(argv: list[str] | None = None) -> dict:
    """See `DiffRec.engine.commands.train_by`."""
    return train_by(variant_of(DiffRec.variant), argv, __doc__)


def console() -> None:
    command(main)


if __name__ == "__main__":
    console()
