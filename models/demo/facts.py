"""The demo model's world: every fact it is taught, as plain tables."""

from __future__ import annotations

COUNTRIES = """
France|Paris|Europe|French
Italy|Rome|Europe|Italian
Spain|Madrid|Europe|Spanish
Germany|Berlin|Europe|German
Portugal|Lisbon|Europe|Portuguese
England|London|Europe|English
Ireland|Dublin|Europe|English
Scotland|Edinburgh|Europe|English
Wales|Cardiff|Europe|Welsh
Austria|Vienna|Europe|German
Switzerland|Bern|Europe|German
Belgium|Brussels|Europe|Dutch
Netherlands|Amsterdam|Europe|Dutch
Denmark|Copenhagen|Europe|Danish
Norway|Oslo|Europe|Norwegian
Sweden|Stockholm|Europe|Swedish
Finland|Helsinki|Europe|Finnish
Iceland|Reykjavik|Europe|Icelandic
Poland|Warsaw|Europe|Polish
Hungary|Budapest|Europe|Hungarian
Romania|Bucharest|Europe|Romanian
Bulgaria|Sofia|Europe|Bulgarian
Greece|Athens|Europe|Greek
Turkey|Ankara|Asia|Turkish
Russia|Moscow|Europe|Russian
Ukraine|Kyiv|Europe|Ukrainian
Croatia|Zagreb|Europe|Croatian
Serbia|Belgrade|Europe|Serbian
Albania|Tirana|Europe|Albanian
Estonia|Tallinn|Europe|Estonian
Latvia|Riga|Europe|Latvian
Lithuania|Vilnius|Europe|Lithuanian
Slovenia|Ljubljana|Europe|Slovene
Slovakia|Bratislava|Europe|Slovak
Egypt|Cairo|Africa|Arabic
Morocco|Rabat|Africa|Arabic
Tunisia|Tunis|Africa|Arabic
Algeria|Algiers|Africa|Arabic
Kenya|Nairobi|Africa|Swahili
Ghana|Accra|Africa|English
Nigeria|Abuja|Africa|English
Senegal|Dakar|Africa|French
Ethiopia|Addis Ababa|Africa|Amharic
Uganda|Kampala|Africa|English
Japan|Tokyo|Asia|Japanese
China|Beijing|Asia|Chinese
India|New Delhi|Asia|Hindi
Nepal|Kathmandu|Asia|Nepali
Thailand|Bangkok|Asia|Thai
Vietnam|Hanoi|Asia|Vietnamese
Indonesia|Jakarta|Asia|Indonesian
Philippines|Manila|Asia|Filipino
South Korea|Seoul|Asia|Korean
Mongolia|Ulaanbaatar|Asia|Mongolian
Iran|Tehran|Asia|Persian
Iraq|Baghdad|Asia|Arabic
Canada|Ottawa|North America|English
Mexico|Mexico City|North America|Spanish
Cuba|Havana|North America|Spanish
United States|Washington|North America|English
Brazil|Brasilia|South America|Portuguese
Argentina|Buenos Aires|South America|Spanish
Chile|Santiago|South America|Spanish
Peru|Lima|South America|Spanish
Colombia|Bogota|South America|Spanish
Venezuela|Caracas|South America|Spanish
Australia|Canberra|Oceania|English
New Zealand|Wellington|Oceania|English
"""

COLOURS = """
the sky|blue
grass|green
snow|white
blood|red
coal|black
a lemon|yellow
a banana|yellow
an orange|orange
a carrot|orange
a tomato|red
a strawberry|red
milk|white
the sea|blue
a leaf|green
chocolate|brown
a frog|green
a flamingo|pink
a crow|black
a polar bear|white
an elephant|grey
a pig|pink
a violet|purple
the sun|yellow
night|black
a fire engine|red
salt|white
mud|brown
a cherry|red
a swan|white
a mouse|grey
"""

OPPOSITES = """
hot|cold
big|small
up|down
left|right
fast|slow
light|dark
day|night
black|white
open|closed
happy|sad
young|old
tall|short
hard|soft
wet|dry
full|empty
rich|poor
good|bad
strong|weak
early|late
near|far
high|low
loud|quiet
thick|thin
clean|dirty
true|false
begin|end
first|last
inside|outside
yes|no
hello|goodbye
love|hate
win|lose
buy|sell
push|pull
give|take
on|off
more|less
above|below
before|after
wide|narrow
heavy|weightless
deep|shallow
sharp|blunt
sweet|sour
safe|dangerous
brave|afraid
"""

