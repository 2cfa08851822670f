"""Turn a released checkpoint into one of our own format, once:

python scripts/convert_checkpoint.py IN.pth OUT.safetensors [--variant T-DiffRec] [flags]

The data set is loaded too: its fingerprint and the model's metrics on it go into the header.
Further flags, such as --data_path, go to the variant's inference.py, which does the work.
"""

import subprocess
import sys
from pathlib import Path

from DiffRec.data_utils import REPOSITORY
from DiffRec.experiment import command
from DiffRec.options import Parser

FOLDERS = {"DiffRec": "DiffRec", "L-DiffRec": "L-DiffRec", "T-DiffRec": "T-DiffRec"}
FOLDERS["LT-DiffRec"] = "T-DiffRec"


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("source", type=Path, help="the released .pth file")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--variant", choices=list(FOLDERS),
        help="what it is; L-DiffRec if an autoencoder lies beside it, else DiffRec",
    )  # fmt: skip
    args, flags = parser.parse_known_args(argv)
    autoencoder = args.source.with_name(f"{args.source.stem}_AE{args.source.suffix}")
    variant = args.variant or ("L-DiffRec" if autoencoder.is_file() else "DiffRec")
    inference = REPOSITORY / FOLDERS[variant] / "inference.py"
    files = ["--checkpoint", args.source, "--convert", args.target]
    sys.exit(subprocess.run([sys.executable, inference, *files, *flags], check=False).returncode)


if __name__ == "__main__":
    command(main)
