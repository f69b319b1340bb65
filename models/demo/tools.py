"""Tools that the corpus declares, with questions that call for them: everyday ones and made-up ones.

A domain is written as: names | descriptions | parameters | questions. Names separated by "/" are alternatives.
A parameter is `name/name:type=values`; a question mentions parameters by position as {0}, {1}.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random
from typing import Any

from .words import ADJECTIVES, NAMES, NOUNS, Values


@dataclass(frozen=True)
class Domain:
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[tuple[str, ...], str, str], ...]  # names, type, kind of value
    asks: tuple[str, ...]


def domain(names: str, descriptions: str, parameters: str, *asks: str) -> Domain:
    parsed = []
    for part in parameters.split():
        name, rest = part.split(":")
        kind, value = rest.split("=")
        parsed.append((tuple(name.split("/")), kind, value))
    return Domain(tuple(names.split("/")), tuple(descriptions.split("/")), tuple(parsed), asks)


DOMAINS = (
    domain("get_weather/get_current_weather/weather/fetch_weather/weather_lookup", "Get the weather in a city/Get the current weather/Current weather for a place/Look up the weather",
           "city/location/place/town:string=city unit/units:enum=celsius,fahrenheit",
           "What is the weather in {0}?", "What's the weather like in {0}?", "How is the weather in {0}?", "Weather in {0}?", "Tell me the weather in {0}.",
           "Is it raining in {0}?", "Is it cold in {0}?", "What is the temperature in {0}?", "What is the weather in {0} in {1}?", "What's the weather like in {0} today?",
           "Weather for {0} please", "Will it rain in {0}?", "What is the weather like in {0} in {1}?", "Please check the weather in {0}.", "How warm is it in {0} right now?"),
    domain("search/web_search/search_web/lookup", "Search the web/Find pages/Look something up", "query/q/text/term:string=thing",
           "Search for {0}.", "Look up {0}.", "Search the web for {0}.", "Find {0} on the web.", "Please search for {0}", "Can you look up {0}?"),
    domain("send_email/send_mail/email/mail", "Send an email/Send a mail to someone", "to/recipient/address:string=name subject/title/topic:string=thing",
           "Send an email to {0} about {1}.", "Email {0} about {1}.", "Write a mail to {0} about {1}.", "Mail {0} with the subject {1}."),
    domain("send_message/message/send_sms/text", "Send a message/Text someone", "to/recipient/name:string=name message/text/body:string=words",
           "Send {0} the message {1}", "Tell {0}: {1}", "Message {0}: {1}", "Send a message to {0}: {1}", "Text {0}: {1}"),
    domain("add/sum/add_numbers/plus", "Add two numbers/Sum of two numbers", "a/x/first:integer=int b/y/second:integer=int",
           "What is {0} + {1}?", "Add {0} and {1}.", "What is {0} plus {1}?", "How much is {0} + {1}?", "Calculate {0} + {1}."),
    domain("multiply/times/mul/product", "Multiply two numbers/Product of two numbers", "a/x/first:integer=int b/y/second:integer=int",
           "What is {0} times {1}?", "Multiply {0} by {1}.", "How much is {0} * {1}?", "What is {0} x {1}?"),
    domain("calculator/calculate/eval/compute", "Calculate an expression/Evaluate arithmetic", "expression/expr/formula:string=expr",
           "What is {0}?", "Calculate {0}.", "Compute {0}", "How much is {0}?"),
    domain("set_timer/start_timer/timer", "Set a timer/Start a timer", "minutes/duration/time:integer=int",
           "Set a timer for {0} minutes.", "Start a timer of {0} minutes.", "Timer for {0} minutes please", "Wake me in {0} minutes."),
    domain("set_alarm/alarm/wake_up", "Set an alarm/Wake the user", "time/at/hour:string=clock", "Set an alarm for {0}.", "Wake me at {0}.", "Alarm at {0} please", "I must get up at {0}."),
    domain("add_reminder/remind/create_reminder", "Create a reminder/Remind the user of something", "text/what/note:string=thing time/at/when:string=clock",
           "Remind me of {0} at {1}.", "Set a reminder for {0} at {1}.", "At {1} remind me of {0}."),
    domain("translate/translate_text", "Translate a text/Translate words into a language", "text/words:string=words language/target/to:string=language",
           "Translate {0} to {1}.", "Translate {0} into {1}", "How do you say {0} in {1}?", "What is {0} in {1}?"),
    domain("get_stock_price/stock_price/quote/get_quote", "Get the price of a stock/Stock price by symbol", "symbol/ticker/stock:string=ticker",
           "What is the price of {0}?", "Stock price of {0}?", "How much is {0} trading at?", "Get the stock price of {0}.", "What is {0} worth?"),
    domain("convert_currency/exchange/convert", "Convert money/Convert an amount between currencies", "amount/value:integer=int from/source/base:string=money to/target:string=money",
           "Convert {0} {1} to {2}.", "How much is {0} {1} in {2}?", "What are {0} {1} in {2}?", "Change {0} {1} into {2}."),
    domain("play_music/play_song/play", "Play music/Play a song", "song/title/track:string=thing", "Play {0}.", "Play the song {0}.", "I want to hear {0}.", "Put on {0} please"),
    domain("turn_on_light/light_on/lights", "Turn on the light/Switch on the lights of a room", "room/place/where:string=room", "Turn on the light in the {0}.", "Light on in the {0}!", "Switch on the lights in the {0}.", "It is dark in the {0}."),
    domain("get_time/current_time/time_in/clock", "Get the time in a city/Current time in a place", "city/place/location/timezone:string=city", "What time is it in {0}?", "Time in {0}?", "Tell me the time in {0}.", "What is the time in {0}?"),
    domain("read_file/open_file/cat", "Read a file/Show what is in a file", "path/file/filename:string=file", "Read the file {0}.", "Show me {0}", "What is in {0}?", "Open {0}.", "Read {0} please"),
    domain("delete_file/remove_file/rm", "Delete a file/Remove a file", "path/file/filename:string=file", "Delete the file {0}.", "Remove {0}", "Please delete {0}."),
    domain("get_order/order_status/get_delivery_date/track_order", "Get the state of an order/When does an order arrive", "order_id/id/order/number:string=code",
           "Where is my order {0}?", "What is the status of order {0}?", "When does order {0} arrive?", "Track order {0}.", "My order number is {0}, where is it?"),
    domain("get_user/find_user/user_info/lookup_user", "Get a user by name/Find a person", "name/user/username:string=name", "Find the user {0}.", "Who is {0}?", "Get the user {0}.", "Look up the user {0}.", "Show the profile of {0}."),
    domain("add_todo/add_task/create_task", "Add a task to the list/Create a task", "task/title/item/text:string=thing", "Add {0} to my list.", "Put {0} on my todo list.", "New task: {0}", "I must not forget {0}."),
    domain("get_news/news/headlines", "Get the news/Headlines about a topic", "topic/subject/about:string=thing", "What is the news about {0}?", "News about {0}?", "Show me the news on {0}.", "Any headlines about {0}?"),
    domain("roll_dice/roll/dice", "Roll dice/Throw some dice", "sides/faces/n:integer=int", "Roll a die with {0} sides.", "Roll a {0} sided die.", "Throw a die with {0} sides."),
    domain("call/phone/dial/call_person", "Call someone/Make a phone call", "name/person/who/contact:string=name", "Call {0}.", "Phone {0} please", "Please ring {0}.", "I want to talk to {0} on the phone."),
    domain("get_capital/capital_of/find_capital", "Get the capital of a country/Capital of a country", "country/nation:string=country", "What is the capital of {0}?", "Capital of {0}?", "Name the capital of {0}.", "Tell me the capital of {0}."),
)

HELD_DOMAINS = (
    domain("book_hotel/reserve_hotel", "Book a hotel in a city", "city/where:string=city nights/days:integer=int", "Book a hotel in {0} for {1} nights.", "I need a hotel in {0} for {1} nights."),
    domain("get_recipe/find_recipe", "Find a recipe for a dish", "dish/food/meal:string=thing", "How do I cook {0}?", "Find me a recipe for {0}."),
    domain("find_flight/search_flights", "Find a flight between two cities", "origin/start:string=city destination/target:string=city", "Find a flight from {0} to {1}.", "I want to fly from {0} to {1}."),
    domain("cancel_subscription/unsubscribe", "Cancel a subscription", "account/customer:string=code", "Cancel the subscription of account {0}.", "Unsubscribe account {0}."),
    domain("measure_distance/distance", "Distance between two places", "a/first:string=city b/second:string=city", "How far is it from {0} to {1}?", "What is the distance between {0} and {1}?"),
    domain("set_volume/volume", "Set the volume of the speaker", "level/percent:integer=int", "Set the volume to {0}.", "Turn the volume to {0}."),
)

HELD_WEATHER_ASKS = ("Can you check the weather in {0} for me?", "Do I need an umbrella in {0}?", "I am going to {0}, how is the weather?", "Could you tell me the weather in {0}?")

ACTIONS = """close open create delete update start stop lock unlock move copy print scan check assign archive approve reject
publish ship refund rename restart clean paint repair order rent count list show hide find fetch load save""".split()
OBJECTS = """ticket order account invoice server door report project folder printer robot user job device room document image
table record package key session group page truck parcel backup window event machine note card task queue""".split()
FIELDS = "id number name code label key title value count size level color owner status priority".split()
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
            return " ".join([v.made_up()] * self.held + [r.choice((v.noun, v.made_up, v.made_up))() for _ in range(r.randint(1, 4))])
        if kind == "country":
            return v.name()
        pools = {"money": MONEY, "room": ROOMS, "language": TONGUES}
        return r.choice(pools[kind]) if kind in pools else getattr(v, kind)()

    def declare(self, dom: Domain, skip_optional: float = 0.5) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
        """A tool of this domain and its parameters as chosen: (name, type, kind of value)."""
        r = self.rng
        used = [(r.choice(names), kind, value) for names, kind, value in dom.parameters]
        if dom.parameters[-1][1] == "enum" and r.random() < skip_optional:
            used = used[:-1]
        properties: dict[str, Any] = {}
        for name, kind, value in used:
            properties[name] = {"type": "string", "enum": value.split(",")} if kind == "enum" else {"type": kind}
        required = [name for name, kind, _ in used if kind != "enum"]
        return self.wrap(r.choice(dom.names), r.choice(dom.descriptions), properties, required), used

    def wrap(self, name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        function: dict[str, Any] = {"name": name}
        if self.rng.random() < 0.85:
            function["description"] = description
        function["parameters"] = {"type": "object", "properties": properties, "required": required}
        return {"type": "function", "function": function}

    def everyday(self, dom: Domain | None = None) -> Task:
        r = self.rng
        dom = dom or r.choice(DOMAINS if r.random() < 0.8 else DOMAINS[:1])
        tool, used = self.declare(dom)
        asks = [a for a in dom.asks if "{%d}" % len(used) not in a]
        if self.held and dom is DOMAINS[0]:
            asks = list(HELD_WEATHER_ASKS)
        ask = r.choice(asks)
        shown = [self.value(value) for _, _, value in used]
        arguments = {name: int(text) if kind == "integer" else text
                     for i, ((name, kind, _), text) in enumerate(zip(used, shown, strict=True)) if "{%d}" % i in ask}
        return Task(tool, ask.format(*shown), arguments)

    def invented(self) -> Task:
        """A task for a tool that exists nowhere: verb and object, or a made-up name."""
        r, v = self.rng, self.values
        while True:
            verb, thing = r.choice(ACTIONS), r.choice(OBJECTS)
            odd = r.random() < 0.35
            name = v.made_up() + (f"_{v.made_up()}" if r.random() < 0.4 else "") if odd else r.choice((f"{verb}_{thing}", f"{verb}_{thing}", f"{verb}_{thing}s", f"{thing}_{verb}"))
            if odd or held_tool(name) == self.held:
                break
        count = r.choice((1, 1, 1, 2, 2, 3))
        fields = r.sample(FIELDS, count)
        if r.random() < 0.3:
            fields[0] = f"{thing}_{fields[0]}" if r.random() < 0.6 else v.made_up()
        properties, arguments, shown = {}, {}, []
        for fieldname in fields:
            kind = r.choice(("string", "string", "integer", "boolean") if count > 1 else ("string", "string", "integer"))
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
            start = r.choice(("Use {} with ", "Call {} with ", "Run {} with ", "Please call {} with ", "Call the tool {} with ", "{} with ")).format(name)
            if not odd and r.random() < 0.6:
                start = r.choice(("{} the {} with ", "Please {} the {} with ", "{} a {} with ")).format(verb, thing)
                start = start[0].upper() + start[1:]
            joined = [style.format(a, b) for a, b in shown]
            ask = start + (", ".join(joined[:-1]) + r.choice((" and ", ", ")) if len(joined) > 1 else "") + joined[-1] + r.choice((".", ""))
        else:
            ask = r.choice(("{} the {} {}.", "Please {} the {} {}.", "{} {} {}", "I want to {} the {} {}.", "Can you {} the {} {}?")).format(verb, thing, shown[0][1])
            ask = ask[0].upper() + ask[1:]
        description = r.choice(("{} a {}", "{} the {}", "{} one {}")).format(verb.capitalize(), thing) if not odd else f"{verb.capitalize()} the {r.choice(ADJECTIVES)} {thing}"
        return Task(self.wrap(name, description, properties, list(fields)), ask, arguments)

    def task(self) -> Task:
        if self.held:
            return self.everyday(self.rng.choice(HELD_DOMAINS)) if self.rng.random() < 0.5 else self.invented()
        return self.everyday() if self.rng.random() < 0.5 else self.invented()

    def beside(self, tool: dict[str, Any]) -> list[dict[str, Any]]:
        """The tool among zero to three others, in random order."""
        r = self.rng
        tools, names = [tool], {tool["function"]["name"]}
        used = {d for d in DOMAINS if names & set(d.names)}
        for _ in range(r.choice((0, 0, 0, 1, 1, 2, 3))):
            if r.random() < 0.6:
                dom = r.choice(DOMAINS)
                if dom in used or {"add", "calculator", "multiply", "search", "get_capital", "get_user"} & set(dom.names):
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
            keys = r.sample("temperature sky wind status price total count name city date state owner result level time ok".split() + [v.made_up()], r.randint(1, 3))
            pairs = [(k, r.choice((v.number, v.made_up, v.name, v.noun))()) for k in keys]
            shown = ", ".join('"%s": %s' % (k, x if x.isdigit() else f'"{x}"') for k, x in pairs)
            return "{" + shown + "}", "The result is " + ", ".join(f"{k}: {x}" for k, x in pairs) + "."
        if roll < 0.55:
            what = r.choice(("not found", "timeout", "no such " + v.noun(), v.made_up()))
            return '{"error": "%s"}' % what, f"The tool failed: {what}."
        text = r.choice((lambda: f"{v.number(0, 40)} degrees and {r.choice(('sunny', 'cloudy', 'rainy', 'windy', v.made_up()))}", v.number, v.made_up,
                         lambda: f"{v.made_up()} {v.made_up()}", v.code, lambda: f"{r.choice(NAMES)} {v.made_up()}", lambda: f"{r.choice(NOUNS)} {v.number()}"))()
        return text, f"The result is {text}."
