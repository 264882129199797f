"""Catalogues that need no server, and how a caller sees them."""

from __future__ import annotations

from typing import Any

from mercato.plugins.catalog import Catalog, Visible
from mercato.plugins.category import Category
from mercato.plugins.manager import Plugins
from mercato.tenancy.access import Access
from mercato.tenancy.assistant import AssistantSettings
from mercato.tenancy.limits import STANDARD
from mercato.tenancy.memberships import Role
from mercato.tenancy.principal import READ, WRITE, Principal
from mercato.tenancy.reach import EVERYTHING, Reach
from mercato.tenancy.tenants import Tenant
from tests.inmemory import plugin

ACME = Tenant(1, "acme", "Acme", "EUR", "UTC")


def catalog_of(*categories: Category) -> Catalog:
    """A catalogue of one plugin that declares these."""
    plugins = Plugins(strict=True)
    plugins.load([plugin("probe", register_categories=list(categories))])
    return Catalog(plugins.loaded.values())


def seen(catalog: Catalog, *, reach: Reach = EVERYTHING, **given: Any) -> Visible:
    """The catalogue as an owner of Acme sees it on the search surface; `given` changes who they are or what is on."""
    principal = Principal(
        tenant_id=1,
        user_id=1,
        role=given.pop("role", Role.OWNER),
        scopes=given.pop("scopes", frozenset({READ, WRITE})),
        categories=given.pop("allowed", None),
        kind="key",
    )
    access = Access(
        tenant=ACME,
        categories=given.pop("categories", frozenset(catalog.categories)),
        disabled_tools=given.pop("disabled_tools", frozenset()),
        integrations=given.pop("integrations", frozenset()),
        settings={},
        limits=STANDARD,
        assistant=AssistantSettings(**given),
        unconfirmed=frozenset(given.get("unconfirmed_categories", ())),
    )
    return catalog.visible_to(principal, access, reach).on("search")
