"""Ranges of settings: those of a file, and what is drawn from them."""

import ast
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from DiffRec.engine.errors import InputError
from DiffRec.engine.settings import Between, Ranges, Settings

# Spellings in the range file that RecBole's page of this model prints.
MISSPELT = {"noice_scale": "noise_scale", "noice_min": "noise_min", "noice_max": "noise_max"}


def read_ranges(path: Path, kind: type[Settings]) -> dict[str, Sequence[Any] | Between]:
    """Ranges of a file, a line each: a name, then ``choice [..]``, ``uniform low,high``,
    ``loguniform low,high`` (of the natural logarithm) or ``quniform low,high,step``.

    Names may be any spelling of a setting; of what is no setting of the model's, and of a value
    that it cannot have, InputError.
    """
    spelt = dict(MISSPELT)
    for name, field in kind.model_fields.items():
        spelt |= dict.fromkeys((name, *field.json_schema_extra["spellings"]), name)
    found = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no file of ranges ({error}).") from error
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split(None, 2)
        if not words:
            continue
        where = f"{path} line {number}"
        if len(words) < 3 or words[1] not in ("choice", "uniform", "loguniform", "quniform"):
            raise InputError(f"{where} is not of the form NAME choice|uniform|loguniform VALUES.")
        name, how, values = words
        try:
            given = ast.literal_eval(values if how == "choice" else f"[{values}]")
            if how == "choice":
                found[spelt.get(name, name)] = list(given)
            elif how == "quniform":
                low, high, step = map(float, given)
                count = math.floor((high - low) / step + 1e-9) + 1  # .3 / .1 is 2.9999…
                found[spelt.get(name, name)] = [low + step * n for n in range(count)]
            else:
                low, high = map(float, given)
                log = how == "loguniform"
                bounds = (math.exp(low), math.exp(high)) if log else (low, high)
                if not low < high:
                    raise ValueError
                found[spelt.get(name, name)] = Between(*bounds, log=log)
            if not found[spelt.get(name, name)]:
                raise ValueError
        except (ValueError, TypeError, SyntaxError, ZeroDivisionError, OverflowError) as error:
            raise InputError(f"{where} has no values that can be read: {values}.") from error
    for name, some in found.items():
        if isinstance(some, Between):  # whose ends, and whole numbers, are hardly drawn
            some = [some.low + (some.high - some.low) * share for share in (0.0001, 0.9999)]
        for value in some:
            kind.check(name, value)
    return found


def at_an_end(some: Sequence[Any] | Between, value: Any) -> bool:
    """Whether a number is the least or most of its range, or within a twentieth of it, so that what
    lies beyond may be better. A 0 is an end of its own kind."""
    if isinstance(some, Between):
        low, high = some.low, some.high
        if some.log:
            low, high, value = (math.log(number) for number in (low, high, value))
        return min(value - low, high - value) < (high - low) / 20
    numbers = [n for n in some if isinstance(n, (int, float)) and not isinstance(n, bool)]
    return len(numbers) > 2 and value in (min(numbers), max(numbers)) and value != 0


def spoken(value: Any) -> Any:
    """A value in a form that Optuna keeps: lists as the words of a flag."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else value


def distributions(ranges: Ranges) -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        name: optuna.distributions.FloatDistribution(some.low, some.high, log=some.log)
        if isinstance(some, Between)
        else optuna.distributions.CategoricalDistribution([spoken(value) for value in some])
        for name, some in ranges.items()
    }


def combinations(ranges: Ranges, trials: int, minutes: float) -> list[dict[str, Any]]:
    """Every combination of what is chosen from, if there are at most ``trials``; else none, nor
    where ``minutes`` might be over before their better half is tried."""
    if minutes or any(isinstance(some, Between) for some in ranges.values()):
        return []
    if math.prod(map(len, ranges.values())) > trials:
        return []
    values = itertools.product(*([spoken(value) for value in some] for some in ranges.values()))
    return [dict(zip(ranges, some, strict=True)) for some in values]
