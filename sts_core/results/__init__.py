"""What a finished run is, read and scored without a model."""

from sts_core.results.folder import Result, SetSums

__all__ = ["Result", "SetSums"]
