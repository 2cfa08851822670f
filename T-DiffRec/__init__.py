"""T-DiffRec and LT-DiffRec: interactions weighted by recency (Section 3.6)."""

from T_DiffRec.recommender import LTDiffRec, TDiffRec

__all__ = ["LTDiffRec", "TDiffRec"]
