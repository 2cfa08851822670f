"""Write the scoring of a DiffRec or L-DiffRec checkpoint as an ONNX graph, which needs no torch:

python scripts/export_onnx.py CHECKPOINT OUT.onnx

Input ``history``: (B, I) float32, a row for each user with 1 at the items the user has; output
``scores``: (B, I) float32, those of the model, the user's own items among them. The file's metadata
hold the checkpoint's header, ``diffrec``, and the raw ids of the items where they are known,
``item_ids``, both as JSON.
"""

import contextlib
import dataclasses
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

import L_DiffRec
from DiffRec import DiffRec, Recommender
from DiffRec.engine import checkpoints
from DiffRec.engine.commands import command
from DiffRec.engine.contract import any_model
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import require_writable, written_whole
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder
from DiffRec.models.DNN import DNN
from DiffRec.models.hidden_space import HiddenSpaceReverse

LARGEST = 2 * 10**9  # bytes of a file that ONNX can hold


class Scoring(nn.Module):
    """Algorithm 2 with T' = 0 on dense rows, in hidden space where that is exact."""

    def __init__(self, model: DiffRec):
        super().__init__()
        self.model = model
        ends = model.dnn.linear_ends() if isinstance(model.dnn, DNN) else None
        coefficients = model.diffusion.reverse_coefficients()
        self.reverse = None
        if ends is not None and coefficients is not None:
            # The network's own activation: at inference it may be NumPy's, which is no operator.
            ends = dataclasses.replace(ends, inner=model.dnn.after_first_layer)
            self.reverse = HiddenSpaceReverse(ends, *coefficients)

    def denoise(self, x: torch.Tensor) -> torch.Tensor:
        if self.reverse is None:
            return self.model.diffusion.denoise(self.model.dnn, x)
        return self.reverse.decode(self.reverse.hidden(self.reverse.encode(x)))

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """(B, I) → (B, I)."""
        return self.denoise(history)


class LatentScoring(Scoring):
    """The same on the latent vectors of L-DiffRec."""

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        vae = self.model.vae
        mean, _ = vae.encode(history[:, vae.order])
        return self.model.in_item_order(vae.decode(self.denoise(mean)))


def scoring_of(model: Recommender) -> Scoring:
    """The graph of a model; InputError if there is none that gives its scores."""
    if not isinstance(model, DiffRec) or type(model).weigh is not Recommender.weigh:
        raise InputError(f"only DiffRec and L-DiffRec can be exported, not {model.variant}.")
    if model.sampling_steps or model.sampling_noise:
        raise InputError("a model that draws noise at inference can not be exported.")
    return (LatentScoring if isinstance(model, L_DiffRec.LDiffRec) else Scoring)(model).eval()


def export(checkpoint: Path, out: Path) -> int:
    """Write the graph whole or not at all; returns its size in bytes."""
    try:
        import onnx  # noqa: F401  (both are needed by torch.onnx)
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("ONNX is not installed: pip install onnx onnxscript.") from error
    scoring = scoring_of(any_model(checkpoint))
    weights = sum(tensor.nbytes for tensor in scoring.state_dict().values())
    if weights > LARGEST:
        raise InputError(f"{checkpoint} has {weights:,} bytes of weights, too many for one file.")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's about itself
        rows = (torch.zeros(2, scoring.model.n_items),)
        try:  # by itself: torch.onnx would make a graph of these two rows where this fails
            graph = torch.export.export(
                scoring, rows, dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
        except torch._dynamo.exc.UserError as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"{checkpoint} has a network without a graph ({reason}).") from error
        program = torch.onnx.export(
            graph, rows, input_names=["history"], output_names=["scores"], dynamo=True
        )
    program.model.metadata_props.update(checkpoints.read_metadata(checkpoint))
    with written_whole(out) as temporary:
        program.save(temporary, external_data=False)
        return temporary.stat().st_size


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("checkpoint", type=checked(Folder), help="a .safetensors file")
    parser.add_argument("out", type=checked(Folder), help="the file to write, .onnx")
    args = parser.parse_args(argv)
    if args.out.suffix != ".onnx":
        raise InputError(f"{args.out} must end in .onnx.")
    require_writable(args.out, [args.checkpoint])
    print(f"{args.out}: {export(args.checkpoint, args.out):,} bytes")


if __name__ == "__main__":
    command(main)
