"""Tables of settings, from the classes that validate them."""

from collections.abc import Sequence
from typing import Any

from docs.site.markdown import code, table
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.registries import KINDS
from ssl_zoo.report.describe import details, fields, listing
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.slurm import SlurmConfig

APART = {"methods"}
"""Kinds of components whose settings have pages of their own."""


def settings_table(rows: Sequence[dict[str, str]]) -> str:
    """Returns a table of settings: name, default, values, meaning."""
    return table(
        ["setting", "default", "values", "meaning"],
        [
            [
                code(row["key"]),
                "required" if row["default"] == "required" else code(row["default"]),
                ", ".join(part for part in (row["type"], row["bounds"]) if part),
                row["doc"],
            ]
            for row in rows
        ],
    )


def run_settings() -> str:
    """Returns the settings of a run; those of a job have a table of their own."""
    rows = [row for row in fields(RunConfig) if not row["key"].startswith("slurm.")]
    return settings_table(rows)


def evaluation_settings() -> str:
    """Returns the settings of an evaluation."""
    return settings_table(fields(EvaluationConfig))


def job_settings() -> str:
    """Returns the settings of a SLURM job."""
    return settings_table(fields(SlurmConfig))


def component_settings(kind: str) -> str:
    """Returns each component of a kind with its settings; names that share a class are shown once."""
    classes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in listing(kind):
        classes.setdefault((row["module"], row["summary"]), []).append(row)
    parts = []
    for (_, summary), rows in classes.items():
        names = ", ".join(code(row["name"]) for row in rows)
        parts += [f"## {names}", summary]
        if rows[0]["paper"]:
            parts.append(f"Source: {rows[0]['paper']}")
        settings = details(kind, rows[0]["name"])["fields"]
        parts += [settings_table(settings)] if settings else []
    return "\n\n".join(parts)


def kinds() -> list[str]:
    """Returns the kinds of components that are shown with their settings."""
    return [kind for kind in KINDS if kind not in APART]
