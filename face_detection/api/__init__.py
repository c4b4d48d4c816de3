"""The front's HTTP side: each module translates between HTTP and ``Recognition``, and does nothing else."""
