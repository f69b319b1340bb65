"""Tools that the corpus declares, with questions that call for them: everyday ones and made-up ones."""

from __future__ import annotations

import tomllib
import zlib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from . import facts
from .words import ADJECTIVES, NAMES, NOUNS, Values

FILE = Path(__file__).with_name("tools.toml")


@dataclass(frozen=True)
class Domain:
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[tuple[str, ...], str, str], ...]  # names, type, kind of value
    asks: tuple[str, ...]
    held_asks: tuple[str, ...] = ()


def load(*, held: bool) -> tuple[Domain, ...]:
    """The domains of tools.toml on one side of the split."""
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["tool"]
    return tuple(
        Domain(
            tuple(d["names"]),
            tuple(d["descriptions"]),
            tuple((tuple(names), kind, value) for names, kind, value in d["parameters"]),
            tuple(d["asks"]),
            tuple(d.get("held_asks", ())),
        )
        for d in found
        if d.get("held", False) == held
    )


DOMAINS = load(held=False)
HELD_DOMAINS = load(held=True)
WEATHER = DOMAINS[0]
# Their questions could be meant for several tools: at most one of them is declared.
VAGUE = {
    d
    for d in DOMAINS
    if {
        *("add", "calculator", "multiply", "divide", "subtract"),
        *("search", "get_capital", "get_user", "define", "compare"),
    }
    & set(d.names)
}

COUNTRIES = [row[0] for row in facts.rows(facts.COUNTRIES)]
ACTIONS = """close open create delete update start stop lock unlock move copy print scan check assign archive approve reject
publish ship refund rename restart clean paint repair order rent count list show hide find fetch load save""".split()
OBJECTS = """ticket order account invoice server door report project folder printer robot user job device room document image
table record package key session group page truck parcel backup window event machine note card task queue""".split()
FIELDS = (
    "id number name code label key title value count size level color owner status priority".split()
)
KEYS = """temperature sky wind status price total count name city date state owner result level time
ok""".split()
SKIES = ("sunny", "cloudy", "rainy", "windy")
MONEY = "EUR USD GBP JPY CHF dollars euros pounds yen".split()
ROOMS = "kitchen bedroom garage bathroom office hall garden cellar attic".split()
TONGUES = "French German Spanish Italian Dutch Greek Polish Danish Finnish".split()


def held_tool(name: str) -> bool:
    return zlib.crc32(name.encode()) % 10 == 0


@dataclass
class Task:
    """A question, the tool that answers it, and the arguments to call it with."""

    tool: dict[str, Any]
    ask: str
    arguments: dict[str, Any]
    domain: Domain | None = None

    @property
    def name(self) -> str:
        return self.tool["function"]["name"]


