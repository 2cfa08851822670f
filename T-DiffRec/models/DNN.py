"""T-DiffRec's network is DiffRec's; what changes is its input (T_DiffRec.data_utils, Eq. 16)."""

from DiffRec.models.DNN import DNN

__all__ = ["DNN"]
