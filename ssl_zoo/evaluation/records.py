"""Building blocks of results: immutable records with named fields, saved as readable JSON."""

import html
import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ssl_zoo.errors import UserError
from ssl_zoo.files import write_text


class Record(BaseModel):
    """An immutable record with named fields; unknown fields in a file are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Document(Record):
    """A record that is saved in a file of its own.

    Subclasses set `VERSION`, which is increased when fields change, and repeat it as the default of
    their field `schema_version`. Files without this field have version 1.
    """

    VERSION: ClassVar[int]
    WRITTEN_BY: ClassVar[str]
    """The command that writes these files, for messages."""

    def json_text(self) -> str:
        """Returns the record as JSON text, one field per line."""
        return json.dumps(self.model_dump(mode="json"), indent=1)

    def save(self, path: str | Path) -> None:
        """Writes the record as JSON; the file is replaced atomically."""
        write_text(Path(path), self.json_text() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file written by `save`.

        Raises:
            UserError: the file does not exist, is damaged, or was written by a newer version.
        """
        return cls.parse(read_json(path, written_by=cls.WRITTEN_BY), source=str(path))

    @classmethod
    def parse(cls, data: Any, *, source: str) -> Self:
        """Returns the record for the contents of a JSON file.

        Raises:
            UserError: the contents are something else, or of a newer version; `source` names the file.
        """
        version = data.get("schema_version", 1) if isinstance(data, dict) else 1
        if isinstance(version, int) and version > cls.VERSION:
            raise UserError(
                f"'{source}' has schema version {version}, but this ssl-zoo reads up to "
                f"{cls.VERSION}; install a newer ssl-zoo"
            )
        try:
            return cls.model_validate(data)
        except ValidationError:
            raise UserError(f"'{source}' is not a result of {cls.WRITTEN_BY}") from None


def read_json(path: str | Path, *, written_by: str) -> Any:
    """Returns the contents of a JSON file.

    Args:
        written_by: the command that writes these files, for messages.

    Raises:
        UserError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}); write it with: {written_by}"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"'{path}' is not a result of {written_by}") from None


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Returns a `pandas.DataFrame` of rows.

    Raises:
        UserError: pandas is not installed.
    """
    if importlib.util.find_spec("pandas") is None:
        raise UserError("to_pandas needs pandas, which is not installed; pip install pandas")
    return importlib.import_module("pandas").DataFrame(rows)


def html_table(caption: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as an HTML table for notebooks; numbers have two decimals."""
    heads = "".join(f"<th>{_html(name)}</th>" for name in (rows[0] if rows else ()))
    body = "\n".join(
        f"<tr>{''.join(f'<td>{_html(value)}</td>' for value in row.values())}</tr>" for row in rows
    )
    return (
        f"<table>\n<caption>{_html(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )


def _html(value: Any) -> str:
    text = "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    return html.escape(text)
