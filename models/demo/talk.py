"""Conversations without tools: names, memory, system prompts, JSON, other languages, follow-ups, long ones."""

from __future__ import annotations

from . import facts
from .chat import Chat
from .exchanges import Exchanges
from .phrases import forms


class Talk(Exchanges):
    """Draws conversations; `held` chooses the evaluation's phrasings and values."""

    def opening(self, chat: Chat) -> Chat:
        return chat.system(self.rng.choice(forms("system"))) if self.rng.random() < 0.3 else chat

    def plain(self) -> Chat:
        question, answer, thought = self.single()
        return self.opening(Chat()).user(question).answer(answer, thought)

    def follow_up(self) -> Chat:
        """A question and then the same about something else, sometimes with small talk between."""
        r, q = self.rng, self.questions
        kind = r.choice(
            (
                "capital",
                "capital",
                "capital",
                "opposite",
                "colour",
                "sums",
                "language",
                "country",
                "sound",
            )
        )
        item = q.any(kind=kind)
        chat = self.opening(Chat()).user(q.around(item.ask)).answer(item.full, self.thought(item))
        for _ in range(r.choice((1, 1, 2, 3))):
            item = q.any(follow=True, kind=kind)
            chat.user(item.ask).answer(item.full, self.thought(item))
        return chat

    def named(self) -> Chat:
        """A system prompt that sets a name."""
        r, v = self.rng, self.values
        name = v.name() if r.random() < 0.85 else f"{v.name()} {v.name()}"
        rules = (
            "You are {}.",
            "Your name is {}.",
            "You are {}, a helpful assistant.",
            "You are called {}.",
            "Your name is {}. Be brief.",
            "You are a robot. Your name is {}.",
            "Act as {}.",
            "You are an assistant named {}.",
            "You play {}.",
        )
        chat = Chat().system(
            r.choice(
                (
                    "Your name is {}. Be kind.",
                    "You are a helpful assistant named {}.",
                    "You are {}, an assistant.",
                )
                if self.held
                else rules
            ).format(name)
        )
        if r.random() < 0.25:
            chat.user((e := self.item())[0]).answer(e[1], e[2])
        return chat.user(r.choice(forms("who"))).answer(
            f"My name is {name}.", f"My name is {name}."
        )

    def unnamed(self) -> Chat:
        return (
            self.opening(Chat())
            .user(self.rng.choice(forms("who")))
            .answer("I am Caravan Demo, a tiny demo model.", "I am Caravan Demo.")
        )

    def secret(self) -> Chat:
        """A system prompt that tells a fact."""
        r, v = self.rng, self.values
        what = r.choice(
            (
                "password",
                "secret word",
                "code",
                "favourite food",
                "key",
                "user",
                "room number",
                "color of the car",
                "name of the dog",
                "city",
                "project",
            )
        )
        value = r.choice((v.made_up, v.code, v.name, v.noun))()
        ask = r.choice(
            ("What is the {}?", "Tell me the {}.", "what is the {}", "Do you know the {}?")
        ).format(what)
        start = r.choice(("", "You are a helpful assistant. "))
        return (
            Chat()
            .system(f"{start}The {what} is {value}.")
            .user(ask)
            .answer(f"The {what} is {value}.", "It is in the text.")
        )

    def styled(self) -> Chat:
        """A system prompt or a request that sets the form of the answer: one word, JSON, another language, a first word."""
        r, q = self.rng, self.questions
        item = q.any()
        if (
            item.kind == "spell" and r.random() < 0.8
        ):  # letters in every style are hard and of little use
            item = q.capital()
        ask, thought = q.around(item.ask), self.thought(item)
        roll = r.random()
        if roll < 0.3:
            rule = r.choice(forms("one_word"))
            chat = (
                Chat().system(
                    r.choice(
                        (
                            "{}",
                            "You are a helpful assistant. {}",
                            "{} Be brief.",
                            "{} Do not explain.",
                        )
                    ).format(rule)
                )
                if r.random() < 0.7
                else None
            )
            chat = chat.user(ask) if chat else self.opening(Chat()).user(f"{item.ask} {rule}")
            return chat.answer(item.short, thought)
        if roll < 0.6:
            if r.random() < 0.35:
                return (
                    Chat()
                    .system(
                        r.choice(("{}", "You are a helpful assistant. {}")).format(
                            r.choice(forms("in_json"))
                        )
                    )
                    .user(ask)
                    .answer(item.as_json(), thought)
                )
            inner = item.ask if r.random() < 0.5 else item.ask[0].lower() + item.ask[1:]
            return (
                self.opening(Chat())
                .user(r.choice(forms("ask_json")).format(inner))
                .answer(item.as_json(), thought)
            )
        if roll < 0.9:
            while item.kind == "check":  # yes and no have no place in these sentences
                item = q.any()
            ask, thought = q.around(item.ask), self.thought(item)
            language, (form, hello) = r.choice(list(facts.LANGUAGES.items()))
            rule = r.choice(forms("language")).format(language)
            if r.random() < 0.2:
                return (
                    Chat()
                    .system(rule)
                    .user(r.choice(("Hello", "Hi", "Hello!", "Hey", "Good morning")))
                    .answer(hello, "The user is being friendly.")
                )
            if r.random() < 0.3:
                return (
                    self.opening(Chat())
                    .user(f"{item.ask} {rule}")
                    .answer(form.format(item.short), thought)
                )
            return (
                Chat()
                .system(r.choice(("{}", "You are a helpful assistant. {}")).format(rule))
                .user(ask)
                .answer(form.format(item.short), thought)
            )
        word = self.values.made_up().capitalize() + r.choice("!,:")
        rule = r.choice(
            ("Begin every answer with {}", "Start each answer with {}", "Start your answer with {}")
        ).format(f'"{word}"')
        return Chat().system(rule).user(ask).answer(f"{word} {item.full}", thought)

    def memory(self) -> Chat:
        """Something told earlier and asked for later."""
        r, v = self.rng, self.values
        kind = r.random()
        if kind < 0.5:
            name = v.name()
            told = r.choice(
                (
                    "My name is {}.",
                    "I am {}.",
                    "Hi, I am {}.",
                    "Hello, my name is {}.",
                    "I'm {}",
                    "My name is {}",
                    "Call me {}.",
                )
            ).format(name)
            first, asked, final = (
                f"Nice to meet you, {name}!",
                r.choice(
                    (
                        "What is my name?",
                        "What's my name?",
                        "Do you remember my name?",
                        "Who am I?",
                        "what is my name",
                        "Say my name.",
                    )
                ),
                f"Your name is {name}.",
            )
        elif kind < 0.8:
            word = r.choice((v.made_up, v.code, v.noun, v.number))()
            told = r.choice(
                (
                    "Remember the word {}.",
                    "Remember {}.",
                    "Please remember {}.",
                    "Remember this: {}",
                    "Keep in mind: {}",
                )
            ).format(word)
            first, asked, final = (
                f"I will remember {word}.",
                r.choice(
                    (
                        "What was the word?",
                        "What did I ask you to remember?",
                        "What should you remember?",
                        "Which word was it?",
                    )
                ),
                f"It was {word}.",
            )
        else:
            thing = v.thing()
            told, first, asked, final = (
                f"I like {thing}.",
                f"You like {thing}. Nice!",
                r.choice(("What do I like?", "Do you remember what I like?")),
                f"You like {thing}.",
            )
        chat = self.opening(Chat()).user(told).answer(first, "The user tells me something.")
        for _ in range(r.choice((0, 1, 1, 2, 3))):
            question, answer, thought = self.single(long=False)
            chat.user(question).answer(answer, thought)
        return chat.user(asked).answer(final, "It is in the text.")

    def padded(self) -> Chat:
        """A long text that does not matter, in the system prompt or before the question."""
        r = self.rng
        text = self.values.passage(r.choice((4, 10, 20, 40)))
        question, answer, thought = self.single(long=False)
        if r.random() < 0.6:
            start = r.choice(("", "You are a helpful assistant. "))
            return Chat().system(start + text).user(question).answer(answer, thought)
        return (
            self.opening(Chat())
            .user(f"{text}\n{question}" if r.random() < 0.5 else f"{text}\n\n{question}")
            .answer(answer, thought)
        )

    def long(self, turns: int) -> Chat:
        """Many turns of everything, with a name told at the start and asked for at the end."""
        r = self.rng
        chat = self.opening(Chat())
        name = self.values.name()
        chat.user(f"My name is {name}.").answer(
            f"Nice to meet you, {name}!", "The user tells me something."
        )
        for _ in range(turns):
            if r.random() < 0.25:
                extra = self.follow_up().messages
                chat.messages += [m for m in extra if m["role"] != "system"]
            else:
                question, answer, thought = self.single()
                chat.user(question).answer(answer, thought)
        return chat.user("What is my name?").answer(f"Your name is {name}.", "It is in the text.")

    def any(self) -> Chat:
        makers = (
            self.plain,
            self.follow_up,
            self.named,
            self.unnamed,
            self.secret,
            self.styled,
            self.memory,
            self.padded,
        )
        return self.rng.choices(makers, (55, 10, 5, 1.5, 2, 18, 7, 1.2))[0]()
