"""The extension `io.modelcontextprotocol/tasks` (SEP-2663): a call that its client follows while a worker runs it."""
