"""Bulk: many rows at a time into the plugin's tables, for importers.

Rows are copied into temporary tables and put where they belong by one statement each, in the session's transaction and
through row-level security, so that the tenant is the session's. What is there already is updated, and only when it
differs; nothing is removed but lines that an order no longer has. Doing it twice changes nothing.
"""
