"""DiffRec (Wang et al., SIGIR 2023), and the engine that its extensions and the baselines use."""

from DiffRec.data_utils import Dataset, Interactions, load_dataset
from DiffRec.recommender import DiffRec, Recommender

__all__ = ["Dataset", "DiffRec", "Interactions", "Recommender", "load_dataset"]
