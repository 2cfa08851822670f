"""The authors' released checkpoints of DiffRec."""

from pathlib import Path

from DiffRec.engine.released import NUMBER, Names, Released, read_network, settings_in_name

IN_NAME: Names = {"lr": (rf"_lr{NUMBER}", float), "weight_decay": (rf"_wd{NUMBER}_", float)}


def read_released(path: Path, second: Path | None = None, names: Names = IN_NAME) -> Released:
    """One file, the network; see `DiffRec.engine.released.read`."""
    weights, settings, n_items = read_network(path, "dims")
    return Released(weights, settings, settings_in_name(path.name, names), n_items)
