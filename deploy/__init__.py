"""Starting the services: ``make run`` and ``make demo``."""
