"""Write docs/options.md, the table of every option: python scripts/options_page.py"""

from pathlib import Path

import baselines  # noqa: F401  (each package registers its models)
import L_DiffRec  # noqa: F401
import T_DiffRec  # noqa: F401
from DiffRec.data_utils import REPOSITORY
from DiffRec.engine.commands import command
from DiffRec.engine.files import write_text
from DiffRec.engine.flags import Parser, choices_of, shown
from DiffRec.engine.settings import (
    DataSettings,
    InferenceOptions,
    RunOptions,
    Settings,
    TrainingSettings,
)
from DiffRec.engine.variant import REGISTRY

PAGE = REPOSITORY / "docs" / "options.md"
INTRODUCTION = """# Options

Every option of training and inference, made from the settings themselves by
`scripts/options_page.py`. A flag on the command line (`--steps 5`), a key of a preset (`steps = 5`)
and a name in Python (`steps=5`) are the same thing, checked alike. A flag beats the preset, and the
preset beats the default.

*Settings* decide the numbers of a run. They are kept in its result file and in its checkpoint, and
a preset may set them. *Options* say where a run happens and what it reads and writes: no file can
set them."""


def table(kind: type[Settings], names: list[str]) -> str:
    """A row for each of some settings of a class."""
    lines = ["| option | default | meaning |", "| --- | --- | --- |"]
    for name in names:
        field = kind.model_fields[name]
        words = [f"`--{word}`" for word in (name, *field.json_schema_extra["spellings"])]
        offered = choices_of(field.annotation)
        choices = f" ({', '.join(map(str, offered))})" if len(offered) > 1 else ""
        meaning = f"{field.description}{choices}".replace("|", "\\|")
        default = "" if field.default is None else f"`{shown(field.default)}`"
        lines.append(f"| {' '.join(words)} | {default} | {meaning} |")
    return "\n".join(lines)


def part(title: str, kind: type[Settings], less: type[Settings] | None = None) -> str:
    names = [name for name in kind.model_fields if less is None or name not in less.model_fields]
    return f"### {title}\n\n{table(kind, names)}" if names else ""


def page() -> str:
    """The whole page, as Markdown."""
    everyones = {*RunOptions.names(), *DataSettings.names(), *TrainingSettings.names()}
    of_options: dict[str, list[str]] = {}  # models by what their main.py has besides
    for variant in REGISTRY.values():
        more = [name for name in variant.options.model_fields if name not in everyones]
        if more:
            of_options.setdefault(table(variant.options, more), []).append(variant.name)
    blocks = [
        INTRODUCTION,
        "## Options",
        part("Every main.py", RunOptions),
        *(f"### That of {', '.join(names)}, besides\n\n{t}" for t, names in of_options.items()),
        part("Every inference.py, besides", InferenceOptions, RunOptions),
        "## Settings of all models",
        part("Data", DataSettings),
        part("Training and evaluation", TrainingSettings),
        "## Settings of each model",
    ]
    for variant in REGISTRY.values():
        own = [name for name in variant.settings.model_fields if name not in everyones]
        text = table(variant.settings, own) if own else "None of its own."
        changed = [
            f"`--{name} {shown(field.default)}`"
            for name, field in variant.settings.model_fields.items()
            if name in TrainingSettings.model_fields
            and field.default != TrainingSettings.model_fields[name].default
        ]
        if changed:
            text += f"\n\nOther defaults of the training: {', '.join(changed)}."
        blocks.append(f"### {variant.name}\n\n{text}")
    return "\n\n".join(block for block in blocks if block)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, default=PAGE)
    args = parser.parse_args(argv)
    write_text(args.out, page())
    print(f"{args.out.name}: written")


if __name__ == "__main__":
    command(main)
