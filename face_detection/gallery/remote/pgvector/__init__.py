"""An index in PostgreSQL, by the extension pgvector. Imported only when it is asked for."""
