"""What the pages show is run, and what they list is what there is."""

import csv
import json
import logging
import re
import runpy

import options_page
import pytest
from conftest import REPOSITORY

from DiffRec.engine.variant import REGISTRY, register_from, run_once
from DiffRec.preparation import synthetic

EXTENDING = (REPOSITORY / "docs" / "extending.md").read_text()
README = (REPOSITORY / "README.md").read_text()
OWN_DATA = (REPOSITORY / "docs" / "own-data.md").read_text()


@pytest.fixture
def workplace(tiny_folder, tmp_path, monkeypatch):
    """A folder to be in, where the tiny data are ml-1m_clean; what is registered is forgotten."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ml-1m_clean").symlink_to(tiny_folder)
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    logging.getLogger("DiffRec").handlers = []
    before = dict(REGISTRY)
    yield tmp_path
    REGISTRY.clear()
    REGISTRY.update(before)


def python_of(page: str, heading: str) -> str:
    """The Python blocks under a heading, one after the other."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


@pytest.mark.parametrize(
    ("heading", "made"),
    [
        ("A baseline", "run"),
        ("A model of sequences", "run"),
        ("A network", "run"),
        ("A protocol", "found"),
        ("A variant", "record"),
    ],
)
def test_the_examples_of_extending_run(workplace, heading, made):
    names = {"__name__": "example"}
    exec(compile(python_of(EXTENDING, heading), heading, "exec"), names)
    result = names[made]
    test = result.test if made == "run" else result["test"]
    assert any(value > 0 for value in test.values())


def test_a_model_of_a_file_is_trained_evaluated_and_searched_by_command(workplace, run):
    block = python_of(EXTENDING, "A model of sequences")
    models, _ = block.split("data = load_dataset")
    (workplace / "beside.py").write_text("found = True\n")
    (workplace / "fading.py").write_text(f"import beside\n{models}assert beside.found\n")
    own = ["--from_file", workplace / "fading.py"]
    about = ["--dataset", "ml-1m_clean", "--epochs", "4", "--eval_every", "2"]
    saved = ["--save_path", workplace / "saved", "--result_json", workplace / "r.json"]
    done = run("baselines/main.py", *own, "--model", "Fading", *about, *saved, "--fade", "0.3")
    assert done.returncode == 0, done.stderr
    record = json.loads((workplace / "r.json").read_text())
    assert record["settings"]["fade"] == 0.3
    file = workplace / "saved" / record["checkpoint"]
    REGISTRY.pop("Fading")
    done = run("baselines/inference.py", "--checkpoint", file)
    assert "holds Fading, not MF" in done.stderr
    run_once.cache_clear()  # as in a process of its own
    done = run("baselines/inference.py", *own, "--checkpoint", file)
    assert f"{record['test']['recall@20']:.4f}" in done.stdout
    kind = REGISTRY["Fading"].model
    register_from(workplace / "data" / ".." / "fading.py")
    assert REGISTRY["Fading"].model is kind
    searched = [
        "scripts/search.py", *own, "--model", "Fading", *about, "--trials", "1", "--seeds", "1",
        "--out", workplace / "s", "--presets", workplace / "p.toml",
    ]  # fmt: skip
    done = run(*searched)
    assert "1 new trials" in done.stdout, done.stderr
    done = run(*searched)
    assert "0 new trials, 1 in all" in done.stdout
    assert "of other code" not in done.stdout
    preset = f"{workplace / 'p.toml'}:ml-1m_clean_tuned"
    assert f"To use it: --preset {preset}" in done.stdout
    trained = ["baselines/main.py", *own, "--model", "Fading", *about, *saved, "--preset", preset]
    done = run(*trained, "--keep_state", "1")
    assert f"preset {preset}" in done.stdout, done.stderr
    done = run(*trained[:-1], f"{workplace / 'p.toml'}:other")
    assert f"no preset other of Fading in {workplace / 'p.toml'}: choose one of" in done.stderr
    with (workplace / "fading.py").open("a") as file:
        file.write("# it is another model now\n")
    run_once.cache_clear()  # as in a process of its own
    done = run(*trained, "--epochs", "6", "--resume")
    assert "the file that registers Fading has changed since" in done.stderr
    assert "resumed after epoch 4" in done.stdout
    assert "1 trials that count are of other code" in run(*searched).stdout
    done = run("baselines/main.py", "--from_file", workplace / "no.py", "--model", "Fading")
    assert "no.py is no Python file" in done.stderr
    done = run("baselines/main.py", *own)
    assert re.search("name a model with --model: MF, .*, Fading", done.stderr)
    done = run("baselines/main.py", "--model", "DiffRec")
    assert "model must be a baseline: others have a command of their own" in done.stderr
    done = run("scripts/search.py", "--model", "Popularity")
    assert "Popularity says no ranges: give a file of them with --ranges" in done.stderr


@pytest.mark.parametrize("word", ["train(model", "compare("])
def test_the_examples_of_the_readme_run(workplace, word):
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in b)
    block = block.replace("epochs=100", "epochs=5, save_path='saved'")
    names = {"__name__": "example"}
    exec(compile(block, "README.md", "exec"), names)
    if "run" in names:
        assert names["run"].test["recall@20"] > 0


def test_the_table_of_ones_own_becomes_a_data_set(workplace):
    ratings = synthetic.make_ratings(400, 60, 40, seed=3)
    ratings.columns = ["who", "what", "stars", "when"]
    ratings.to_csv("ratings.csv", index=False)
    names = {"__name__": "example"}
    block = python_of(OWN_DATA, "1. A file becomes a data set")
    exec(compile(block, "own-data.md", "exec"), names)
    assert names["data"].n_users > 10
    assert (workplace / "datasets" / "mine" / "user_map.csv").is_file()


def test_the_model_of_ones_own_runs(workplace, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["own_model.py"])
    names = runpy.run_path(str(REPOSITORY / "examples" / "own_model.py"))
    assert (workplace / "saved_models").is_dir()
    told = re.findall(r"(\S+)@20: (\S+) against .* difference of \S+ ", capsys.readouterr().out)
    assert [metric for metric, _ in told] == ["recall", "ndcg"]
    assert all(float(ours) > 0 for _, ours in told)
    history = names["run"].history
    assert history[-1]["loss"] < history[0]["loss"]
    assert names["items"].shape == (2, 5)


def test_the_page_of_options_is_that_of_the_settings():
    """python scripts/options_page.py writes it anew."""
    assert (REPOSITORY / "docs" / "options.md").read_text() == options_page.page() + "\n"


def test_pages_tell_as_many_trials_as_there_are():
    text = (REPOSITORY / "docs/findings.md").read_text()
    told = re.findall(r"\[(\d+) trials\]\(\.\./(\S+\.csv)\)", text)
    assert len(told) > 5
    for number, path in told:
        with (REPOSITORY / path).open(newline="") as file:
            seeds = [row["seed"] for row in csv.DictReader(file)]
        assert seeds.count("1") == int(number), path  # not those of further seeds


def test_pages_link_to_what_is_there():
    for page in REPOSITORY.glob("**/*.md"):
        if ".venv" in page.parts:
            continue
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
