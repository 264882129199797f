from __future__ import annotations


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


raise UnprintableError
