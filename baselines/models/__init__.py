"""One module per baseline."""

from baselines.models.ACVAE import ACVAE
from baselines.models.CDAE import CDAE
from baselines.models.CODIGEM import CODIGEM
from baselines.models.DiffRecDu import DiffRecDu
from baselines.models.DiffuRec import DiffuRec
from baselines.models.EASE import EASE
from baselines.models.GFCF import GFCF
from baselines.models.GiffCF import GiffCF
from baselines.models.GRU4Rec import GRU4Rec
from baselines.models.iALS import IALS
from baselines.models.ItemKNN import ItemKNN
from baselines.models.LightGCN import LightGCN
from baselines.models.MF import MF
from baselines.models.MultiDAE import MultiDAE
from baselines.models.MultiDAEpp import MultiDAEpp
from baselines.models.MultiVAE import MultiVAE
from baselines.models.Popularity import Popularity
from baselines.models.RP3beta import RP3beta
from baselines.models.SASRec import SASRec
from baselines.models.SLIM import SLIM

# First the paper's, in the order of its tables, then the simple ones, then those of
# sequences.
MODELS = {
    model.variant: model
    for model in (
        MF, LightGCN, CDAE, MultiDAE, MultiDAEpp, MultiVAE, CODIGEM, ACVAE,
        EASE, SLIM, ItemKNN, RP3beta, GFCF, IALS, Popularity, GiffCF,
        SASRec, GRU4Rec, DiffuRec, DiffRecDu,
    )
}  # fmt: skip
