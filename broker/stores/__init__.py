"""Engines behind the ports of broker.core.ports: SQL for what is a row, key-value for what may be lost with the day."""
