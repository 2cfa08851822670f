"""T-DiffRec and LT-DiffRec: DiffRec and L-DiffRec on time-weighted interactions (Section 3.6)."""

from typing import ClassVar

from DiffRec import DiffRec
from DiffRec.engine.settings import Between, Ranges
from L_DiffRec import LDiffRec
from T_DiffRec.settings import LTDiffRecSettings, TDiffRecSettings
from T_DiffRec.time_aware import TimeAware


class TDiffRec(TimeAware, DiffRec):
    """T-DiffRec: diffusion on time-weighted interactions."""

    variant = "T-DiffRec"
    Settings = TDiffRecSettings
    ranges: ClassVar[Ranges] = {"w_min": Between(0.01, 0.5, log=True), **DiffRec.ranges}


class LTDiffRec(TimeAware, LDiffRec):
    """LT-DiffRec: latent diffusion on time-weighted interactions."""

    variant = "LT-DiffRec"
    Settings = LTDiffRecSettings
    ranges: ClassVar[Ranges] = {"w_min": Between(0.01, 0.5, log=True), **LDiffRec.ranges}
