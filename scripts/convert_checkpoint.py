"""Turn a released checkpoint into one of our own format, once:

python scripts/convert_checkpoint.py IN.pth OUT.safetensors [--variant T-DiffRec] [flags]

The data set is loaded too: its fingerprint and the model's metrics on it go into the header.
Further flags, such as --data_path, are those of the variant's inference.py, which does the same.
"""

from pathlib import Path

import reproduction  # noqa: F401  (registers the models)

from DiffRec.engine.commands import command
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser
from DiffRec.engine.inference import autoencoder_beside, infer
from DiffRec.engine.variant import REGISTRY, Variant


def likely(source: Path, variants: dict[str, Variant]) -> Variant:
    """The first of the variants whose release has as many files as lie here."""
    files = 2 if autoencoder_beside(source).is_file() else 1
    return next(variant for variant in variants.values() if variant.released_files == files)


def main(argv: list[str] | None = None) -> None:
    released = {name: variant for name, variant in REGISTRY.items() if variant.read_released}
    parser = Parser(__doc__)
    parser.add_argument("source", type=Path, help="the released .pth file")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--variant", choices=list(released), default=None,
        help="what it is; L-DiffRec if an autoencoder lies beside it, else DiffRec",
    )  # fmt: skip
    args, flags = parser.parse_known_args(argv)
    if args.source.is_dir():
        raise InputError(
            f"{args.source} is a folder: name the .pth file; flags stand behind the two files."
        )
    variant = released[args.variant] if args.variant else likely(args.source, released)
    files = ["--checkpoint", str(args.source), "--convert", str(args.target)]
    infer([variant], [*variant.flags, *files, *flags])


if __name__ == "__main__":
    command(main)
