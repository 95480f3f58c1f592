"""`examine(run)`: everything that is looked at, in the order in which it is shown."""

from pathlib import Path

from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.doctor.of_data import data_findings
from ssl_zoo.doctor.of_machine import machine_findings
from ssl_zoo.doctor.of_run import run_findings
from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import runs_folder


def examine(run: Path | None = None) -> list[Diagnosis]:
    """Returns what was found on this machine and, if a run folder is given, in its data and the run.

    Raises:
        UserError: the folder is not that of a training run, or its settings cannot be read.
    """
    if run is None:
        return machine_findings(runs_folder())
    if not (run / "config.yaml").is_file():
        raise UserError(f"'{run}' is the folder of a scoring job; give that of a training run")
    return [*machine_findings(run), *data_findings(run), *run_findings(run)]
