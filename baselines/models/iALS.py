"""iALS (Hu et al. 2008): weighted matrix factorisation by alternating least squares."""

import contextlib
import warnings
from collections.abc import Mapping
from typing import ClassVar

import torch

from baselines.recommender import ClosedForm
from DiffRec import InputError, Interactions
from DiffRec.engine.settings import Positive, Rate, Settings, setting
from DiffRec.engine.tensors import Expected
from DiffRec.evaluate_utils import Scorer


class IALSSettings(Settings):
    """iALS."""

    title = "iALS"
    factors: Positive = setting(64, "size of user and item vectors")
    reg: Rate = setting(0.01, "lambda, the weight of the squared vectors")
    alpha: Rate = setting(1.0, "weight of an interaction; any other pair has 1")
    iterations: Positive = setting(15, "times that users and items are solved for")


@contextlib.contextmanager
def as_the_library_asks():
    """One BLAS thread, since the library runs threads of its own; it warns of more before it can
    know. InputError where its equations cannot be solved."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            yield
        except ValueError as error:
            raise InputError(f"iALS cannot be solved for these vectors ({error})") from error


class IALS(ClosedForm):
    """Minimises Σ_ui c_ui (r_ui - p_u · q_i)² + λ (‖p_u‖² + ‖q_i‖²), r being 0 or 1, with c = α for
    interactions and 1 for all others, by the library ``implicit`` and with its defaults, but 64
    factors.

    A user is always folded in from the user's row, p_u = (QᵀQ + Qᵀ(C_u - 1)Q + λ)⁻¹ Qᵀ C_u r_u,
    whether it is in the training data or not. The library's α = 1 gives interactions no more weight
    than the rest.
    """

    variant = "iALS"
    Settings = IALSSettings
    random = True  # its first vectors are
    fitted = ("items",)
    read_later = ("alpha", "reg")  # a user is solved for by them
    ranges: ClassVar = {
        "factors": [32, 64, 128, 256],
        "alpha": [1.0, 2.0, 5.0, 10.0, 20.0],
        "reg": [0.01, 0.1, 1.0, 10.0, 50.0, 100.0],
    }

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        return {"items": Expected((self.n_items, self.settings.factors))}

    def solver(self):
        from implicit.cpu.als import AlternatingLeastSquares

        settings = self.settings
        return AlternatingLeastSquares(
            factors=settings.factors, regularization=settings.reg, alpha=settings.alpha,
            iterations=settings.iterations, num_threads=torch.get_num_threads(),
            random_state=torch.initial_seed() % 2**31,
        )  # fmt: skip

    def fit(self, train: Interactions) -> None:
        with as_the_library_asks():
            model = self.solver()
            model.fit(train.matrix(), show_progress=False)
        self.items = torch.from_numpy(model.item_factors).to(self.device)

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        with as_the_library_asks():
            model = self.solver()
        model.item_factors = self.items.cpu().numpy()

        def encode(batch: Interactions) -> torch.Tensor:
            with as_the_library_asks():
                users = model.recalculate_user(list(range(len(batch))), batch.matrix())
            return torch.from_numpy(users).to(self.device)

        return encode, self.items, torch.zeros(self.n_items, device=self.device)
