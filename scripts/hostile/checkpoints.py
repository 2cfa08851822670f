"""Checkpoints of ours with odd headers and tensors, states, and pickles of the release."""

import contextlib
import copy
import dataclasses
import json
import math
import pickle
import shutil
import zipfile
from pathlib import Path

import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.variant import REGISTRY, variant_of
from hostile.values import DEEP, TYPICAL, VALUES, WORDS, Touch, as_json
from hostile.workshop import LATENT_NAME, RELEASED_NAME, Attempt, Kind, Workshop, save_module

OPTIONS = ("result_json", "recommend", "convert", "export_vectors", "history", "data_path",
           "save_path", "tensorboard", "checkpoint", "resume", "log_name", "seed",
           "timestamps", "emb_path", "model", "gpu")  # fmt: skip
TOP = ("format", "version", "variant", "dataset", "settings", "seed", "best_epoch", "valid", "test",
       "data")  # fmt: skip
NEEDED = ("format", "variant", "dataset", "settings", "seed", "data")
MODES = ("evaluate", "recommend", "export", "history", "convert", "compare")


def on_checkpoint(shop: Workshop, folder: Path, name: str, mode: str, path: Path) -> Attempt:
    """A command that reads a checkpoint of a variant."""
    script = str(variant_of(name).folder.relative_to(REPOSITORY) / "inference.py")
    flags = ["--checkpoint", str(path), "--data_path", str(shop.data), "--cuda", "0"]
    more, writes = {
        "evaluate": (["--result_json", "out.json"], "out.json"),
        "recommend": (["--recommend", "out.csv", "--k", "3"], "out.csv"),
        "export": (["--export_vectors", "out"], "out"),
        "history": (["--history", "1,2,3", "--raw_ids", "0"], "-"),
        "convert": (["--convert", "out.safetensors"], "out.safetensors"),
        "compare": ([], "out.csv"),
    }[mode]
    if mode == "compare":
        good = str(shop.paths[name][0])
        flags = [good, str(path), "--data_path", str(shop.data), "--out", "out.csv"]
        return Attempt("scripts/compare.py", flags, (writes,))
    return Attempt(script, [*flags, *more], (writes,))


@st.composite
def headers(draw) -> tuple:
    name = draw(st.sampled_from(list(REGISTRY)))
    known = sorted(variant_of(name).settings.names())
    one = st.one_of(
        st.tuples(st.just("setting"), st.sampled_from(known), TYPICAL),
        st.tuples(st.just("setting"), st.sampled_from(known), TYPICAL),
        st.tuples(st.just("setting"), st.sampled_from((*OPTIONS, "x", "Steps", "")), WORDS),
        st.tuples(st.just("forget"), st.sampled_from(known), st.none()),
        st.tuples(st.just("top"), st.sampled_from((*TOP, *OPTIONS, "machine")), TYPICAL),
        st.tuples(st.just("drop"), st.sampled_from(TOP), st.none()),
        st.tuples(st.just("data"), st.sampled_from(("users", "items", "train", "x")), TYPICAL),
        st.tuples(st.just("variant"), st.sampled_from(list(REGISTRY)), st.none()),
        st.tuples(
            st.just("text"), st.sampled_from(["", "{", "[]", "null", "1", '"x"', DEEP]), st.none()
        ),
        st.tuples(st.just("ids"), st.sampled_from(["", "[1]", "{}", "[[1]]", DEEP, "null"]),
                  st.none()),
    )  # fmt: skip
    return name, draw(st.sampled_from(MODES)), draw(st.lists(one, min_size=1, max_size=2))


