"""What an operation costs, in pJ, with the source of each table. A cost table is an estimate, never a measurement."""

from __future__ import annotations

from .spec import require, spec


@spec
class Costs:
    """Energy of one operation in pJ.

    mac: multiply and accumulate. ac: accumulate, the cost of one letter at one synapse. graded: one event whose
    payload changes in time at one synapse; it needs a multiplication, so it is priced as a MAC unless you know better.
    """

    mac: float
    ac: float
    graded: float
    source: str

    def __post_init__(self) -> None:
        require(min(self.mac, self.ac, self.graded) >= 0, f"{self} has a negative cost")


HOROWITZ = Costs(mac=4.6, ac=0.9, graded=4.6, source="45 nm, 32-bit floating point [horowitz2014energy]")
"""The convention of almost every paper of the field."""
