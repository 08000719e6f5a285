"""Which texts have a format? One regular expression each, every text of which really has it.

RFC 3339 (dates and times), RFC 5321 and 1123 (mail, host names), RFC 2673 and 4291 (addresses),
RFC 4122 (UUID), RFC 3986 (URI), RFC 6901 (JSON pointers), RFC 6570 (URI templates). Where a format
allows more than anyone writes (quoted mail addresses, leap seconds, years before 1000), the
expression allows less.
"""

from functools import lru_cache

from unison.constrain.language import Expr
from unison.constrain.sources.json_schema.document import refuse
from unison.constrain.sources.json_schema.patterns import pattern
from unison.suggest import nearest

_LEAP = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = f"(?:[1-9][0-9]{{3}}-{_DAY}|{_LEAP}-02-29)"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_CLOCK}:[0-5][0-9](?:\\.[0-9]{{1,9}})?(?:Z|[+-]{_CLOCK})"
_WORD = "[A-Za-z0-9]{1,15}"
_HOST = f"{_WORD}(?:[.-]{_WORD}){{0,3}}"  # no label is longer than 63 characters, none has "--"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"(?:{_BYTE}\\.){{3}}{_BYTE}"
_GROUP = "[0-9a-fA-F]{1,4}"
_IPV6 = (
    "(?:"
    + "|".join(
        [f"(?:{_GROUP}:){{7}}{_GROUP}", f"::(?:{_GROUP}(?::{_GROUP}){{0,6}})?"]
        + [f"(?:{_GROUP}:){{{n}}}(?::{_GROUP}){{1,{7 - n}}}" for n in range(1, 7)]
        + [f"(?:{_GROUP}:){{1,7}}:"]
    )
    + ")"
)
_ATOM = "[A-Za-z0-9_+-]{1,15}"
_EMAIL = f"{_ATOM}(?:\\.{_ATOM}){{0,3}}@(?:{_WORD}[.-]){{0,3}}{_WORD}\\.[A-Za-z]{{2,6}}"
_ESCAPED = "%[0-9A-Fa-f]{2}"
_PCHAR = f"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ESCAPED})"
_NOT_COLON = f"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|{_ESCAPED})"
_AUTHORITY = "[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*(?::[0-9]{1,4})?"
_PATH = f"(?:/{_PCHAR}*)*"
_TAIL = f"(?:\\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
_URI = f"[A-Za-z][A-Za-z0-9+.-]*:(?://{_AUTHORITY}{_PATH}|/?{_PCHAR}+{_PATH}){_TAIL}"
_RELATIVE = f"(?://{_AUTHORITY}{_PATH}|/(?:{_PCHAR}+{_PATH})?|{_NOT_COLON}+{_PATH})?{_TAIL}"
_POINTER = "(?:/(?:[^~/]|~[01])*)*"
_NAME = "[A-Za-z0-9_]+(?:\\.[A-Za-z0-9_]+)*"
_TEMPLATE = f"(?:[A-Za-z0-9._~!$&()*+,;=:@/?#-]|\\{{[+#./;?&]?{_NAME}(?:,{_NAME})*\\}})*"
_CLOCK_SPAN = "(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DAY_SPAN = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_DURATION = f"P(?:[0-9]+W|{_DAY_SPAN}(?:T{_CLOCK_SPAN})?|T{_CLOCK_SPAN})"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": _DURATION,
    "email": _EMAIL,
    "idn-email": _EMAIL,
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": _IPV4,
    "ip-address": _IPV4,  # draft-03
    "ipv6": _IPV6,
    "uuid": "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "uri": _URI,
    "iri": _URI,
    "url": _URI,
    "uri-reference": f"(?:{_URI}|{_RELATIVE})",
    "iri-reference": f"(?:{_URI}|{_RELATIVE})",
    "uri-template": _TEMPLATE,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
    "regex": "[A-Za-z0-9_ :;,@/=-]*",  # texts without special characters are expressions too
    "color": "#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})",  # draft-03
    "byte": "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",  # OpenAPI: base64
}
FREE = frozenset({"password", "string", "text", "textarea", "markdown", "html", "multiline"})


@lru_cache(maxsize=64)
def language(name: str) -> Expr | None:
    """Return the texts of a format, ``None`` if there is no such format."""
    found = FORMATS.get(name)
    return None if found is None else pattern("#", f"^(?:{found})$")


def format_language(pointer: str, name: str) -> Expr | None:
    """Return the texts of a format, ``None`` for one that only tells editors what to show.

    Raises:
        ConstraintError: If the format is not known.
    """
    if name in FREE:
        return None
    found = language(name)
    if found is None:
        refuse(
            pointer,
            f"the format {name!r} is not known{nearest(name, FORMATS)}; "
            f"known are {', '.join(sorted(FORMATS))}. Say it as a pattern, or take it out",
        )
    return found