def make_header(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    name, mode, changes = what
    metadata, tensors = shop.checkpoints[name]
    header, metadata = json.loads(metadata["diffrec"]), dict(metadata)
    known, refuse, text = variant_of(name).settings.names(), False, None
    for how, key, value in changes:
        settings = header.get("settings") if isinstance(header.get("settings"), dict) else {}
        data = header.get("data") if isinstance(header.get("data"), dict) else {}
        if how == "setting":
            settings[key] = value
            refuse |= key not in known
        elif how == "forget":
            settings.pop(key, None)
        elif how == "top":
            header[key] = value
            refuse |= key not in TOP
        elif how == "drop":
            header.pop(key, None)
            refuse |= key in NEEDED
        elif how == "data":
            data[key] = value
        elif how == "variant":
            header["variant"] = key
        elif how == "text":
            text, refuse = as_json(DEEP) if key == DEEP else key, True
        else:
            metadata["item_ids"] = as_json(DEEP) if key == DEEP else key
    # A header of this format that was changed twice in one place may be whole again.
    refuse = refuse and len({(how, key) for how, key, _ in changes}) == len(changes)
    refuse = refuse and len({how for how, *_ in changes} & {"setting", "top", "drop"}) < 2
    metadata["diffrec"] = as_json(header) if text is None else text
    with contextlib.suppress(UnicodeEncodeError):
        save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "x.safetensors",
                  metadata)  # fmt: skip
    attempt = on_checkpoint(shop, folder, name, mode, folder / "x.safetensors")
    return dataclasses.replace(attempt, must_refuse=refuse)


DTYPES = ("float64", "float16", "bfloat16", "bool", "complex64", "int8", "int32", "int64", "uint8")


@st.composite
def tensors(draw) -> tuple:
    name = draw(st.sampled_from(list(REGISTRY)))
    place = draw(st.integers(0, 99))  # of the tensor, by number
    change = draw(
        st.one_of(
            st.sampled_from([("drop", None), ("add", "extra"), ("add", "dnn.x"), ("empty", None),
                             ("transpose", None), ("flat", None), ("scalar", None)]),
            st.tuples(st.just("cut"), st.sampled_from([0, 1, 3])),
            st.tuples(st.just("longer"), st.sampled_from([1, 1000])),
            st.tuples(st.just("dtype"), st.sampled_from(DTYPES)),
            st.tuples(st.just("value"),
                      st.sampled_from([math.nan, math.inf, -math.inf, 1e38, -1e38, 1e19, 9e17])),
            st.tuples(st.just("index"),
                      st.sampled_from([-1, -(2**31), 10**9, 2**31 - 1, "falling", "beyond"])),
            st.tuples(st.just("bytes"), st.integers(0, 5000)),
        )
    )  # fmt: skip
    return name, draw(st.sampled_from(MODES)), place, change


