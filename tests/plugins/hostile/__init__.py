"""Plugins that do each one thing wrong. They are installed into a temporary directory, and loaded from there."""
