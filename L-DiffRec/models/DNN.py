"""The denoising network of the latent space: DiffRec's, on z_t, with another initialisation."""

from torch import nn

from DiffRec.models import DNN as base


class DNN(base.DNN):
    """x̂_θ(z_t, t): D → dims → D. See `DiffRec.models.DNN`; ``n_items`` is D here."""

    def reset_parameters(self) -> None:
        """Xavier-normal weights, biases 0, as released."""
        for layer in (*self.in_layers, *self.out_layers, self.emb_layer):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
