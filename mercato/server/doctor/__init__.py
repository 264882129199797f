"""The connector doctor: does what an MCP client does with an address, and names each fault with its mend.

It is a client, of any server: nothing in here imports the server it comes with.
"""

from __future__ import annotations

from mercato.server.doctor.client_document import DEFAULT_CIMD
from mercato.server.doctor.endpoint import UnusableUrl, check_url
from mercato.server.doctor.examination import STEPS, WITH_TOKEN, Examination, Step, examine, steps_of
from mercato.server.doctor.finding import Finding
from mercato.server.doctor.listener import Listener, listening
from mercato.server.doctor.wire import BUDGET_S, Wire

__all__ = [
    "BUDGET_S",
    "DEFAULT_CIMD",
    "STEPS",
    "WITH_TOKEN",
    "Examination",
    "Finding",
    "Listener",
    "Step",
    "UnusableUrl",
    "Wire",
    "check_url",
    "examine",
    "listening",
    "steps_of",
]