def make_tensor(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    name, mode, place, (how, value) = what
    metadata, found = shop.checkpoints[name]
    found = dict(found)
    if how == "index":
        pool = [k for k, t in found.items() if not t.is_floating_point()] or list(found)
    else:
        pool = list(found)
    key = sorted(pool)[place % len(pool)]
    old = tensor = found[key]
    if how == "drop":
        tensor = None
    elif how == "add":
        found[value] = torch.zeros(3)
    elif how == "empty":
        tensor = tensor.new_zeros(0)
    elif how == "transpose":
        tensor = tensor.T if tensor.ndim == 2 else tensor.reshape(1, -1)
    elif how == "flat":
        tensor = tensor.reshape(-1)
    elif how == "scalar":
        tensor = torch.zeros((), dtype=tensor.dtype)
    elif how == "cut":
        tensor = tensor[:value] if tensor.ndim else tensor
    elif how == "longer" and tensor.ndim:
        tensor = torch.cat([tensor, tensor[:1].expand(value, *tensor.shape[1:])])
    elif how == "dtype":
        tensor = tensor.to(getattr(torch, value))
    elif how == "value" and tensor.is_floating_point() and tensor.numel():
        tensor = tensor.clone()
        tensor.view(-1)[place % tensor.numel()] = value
        if value == 9e17:
            tensor.fill_(value)
    elif how == "index" and not tensor.is_floating_point() and tensor.numel():
        tensor = tensor.clone()
        flat = tensor.view(-1)
        if value == "falling":
            flat.copy_(flat.flip(0))
        else:
            flat[-1] = int(flat.max()) + 10**6 if value == "beyond" else value
    if tensor is None:
        del found[key]
    else:
        found[key] = tensor
    same = tensor is not None and tensor.dtype == old.dtype and tensor.shape == old.shape
    if same and how in ("index", "value"):
        same = torch.equal(tensor, old)
    # Columns may stand in any order within a row, and clusters may be anybody's.
    free = how == "index" and value == "falling" and not key.endswith("offsets")
    refuse = how == "add" or (not same and not free and value != 9e17)  # which may just do
    path = folder / "x.safetensors"
    if found:
        save_file({k: t.contiguous() for k, t in found.items()}, path, metadata)
    if how == "bytes" and path.is_file():
        path.write_bytes(path.read_bytes()[: -value or None])
        refuse = value > 0
    attempt = on_checkpoint(shop, folder, name, mode, path)
    return dataclasses.replace(attempt, must_refuse=refuse)


HOSTILE = {
    "system": lambda: Touch("touched"),
    "list": lambda: [1, 2, 3],
    "tensor": lambda: torch.zeros(3),
    "dict": lambda: {"a": torch.zeros(3), "b": Touch("touched")},
}
PICKLE_CHANGES = st.one_of(
    st.tuples(st.just("attribute"), st.sampled_from(
        ["in_dims", "out_dims", "time_emb_dim", "norm", "emb_layer", "in_layers", "out_layers",
         "n_item", "n_cate", "act_func", "reparam", "category_idx", "category_map", "encoder",
         "decoder", "drop", "item_emb"]),
        st.one_of(VALUES.filter(lambda value: value != DEEP), st.sampled_from(
            [[6, 10**9], 10**9, [10**9], [-5], [[0], [1]], [], "tensor", "expanded"]))),
    st.tuples(st.just("missing"), st.sampled_from(
        ["out_dims", "time_emb_dim", "emb_layer", "in_layers", "out_layers", "n_item", "n_cate",
         "encoder", "decoder", "category_idx", "category_map"])),
    st.tuples(st.just("weights"), st.sampled_from(["nan", "expanded", "half", "cut", "sparse"])),
    st.tuples(st.just("hostile"), st.sampled_from(list(HOSTILE))),
    st.tuples(st.just("cut"), st.integers(0, 6000)),
    st.tuples(st.just("flip"), st.integers(0, 6000)),
    st.tuples(st.just("raw"), st.binary(max_size=60)),
    st.sampled_from([("packed",), ("plain pickle",), ("old",), ("loop",), ("zip",), ("folder",)]),
)  # fmt: skip


def make_pickle(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, (how, *rest) = what
    latent = which != "network"
    kinds = {"network": "models.DNN.DNN", "latent": "models.DNN.DNN",
             "autoencoder": "models.Autoencoder.AutoEncoder"}  # fmt: skip
    path = folder / (LATENT_NAME if latent else RELEASED_NAME)
    second = path.with_name(path.name.replace(".pth", "_AE.pth"))
    if latent:
        save_module(path, kinds["latent"], shop.released["latent"])
        save_module(second, kinds["autoencoder"], shop.released["autoencoder"])
    victim = second if which == "autoencoder" else path
    attributes = copy.deepcopy(shop.released[which])
    refuse = how in ("hostile", "raw", "packed", "plain pickle", "loop", "zip", "folder")
    if how == "attribute":
        value = {"tensor": torch.zeros(3), "expanded": torch.zeros(1).expand(10**6, 10**6)}.get(
            rest[1] if isinstance(rest[1], str) else "", rest[1])  # fmt: skip
        attributes[rest[0]] = value
    elif how == "missing":
        attributes.pop(rest[0], None)
    elif how == "weights":
        layer = attributes["decoder"][0] if which == "autoencoder" else attributes["out_layers"][0]
        weight = layer.weight.detach()
        made = {
            "nan": weight * math.nan, "half": weight.half(), "cut": weight[:3],
            "expanded": torch.zeros(1).expand(10**9, 6), "sparse": weight.to_sparse(),
        }[rest[0]]  # fmt: skip
        layer.weight = nn.Parameter(made)
        if rest[0] == "expanded" and which == "network":
            attributes["out_dims"], refuse = [6, 10**9], True
        refuse = True
    save_module(victim, kinds[which], attributes)
    raw = victim.read_bytes()
    if how == "hostile":
        torch.save(HOSTILE[rest[0]](), victim)
    elif how == "cut":
        victim.write_bytes(raw[: rest[0]])
    elif how == "flip":
        changed = bytearray(raw)
        changed[rest[0] % len(changed)] ^= 0xFF
        victim.write_bytes(bytes(changed))
    elif how == "raw":
        victim.write_bytes(rest[0])
    elif how == "packed":
        with zipfile.ZipFile(victim, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("archive/data.pkl", "w") as file:
                for _ in range(64):
                    file.write(b"N0" * 2**19)
            archive.writestr("archive/version", "3")
    elif how == "plain pickle":
        victim.write_bytes(pickle.dumps(Touch("touched")))
    elif how == "old":
        torch.save(torch.zeros(3), victim, _use_new_zipfile_serialization=False)
    elif how == "loop":  # lists that hold each other, twice at each of forty floors
        torch.save(list(floors(40)), victim)
    elif how == "zip":
        with zipfile.ZipFile(victim, "w") as archive:
            archive.writestr("x", "y")
    elif how == "folder":
        victim.unlink()
        victim.mkdir()
    script = "L-DiffRec/inference.py" if latent else "DiffRec/inference.py"
    flags = ["--checkpoint", str(path), "--data_path", str(shop.data), "--dataset", "tiny",
             "--result_json", "out.json", "--cuda", "0"]  # fmt: skip
    return Attempt(script, flags, ("out.json",), refuse)


def floors(n: int) -> list:
    inner: list = []
    for _ in range(n):
        inner = [inner, inner]
    return inner


STATE_CHANGES = st.one_of(
    st.tuples(st.just("top"), st.sampled_from(
        ["format", "settings", "identity", "progress", "weights", "average", "optimizers",
         "model_state", "random", "x"]), VALUES),
    st.tuples(st.just("drop"), st.sampled_from(
        ["format", "settings", "identity", "progress", "weights", "optimizers", "model_state",
         "random"])),
    st.tuples(st.just("progress"), st.sampled_from(
        ["epoch", "best_epoch", "best_value", "valid", "test", "history"]), VALUES),
    st.tuples(st.just("cut"), st.integers(0, 6000)),
    st.tuples(st.just("flip"), st.integers(0, 6000)),
    st.tuples(st.just("hostile"), st.sampled_from(list(HOSTILE))),
)  # fmt: skip


def make_state(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    name, (how, *rest) = what
    path, words = shop.paths[name]
    saved = folder / "saved"
    shutil.copytree(path.parent, saved)
    (victim,) = saved.glob("*.state")
    state = torch.load(victim, weights_only=True)
    if how == "top":
        state[rest[0]] = rest[1]
    elif how == "drop":
        del state[rest[0]]
    elif how == "progress":
        state["progress"][rest[0]] = rest[1]
    if how in ("top", "drop", "progress"):
        torch.save(state, victim)
    elif how == "hostile":
        torch.save(HOSTILE[rest[0]](), victim)
    else:
        content = bytearray(victim.read_bytes())
        if how == "flip":
            content[rest[0] % len(content)] ^= 0xFF
        victim.write_bytes(bytes(content[: rest[0]] if how == "cut" else content))
    words = words[: words.index("--save_path")]
    flags = [*words, "--epochs", "2", "--save_path", "saved", "--cuda", "0", "--resume"]
    script = str(variant_of(name).folder.relative_to(REPOSITORY) / "main.py")
    refuse = how == "hostile" or (
        how == "drop" and rest[0] not in ("optimizers", "model_state")  # some models have none
    )
    return Attempt(script, flags, ("saved",), refuse)


KINDS = {
    "header": Kind(headers(), make_header),
    "tensor": Kind(tensors(), make_tensor),
    "pickle": Kind(
        st.tuples(st.sampled_from(["network", "latent", "autoencoder"]), PICKLE_CHANGES),
        make_pickle,
    ),
    "state": Kind(
        st.tuples(
            st.sampled_from(["DiffRec", "MultiVAE", "L-DiffRec", "EASE", "LightGCN"]),
            STATE_CHANGES,
        ),
        make_state,
    ),
}
