"""Profile: the tenant in a few lines, for a client to read before anything else."""

from __future__ import annotations

from pydantic import BaseModel

from mercato import ToolContext, admin
from mercato.plugins.system.category import system

URI = "mercato://tenant/profile"


class Profile(BaseModel):
    """The tenant."""

    name: str
    slug: str
    currency: str
    timezone: str
    categories: list[str]
    integrations: list[str]


@system.resource(URI, title="Tenant profile")
async def tenant_profile(ctx: ToolContext) -> Profile:
    """The business this server acts for: name, currency, time zone, the categories on and what is connected."""
    categories, integrations = await admin.switched_on(ctx)
    tenant = ctx.tenant
    return Profile(
        name=tenant.name,
        slug=tenant.slug,
        currency=tenant.currency,
        timezone=tenant.timezone,
        categories=categories,
        integrations=integrations,
    )
