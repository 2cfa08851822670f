"""The authors' released checkpoints of T-DiffRec and LT-DiffRec: the names tell the weights too."""

from pathlib import Path

from DiffRec import released as of_diffrec
from DiffRec.engine.released import NUMBER, Names, Released
from L_DiffRec import released as of_l_diffrec

IN_NAME: Names = {
    "w_min": (rf"_(?:w_min|wmin){NUMBER}", float),
    "w_max": (rf"_(?:w_max|wmax){NUMBER}", float),
}


def read_t_diffrec(path: Path, second: Path | None) -> Released:
    return of_diffrec.read_released(path, second, {**of_diffrec.IN_NAME, **IN_NAME})


def read_lt_diffrec(path: Path, second: Path | None) -> Released:
    return of_l_diffrec.read_released(path, second, {**of_l_diffrec.IN_NAME, **IN_NAME})
