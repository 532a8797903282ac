"""Helpers of the notebook series *From Real to Rendered*: telling photographs from AI-rendered images."""


class CifakeError(Exception):
    """Something the reader can put right: the message says what was found, what was expected, what to do."""
