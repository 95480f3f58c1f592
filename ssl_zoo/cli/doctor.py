"""`ssl-zoo doctor`."""

import json
import sys
from dataclasses import asdict

import click


@click.command("doctor")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--json", "as_json", is_flag=True, help="Print every finding as JSON.")
def doctor_command(run: str | None, as_json: bool) -> None:
    """Tells what is wrong with this machine or a run.

    Looks at processors, devices, faiss, shared memory, free disk and packages. RUN is a run folder or its
    name in 'runs'; then it also looks at the images (missing or changed), at checkpoints and metrics, and
    at the course of training: a loss at chance level, dead prototypes, collapsed features, a falling
    rank, a stale queue, skipped steps, slow loaders, slow checkpoints, and scores below those before
    training. It changes nothing, and may be called while a run is training.

    \b
    ssl-zoo doctor                    this machine
    ssl-zoo doctor runs/swav          also a run and its data
    ssl-zoo doctor runs/swav --json | jq '.[] | select(.is_fault)'

    A line begins with 'ok', or with 'FAULT' and ends with the remedy. The exit status is 1 if anything
    is wrong, else 0.
    """
    from ssl_zoo.cli.console import say
    from ssl_zoo.doctor.examine import examine
    from ssl_zoo.jobs.finding import find_run

    found = examine(find_run(run) if run is not None else None)
    n_faults = sum(one.is_fault for one in found)
    if as_json:
        rows = [{**asdict(one), "is_fault": one.is_fault} for one in found]
        click.echo(json.dumps(rows, indent=1))
    else:
        for one in found:
            say(f"{'FAULT' if one.is_fault else 'ok':5}  {one}")
        say(f"{n_faults} fault{'s' * (n_faults != 1)} in {len(found)} checks", err=True)
    if n_faults:
        sys.exit(1)