class Toolbox:
    """Draws tasks and tools to declare beside them."""

    def __init__(self, rng: Random, held: bool = False) -> None:
        self.rng = rng
        self.held = held
        self.values = Values(rng, held)

    def value(self, kind: str) -> str:
        r, v = self.rng, self.values
        if "," in kind:
            return r.choice(kind.split(","))
        if kind == "int":
            return v.number(1, 999)
        if kind == "expr":
            return f"{v.number(1, 999)} {r.choice('+-*')} {v.number(1, 999)}"
        if kind == "clock":
            return f"{r.randint(0, 23)}:{r.randint(0, 59):02d}"
        if kind == "ticker":
            return "".join(r.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(r.randint(3, 4)))
        if kind == "file":
            return f"{v.made_up()}{r.choice(('.txt', '.py', '.md', '.csv', '.json'))}"
        if kind == "words":
            return " ".join(
                [v.made_up()] * self.held
                + [r.choice((v.noun, v.made_up, v.made_up))() for _ in range(r.randint(1, 4))]
            )
        if kind == "country":
            return v.name() if self.held or r.random() < 0.3 else r.choice(COUNTRIES)
        pools = {"money": MONEY, "room": ROOMS, "language": TONGUES}
        return r.choice(pools[kind]) if kind in pools else getattr(v, kind)()

    def declare(
        self, dom: Domain, skip_optional: float = 0.5
    ) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
        """A tool of this domain and its parameters as chosen: (name, type, kind of value)."""
        r = self.rng
        used = [(self.alias(r.choice(names)), kind, value) for names, kind, value in dom.parameters]
        if len({name for name, _, _ in used}) < len(used):
            return self.declare(dom, skip_optional)
        if dom.parameters[-1][1] == "enum" and r.random() < skip_optional:
            used = used[:-1]
        properties: dict[str, Any] = {}
        for name, kind, value in used:
            properties[name] = (
                {"type": "string", "enum": value.split(",")} if kind == "enum" else {"type": kind}
            )
        required = [name for name, kind, _ in used if kind != "enum"]
        return self.wrap(
            self.alias(r.choice(dom.names)), r.choice(dom.descriptions), properties, required
        ), used

    def alias(self, name: str) -> str:
        """The name, or in training sometimes another: names are to be read, not known by heart."""
        r = self.rng
        if self.values.held or r.random() < 0.7:
            return name
        other = r.choice((self.values.made_up(), r.choice(FIELDS), r.choice(OBJECTS)))
        first, *rest = name.split("_")
        camel = first + "".join(part.capitalize() for part in rest)
        return r.choice((f"{name}_{other}", f"{other}_{name}", other, self.values.made_up(), camel))

    def wrap(
        self, name: str, description: str, properties: dict[str, Any], required: list[str]
    ) -> dict[str, Any]:
        function: dict[str, Any] = {"name": name}
        if self.rng.random() < 0.85:
            function["description"] = description
        function["parameters"] = {"type": "object", "properties": properties, "required": required}
        return {"type": "function", "function": function}

    def everyday(self, dom: Domain | None = None) -> Task:
        r = self.rng
        dom = dom or r.choice(DOMAINS if r.random() < 0.8 else DOMAINS[:1])
        tool, used = self.declare(dom)
        asks = [a for a in dom.asks if f"{{{len(used)}}}" not in a]
        if self.held and dom.held_asks:
            asks = list(dom.held_asks)
        ask = r.choice(asks)
        shown = [self.value(value) for _, _, value in used]
        arguments = {
            name: int(text) if kind == "integer" else text
            for i, ((name, kind, _), text) in enumerate(zip(used, shown, strict=True))
            if f"{{{i}}}" in ask
        }
        return Task(tool, ask.format(*shown), arguments, dom)

    def invented(self) -> Task:
        """A task for a tool that exists nowhere: verb and object, or a made-up name."""
        r, v = self.rng, self.values
        while True:
            verb, thing = r.choice(ACTIONS), r.choice(OBJECTS)
            odd = r.random() < 0.35
            name = (
                v.made_up() + (f"_{v.made_up()}" if r.random() < 0.4 else "")
                if odd
                else r.choice(
                    (f"{verb}_{thing}", f"{verb}_{thing}", f"{verb}_{thing}s", f"{thing}_{verb}")
                )
            )
            if odd or held_tool(name) == self.held:
                break
        count = r.choice((1, 1, 1, 2, 2, 3))
        fields = r.sample(FIELDS, count)
        if r.random() < 0.3:
            fields[0] = f"{thing}_{fields[0]}" if r.random() < 0.6 else v.made_up()
        properties: dict[str, Any] = {}
        arguments: dict[str, Any] = {}
        shown: list[tuple[str, str]] = []
        for fieldname in fields:
            kind = r.choice(
                ("string", "string", "integer", "boolean")
                if count > 1
                else ("string", "string", "integer")
            )
            if kind == "integer":
                text: str = v.number(1, 9999)
                arguments[fieldname] = int(text)
            elif kind == "boolean":
                text = r.choice(("true", "false"))
                arguments[fieldname] = text == "true"
            else:
                text = r.choice((v.name, v.code, v.made_up, v.made_up, v.thing))()
                arguments[fieldname] = text
            properties[fieldname] = {"type": kind}
            shown.append((fieldname, text))
        if odd or count > 1 or r.random() < 0.3:
            style = r.choice(("{} {}", "{} = {}", "{}={}", "{} {}", "{}: {}"))
            start = r.choice(
                (
                    "Use {} with ",
                    "Call {} with ",
                    "Run {} with ",
                    "Please call {} with ",
                    "Call the tool {} with ",
                    "{} with ",
                )
            ).format(name)
            if not odd and r.random() < 0.6:
                start = r.choice(
                    ("{} the {} with ", "Please {} the {} with ", "{} a {} with ")
                ).format(verb, thing)
                start = start[0].upper() + start[1:]
            joined = [style.format(a, b) for a, b in shown]
            ask = (
                start
                + (", ".join(joined[:-1]) + r.choice((" and ", ", ")) if len(joined) > 1 else "")
                + joined[-1]
                + r.choice((".", ""))
            )
        else:
            ask = r.choice(
                (
                    "{} the {} {}.",
                    "Please {} the {} {}.",
                    "{} {} {}",
                    "I want to {} the {} {}.",
                    "Can you {} the {} {}?",
                )
            ).format(verb, thing, shown[0][1])
            ask = ask[0].upper() + ask[1:]
        description = (
            r.choice(("{} a {}", "{} the {}", "{} one {}")).format(verb.capitalize(), thing)
            if not odd
            else f"{verb.capitalize()} the {r.choice(ADJECTIVES)} {thing}"
        )
        return Task(self.wrap(name, description, properties, list(fields)), ask, arguments)

    def task(self) -> Task:
        if self.held:
            return (
                self.everyday(self.rng.choice(HELD_DOMAINS))
                if self.rng.random() < 0.5
                else self.invented()
            )
        return self.everyday() if self.rng.random() < 0.65 else self.invented()

    def beside(self, task: Task) -> list[dict[str, Any]]:
        """The task's tool among zero to three others, in random order."""
        r = self.rng
        tools, names, used = [task.tool], {task.name}, {task.domain}
        for _ in range(r.choice((0, 0, 0, 1, 1, 2, 3))):
            if r.random() < 0.6:
                dom = r.choice(DOMAINS)
                if dom in used or dom in VAGUE:
                    continue
                used.add(dom)
                other = self.declare(dom)[0]
            else:
                other = self.invented().tool
            if other["function"]["name"] not in names:
                names.add(other["function"]["name"])
                tools.append(other)
        r.shuffle(tools)
        return tools

    def outcome(self) -> tuple[str, str]:
        """A tool's result and the sentence that reports it."""
        r, v = self.rng, self.values
        roll = r.random()
        if roll < 0.45:
            keys = r.sample([*KEYS, v.made_up()], r.randint(1, 3))
            pairs = [(k, r.choice((v.number, v.made_up, v.name, v.noun))()) for k in keys]
            shown = ", ".join(f'"{k}": {x}' if x.isdigit() else f'"{k}": "{x}"' for k, x in pairs)
            return "{" + shown + "}", "The result is " + ", ".join(
                f"{k}: {x}" for k, x in pairs
            ) + "."
        if roll < 0.55:
            what = r.choice(("not found", "timeout", "no such " + v.noun(), v.made_up()))
            return f'{{"error": "{what}"}}', f"The tool failed: {what}."
        text = r.choice(
            (
                lambda: f"{v.number(0, 40)} degrees and {r.choice((*SKIES, v.made_up()))}",
                v.number,
                v.made_up,
                lambda: f"{v.made_up()} {v.made_up()}",
                v.code,
                lambda: f"{r.choice(NAMES)} {v.made_up()}",
                lambda: f"{r.choice(NOUNS)} {v.number()}",
            )
        )()
        return text, f"The result is {text}."
