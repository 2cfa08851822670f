"""What all pictures share: colours, markers, and files written whole."""

import warnings
from pathlib import Path
from typing import Any

from DiffRec.engine.errors import InputError
from DiffRec.engine.files import written_whole

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by all
MARKERS = "osD^vP"


def drawing(salt: str = "") -> Any:
    """matplotlib.pyplot, without a screen; ``salt`` makes equal SVGs of equal pictures."""
    import matplotlib  # here, since it takes a second

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": salt, "font.size": 10, "axes.spines.top": False,
                                "axes.spines.right": False})  # fmt: skip
    from matplotlib import pyplot

    return pyplot


def require_format(path: Path) -> None:
    """InputError, before any work, for a file whose ending is no format of pictures; without an
    ending it will be a PNG."""
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix and path.suffix[1:] not in FigureCanvasBase.filetypes:
        raise InputError(f"{path} ends in no format of pictures: use .png, .svg or .pdf.")


def plain(text: str) -> str:
    """A text whose dollar signs are dollar signs, and not the ends of a formula."""
    return text.replace("$", r"\$")


def save(picture: Any, path: Path) -> None:
    """Write a picture in the format of the file's ending."""
    format = path.suffix[1:] or "png"
    metadata = {"Date": None} if format == "svg" else {}
    with written_whole(path) as temporary, warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", "Glyph")
        picture.savefig(temporary, format=format, dpi=150, metadata=metadata)
    boxes = [warning for warning in told if str(warning.message).startswith("Glyph")]
    for warning in told:
        if warning not in boxes:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if boxes:
        print(f"note: some letters are in no font here: {path} has boxes in their place.")
