"""The shelf: what Kestrel Coffee sells, 120 products. Prices are in cents of a dollar until they are staged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random

import orjson

from mercato.plugins.commerce.bulk.currencies import exponent_of
from mercato.plugins.commerce.bulk.products import StagedProduct, StagedVariant
from mercato.plugins.commerce.bulk.staging import Json

VENDOR = "Kestrel Coffee"
ORIGINS = (
    *("Yirgacheffe", "Guji", "Sidama", "Huehuetenango", "Antigua", "Huila", "Nariño", "Tolima", "Tarrazú", "Boquete"),
    *(
        "Nyeri",
        "Kirinyaga",
        "Nyamasheke",
        "Kayanza",
        "Cerrado",
        "Mantiqueira",
        "Cajamarca",
        "Marcala",
        "Gayo",
        "Toraja",
    ),
)
BLENDS = (
    *("House Blend", "Night Shift", "Harbour Espresso", "Breakfast No. 1", "Dark Harbour", "Half-Caf", "Decaf Huila"),
    *("Winter Blend", "Summer Cold Brew", "Office Blend", "Kestrel Classic", "Café Crème"),
)
BREWERS = (
    *("Cone Dripper", "Flat Dripper", "French Press", "Moka Pot", "Cold Brew Jug", "Travel Press", "Glass Server"),
    *("Pour-Over Stand", "Siphon", "Cezve", "Batch Brewer", "Espresso Maker", "Milk Pitcher", "Cupping Bowl"),
    *("Drip Tray", "Carafe"),
)
DRINKWARE = (
    *("Diner Mug", "Camp Mug", "Espresso Cup", "Cappuccino Cup", "Latte Bowl", "Travel Tumbler", "Glass Tumbler"),
    *("Saucer", "Keep Cup", "Tasting Glass", "Stoneware Mug", "Tall Mug", "Thermos", "Tea Cup", "Piccolo Glass"),
    "Enamel Mug",
)
FILTERS = (
    *("Paper Filters 01", "Paper Filters 02", "Flat Filters 155", "Flat Filters 185", "Metal Filter", "Cloth Filter"),
    *("Cold Brew Bags", "Press Mesh", "Espresso Puck Screen", "Filter Holder"),
)
EQUIPMENT = (
    *("Hand Grinder", "Electric Grinder", "Gooseneck Kettle", "Stovetop Kettle", "Coffee Scale", "Tamper"),
    *("Knock Box", "Milk Thermometer", "Dosing Cup", "Grinder Brush", "Airtight Canister", "Cleaning Tablets"),
)
APPAREL = (
    *("Roastery Tee", "Kestrel Hoodie", "Barista Apron", "Canvas Tote", "Beanie", "Cap", "Work Jacket", "Socks"),
)
GIFTS = ("Tasting Box", "Starter Set", "Espresso Set", "Advent Calendar", "Gift Card", "Brewing Class")


@dataclass(frozen=True, slots=True)
class Shelved:
    """A product with its variants."""

    product: StagedProduct
    variants: tuple[StagedVariant, ...]


def stock_shelf(chance: Random, currency: str) -> list[Shelved]:
    """Return every product, with variants, prices and stock."""
    return [_shelved(chance, currency, line, *one) for line, one in enumerate(_products(chance), start=1)]


def in_currency(cents: int, currency: str) -> int:
    """Return a price of so many cents of a dollar in minor units of another currency, roughly."""
    factors = {0: (3, 2), 3: (3, 1)}
    times, by = factors.get(exponent_of(currency), (1, 1))
    return cents * times // by


def _products(chance: Random) -> Iterator[tuple[str, str, int, dict[str, tuple[str, ...]]]]:
    """Yield titles, types, prices and options."""
    bag = {"Size": ("250 g", "1 kg"), "Grind": ("Whole bean", "Filter", "Espresso")}
    for origin, process in product(ORIGINS, ("Washed", "Natural")):
        yield f"{origin} {process}", "Coffee", chance.randrange(1400, 2600, 50), bag
    for title in BLENDS:
        yield title, "Coffee", chance.randrange(1200, 1700, 50), bag
    for title in BREWERS:
        yield title, "Brewers", chance.randrange(1800, 9000, 100), {"Size": ("2 cups", "4 cups")}
    for title in DRINKWARE:
        yield title, "Drinkware", chance.randrange(900, 3600, 100), {"Colour": ("Chalk", "Moss", "Ink")}
    for title in FILTERS:
        yield title, "Filters", chance.randrange(500, 2400, 50), {}
    for title in EQUIPMENT:
        yield title, "Equipment", chance.randrange(1500, 24900, 100), {}
    for title in APPAREL:
        yield title, "Apparel", chance.randrange(1200, 8900, 100), {"Size": ("XS", "S", "M", "L", "XL")}
    for title in GIFTS:
        yield title, "Gifts", chance.randrange(2500, 12000, 500), {}


def _shelved(
    chance: Random, currency: str, line: int, title: str, kind: str, cents: int, options: dict[str, tuple[str, ...]]
) -> Shelved:
    handle = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    staged = StagedProduct(
        line=line,
        handle=handle.replace("--", "-").strip("-"),
        title=title,
        description=f"{title}, from {VENDOR}.",
        vendor=VENDOR,
        product_type=kind,
        status="draft" if title == "Work Jacket" else "archived" if title == "Advent Calendar" else "active",
        currency=currency,
        tags=[kind.lower(), *(["bestseller"] if line % 11 == 0 else [])],
        options=Json(orjson.dumps([{"name": name, "values": values} for name, values in options.items()]).decode()),
        image_urls=[f"https://cdn.example.com/kestrel/{line}.jpg"],
        seo_title=f"{title} | {VENDOR}",
        seo_description=None,
        is_published=title not in {"Work Jacket", "Advent Calendar"},
    )
    made = enumerate(product(*options.values()), start=1)
    variants = (_variant(chance, staged, position, list(values), cents) for position, values in made)
    return Shelved(staged, tuple(variants))


def _variant(chance: Random, of: StagedProduct, position: int, values: list[str], cents: int) -> StagedVariant:
    price = in_currency(cents * (7 if "1 kg" in values else 2) // 2, of.currency)
    return StagedVariant(
        product_line=of.line,
        position=position,
        title=" / ".join(values) or "Default Title",
        sku=f"KC-{of.line:03}-{position}",
        barcode=f"20{of.line:05}{position:05}",
        option_values=values,
        price_minor=price,
        compare_at_price_minor=price * 5 // 4 if of.line % 9 == 0 else None,
        inventory_tracked=of.title not in {"Gift Card", "Brewing Class"},
        inventory_quantity=_stock(chance, of.title),
        inventory_policy="continue" if of.line % 17 == 0 else "deny",
    )


def _stock(chance: Random, title: str) -> int:
    """Return a stock: nearly a tenth is low or gone."""
    if title in {"Gift Card", "Brewing Class"}:
        return 0
    return chance.choices((0, chance.randint(1, 4), chance.randint(12, 240)), (4, 6, 90))[0]
