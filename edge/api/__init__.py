"""One module for each API: parse, translate, answer, in the words of that API's clients."""
