"""What is installed: dependencies, commands, and where an installed package looks for files.

scripts/try_package.sh installs a wheel and calls its commands."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement

from DiffRec import data_utils
from DiffRec.engine import commands, machine
from DiffRec.engine.variant import variant_of

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_the_lock_holds_what_the_package_asks_for():
    """Else pip would fetch another version beside what was measured, torch's CUDA build say."""
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"plots", "tensorboard", "onnx", "serve", "dev"}
    asked = [*PROJECT["dependencies"], *extras["dev"], *extras["plots"], *extras["onnx"],
             *extras["serve"]]  # fmt: skip
    found = pins()
    for requirement in map(Requirement, asked):
        if requirement.name != "diffrec":
            assert requirement.specifier.contains(found.pop(requirement.name)), requirement
    assert not found, "the lock holds what nobody asks for"


def test_every_main_and_inference_is_a_command():
    made = PROJECT["scripts"]
    for folder in ("DiffRec", "L-DiffRec", "T-DiffRec", "baselines"):
        for script, ending in (("main", ""), ("inference", "-inference")):
            name = folder.lower() if folder != "baselines" else "diffrec-baselines"
            module, function = made[name + ending].split(":")
            assert module == f"{folder.replace('-', '_')}.{script}"
            assert callable(getattr(importlib.import_module(module), function))
    assert made.pop("diffrec-prepare") == "DiffRec.preparation.main:console"
    assert len(made) == 8


def test_a_version_is_one_everywhere():
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (REPOSITORY / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_hooks_and_workflows_call_what_there_is():
    """YAML that parses, and no script or module that is gone."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    workflows = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) == 3
    for path in (*workflows, REPOSITORY / ".pre-commit-config.yaml", REPOSITORY / "CITATION.cff"):
        text = path.read_text()
        assert yaml.safe_load(text), path
        for script in re.findall(r"\b(?:scripts|examples)/[\w./-]+", text):
            assert (REPOSITORY / script).is_file(), f"{path.name} calls {script}"
    matrix = yaml.safe_load(workflows[-1].read_text())["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]


@pytest.fixture
def installed(monkeypatch, tmp_path) -> Path:
    """As if the packages lay in an environment, far from the folder one is in."""
    monkeypatch.setattr(data_utils, "IS_CHECKOUT", False)
    monkeypatch.setattr(machine, "IS_CHECKOUT", False)
    monkeypatch.delenv("DIFFREC_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_installed_package_works_in_the_folder_one_is_in(installed, tiny_folder, run):
    (installed / "datasets").mkdir()
    (installed / "datasets" / "mine").symlink_to(tiny_folder)
    flags = ["--dataset", "mine", "--dims", "8", "--steps", "2", "--epochs", "1"]
    done = run("DiffRec/main.py", *flags)
    assert done.returncode == 0, done.stderr
    assert len(list((installed / "saved_models").glob("*.safetensors"))) == 1
    variant = variant_of("L-DiffRec")
    words = commands.command_line(variant, "main.py", ["--seed", "1"]).split()
    assert words == ["python", "-m", f"{variant.folder.name}.main", "--seed", "1"]
    assert machine.code_version() is None
    missing = run("DiffRec/main.py", "--dataset", "nowhere")
    assert missing.returncode == 2
    assert "no data set nowhere" in missing.stderr
    assert "scripts/" not in missing.stderr


def test_a_checkout_works_in_its_own_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert data_utils.home() == REPOSITORY
    assert variant_of("T-DiffRec").saved_models == REPOSITORY / "T-DiffRec" / "saved_models"
    assert commands.command_line(variant_of("EASE"), "main.py", []) == "python baselines/main.py"
