"""`ssl-zoo bench`."""

import click

from ssl_zoo.cli.options import CONFIG, METHOD, OVERRIDES, resolved


@click.command("bench")
@METHOD
@OVERRIDES
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--steps",
    default=20,
    show_default=True,
    type=click.IntRange(2, 10_000),
    help="Steps to time in each part.",
)
def bench_command(
    method: str | None, overrides: tuple[str, ...], file: str | None, as_json: bool, steps: int
) -> None:
    """Times a run on this machine and says what bounds it.

    The arguments are those of `ssl-zoo train`. It times the loader alone, steps with one batch again
    and again, and both together, and says which setting would make the run faster. It writes no run.

    \b
    ssl-zoo bench swav
    ssl-zoo bench swav data=photos num_workers=2
    ssl-zoo bench --config runs/swav/config.yaml precision=bf16 --json
    """
    from ssl_zoo.planning.bench import bench

    if method is not None and (file is not None or "=" in method):
        overrides, method = (method, *overrides), None
    found = bench(resolved(method, overrides, file), steps=steps)
    click.echo(found.as_json() if as_json else found.text())
