"""The people: 2,000 customers from twelve countries, some of whom came once and some of whom come every week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

import orjson

from mercato.plugins.commerce.bulk.customers import StagedCustomer
from mercato.plugins.commerce.bulk.staging import Json

PEOPLE = 2_000
DAYS = 548


@dataclass(frozen=True, slots=True)
class Land:
    """A country: its share of the customers, the tax on what they buy in hundredths of a percent, names and places."""

    code: str
    name: str
    share: int
    tax_rate: int
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    places: tuple[tuple[str, str, str], ...]
    currency: str | None = None


def _land(
    code: str, name: str, share: int, tax: int, first: str, last: str, *places: tuple[str, str, str], money: str = ""
) -> Land:
    return Land(code, name, share, tax, tuple(first.split()), tuple(last.split()), places, money or None)


LANDS = (
    _land(
        *("US", "United States", 52, 800, "Ava Noah Mia Liam Zoe Ethan Ruby Owen Nora Caleb Iris Miles"),
        "Bennett Carter Diaz Ellis Foster Grant Hughes Kim Lopez Morgan Nguyen O'Neill",
        *(
            ("Portland", "OR", "97205"),
            ("Austin", "TX", "78701"),
            ("Brooklyn", "NY", "11201"),
            ("Denver", "CO", "80202"),
        ),
    ),
    _land(
        *("CA", "Canada", 8, 1300, "Émilie Lucas Chloé Benoît Sarah Jacob", "Tremblay Gagnon Roy Singh MacDonald Côté"),
        *(("Montréal", "QC", "H2X 1Y4"), ("Toronto", "ON", "M5V 2T6")),
    ),
    _land(
        *(
            "GB",
            "United Kingdom",
            10,
            2000,
            "Amelia Harry Isla George Freya Arthur",
            "Ashworth Clarke Doyle Evans Shaw",
        ),
        *(("Leeds", "ENG", "LS1 4AP"), ("Glasgow", "SCT", "G1 3SL"), ("London", "ENG", "E8 3PN")),
    ),
    _land(
        *(
            "DE",
            "Germany",
            8,
            1900,
            "Jürgen Anneliese Björn Käthe Lukas Mareike",
            "Müller Groß Schäfer Weiß Krüger Vogel",
        ),
        *(("Köln", "NW", "50667"), ("München", "BY", "80331"), ("Berlin", "BE", "10115")),
    ),
    _land(
        *(
            "FR",
            "France",
            5,
            2000,
            "Zoé François Hélène Théo Maëlle Rémi",
            "Lefèvre Dupré Garçon Noël Béranger Marchand",
        ),
        *(("Lyon", "ARA", "69002"), ("Paris", "IDF", "75011")),
    ),
    _land(
        *("SE", "Sweden", 3, 2500, "Åsa Göran Märta Björn Linnéa Östen", "Åkesson Sjöberg Öberg Lindström Nyström"),
        *(("Malmö", "M", "211 22"), ("Göteborg", "O", "411 05")),
    ),
    _land(
        *("PL", "Poland", 2, 2300, "Łukasz Zażółć Małgorzata Paweł Świętosława", "Wójcik Dąbrowski Żak Kozłowski"),
        *(("Łódź", "LD", "90-001"), ("Kraków", "MA", "31-001")),
    ),
    _land(
        *("GR", "Greece", 2, 2400, "Ελένη Γιώργος Σοφία Νίκος", "Παπαδόπουλος Αγγελόπουλος Οικονόμου"),
        *(("Αθήνα", "I", "105 57"), ("Θεσσαλονίκη", "B", "546 24")),
    ),
    _land(
        *("BR", "Brazil", 2, 1700, "João Conceição Antônio Flávia", "Gonçalves Araújo Magalhães Simões"),
        ("São Paulo", "SP", "01310-100"),
    ),
    _land(
        *("IN", "India", 2, 1800, "आरव दीया Ishaan Ananya", "शर्मा पटेल Iyer Chatterjee"),
        ("Bengaluru", "KA", "560001"),
    ),
    _land(
        *("JP", "Japan", 4, 1000, "陽菜 蓮 結衣 大翔 さくら 健太", "佐藤 鈴木 高橋 田中 渡辺 伊藤"),
        *(("東京都渋谷区", "JP-13", "150-0002"), ("京都市中京区", "JP-26", "604-8001")),
        money="JPY",
    ),
    _land(
        *("KW", "Kuwait", 2, 0, "فاطمة يوسف مريم خالد", "العنزي المطيري الرشيدي"),
        ("الكويت", "KU", "15462"),
        money="KWD",
    ),
)


@dataclass(frozen=True, slots=True)
class Person:
    """A customer, with what their orders need to know."""

    customer: StagedCustomer
    land: Land
    address: Json


def invite_people(chance: Random, start: datetime, currency: str) -> list[Person]:
    """Return the customers. Who has an order is given its time when that is earlier than they came."""
    lands = chance.choices(LANDS, [land.share for land in LANDS], k=PEOPLE)
    return [_person(chance, number, land, start, currency) for number, land in enumerate(lands, start=1)]


def _person(chance: Random, number: int, land: Land, start: datetime, currency: str) -> Person:
    first, last = chance.choice(land.first_names), chance.choice(land.last_names)
    city, province, postal_code = chance.choice(land.places)
    phone = f"+1555{number:07}"
    address = Json(
        orjson.dumps(
            {
                "name": f"{first} {last}",
                "address1": f"{chance.randint(1, 240)} Example Street",
                "city": city,
                "province": province,
                "zip": postal_code,
                "country": land.name,
                "country_code": land.code,
                "phone": phone,
            }
        ).decode()
    )
    customer = StagedCustomer(
        line=number,
        external_id=f"demo-{number}",
        email=None if number % 700 == 7 else f"customer{number}@example.com",
        phone=phone,
        first_name=first,
        last_name=last,
        default_address=address,
        accepts_marketing=chance.random() < 0.4,
        orders_count=0,
        total_spent_minor=0,
        currency=land.currency or currency,
        tags=["wholesale"] if number % 100 == 50 else [],
        note="Prefers e-mail to the phone." if number % 90 == 1 else None,
        created_at=start + timedelta(days=chance.randrange(DAYS), seconds=chance.randrange(86_400)),
    )
    return Person(customer, land, address)
