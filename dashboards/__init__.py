"""Pages and charts over a store. `mount` puts them on an application."""

from dashboards.mounting import mount

__all__ = ["mount"]
