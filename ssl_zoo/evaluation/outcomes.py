"""Per-image contributions to a score, encoded as text for JSON."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from ssl_zoo.evaluation.records import Record


class Outcomes(Record):
    """Correct predictions `(N,)` bool with one bit each, or values `(N,)` float32, in base64."""

    n: int = Field(ge=0)
    """Number of test images."""
    bits: str | None = None
    """Hits."""
    float32: str | None = None
    """Numbers."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Outcomes":
        """Packs booleans or numbers."""
        if values.dtype == np.bool_:
            return cls(n=len(values), bits=_text(np.packbits(values, bitorder="little").tobytes()))
        return cls(n=len(values), float32=_text(values.astype("<f4").tobytes()))

    def array(self) -> NDArray[Any]:
        """Returns the packed values.

        Raises:
            ValueError: the number of values is not `n`.
        """
        if self.float32 is None:
            data = np.frombuffer(base64.b64decode(self.bits or ""), dtype=np.uint8)
            found: NDArray[Any] = np.unpackbits(data, count=self.n, bitorder="little")
            found = found.astype(np.bool_)
        else:
            found = np.frombuffer(base64.b64decode(self.float32), dtype="<f4")
        if len(found) != self.n:
            raise ValueError(f"{len(found)} outcomes for {self.n} images")
        return found

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
