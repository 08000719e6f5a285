"""What can be told of a person, an order, a booking or a book? Fields and the sentences about them.

The sentences of a record mention only its own values, each in one place, so that every field can be
read without knowing anything else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unison.suites.dice import Dice

_FIRST = [
    "Anna",
    "Bruno",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Karla",
    "Lukas",
    "Maria",
    "Nils",
]
_LAST = [
    "Berg",
    "Costa",
    "Dahl",
    "Evans",
    "Fuchs",
    "Grant",
    "Hansen",
    "Ito",
    "Jansen",
    "Kovac",
    "Lopez",
    "Moreau",
    "Novak",
    "Olsen",
]
_CITIES = [
    "Athens",
    "Bergen",
    "Cork",
    "Dresden",
    "Ghent",
    "Lyon",
    "Malaga",
    "Oslo",
    "Porto",
    "Riga",
    "Turin",
    "Utrecht",
]
_STREETS = ["Mill Lane", "Oak Street", "Church Road", "Harbour Way", "High Street"]
_LANGUAGES = [
    "Arabic",
    "Danish",
    "Dutch",
    "English",
    "Finnish",
    "French",
    "Greek",
    "Polish",
    "Thai",
    "Turkish",
]
_JOBS = [
    "baker",
    "carpenter",
    "dentist",
    "gardener",
    "nurse",
    "pilot",
    "plumber",
    "teacher",
    "tailor",
    "welder",
]
_GOODS = ["lamp", "chair", "kettle", "mirror", "pillow", "radio", "shelf", "table", "towel", "vase"]
_SHIPPERS = ["North Freight", "Blue Parcel", "Swift Post", "City Couriers"]
_COLOURS = ["black", "blue", "brown", "green", "grey", "red", "white", "yellow"]
_HOTELS = ["Hotel Aurora", "Hotel Bristol", "Hotel Central", "Hotel Delta", "Hotel Europa"]
_MONTHS = ["March", "April", "May", "June", "July", "August", "September", "October"]
_EXTRAS = ["breakfast", "parking", "sauna", "laundry", "garden", "balcony"]
_TITLES = ["The Quiet River", "Seven Doors", "A Winter Map", "The Glass Hill", "Salt and Stone"]
_TOPICS = ["history", "music", "travel", "cooking", "chess", "astronomy", "farming", "sailing"]
_PUBLISHERS = ["Elm Press", "Harrow Books", "Lantern House", "Quill and Son"]


@dataclass(frozen=True)
class Field:
    """Something a text says.

    Attributes:
        name: Of the field.
        kind: As the question calls it.
        draw: Its value.
        yes: Sentences with ``{who}`` and ``{value}``, or the keys of an object.
        no: Of a truth value, the sentences where it is false.
        subject: What the other sentences call the record by.
    """

    name: str
    kind: str
    draw: Callable[[Dice], Any]
    yes: Sequence[str]
    no: Sequence[str] = ()
    subject: bool = False

    @property
    def nested(self) -> bool:
        """Whether the value is an object."""
        return self.kind.startswith("object")

    def sentence(self, dice: Dice, who: Any, value: Any) -> str:
        """Return one of the sentences, which says the value."""
        form = dice.one(self.no if value is False else self.yes)
        if isinstance(value, dict):
            return form.format(who=who, **value)
        said = " and ".join([", ".join(value[:-1]), value[-1]]) if type(value) is list else value
        return form.format(who=who, value=said)


def _word(words: Sequence[str]) -> Callable[[Dice], str]:
    return lambda dice: dice.one(words)


def _number(low: int, high: int) -> Callable[[Dice], int]:
    return lambda dice: dice.between(low, high)


def _list(words: Sequence[str]) -> Callable[[Dice], list[str]]:
    return lambda dice: dice.some(words, dice.between(2, 4))


def _truth(dice: Dice) -> bool:
    return dice.below(2) == 1


def _full_name(dice: Dice) -> str:
    return f"{dice.one(_FIRST)} {dice.one(_LAST)}"


def _address(dice: Dice) -> dict[str, Any]:
    return {
        "street": dice.one(_STREETS),
        "number": dice.between(1, 99),
        "city": dice.one(_CITIES),
    }


def _date(dice: Dice) -> dict[str, Any]:
    return {"day": dice.between(1, 30), "month": dice.one(_MONTHS)}


def _page(dice: Dice) -> dict[str, Any]:
    return {"chapter": dice.between(1, 20), "page": dice.between(21, 400)}


RECORDS: Mapping[str, Sequence[Field]] = {
    "person": (
        Field(
            "name",
            "string",
            _full_name,
            ("This text is about {value}.", "The name of the person is {value}."),
            subject=True,
        ),
        Field("age", "integer", _number(18, 89), ("{who} is {value} years old.",)),
        Field(
            "job",
            "string",
            _word(_JOBS),
            ("{who} works as a {value}.", "The job of {who} is {value}."),
        ),
        Field(
            "married",
            "boolean",
            _truth,
            ("{who} is married.",),
            ("{who} is not married.", "{who} has never been married."),
        ),
        Field(
            "languages",
            "list of strings",
            _list(_LANGUAGES),
            ("{who} speaks {value}.", "The languages {who} speaks are {value}."),
        ),
        Field("children", "integer", _number(2, 6), ("{who} has {value} children.",)),
        Field(
            "address",
            "object with street, number, city",
            _address,
            ("{who} lives at {number} {street} in {city}.",),
        ),
    ),
    "order": (
        Field(
            "id",
            "integer",
            _number(1000, 9999),
            ("This is order {value}.", "The number of the order is {value}."),
            subject=True,
        ),
        Field(
            "customer",
            "string",
            _full_name,
            ("Order {who} was placed by {value}.", "The customer is {value}."),
        ),
        Field(
            "items",
            "list of strings",
            _list(_GOODS),
            ("Order {who} holds {value}.", "Ordered were {value}."),
        ),
        Field("colour", "string", _word(_COLOURS), ("Everything in the order is {value}.",)),
        Field(
            "paid",
            "boolean",
            _truth,
            ("Order {who} has been paid.",),
            ("Order {who} has not been paid.", "Order {who} is still unpaid."),
        ),
        Field("total", "integer", _number(10, 900), ("The order comes to {value} euros.",)),
        Field("shipper", "string", _word(_SHIPPERS), ("It is carried by {value}.",)),
        Field(
            "destination",
            "object with street, number, city",
            _address,
            ("It goes to {number} {street} in {city}.",),
        ),
    ),
    "booking": (
        Field(
            "guest",
            "string",
            _full_name,
            ("The booking is for {value}.", "The guest is called {value}."),
            subject=True,
        ),
        Field("hotel", "string", _word(_HOTELS), ("{who} stays at {value}.",)),
        Field(
            "nights",
            "integer",
            _number(2, 14),
            ("{who} stays for {value} nights.", "The room is booked for {value} nights."),
        ),
        Field("room", "integer", _number(100, 999), ("The room is number {value}.",)),
        Field(
            "extras",
            "list of strings",
            _list(_EXTRAS),
            ("{who} asked for {value}.", "Included are {value}."),
        ),
        Field(
            "confirmed",
            "boolean",
            _truth,
            ("The booking is confirmed.",),
            ("The booking is not confirmed.", "The booking still waits to be confirmed."),
        ),
        Field(
            "arrival",
            "object with day, month",
            _date,
            ("{who} arrives on {day} {month}.",),
        ),
    ),
    "book": (
        Field(
            "title",
            "string",
            _word(_TITLES),
            ("The title of the book is {value}.", "The book is called {value}."),
            subject=True,
        ),
        Field("author", "string", _full_name, ("{value} wrote {who}.", "The author is {value}.")),
        Field("year", "integer", _number(1900, 2020), ("It came out in {value}.",)),
        Field("publisher", "string", _word(_PUBLISHERS), ("{who} was published by {value}.",)),
        Field(
            "topics",
            "list of strings",
            _list(_TOPICS),
            ("It deals with {value}.", "The topics of {who} are {value}."),
        ),
        Field(
            "lent",
            "boolean",
            _truth,
            ("{who} is lent out at the moment.",),
            ("{who} is not lent out at the moment.",),
        ),
        Field(
            "bookmark",
            "object with chapter, page",
            _page,
            ("The bookmark lies in chapter {chapter} on page {page}.",),
        ),
    ),
}
