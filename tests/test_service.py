"""The example service, asked by a client over a socket."""

import contextlib
import json
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request

import export_onnx
import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from DiffRec import DiffRec, InputError, train
from DiffRec.engine.ids import IdMap

pytest.importorskip("fastapi", reason="fastapi is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
sys.path.insert(0, str(REPOSITORY / "examples" / "service"))
import load  # noqa: E402
import service  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    model = DiffRec(tiny.n_items, dims=[8], steps=2)
    return train(model, tiny, epochs=1, save_path=tmp_path_factory.mktemp("saved")).checkpoint


@contextlib.contextmanager
def serving(app):
    """The address of a server that runs inside the block."""
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def ask(address: str, path: str, body: object = None) -> tuple[int, object]:
    """Status and content of an answer; with a body it is posted."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["detail"]


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_it_answers_as_the_model(checkpoint, tiny, tiny_folder, tmp_path, kind):
    path = checkpoint
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        path = tmp_path / "model.onnx"
        export_onnx.export(checkpoint, path)
    app = service.create_app(path, tiny_folder)
    items = IdMap.of_folder("item", tiny_folder, tiny.n_items)
    users = IdMap.of_folder("user", tiny_folder, tiny.n_users)
    history = tiny.train.slice(3, 4).items.tolist()
    expected, scores = DiffRec.load(checkpoint).recommend([history], k=5)
    raw = items.to_raw(np.array(history)).tolist()
    with serving(app) as address:
        status, found = ask(address, "/recommend", {"history": raw, "k": 5})
        assert status == 200
        assert [row["item"] for row in found] == items.to_raw(expected[0].numpy()).tolist()
        assert [row["score"] for row in found] == pytest.approx(scores[0].tolist(), abs=1e-4)
        status, found = ask(address, f"/recommend?user={users.names()[3]}&k=30")
        assert status == 200
        left_out = tiny.left_out().slice(3, 4).items
        assert len(left_out) > len(tiny.seen(with_test=True).slice(3, 4).items)  # some disliked
        had = items.to_raw(left_out.numpy()).tolist()
        assert len(found) == 30
        assert not set(had) & {row["item"] for row in found}
        assert ask(address, "/recommend?user=nobody") == (404, "there is no user 'nobody'.")
        unknown = ask(address, "/recommend", {"history": [raw[0], "nothing"]})
        assert unknown == (422, "there is no item 'nothing'.")
        assert ask(address, f"/recommend?user={users.names()[3]}&k=0")[0] == 422
        for k in (2, 5, 40):  # somebody new, for whom many items are equally popular
            status, found = ask(address, "/recommend", {"history": [], "k": k})
            popular = DiffRec.load(checkpoint).recommend([[]], k=k)[0][0]
            assert (status, [row["item"] for row in found]) == (200, items.to_raw(popular).tolist())
        assert ask(address, "/health") == (200, {"items": tiny.n_items, "users": tiny.n_users})


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    for content in (None, b"no graph"):
        path = tmp_path / "model.onnx"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"model\.onnx is no graph that scripts/export_onnx"):
            service.create_app(path)


def test_a_restart_serves_the_same(checkpoint, tiny_folder, monkeypatch):
    monkeypatch.setenv("MODEL", str(checkpoint))
    monkeypatch.setenv("DATA", str(tiny_folder))
    answers = []
    for _ in range(2):
        with serving(service.from_environment()) as address:
            answers.append(ask(address, "/recommend", {"history": []}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_without_data_users_are_not_known(checkpoint):
    with serving(service.create_app(checkpoint)) as address:
        status, said = ask(address, "/recommend?user=1")
        assert (status, said) == (404, "no data set is loaded: post a history.")
        assert ask(address, "/recommend", {"history": []})[0] == 200


def test_data_of_other_items_are_refused(checkpoint, save_lists):
    with pytest.raises(InputError, match="the data 3"):
        service.create_app(checkpoint, save_lists([(0, 2)]))


def test_data_whose_items_have_other_numbers_are_refused(checkpoint, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "later")
    header, *lines = (tmp_path / "later" / "item_map.csv").read_text().splitlines()
    raw, numbers = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    turned = [f"{name},{number}" for name, number in zip(reversed(raw), numbers, strict=True)]
    (tmp_path / "later" / "item_map.csv").write_text("\n".join([header, *turned]))
    with pytest.raises(InputError, match="items of later have other numbers than in the data of"):
        service.create_app(checkpoint, tmp_path / "later")


def test_the_measurement_counts_every_answer(checkpoint, tiny, tiny_folder):
    users = IdMap.of_folder("user", tiny_folder, tiny.n_users).names().tolist()
    with serving(service.create_app(checkpoint, tiny_folder)) as address:
        row = load.measure(address, [str(user) for user in users], clients=4, requests=21)
    clients, rate, median, last = (float(cell) for cell in row.strip("| ").split(" | "))
    assert clients == 4
    assert rate > 0
    assert 0 < median <= last


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_a_final_model_is_told_everything(tiny, tmp_path, kind):
    model = DiffRec(tiny.n_items, dims=[8], steps=2)
    path = train(model, tiny, epochs=1, save_path=tmp_path, final=True).checkpoint
    found = service.of_checkpoint(path)
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        export_onnx.export(path, tmp_path / "model.onnx")
        found = service.of_onnx(tmp_path / "model.onnx")
    rows, everything = found.rows(tiny), tiny.everything()
    assert torch.equal(rows.items, everything.train.items)
    assert found.popularity.tolist() == everything.popularity().tolist()
