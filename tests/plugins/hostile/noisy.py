"""Writes to stdout at import, even what looks like the verdict of the check; it is in order all the same."""

from __future__ import annotations

import sys

sys.stdout.buffer.write(b"\xff\xfe is no text\n")
sys.stdout.buffer.flush()
sys.stdout.write('{"mercato_plugin_check": 1}\n{"not json\nnoise without an end of line')
