"""Evaluate a DiffRec checkpoint, or recommend with it:

python DiffRec/inference.py --dataset ml-1m_clean          what lies in checkpoints/DiffRec
python DiffRec/inference.py --checkpoint FILE              any file, released or our own
"""

from DiffRec import DiffRec
from DiffRec.engine.commands import command
from DiffRec.engine.inference import infer
from DiffRec.engine.variant import variant_of


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.engine.inference.infer`."""
    return infer([variant_of(DiffRec.variant)], argv, __doc__)


def console() -> None:
    command(main)


if __name__ == "__main__":
    console()
