"""Configuration: what a tenant may set about itself and about each plugin, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlmodel import col, select

from mercato.tenancy.access import TenantSetting, merge_settings
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.errors import InvalidValue
from mercato.tenancy.tenants import TenantRecord, check_currency, check_timezone

PROFILE = "profile"

Values = dict[str, Any]


class TenantProfile(BaseModel):
    """The section `profile`: what the tenant's own row holds."""

    model_config = ConfigDict(str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=200, description="What the business is called.")
    currency: str = Field(description="ISO 4217 code of the currency that amounts are shown in, such as EUR.")
    timezone: str = Field(description="IANA time zone of the business, such as Europe/Berlin.")

    @field_validator("currency", "timezone")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        try:
            return (check_currency if info.field_name == "currency" else check_timezone)(value)
        except InvalidValue as error:
            raise ValueError(str(error)) from None


async def read_sections(db: TenantDatabase, models: Mapping[str, type[BaseModel]]) -> dict[str, Values]:
    """Return every section's present values, defaults included, as JSON has them."""
    (profile,) = await db.rows(select(TenantRecord.name, TenantRecord.currency, TenantRecord.timezone))
    stored = {row[0]: row[1] for row in await db.rows(select(TenantSetting.section, TenantSetting.values))}
    stored[PROFILE] = profile._asdict()
    return {section: _present(model, stored.get(section, {})) for section, model in models.items()}


async def merge_section(
    db: TenantDatabase, section: str, model: type[BaseModel], given: Mapping[str, Any]
) -> tuple[Values, Values]:
    """Store some values of a section over its present ones; return the section as it was and as it is.

    Raises pydantic's `ValidationError`, before anything is written, where the section as a whole would not be valid.
    The tenant's row is locked first, so that two that change different keys cannot together leave what neither saw.
    """
    locked = select(TenantRecord).with_for_update(key_share=True)  # `for update` would stop every insert of the tenant
    record = (await db.session.exec(locked)).one()
    before = _present(model, await _stored(db, section, record))
    after = _as_json(model.model_validate({**before, **given}))
    if section == PROFILE:
        record.sqlmodel_update({key: after[key] for key in given})
    else:
        await merge_settings(db, section, {key: after[key] for key in given})
    return before, after


async def _stored(db: TenantDatabase, section: str, record: TenantRecord) -> Mapping[str, Any]:
    if section == PROFILE:
        return record.model_dump(include={"name", "currency", "timezone"})
    rows = await db.rows(select(TenantSetting.values).where(col(TenantSetting.section) == section))
    return rows[0][0] if rows else {}


def _present(model: type[BaseModel], stored: Mapping[str, Any]) -> Values:
    """Return stored values over defaults. They are not validated: a plugin's newer version may be stricter."""
    known = {key: value for key, value in stored.items() if key in model.model_fields}
    return _as_json(model.model_construct(**known))


def _as_json(values: BaseModel) -> Values:
    return values.model_dump(mode="json", include=set(type(values).model_fields), warnings=False)
