"""Settings of a plugin: the deployment's from the environment, and each tenant's own."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """The two models; each may be left out.

    `deployment` is read from `MERCATO_<PLUGIN>_<FIELD>` when the server starts. `tenant` holds what each tenant may
    change; every field needs a default, for tenants that never changed it.
    """

    deployment: type[BaseModel] | None = None
    tenant: type[BaseModel] | None = None

    def __post_init__(self) -> None:
        if self.tenant is not None:
            secret = [name for name, info in self.tenant.model_fields.items() if "Secret" in str(info.annotation)]
            if secret:
                raise TypeError(f"the tenant setting `{secret[0]}` is a secret: credentials belong in a connection")
            required = [name for name, info in self.tenant.model_fields.items() if info.is_required()]
            if required:
                raise TypeError(f"the tenant setting `{required[0]}` needs a default")
