"""Record and understand live voice-AI sessions on the OpenAI Realtime API."""

from importlib.metadata import version

__version__ = version("realtime-recorder")
