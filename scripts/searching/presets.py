"""The settings that a search found, as a preset of a model."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DiffRec.data_utils import evaluation_beside
from DiffRec.engine.files import write_text
from DiffRec.engine.variant import TUNED
from searching.trials import Search


def toml(value: Any) -> str:
    """A setting's value as TOML writes it."""
    return json.dumps(value) if not isinstance(value, float) else repr(value)


def key(name: str) -> str:
    """A name as a key of TOML."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def write_preset(search: Search, values: Mapping[str, Any], about: str, path: Path) -> str:
    """Put the settings into a file of presets, as DATASET_tuned; returns the section."""
    variant = search.variant
    header = "".join(f'"{part}".' for part in variant.section) + key(search.dataset + TUNED)
    tuned = variant.settings.of(search.settings.dump(), values).dump()
    beside = evaluation_beside(search.dataset, search.options.data_path)  # needs no preset
    plain = variant.settings.of(variant.settings().dump(), beside).dump()
    lines = [f"{name} = {toml(value)}" for name, value in tuned.items() if value != plain[name]]
    text = f"# {about}\n[{header}]\n" + "\n".join(lines)
    before = path.read_text() if path.is_file() else ""
    known = re.search(rf"data (\w+)\.\n\[{re.escape(header)}\]\n", before)
    if known and known[1] != search.table.data:
        print(f"{search.dataset}{TUNED} in {path}, of other data of that name, is replaced.")
    old = re.compile(rf"(# [^\n]*\n)*\[{re.escape(header)}\]\n([^\[\n][^\n]*\n?)*\n*")
    write_text(path, f"{old.sub('', before).rstrip()}\n\n{text}")
    return text
