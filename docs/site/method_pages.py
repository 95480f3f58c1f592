"""The page of each method, from its README, its class and its recipes; and the table of all methods."""

import re
from collections.abc import Iterator

from docs.site.links import ROOT
from docs.site.markdown import code, sections, table
from docs.site.settings_pages import settings_table
from ssl_zoo.method import METHODS
from ssl_zoo.report.describe import details, summary
from ssl_zoo.runs.recipes import recipe_names, recipe_text

GROUPS = {
    "Clustering": (
        "swav",
        "deepcluster_v2",
        "sela_v2",
        "dino",
        "self_classifier",
        "deepcluster",
        "sela",
    ),
    "Contrastive": ("simclr", "moco_v2", "moco_v3", "nnclr"),
    "Without negatives": ("byol", "simsiam", "barlow_twins", "vicreg", "lejepa", "simdino"),
    "Masked images": ("mae", "simmim", "beit", "dit", "ibot", "dinov2"),
    "Tokenizers": ("dvae",),
    "Baselines": ("supervised", "random_init", "raw_pixels"),
}
"""Methods by idea, in the order in which they are shown; others follow under `OTHERS`."""
OTHERS = "More methods"
_MEASURED = "Results"
_FAILS = "When it does not learn"
_FACT = re.compile(r"^(?P<name>Source|Expected|Cost|Command)(?P<by> \([^)]*\))?: (?P<text>.*)$")


def groups() -> dict[str, list[str]]:
    """Returns the names of methods that come with the package, by group; every one is in one group."""
    ours = [name for name in METHODS if (ROOT / "methods" / name / "README.md").is_file()]
    found = {title: [name for name in names if name in ours] for title, names in GROUPS.items()}
    rest = [name for name in ours if not any(name in names for names in found.values())]
    return {**found, OTHERS: rest} if rest else found


def names() -> list[str]:
    """Returns the names of methods in the order in which they are shown."""
    return [name for group in groups().values() for name in group]


def title(method: str) -> str:
    """Returns the name of a method in prose, the heading of its README."""
    return _readme(method)[""].partition("\n")[0].removeprefix("# ")


def overview() -> str:
    """Returns a table of methods for each group: name, idea in a line, paper, recipes."""
    parts = []
    for group, members in groups().items():
        rows = [
            [
                f"[{title(name)}](../../methods/{name})",
                code(name),
                summary(METHODS, name)["summary"],
                paper(name),
            ]
            for name in members
        ]
        parts += [f"## {group}", table(["method", "name", "what it does", "paper"], rows)]
    return "\n\n".join(parts)


def paper(method: str) -> str:
    """Returns the paper of a method, with its arXiv number as a link; empty for baselines."""
    text = summary(METHODS, method)["paper"]
    return re.sub(r"arXiv:([\d.]+\d)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def page(method: str) -> str:
    """Returns the page of a method; its links are relative to the method's folder."""
    found = _readme(method)
    idea = found.pop("").partition("\n")[2].strip()
    shown = {name: found.pop(name, "") for name in (_MEASURED, _FAILS)}
    found.pop("Recipes", None)
    parts = [f"# {title(method)}", _facts(method), idea]
    parts += ["## Measured beside reported", _reported(method), shown[_MEASURED]]
    parts += ["## When it fails", shown[_FAILS], _alarms(method)]
    parts += ["## Settings", _settings(method)]
    for name, text in found.items():
        parts += [f"## {name}", text]
    return "\n\n".join(part for part in parts if part) + "\n"


def recipe_facts(method: str, recipe: str) -> dict[str, str]:
    """Returns what the head of a recipe says: `Title`, `Source`, `Expected`, `Cost`, `Command`."""
    head = [line[1:].strip() for line in _comment(recipe_text(method, recipe))]
    found, name = {"Title": head[0] if head else ""}, ""
    for line in head[1:]:
        fact = _FACT.match(line)
        if fact:
            name = fact["name"]
            found[name] = f"{(fact['by'] or '').strip()} {fact['text']}".strip()
        elif name and name != "Command" and not found[name].endswith("."):
            found[name] += f" {line}"
    return found


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line


def _readme(method: str) -> dict[str, str]:
    return sections((ROOT / "methods" / method / "README.md").read_text(encoding="utf-8"))


def _facts(method: str) -> str:
    """Returns the lines below the heading: name, paper and source."""
    lines = [f"Name: {code(method)}"]
    if paper(method):
        lines.append(f"Paper: {paper(method)}")
    lines.append(f"Code: [`methods/{method}`](../../methods/{method}/method.py)")
    return " · ".join(lines)


def _reported(method: str) -> str:
    """Returns a table of recipes with what their sources report or we expect."""
    rows = []
    for recipe in recipe_names(method):
        facts = recipe_facts(method, recipe)
        link = f"[`{recipe}`](../../methods/{method}/recipes/{recipe}.yaml)"
        rows.append([link, facts["Title"], facts.get("Expected", ""), facts.get("Cost", "")])
    if not rows:
        return ""
    said = "What each recipe is expected to reach; `(reported)` marks figures of others, not measured by us:"
    return f"{said}\n\n{table(['recipe', 'what it runs', 'expected', 'cost'], rows)}"


def _alarms(method: str) -> str:
    rows = [
        [code(alarm.metric), bounds(alarm.below, alarm.above, alarm.above_late), alarm.advice]
        for alarm in METHODS[method].alarms
    ]
    common = "The [alarms of every method](../../docs/trouble/alarms.md) ring as well."
    if not rows:
        return common
    return f"{table(['alarm', 'rings', 'what to do'], rows)}\n\n{common}"


def bounds(below: float, above: float, late: float) -> str:
    """Returns when an alarm rings: `below 0.1`, `above 0.995, in the second half above 0.95`."""
    said = []
    if below > float("-inf"):
        said.append(f"below {below:g}")
    if above < float("inf"):
        said.append(f"above {above:g}")
    if late < above:
        said.append(f"above {late:g} in the second half of a run")
    return " or ".join(said)


def _settings(method: str) -> str:
    rows = details("methods", method)["fields"]
    if not rows:
        return "None."
    return f"Set with `method.KEY=VALUE`.\n\n{settings_table(rows)}"
