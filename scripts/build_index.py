"""Build an index for approximate search of a model's items, and measure what it finds:

python scripts/build_index.py CHECKPOINT items.faiss --data_path datasets/mine
python scripts/build_index.py CHECKPOINT items.faiss --kind ivfpq --bytes 64 --probe 32

For models with user and item vectors, p · q + b (`Recommender.factors`). The index holds the items
in the order of their numbers, as (q, b), and is asked by inner product for (p, 1). Printed is
recall@k against exact search, for users of the data set and what the model is told of them: the
share of the exact k best that are found.
"""

import math
import time

import numpy as np
import reproduction  # noqa: F401  (registers the models)
import torch
from arguments import add_from_file, data_of, header_of, models_from

from DiffRec.engine.commands import command
from DiffRec.engine.contract import Recommender, any_model, rows_at_once
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import require_writable, written_whole
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.serving import rows_to_serve
from DiffRec.engine.settings import Few, Folder, Positive
from DiffRec.evaluate_utils import checked as finite

try:
    import faiss
except ImportError:
    faiss = None

KINDS = ("hnsw", "ivfpq")


@torch.inference_mode()
def vectors_of(model: Recommender, rows) -> tuple[np.ndarray, np.ndarray]:
    """(U, D + 1) of users, with a 1 at the end, and (I, D + 1) of items, with their bias there."""
    encode, items, biases = model.factors()
    parts = [encode(batch) for batch in rows.batches(rows_at_once(model.n_items))]
    users = finite(torch.cat(parts))
    items = finite(torch.cat([items, biases[:, None]], dim=1))
    return torch.cat([users, torch.ones(len(users), 1)], dim=1).numpy(), items.numpy()


def build(items: np.ndarray, kind: str, links: int, search: int, bytes: int, probe: int):
    """A graph of near items (HNSW), or lists of items near to centres, each item packed into
    ``bytes`` bytes (IVF-PQ)."""
    n, d = items.shape
    by = faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, links, by)
        index.hnsw.efSearch = search
    else:
        lists = max(round(math.sqrt(n)), 1)
        bits = min(8, int(math.log2(n)))  # no more centres than items
        width = bytes * math.ceil(d / bytes)  # rotated into what can be cut evenly
        index = faiss.index_factory(d, f"RR{width},IVF{lists},PQ{bytes}x{bits}np", by)
        of_lists = faiss.downcast_index(faiss.extract_index_ivf(index))
        for centres in (of_lists.cp, of_lists.pq.cp):
            centres.min_points_per_centroid = 1  # a small catalogue is no reason to warn
        index.train(items)
        of_lists.nprobe = min(probe, lists)
    index.add(items)
    return index


def timed_search(index, users: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """The k nearest items of each user, and milliseconds for one."""
    start = time.perf_counter()
    _, top = index.search(users, k)
    return top, 1000 * (time.perf_counter() - start) / len(users)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("checkpoint", type=checked(Folder), help="a .safetensors file")
    parser.add_argument("out", type=checked(Folder), help="the index to write, .faiss")
    parser.add_argument(
        "--dataset", default=None, help="whose users measure it; by default the checkpoint's"
    )
    parser.add_argument("--data_path", type=checked(Folder), default=None, help="where it lies")
    parser.add_argument("--kind", choices=KINDS, default="hnsw", help="a graph, or packed lists")
    parser.add_argument("--links", type=checked(Few), default=32, help="hnsw: of an item")
    parser.add_argument("--search", type=checked(Few), default=256, help="hnsw: items looked at")
    parser.add_argument("--bytes", type=checked(Few), default=32, help="ivfpq: of an item")
    parser.add_argument("--probe", type=checked(Few), default=16, help="ivfpq: lists looked at")
    parser.add_argument("--k", type=checked(Positive), default=100, help="best items to find")
    parser.add_argument("--users", type=checked(Positive), default=1000, help="to measure with")
    add_from_file(parser)
    models_from(argv)
    args = parser.parse_args(argv)
    if faiss is None:
        raise InputError("faiss is not installed: pip install faiss-cpu.")
    if args.out.suffix != ".faiss":
        raise InputError(f"{args.out} must end in .faiss.")
    if args.links < 2:
        raise InputError("a graph needs at least 2 --links of an item.")
    require_writable(args.out, [args.checkpoint])
    model = any_model(args.checkpoint)
    header = header_of(args.checkpoint)
    dataset = data_of(args.checkpoint, header, args.dataset, args.data_path)
    model.require_rows("there is nothing to measure an index by")
    rows = rows_to_serve(header, dataset, model)
    some = np.linspace(0, dataset.n_users - 1, min(args.users, dataset.n_users)).astype(np.int64)
    users, items = vectors_of(model, rows.rows(torch.from_numpy(some)))
    index = build(items, args.kind, args.links, args.search, args.bytes, args.probe)
    with written_whole(args.out) as temporary:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:  # of a full disk
            raise OSError(str(error)) from error
        size = temporary.stat().st_size
    exact = faiss.IndexFlatIP(items.shape[1])
    exact.add(items)
    k = min(args.k, len(items))
    (best, slow), (found, fast) = (timed_search(one, users, k) for one in (exact, index))
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(best, found, strict=True))
    print(f"{args.out}: {len(items):,} items of {items.shape[1]} numbers, {size:,} bytes")
    print(f"recall@{k} of {len(users)} users {hits / best.size:.4f}; {fast:.3f} ms each, exact "
          f"{slow:.3f} ms")  # fmt: skip


if __name__ == "__main__":
    command(main)
