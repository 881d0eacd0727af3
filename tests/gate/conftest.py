"""The gate of fake tiers."""

from helpers_gate import gate, log, quick

__all__ = ["gate", "log", "quick"]
