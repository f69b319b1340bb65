"""Images and sounds in chats: read, checked, turned into vectors, laid out among the tokens."""
