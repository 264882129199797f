"""Work in the background: what runs the rows of the ledger."""
