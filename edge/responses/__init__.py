"""The Responses API: what it asks for as a chat, what comes back as items and events, and a store."""
