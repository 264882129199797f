from __future__ import annotations

raise RuntimeError("half \ud800 a character")
