"""The APIs that programs of other systems speak, one for each family."""