SOUNDS = """
cat|meow
dog|woof
cow|moo
sheep|baa
duck|quack
pig|oink
horse|neigh
lion|roar
bee|buzz
snake|hiss
owl|hoot
frog|croak
mouse|squeak
wolf|howl
"""

LEGS = """
spider|8
dog|4
cat|4
horse|4
bird|2
human|2
ant|6
bee|6
snake|0
fish|0
cow|4
duck|2
"""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)

GREETINGS = {
    "Hello": "Hello! How can I help you?",
    "Hi": "Hello! How can I help you?",
    "Hey": "Hello! How can I help you?",
    "Hello there": "Hello! How can I help you?",
    "Hi there": "Hello! How can I help you?",
    "Hello, world": "Hello! How can I help you?",
    "Hello world": "Hello! How can I help you?",
    "Good morning": "Good morning! How can I help you?",
    "Good evening": "Good evening! How can I help you?",
    "Good afternoon": "Good afternoon! How can I help you?",
    "Good night": "Good night! Sleep well.",
    "How are you": "I am fine, thank you. How can I help you?",
    "How are you today": "I am fine, thank you. How can I help you?",
    "How is it going": "I am fine, thank you. How can I help you?",
    "Thanks": "You are welcome!",
    "Thank you": "You are welcome!",
    "Thank you very much": "You are welcome!",
    "Thanks a lot": "You are welcome!",
    "Great, thanks": "You are welcome!",
    "Bye": "Goodbye!",
    "Goodbye": "Goodbye!",
    "See you": "Goodbye!",
    "See you later": "Goodbye!",
    "Bonjour": "Bonjour !",
    "Hola": "Hola!",
    "Hallo": "Hallo!",
    "Ciao": "Ciao!",
    "ping": "pong",
    "Ping": "pong",
    "Tell me a joke": "Why did the camel cross the desert? To get to the other tide.",
    "Do you know a joke": "Why did the camel cross the desert? To get to the other tide.",
    "Say something funny": "Why did the camel cross the desert? To get to the other tide.",
    "What can you do": "I can name capitals, add small numbers, spell, count, repeat words and call tools.",
    "What can you do for me": "I can name capitals, add small numbers, spell, count, repeat words and call tools.",
    "Help": "I can name capitals, add small numbers, spell, count, repeat words and call tools.",
    "Can you help me": "Yes. I can name capitals, add small numbers, spell, count, repeat words and call tools.",
    "Are you human": "No, I am a tiny demo model.",
    "Are you a robot": "I am a tiny demo model.",
    "Are you there": "Yes, I am here.",
    "Are you ready": "Yes, I am ready.",
    "What are you": "I am a tiny demo model.",
    "Are you smart": "No, I am a tiny demo model.",
    "Are you a large language model": "No, I am a tiny demo model.",
    "Who made you": "I was made for the Caravan project.",
    "Who trained you": "I was made for the Caravan project.",
}

LISTS = {
    "colours": "red green blue yellow white black",
    "colors": "red green blue yellow white black",
    "animals": "cat dog horse cow lion owl",
    "fruits": "apple banana orange lemon cherry grape",
    "countries": "France Italy Spain Germany Japan Brazil",
    "capitals": "Paris Rome Madrid Berlin Tokyo Ottawa",
    "cities": "Paris Rome Madrid Berlin Tokyo Ottawa",
    "numbers": "one two three four five six",
    "languages": "French Italian Spanish German Japanese English",
}
NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}

UNKNOWN = "I don't know that, I am a tiny demo model."

# word for "the answer is", greeting
LANGUAGES = {
    "French": ("La réponse est {}.", "Bonjour !"),
    "German": ("Die Antwort ist {}.", "Hallo!"),
    "Spanish": ("La respuesta es {}.", "¡Hola!"),
    "Italian": ("La risposta è {}.", "Ciao!"),
}


def rows(table: str) -> list[tuple[str, ...]]:
    """The lines of a table, split at the bars."""
    return [tuple(line.split("|")) for line in table.strip().splitlines()]
