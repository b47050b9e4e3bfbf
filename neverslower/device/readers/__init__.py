"""Readers of device state, one module a source; they read and never change anything."""
