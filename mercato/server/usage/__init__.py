"""Usage: what every call leaves behind, written beside the calls and never in their way."""

from __future__ import annotations

from mercato.server.usage.admissions import AdmissionCounter, admitted_on
from mercato.server.usage.ledger import Usage, UsageLedger
from mercato.tenancy.usage import Used

__all__ = ["AdmissionCounter", "Usage", "UsageLedger", "Used", "admitted_on"]
