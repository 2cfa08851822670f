"""Recommendations over HTTP, from a checkpoint or an exported ONNX graph:

MODEL=model.safetensors DATA=datasets/ml-1m_clean \\
    uvicorn --app-dir examples/service --factory service:from_environment

DATA, the data set's folder, is for lists by user id, and for raw ids that the model's file lacks.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, Field

import baselines  # noqa: F401  (each package registers its models)
import L_DiffRec  # noqa: F401
import T_DiffRec  # noqa: F401
from DiffRec import Dataset, InputError, Interactions, load_dataset
from DiffRec.engine import checkpoints
from DiffRec.engine.contract import any_model
from DiffRec.engine.ids import IdMap
from DiffRec.engine.serving import rows_to_serve
from DiffRec.evaluate_utils import top_k

K = Annotated[int, Field(ge=1, le=1000)]


@dataclasses.dataclass(frozen=True)
class Model:
    """What is served: ``score`` gives (I,) float32 scores for one row of interactions."""

    n_items: int
    raw_ids: np.ndarray | None
    popularity: np.ndarray | None  # what an empty history is served by, where it is known
    score: Callable[[Interactions], np.ndarray]
    rows: Callable[[Dataset], Interactions]  # what it is told of a data set's users
    weigh: Callable[[Interactions], Interactions] = lambda history: history


def of_checkpoint(path: Path) -> Model:
    model = any_model(path)
    model.require_rows("there is nothing to serve a new user with")
    known = checkpoints.item_ids(path, model.n_items)

    def score(row: Interactions) -> np.ndarray:
        with torch.inference_mode():
            return model.kept_scorer()(row)[0].numpy()

    raw_ids = None if known is None else known.raw
    popularity = None if model.popularity is None else model.popularity.numpy()
    header = checkpoints.read_header(path)

    def rows(data: Dataset) -> Interactions:
        return rows_to_serve(header, data, model)

    return Model(model.n_items, raw_ids, popularity, score, rows, model.weigh)


def of_onnx(path: Path) -> Model:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # requests are what runs side by side
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        told = session.get_modelmeta().custom_metadata_map
        header = json.loads(told["diffrec"])
    except Exception as error:  # the library's own, of no common class
        raise InputError(f"{path} is no graph that scripts/export_onnx.py wrote.") from error
    raw_ids, popularity = (
        np.array(json.loads(told[name])) if name in told else None
        for name in ("item_ids", "popularity")
    )

    def score(row: Interactions) -> np.ndarray:
        return session.run(["scores"], {"history": row.dense().numpy()})[0][0]

    def rows(data: Dataset) -> Interactions:
        return rows_to_serve(header, data)

    return Model(session.get_inputs()[0].shape[1], raw_ids, popularity, score, rows)


class Item(BaseModel):
    """One recommendation."""

    item: str | int
    score: float


class History(BaseModel):
    """Somebody's items by raw id, oldest first, and how many are wanted."""

    history: list[str | int] = Field(max_length=10_000)
    k: K = 20


def create_app(model_path: Path, data_path: Path | None = None) -> FastAPI:
    """The service; InputError for a model or data that do not fit."""
    torch.set_num_threads(1)
    model = (of_onnx if model_path.suffix == ".onnx" else of_checkpoint)(model_path)
    items = IdMap("item", model.n_items, model.raw_ids)
    users = rows = seen = None
    if data_path is not None:
        data = load_dataset(data_path=data_path)
        if data.n_items != model.n_items:
            raise InputError(f"the model has {model.n_items} items, the data {data.n_items}.")
        of_data = IdMap.of_folder("item", data_path, model.n_items)
        items.require_same(of_data, str(model_path), data.name)
        items = of_data if model.raw_ids is None else items
        users = IdMap.of_folder("user", data_path, data.n_users)
        user_numbers = {str(raw): number for number, raw in enumerate(users.names())}
        rows, seen = model.rows(data), data.left_out()
    item_numbers = {str(raw): number for number, raw in enumerate(items.names())}
    app = FastAPI(title="DiffRec")

    def best(row: Interactions, left_out: torch.Tensor, k: int) -> list[Item]:
        popular = not len(row.items) and model.popularity is not None
        scores = model.popularity.astype(np.float32) if popular else model.score(row).copy()
        scores[left_out.numpy()] = -np.inf
        (top,) = top_k(torch.from_numpy(scores)[None], min(k, model.n_items)).numpy()
        top = top[np.isfinite(scores[top])]
        names = items.to_raw(top).tolist()
        return [Item(item=i, score=s) for i, s in zip(names, scores[top].tolist(), strict=True)]

    @app.get("/health")
    def health() -> dict[str, int]:
        return {"items": model.n_items, "users": 0 if users is None else users.size}

    @app.get("/recommend")
    def for_user(user: str, k: Annotated[K, Query()] = 20) -> list[Item]:
        if users is None:
            raise HTTPException(404, "no data set is loaded: post a history.")
        if user not in user_numbers:
            raise HTTPException(404, f"there is no user {user!r}.")
        number = user_numbers[user]
        return best(rows.slice(number, number + 1), seen.slice(number, number + 1).items, k)

    @app.post("/recommend")
    def for_history(asked: History) -> list[Item]:
        words = [str(word) for word in asked.history]
        unknown = [word for word in words if word not in item_numbers]
        if unknown:
            raise HTTPException(422, f"there is no item {unknown[0]!r}.")
        numbers = [item_numbers[word] for word in words]
        row = model.weigh(Interactions.from_histories([numbers], model.n_items))
        return best(row, row.items, asked.k)

    return app


def from_environment() -> FastAPI:
    """By the variables MODEL and DATA."""
    data = os.environ.get("DATA")
    return create_app(Path(os.environ["MODEL"]), Path(data) if data else None)
