"""A model of one's own, in one file: python examples/own_model.py [DATA_SET]

A low-rank linear autoencoder with a softmax over the items. It is trained, stopped early, saved,
evaluated and asked for lists by the project's engine, as DiffRec is, and compared with popularity
by a paired test over users. The cells marked # %% run one after the other in an editor that knows
them, or as a script.
"""

# %% What a model must say: what it is set by, its loss, its scores, its optimiser
import logging
import sys
from pathlib import Path

import torch
from torch import nn

from DiffRec import Interactions, Recommender, compare, evaluate, load_dataset, train
from DiffRec.engine.settings import OptimizerSettings, Positive, Settings, Share, setting
from DiffRec.engine.variant import Variant, register


class LowRankSettings(Settings):
    title = "LowRank"
    rank: Positive = setting(64, "width of the bottleneck")
    dropout: Share = setting(0.5, "share of a user's items that are hidden in training")


class LowRank(Recommender):
    """Scores x A B: what a user has, (I,), through a bottleneck of ``rank`` numbers."""

    variant = "LowRank"
    Settings = LowRankSettings
    Training = OptimizerSettings

    def make(self, settings: LowRankSettings) -> None:
        self.encoder = nn.Linear(self.n_items, settings.rank, bias=False)
        self.decoder = nn.Linear(settings.rank, self.n_items)
        self.dropout = nn.Dropout(settings.dropout)

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        x = batch.dense()  # (B, I)
        logits = self.decoder(self.encoder(self.dropout(nn.functional.normalize(x))))
        return -(logits.log_softmax(dim=1) * x).sum(dim=1).mean()

    def scorer(self):
        return lambda batch: self.decoder(self.encoder(nn.functional.normalize(batch.dense())))


# %% Train it
logging.basicConfig(level="INFO", format="%(message)s")
register(Variant(LowRank, folder=Path.cwd(), presets=dict))
data = load_dataset(sys.argv[1] if len(sys.argv) > 1 else "ml-1m_clean")
model = LowRank.for_dataset(data, rank=64, seed=1)
run = train(model, data, lr=3e-3, epochs=30, batch_size=200)

# %% Is it better than popularity, beyond chance?
popularity = torch.bincount(data.train.items.long(), minlength=data.n_items).float()
users = {"topN": [20], "metrics": ["recall", "ndcg"], "per_user": True}
ours = evaluate(model, data, **users)["test"]
theirs = evaluate(lambda batch: popularity.repeat(len(batch), 1), data, **users)["test"]
for metric, found in compare(ours, theirs).items():
    print(
        f"{metric}: {found['a']:.4f} against {found['b']:.4f}, a difference of "
        f"{found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f}), "
        f"p = {found['p']:.1g}"
    )

# %% Lists, from the file that training wrote
best = LowRank.load(run.checkpoint)
items, scores = best.recommend([[3, 17, 25], []], k=5)
print(items, scores, sep="\n")
