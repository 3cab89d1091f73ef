"""The background worker: mails, sweeps, and whose turn the housekeeping is."""
