"""The HTTP service over a store."""

from api.app import create_app

__all__ = ["create_app"]
