"""What the executed instructions are, and how often each kind ran.

An A64 instruction is a 32-bit word; the first row of `_KINDS` whose masked bits fit names its kind.
Source: Arm Architecture Reference Manual for A-profile, DDI 0487, "A64 instruction set encoding".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError

__all__ = ["KINDS", "Counts", "kind_of", "median", "ratio", "read_sections", "relative_spread"]

_MARK: Final = "mark"
_OTHER: Final = "other"

_KINDS: Final[tuple[tuple[int, int, str], ...]] = (
    # mask, value, kind; outside SIMD and floating point
    (0xFF000000, 0xD5000000, _OTHER),  # system registers, barriers, hints
    (0xFF000000, 0xD4000000, _OTHER),  # system calls
    (0x1C000000, 0x14000000, "branch"),
    (0x1C000000, 0x10000000, "scalar"),  # immediate operands
    (0x0E000000, 0x0A000000, "scalar"),  # register operands
    # loads and stores: bit 22 tells, but for the signed loads of general registers
    (0xFF000000, 0xD8000000, "prefetch"),  # PRFM literal
    (0xFFC00000, 0xF9800000, "prefetch"),  # PRFM immediate
    (0xFFE00C00, 0xF8A00800, "prefetch"),  # PRFM register
    (0xFFE00C00, 0xF8800000, "prefetch"),  # PRFUM
    (0x3B000000, 0x18000000, "load"),  # literal
    (0x3A400000, 0x28400000, "load"),  # pair
    (0x3A400000, 0x28000000, "store"),
    (0x3B200C00, 0x38200000, _OTHER),  # atomic read-modify-write
    (0x3A400000, 0x38400000, "load"),  # one register
    (0x3EC00000, 0x38800000, "load"),  # sign-extending, general registers
    (0x3A400000, 0x38000000, "store"),
    (0xBE400000, 0x0C400000, "load"),  # LD1 to LD4, LD1R
    (0xBE400000, 0x0C000000, "store"),  # ST1 to ST4
    (0x3F400000, 0x08400000, "load"),  # exclusive, acquire
    (0x3F400000, 0x08000000, "store"),
    # scalar floating point
    (0x5F000000, 0x1F000000, "float multiply-add"),  # FMADD
    (0x5E000000, 0x1E000000, "other float"),
    # SIMD; bit 28 (scalar) and bit 30 (width) are left open
    (0x8F20FC00, 0x0E009400, "int8 dot product"),  # SDOT, UDOT
    (0x8F20FC00, 0x0E009C00, "int8 dot product"),  # USDOT
    (0x8F00F400, 0x0F00E000, "int8 dot product"),  # SDOT, UDOT by element
    (0xAF40F400, 0x0F00F000, "int8 dot product"),  # SUDOT, USDOT by element
    (0x8F20F400, 0x0E00A400, "int8 matrix product"),  # SMMLA, UMMLA, USMMLA
    (0xAF20FC00, 0x0E20CC00, "float multiply-add"),  # FMLA, FMLS
    (0xAF60FC00, 0x0E400C00, "float multiply-add"),  # FMLA, FMLS, half precision
    (0xAF00B400, 0x0F001000, "float multiply-add"),  # FMLA, FMLS by element
    (0x8F20BC00, 0x0E208000, "integer multiply-add"),  # SMLAL, SMLSL, long
    (0x8F20FC00, 0x0E20C000, "integer multiply-add"),  # SMULL
    (0x8F20FC00, 0x0E209400, "integer multiply-add"),  # MLA, MLS
    (0x8F00B400, 0x0F002000, "integer multiply-add"),  # SMLAL, SMLSL by element
    (0x8F00F400, 0x0F00A000, "integer multiply-add"),  # SMULL by element
    (0xAF00B400, 0x2F000000, "integer multiply-add"),  # MLA, MLS by element
    (0x8F3FFC00, 0x0E206800, "integer multiply-add"),  # SADALP: sums of SMULL's products
    (0x8F20C400, 0x0E00C400, "other float"),  # BFDOT, BFMMLA, FCMLA, FCADD
    (0x8F20C400, 0x0E20C400, "other float"),  # three registers
    (0x8F60C400, 0x0E400400, "other float"),  # three registers, half precision
    (0x8F3FCC00, 0x0E20C800, "other float"),  # FABS, FNEG, comparison with zero
    (0x8F3FEC00, 0x0E216800, "other float"),  # FCVTN, FCVTL
    (0x8F3F8C00, 0x0E218800, "other float"),  # FRINT, FCVT, SCVTF, estimates, FSQRT
    (0x8F7E0C00, 0x0E780800, "other float"),  # the same, half precision
    (0x8F3FCC00, 0x0E30C800, "other float"),  # FMAXV, FADDP scalar
    (0x8FF80400, 0x0F000400, "vector move"),  # immediate
    (0x8F00F400, 0x0F009000, "other float"),  # FMUL by element
    (0x8F40F400, 0x0F40F000, "other float"),  # BFDOT, BFMLAL by element
    (0x8F80FC00, 0x0F00E400, "other float"),  # SCVTF, fixed point
    (0x8F80FC00, 0x0F00FC00, "other float"),  # FCVTZS, fixed point
    (0x8FE08400, 0x0E000400, "vector move"),  # DUP, INS, UMOV
    (0xAF208C00, 0x0E000800, "vector move"),  # ZIP, UZP, TRN
    (0xAFE08400, 0x2E000000, "vector move"),  # EXT
    (0xAFE08C00, 0x0E000000, "vector move"),  # TBL
    (0x8E000000, 0x0E000000, "other integer vector"),
)

KINDS: Final = tuple(dict.fromkeys([*(kind for _, _, kind in _KINDS if kind != _OTHER), _OTHER]))
"""Names of all kinds."""


@cache
def kind_of(word: int) -> str:
    """The kind of an A64 instruction.

    >>> kind_of(0x4E829420)  # sdot v0.4s, v1.16b, v2.16b
    'int8 dot product'
    """
    for mask, value, kind in _KINDS:
        if word & mask == value:
            return kind
    return _OTHER


@dataclass(frozen=True)
class Counts:
    """Instructions of one inference, all and by kind."""

    total: int
    kinds: Mapping[str, int]


def read_sections(path: Path) -> list[Counts]:
    """The sections of a file that the counter wrote (see counter.c).

    Raises:
        EdgeDeitError: no such file, or a line that the counter does not write.
    """
    sections: list[Counter[str]] = []
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if line == _MARK:
                sections.append(Counter())
                continue
            _, times, *words = line.split()
            for word in words:
                sections[-1][kind_of(int(word, 16))] += int(times)
    except (OSError, ValueError, IndexError) as error:
        raise EdgeDeitError(f"the counter's file {path.name} is not whole ({error})") from error
    return [Counts(kinds.total(), dict(kinds.most_common())) for kinds in sections]


def median(repeats: Sequence[Counts]) -> Counts:
    """The repeat with the median total (the lower one of two), so that its kinds add up to it."""
    ordered = sorted(repeats, key=lambda one: one.total)
    return ordered[(len(ordered) - 1) // 2]


def relative_spread(repeats: Sequence[Counts]) -> float:
    """(largest - smallest) / smallest total.

    >>> relative_spread([Counts(200, {}), Counts(201, {})])
    0.005
    """
    totals = [one.total for one in repeats]
    return (max(totals) - min(totals)) / min(totals)


def ratio(counts: Counts, fp32: Counts | None) -> float | None:
    """Instructions relative to those of the fp32 artefact, None without one."""
    return None if fp32 is None else counts.total / fp32.total
