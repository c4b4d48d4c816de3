"""An index in Milvus. Imported only when it is asked for."""
