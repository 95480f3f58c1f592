"""What the outputs of commands are read by: a file or folder that cannot be is not replaced."""

from pathlib import Path


def read_scores(file: Path) -> object:
    """Reads results of `ssl-zoo evaluate`, one or several."""
    from ssl_zoo.evaluation.result import read_results

    return read_results(file)


def read_table(file: Path) -> object:
    """Reads a table of `ssl-zoo table`, by the name's suffix."""
    from ssl_zoo.report.score_table import read_columns, read_scored

    return read_columns(file) if file.suffix == ".csv" else read_scored(file)


def read_weights(file: Path) -> object:
    """Reads the metadata of exported weights."""
    from ssl_zoo.weights.open import file_facts

    return file_facts(file)


def read_hub(folder: Path) -> object:
    """Reads the metadata of the weights in an exported torch.hub entry."""
    from ssl_zoo.weights.export import WEIGHTS

    return read_weights(folder / WEIGHTS)


def read_shards(folder: Path) -> object:
    """Reads what is being written to a folder of shards."""
    from ssl_zoo.data.shard_writing import read_plan

    return read_plan(folder)
