"""The gallery in PostgreSQL. Nothing outside imports it before a DATABASE asks for it: its driver is optional."""
