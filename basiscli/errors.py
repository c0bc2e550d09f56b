"""The one exception that a user is meant to read. Every module may import this; this imports nothing."""


class BadInput(Exception):
    """What the user gave cannot be used; the message is one line that names the file, the layer and what to do."""
