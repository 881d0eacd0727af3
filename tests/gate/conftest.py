"""The gate of fake tiers."""

from helpers_gate import gate, quick

__all__ = ["gate", "quick"]
