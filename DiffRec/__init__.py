"""DiffRec, the Diffusion Recommender Model (Wang et al., SIGIR 2023), and the engine of the rest."""

from DiffRec.data_utils import Dataset, Interactions, load_dataset
from DiffRec.recommender import DiffRec, Recommender

__all__ = ["Dataset", "DiffRec", "Interactions", "Recommender", "load_dataset"]
